"""The simulated world: its truth adds up, seeds reproduce it, and answers are late and lost as it
says."""

from __future__ import annotations

import numpy as np

from tests.bench.world.covariates import Covariates
from tests.bench.world.stream import (
    DELAY_MEDIAN_MS,
    LONGEST_DELAY_MS,
    LOST,
    REFUSED,
    SAYS_NO,
    SYNC_EVERY_MS,
    TAKEN,
    Stream,
    make_stream,
)
from tests.bench.world.truth import DAY_MS, LIMIT, TURN, World, make_world

BEGIN_MS = 1_772_409_600_000


def tiny(people: int = 40, rows: int = 4, kinds: int = 5) -> Covariates:
    """Made-up people with some moments each."""
    rng = np.random.default_rng(7)
    person = np.repeat(np.arange(people), rows)
    return Covariates(
        name="tiny",
        place="car",
        people=tuple((f"age:{20 + i % 3}", f"car:{i % 2}") for i in range(people)),
        person=person,
        hour=rng.integers(0, 24, len(person)),
        context=tuple({"weather": ("sunny", "rainy")[i % 2]} for i in range(len(person))),
        kinds=tuple((f"coupon:{i}",) for i in range(kinds)),
        logit=rng.standard_normal((len(person), kinds)),
    )


def world(seed: int = 3, days: int = 6) -> World:
    """A world of made-up people."""
    return make_world(tiny(), seed, BEGIN_MS, days, lasting=4, passing=6)


def stream(seed: int = 3, per_day: int = 200) -> Stream:
    """A stream of it."""
    return make_stream(world(), seed, per_day, people=30, devices=10)


def test_a_chance_is_the_sum_of_its_parts_cut_at_the_limit() -> None:
    here = world()
    at = BEGIN_MS + DAY_MS
    parts = here.parts(5, at)
    assert set(parts) == {"trees", "taste", "crowd", "appeal"}
    logit = np.clip(sum(parts.values()), -LIMIT, LIMIT)
    chances = here.chances(5, at)
    assert np.allclose(np.log(chances / (1 - chances)), logit)
    loud = World(**{**vars(here), "appeal": np.full(10, 99.0)})
    assert np.allclose(loud.chances(5, at), 1 / (1 + np.exp(-LIMIT)))


def test_a_taste_begins_as_the_first_and_turns_towards_the_second() -> None:
    here = world()
    themes = [offer.theme for offer in here.offers]
    first, second = here.tastes[:, here.real.person[9]]
    assert np.allclose(here.parts(9, here.begin_ms)["taste"], first[themes])
    angle = TURN * np.pi / 2
    end = np.cos(angle) * first + np.sin(angle) * second
    assert np.allclose(here.parts(9, here.end_ms)["taste"], end[themes])


def test_offers_come_and_go_and_some_stay() -> None:
    here = world()
    for offer in here.offers:
        assert here.begin_ms <= offer.from_ms < offer.until_ms <= here.end_ms
        assert (offer.from_ms - here.begin_ms) % DAY_MS == 0
    there = [set(here.live(here.begin_ms + day * DAY_MS).tolist()) for day in range(6)]
    assert set.intersection(*there) >= set(range(4))
    assert len({frozenset(some) for some in there}) > 1


def test_a_seed_gives_the_same_world_and_stream_to_the_bit_and_another_does_not() -> None:
    one, again, other = stream(3), stream(3), stream(4)
    assert world(3).offers == world(3).offers
    assert world(3).tastes.tobytes() == world(3).tastes.tobytes()
    for name in ("at_ms", "row", "device", "takes", "draws", "turns", "delay_ms", "lost"):
        assert getattr(one, name).tobytes() == getattr(again, name).tobytes()
        assert getattr(one, name).tobytes() != getattr(other, name).tobytes()
    assert one.syncs == again.syncs != other.syncs


def test_answers_come_late_are_lost_or_silent_as_often_as_it_says() -> None:
    one = stream(per_day=2_000)
    heard = [one.answer(moment, 0.4) for moment in range(len(one))]
    kinds = [said[0] for said in heard if said is not None]
    total = len(one)
    assert abs(kinds.count(TAKEN) / total - 0.4 * (1 - LOST)) < 0.02
    assert abs(kinds.count(REFUSED) / total - 0.6 * SAYS_NO * (1 - LOST)) < 0.02
    late = [
        said[1] - at
        for said, at in zip(heard, one.at_ms.tolist(), strict=True)
        if said is not None and said[0] == TAKEN
    ]
    assert 0.9 < np.median(late) / DELAY_MEDIAN_MS < 1.1
    assert min(late) >= 0
    assert max(late) <= LONGEST_DELAY_MS


def test_moments_are_in_order_at_real_hours_of_known_people_and_devices() -> None:
    one = stream()
    assert (np.diff(one.at_ms) >= 0).all()
    hours = (one.at_ms // 3_600_000) % 24
    assert (hours == one.world.real.hour[one.row]).all()
    assert len({one.person(moment) for moment in range(len(one))}) <= 30
    assert set(one.device.tolist()) <= set(range(10))
    gaps = len(one.syncs) * SYNC_EVERY_MS / (10 * 6 * DAY_MS)
    assert 0.75 < gaps < 1.25
