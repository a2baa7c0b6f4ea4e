"""Accuracy on a tenant's own log: what was planted is measured, what is chance scores as chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from genome_server.foresee import kept, pauses
from genome_server.foresee.columns import NOTHING
from genome_server.foresee.facets import Columns, Facet, facet, pause_facet
from genome_server.foresee.job import Foreseer
from genome_server.foresee.meeting import Meeting
from genome_server.foresee.page import MEASURED, measured, not_measured, page_of
from genome_server.foresee.past import Past
from genome_server.foresee.proof import Accuracy, Score, cut_of, held_out, score, score_pauses
from genome_server.foresee.reading import Happened
from genome_server.log import LogReader
from genome_server.store.protocol import CONSENT_LEARNING, CONSENT_PERSONALISATION, CustomerRow
from genome_server.store.sqlite import SqliteStore
from tests.bench.foresee_sets import made_up_channels
from tests.unit._genomes import (
    DNA_YAML,
    HOUR,
    LANDMARK_HOUR,
    House,
    interaction,
    link,
    subject,
)
from tests.unit.ingesting import write
from tests.unit.server_shell import Shell

BOTH = CONSENT_PERSONALISATION | CONSENT_LEARNING
PEOPLE, EACH = 60, 40
OVER = ("app", "mail", "shop", "web")


def columns(hours: NDArray[np.int64], channels: Sequence[str]) -> Columns:
    """Customers with as many events each, one row of `hours` for each; and now, of the first."""
    who = np.repeat(np.arange(len(hours)), hours.shape[1])
    order = np.argsort(hours.ravel(), kind="stable")
    who, hour = who[order], hours.ravel()[order]
    now = int(hour.max()) + 1
    happened: list[Happened | None] = [
        Happened(bytes([one]) * 16, at * HOUR, "buy", None, channels[row], ())
        for one, at, row in zip(who.tolist(), hour.tolist(), order.tolist(), strict=True)
    ]
    at = np.append(hour, now)
    there = np.append(np.ones(len(hour), bool), False)
    return Columns(
        np.append(who, 0), at * HOUR, at, [*happened, None], there, there,
        0, [bytes([one]) * 16 for one in range(len(hours))],
    )  # fmt: skip


def some_hours(seed: int = 0, people: int = PEOPLE) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return LANDMARK_HOUR + np.sort(rng.integers(0, 24 * 300, (people, EACH)), axis=1)


def over(events: Columns) -> Facet:
    said = events.of(lambda event: event.channel)
    return facet(events, said, said)


def found(events: Columns) -> Score:
    one = score(over(events), cut_of(events))
    assert isinstance(one, Score)
    return one


def preferred(share: float, seed: int = 1) -> list[str]:
    """Each customer's own channel in so many of their visits, else any."""
    rng = np.random.default_rng(seed)
    own = np.repeat(np.arange(PEOPLE) % 4, EACH)
    over = np.where(rng.random(len(own)) < share, own, rng.integers(0, 4, len(own)))
    return [OVER[i] for i in over.tolist()]


def test_a_preference_that_is_there_is_measured_as_such() -> None:
    one = found(columns(some_hours(), preferred(0.9)))
    assert one.unit == "share"
    assert one.customers == PEOPLE
    assert one.ours == pytest.approx(0.925, abs=0.03)  # what there is to know
    assert one.rivals["frequency"] == pytest.approx(0.925, abs=0.03)
    assert one.rivals["popularity"] < 0.4
    assert one.rivals["uniform"] == 0.25
    assert (one.best, one.verdict) == ("frequency", "even")
    assert one.said == pytest.approx(one.came, abs=0.06)
    assert one.came == one.ours


def test_what_is_chance_scores_as_chance() -> None:
    one = found(columns(some_hours(), preferred(0.0)))
    assert one.ours == pytest.approx(0.25, abs=0.06)
    assert one.said == pytest.approx(0.28, abs=0.06)
    assert one.verdict != "better"
    assert one.gain_low < 0


def test_what_follows_what_is_better_than_habit_and_that_is_said() -> None:
    turns = [OVER[i % 4] for i in range(EACH)] * PEOPLE
    one = found(columns(some_hours(), turns))
    assert one.ours > 0.95
    assert max(one.rivals.values()) < 0.5
    assert one.verdict == "better"
    assert 0.4 < one.gain_low <= one.ours - one.rivals[one.best] <= one.gain_high


def test_what_misleads_is_said_to_be_worse() -> None:
    score_ = Score("share", 9, 9, 0.2, {"uniform": 0.5}, "uniform", -0.4, -0.1, 0.3, 0.2)
    assert score_.verdict == "worse"


def test_the_last_ten_of_each_after_the_cut_are_asked_and_nothing_of_them_is_learned() -> None:
    events = columns(some_hours(), preferred(0.9))
    one, cut = over(events), cut_of(events)
    wanted = held_out(one, cut)
    assert not isinstance(wanted, str)
    assert one.events.hour[wanted].min() > cut
    late = one.events.hour[:] > cut
    for who in range(PEOPLE):
        mine = np.flatnonzero(one.crowd & late & (one.events.who == who))
        assert np.flatnonzero(wanted & (one.events.who == who)).tolist() == mine[-10:].tolist()
    other = replace(one.events, symbol=np.where(late, 0, one.events.symbol))
    changed = replace(one, events=other)
    for each in (one.fitted(cut, one.drawn), changed.fitted(cut, one.drawn)):
        assert each.crowd.events == int((one.crowd & ~late).sum())
    np.testing.assert_array_equal(
        one.fitted(cut).mixture.weights, changed.fitted(cut).mixture.weights
    )
    np.testing.assert_array_equal(one.fitted(cut).crowd.popular, changed.fitted(cut).crowd.popular)


@pytest.mark.parametrize("which", ["crowd", "drawn"])
def test_only_who_agreed_and_who_was_drawn_is_measured_and_of_too_few_nothing(which: str) -> None:
    events = columns(some_hours(), preferred(0.9))
    least = replace(events, **{which: getattr(events, which) & (events.who < 20)})
    assert found(least).customers == 20
    one = over(least)
    of_them = one.crowd & one.drawn & (one.events.hour <= cut_of(least))
    assert one.fitted(cut_of(least), one.drawn).crowd.events == int(of_them.sum())
    few = replace(events, **{which: getattr(events, which) & (events.who < 19)})
    why = score(over(few), cut_of(few))
    assert isinstance(why, str)
    assert why.startswith("fewer than 20 customers who agreed to learning did")
    none = replace(events, crowd=np.zeros(len(events.who), bool))
    assert str(score(over(none), cut_of(none))) == why


def test_who_only_came_lately_or_only_long_ago_is_not_enough() -> None:
    hours = some_hours()
    cut = cut_of(columns(hours, preferred(0.9)))
    hours[19:] = np.sort(LANDMARK_HOUR + (hours[19:] - LANDMARK_HOUR) % 2000, axis=1)
    events = columns(hours, preferred(0.9))
    assert "in the newest fifth" in str(score(over(events), cut))
    assert "before the newest fifth" in str(score(over(events), LANDMARK_HOUR))


def test_a_rhythm_is_measured_in_hours_and_one_that_is_chance_is_not_better() -> None:
    rng = np.random.default_rng(2)
    gaps = np.where(np.arange(PEOPLE)[:, None] % 2 == 0, 24, 96)
    steady = LANDMARK_HOUR + np.cumsum(np.broadcast_to(gaps, (PEOPLE, EACH)), axis=1)
    events = columns(steady.copy(), preferred(0.9))
    one, hours = pause_facet(events, [""] * len(events.who))
    found = score_pauses(one, hours, cut_of(events))
    assert isinstance(found, Score)
    assert found.unit == "h"
    assert found.ours < 3
    assert found.rivals["frequency"] == 0
    assert found.rivals["popularity"] > 20
    assert "uniform" not in found.rivals
    assert found.said == 0.8
    assert found.came > 0.9
    chance = LANDMARK_HOUR + np.cumsum(rng.geometric(1 / 48, (PEOPLE, EACH)), axis=1)
    events = columns(chance, preferred(0.9))
    one, hours = pause_facet(events, [""] * len(events.who))
    found = score_pauses(one, hours, cut_of(events))
    assert isinstance(found, Score)
    assert found.verdict != "better"
    assert found.ours == pytest.approx(found.rivals["popularity"], rel=0.15)
    # Half of an exponential law's pauses are shorter than 33 h; off by about as much.
    assert 20 < found.ours < 45
    assert found.came == pytest.approx(0.8, abs=0.1)


def test_the_made_up_channels_hold_what_the_page_says_of_them() -> None:
    one = made_up_channels()
    assert one.symbols == list(OVER)
    events = one.events
    assert len(events) == 200 * 40
    most = np.array(
        [np.bincount(events.symbol[events.who == who], minlength=4).max() for who in range(200)]
    )
    assert most[::2].mean() / 40 == pytest.approx(0.8, abs=0.03)
    assert most[1::2].mean() / 40 < 0.42


# -- what is kept


def accuracy(at_ms: int = 1_000, events: int = 1_000, people: int = 50) -> Accuracy:
    one = Score("share", 9, 20, 1 / 3, {"uniform": 0.5}, "uniform", -0.4, 0.1, 0.3, 1 / 3)
    return Accuracy(at_ms, events, people, {"action": one, "channel": "too few"})


def test_what_is_kept_holds_for_a_week_of_the_same_log(tmp_path: Path) -> None:
    week = 7 * 24 * HOUR
    with closing(SqliteStore.open(tmp_path / "store")) as store:
        assert kept.read(store, "a", 1_000, 1_000, 50) is None
        kept.write(store, "a", accuracy())
        assert kept.read(store, "a", 1_000 + week, 1_100, 55) == accuracy()
        assert kept.read(store, "b", 1_000, 1_000, 50) is None
        assert kept.read(store, "a", 1_001 + week, 1_000, 50) is None
        assert kept.read(store, "a", 1_000, 1_101, 50) is None
        assert kept.read(store, "a", 1_000, 899, 50) is None
        assert kept.read(store, "a", 1_000, 1_000, 49) is None  # somebody took it back
        for i in range(40):
            kept.write(store, str(i), accuracy())
        assert len(json.loads(store.meta(kept.META_KEY) or "{}")) == 16
        store.set_meta(kept.META_KEY, json.dumps({"a": {**accuracy().to_json(), "format": 0}}))
        assert kept.read(store, "a", 1_000, 1_000, 50) is None


def test_words_of_what_was_measured() -> None:
    some = accuracy()
    time = Score("h", 1_200, 20, 30.04, {"frequency": 41.0, "popularity": 50.0}, "frequency",
                 9.0, 12.0, 0.8, 0.84)  # fmt: skip
    some.scores["time"] = time
    rows = measured(some)
    assert [len(row) for row in rows] == [len(MEASURED)] * 2
    assert rows[0] == ("action", "33%", "30%", "", "", "50%", "even", "9 (20)")
    assert rows[1] == (
        "time until then", "30.0 h off", "80% held 84%", "50.0 h off", "41.0 h off", "", "better",
        "1,200 (20)",
    )  # fmt: skip
    assert not_measured(some) == ["channel was not measured: too few"]


# -- the whole


@pytest.fixture
def club(tmp_path: Path) -> Shell:
    """30 customers who come every third day over a channel and at an hour of their own."""
    shell = Shell(tmp_path)
    people = [{"id": f"c{i}", "consent": ["personalisation", "learning"]} for i in range(30)]
    write(tmp_path / "customers.jsonl", people)
    write(tmp_path / "products.jsonl", [{"id": "bread", "category": "food"}])
    write(
        tmp_path / "interactions.jsonl",
        [
            {
                "customer": f"c{i}", "kind": "buy", "product": "bread",
                "time": f"2025-{month:02}-{day:02}T{(9, 13, 20)[i % 3]:02}:00:00+00:00",
                "context": {"channel": OVER[i % 3]},
            }
            for i in range(30) for month in (1, 2, 3) for day in range(1, 28, 3)
        ],
    )  # fmt: skip
    for kind in ("customers", "products", "interactions"):
        shell.call("import", kind, tmp_path / f"{kind}.jsonl")
    shell.call("build")
    return shell


def test_the_command_says_how_far_to_believe_it_and_measures_once(
    club: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = club.json("genomes", "next", "c1", "--zone", "UTC")["accuracy"]
    columns = ("action", "category", "channel", "daypart", "weekday", "time", "week")
    assert tuple(said["scores"]) == columns
    for name in ("channel", "daypart"):
        one = said["scores"][name]
        assert one["ours"] == one["rivals"]["frequency"] == 1.0
        assert one["rivals"]["popularity"] < 0.5
        assert one["rivals"]["uniform"] == pytest.approx(1 / 3)
        assert one["customers"] == 30
    assert said["scores"]["time"]["unit"] == "h"

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("genome_server.foresee.job.score", never)
    page = club.root / "next.html"
    plain = club.call("genomes", "next", "c2", "--zone", "UTC", "--html", page).output
    assert "part of the day  100%" in plain
    assert "on your own customers" in plain
    text = page.read_text()
    assert "How far to believe it" in text
    assert "<td>channel</td><td>100%</td>" in text
    assert club.json("genomes", "next", "c2", "--zone", "UTC")["accuracy"] == said
    with pytest.raises(AssertionError, match="measured again"):
        club.call("genomes", "next", "c2", "--zone", "Europe/Berlin")


def test_how_many_customers_there_are_is_told_to_the_nearest_five() -> None:
    some = accuracy(people=53)
    one = some.scores["action"]
    assert isinstance(one, Score)
    some.scores["action"] = replace(one, customers=23)
    told = some.told()
    assert (told["customers"], told["scores"]["action"]["customers"]) == (55, 25)
    assert measured(some)[0][-1] == "9 (25)"
    # What is kept is compared with what is there, and exact.
    assert Accuracy.from_json(some.to_json()) == some


def test_where_it_was_not_measured_the_command_says_why(tmp_path: Path) -> None:
    with House(tmp_path / "house") as house:
        events = []
        for who in range(1, 31):
            house.customer(who, BOTH)
            # All but a few stopped coming long ago.
            days = range(0, 60 if who < 6 else 12, 2)
            events += [interaction(who, day * 24, "buy", product="bread") for day in days]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.unit._genomes.NOW_MS", (LANDMARK_HOUR + 2000) * HOUR)
            house.log(sorted(events, key=lambda event: event.hours))
        now_ms = (LANDMARK_HOUR + 60 * 24) * HOUR
        house.build(now_ms=now_ms)
        with LogReader(house.tenant.log_path) as log:
            ahead = Foreseer(house.store, subject(1), now_ms, UTC).ahead(log.frames())
    why = not_measured(ahead.accuracy)
    assert len(why) == 6
    assert "action was not measured: fewer than 20 customers who agreed" in why[0]
    assert "fewer than 20 customers" in why[2]  # nobody's channel is known
    text = page_of("ann", ahead, UTC)
    assert "action was not measured" in text
    # Whether somebody comes is asked of all who were seen, those that stayed away included.
    week = ahead.accuracy.scores["week"]
    assert isinstance(week, Score)
    assert week.customers == 30
    assert text.count('class="measured"') == 1
    assert "within a week" in text


def test_genomes_of_the_crowd_hold_nothing_of_ids_that_did_not_agree_to_learning(
    tmp_path: Path,
) -> None:
    with House(tmp_path / "house") as house:
        house.customer(1, BOTH)
        house.customer(2, CONSENT_PERSONALISATION)
        house.log(
            [
                interaction(1, 1, "buy", product="soap"),
                interaction(2, 2, "buy", product="bread"),
                link(1, 3, 2),
                interaction(1, 9, "view", product="soap"),
            ]
        )
        house.build()
        now_ms = (LANDMARK_HOUR + 20) * HOUR
        foreseer = Foreseer(house.store, subject(1), now_ms, UTC)
        with LogReader(house.tenant.log_path) as log:
            events = foreseer._columns(foreseer._story(log.frames(), 0))
        assert events.crowd.tolist() == [True, False, True, False]
        categories = foreseer._facets(events)["category"]
        assert categories.names == ["food"]
        assert categories.meet is not None
        assert categories.own_meet is not None
        rows = np.array([2])
        assert categories.meet(rows)[0, 0] == 0
        assert categories.own_meet(rows)[0, 0] > 0


def test_where_somebody_lives_is_no_part_of_the_genomes_that_foretell(tmp_path: Path) -> None:
    with House(tmp_path / "house") as house:
        home = "home:881f1d4887fffff"
        house.write_dna(
            f"{DNA_YAML}  # homes\n".replace("  age:", "  home: {profile: 1.0}\n  age:")
        )
        house.store.extend_vocabulary([home, "age:young"])
        facts = ((home, 256), ("age:young", 256))
        house.store.put_customers([CustomerRow(subject(1), facts, BOTH)])
        house.log([interaction(1, 1, "buy", product="bread")])
        house.build()
        foreseer = Foreseer(house.store, subject(1), (LANDMARK_HOUR + 20) * HOUR, UTC)
        with LogReader(house.tenant.log_path) as log:
            events = foreseer._columns(foreseer._story(log.frames(), 0))
        meeting = Meeting({"there": {home: 1.0}, "young": {"age:young": 1.0}}, ["there", "young"])
        past = Past(house.store, foreseer._schema, events, meeting, events.crowd)
        there, young = past.meets(np.array([0]))[0].tolist()
        assert there == 0
        assert young == pytest.approx(1.0)  # and it takes no place beside what is there


def test_a_pause_class_is_named_by_its_first_hour() -> None:
    events = columns(some_hours(people=2), ["app"] * 2 * EACH)
    one, hours = pause_facet(events, [""] * len(events.who))
    assert len(one.names) == one.events.symbols == pauses.CLASSES
    there = one.events.symbol != NOTHING
    named = np.array([int(one.names[i]) for i in one.events.symbol[there].tolist()])
    assert (named <= hours[there]).all()
