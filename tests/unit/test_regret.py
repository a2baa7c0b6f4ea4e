"""The closed loop: regret is exact, policies meet the same answers, and ours learns in it."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from genome_server.errors import Refused
from genome_server.gate.ask import Opened
from genome_server.learning.due import Trained
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.towers import random_towers
from genome_server.models.shelf import save_model
from tests.bench.regret_gated import GatedHouse
from tests.bench.regret_house import (
    GENOME,
    NOTHING,
    ONLY_PROFILE,
    ONLY_SEGMENTS,
    House,
    segments_of,
)
from tests.bench.regret_loop import Deaf, Judge, Oracle, Random, is_night, play
from tests.bench.regret_plot import plot
from tests.bench.world.covariates import Ints
from tests.bench.world.stream import make_stream
from tests.bench.world.truth import HOUR_MS
from tests.unit.test_world import BEGIN_MS, stream, tiny, world


class First(Deaf):
    """Shows the first offer that is there, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def decide(self, moment: int, at_ms: int, live: Ints) -> int:
        self.told.append(("decide", at_ms))
        return int(live[0])

    def hear(self, moment: int, kind: str, at_ms: int) -> None:
        self.told.append(("hear", at_ms))

    def hour(self, at_ms: int) -> None:
        self.told.append(("hour", at_ms))


class Wrong(First):
    """Shows an offer that is not there."""

    def decide(self, moment: int, at_ms: int, live: Ints) -> int:
        return int(min(set(range(10)) - set(live.tolist()), default=int(live[0])))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.of(stream())


def test_the_oracle_regrets_nothing(judge: Judge) -> None:
    assert judge.regret(play(judge, Oracle(judge))).tolist() == [0.0] * len(judge.stream)


def test_random_regrets_what_is_expected_of_it() -> None:
    judge = Judge.of(make_stream(world(), 5, 1_000, people=30, devices=10))
    regret = judge.regret(play(judge, Random(judge)))
    error = 4 * regret.std() / np.sqrt(len(regret))
    assert abs(regret.mean() - judge.random_regret.mean()) < error
    assert (regret >= 0).all()


def test_to_show_nothing_loses_all_that_could_be_had(judge: Judge) -> None:
    nothing = np.full(len(judge.stream), -1)
    assert (judge.regret(nothing) == judge.best).all()


def test_a_policy_is_told_in_order_of_time_and_not_before_it_happened(judge: Judge) -> None:
    first = First()
    play(judge, first)
    times = [at for _, at in first.told]
    assert times == sorted(times)
    assert sum(what == "decide" for what, _ in first.told) == len(judge.stream)
    hours = [at for what, at in first.told if what == "hour"]
    assert len(hours) == 6 * 24 - 1
    assert sum(map(is_night, hours)) == 6
    assert any(what == "hear" for what, _ in first.told)


def test_an_offer_that_is_not_there_is_refused(judge: Judge) -> None:
    with pytest.raises(RuntimeError, match="is not there"):
        play(judge, Wrong())


def test_devices_show_what_is_there_and_the_genome_knows_an_answer_at_once() -> None:
    judge = Judge.of(make_stream(world(days=1), 3, 60, people=20, devices=3))
    house = House(judge, knows=GENOME)
    shown = play(judge, house)
    assert (shown >= 0).all()
    again = play(judge, House(judge))
    assert shown.tolist() == again.tolist()
    device = house._devices[0]
    subject = house._subjects[0]
    before = dict(device._genome(subject).strengths(BEGIN_MS // 3_600_000))
    assert before.keys() >= set(judge.stream.world.real.people[0])
    said = device.decide(10**6, subject, house._context(0, BEGIN_MS), BEGIN_MS)
    device.hear(said, "redeem", BEGIN_MS)
    after = dict(device._genome(subject).strengths(BEGIN_MS // 3_600_000))
    assert f"title:{said.offer}" in after
    assert after[f"title:{said.offer}"] > before.get(f"title:{said.offer}", 0.0)


def test_what_genomes_hold_is_what_a_policy_may_know() -> None:
    judge = Judge.of(make_stream(world(days=1), 3, 5, people=20, devices=3))
    for knows, held in ((ONLY_SEGMENTS, 1), (ONLY_PROFILE, 2), (NOTHING, 0)):
        house = House(judge, knows=knows)
        device, subject = house._devices[0], house._subjects[0]
        said = device.decide(0, subject, house._context(0, BEGIN_MS), BEGIN_MS)
        device.hear(said, "redeem", BEGIN_MS)
        genome = device._genome(subject).strengths(BEGIN_MS // 3_600_000)
        assert len(genome) == held
        assert device.personal == (knows != NOTHING)
        house.close()


def test_where_the_gate_refuses_all_but_the_model_goes_out_until_it_lets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = GatedHouse(Judge.of(make_stream(world(), 3, 5, people=20, devices=3)))

    def learned() -> bool:
        with closing(house._tenant.open_store()) as store:
            house._build(store)
            vocabulary = store.vocabulary()
            facts = ModelFacts(vocabulary.lineage, len(vocabulary))
            towers = random_towers(1, len(vocabulary))
            save_model(house._tenant.models_dir, store, tower_model(towers, facts), {})
        house._trained = Trained(BEGIN_MS, 20, 0)
        return True

    def refused(*_: object, **__: object) -> Opened:
        raise Refused("the gate stops it")

    before = house._newest.release
    with monkeypatch.context() as patched:
        patched.setattr(house, "_train", learned)
        patched.setattr("genome_server.gate.ask.ask", refused)
        house.hour(BEGIN_MS + 50 * HOUR_MS)
    after = house._newest.release
    waiting = [house._waiting]
    assert len(after.catalogue) > len(before.catalogue), "the offers of tomorrow"
    house._trained = Trained(BEGIN_MS + 50 * HOUR_MS, 20, 0)
    house.hour(BEGIN_MS + 52 * HOUR_MS)
    waiting.append(house._waiting)
    assert waiting == [True, False], "it is asked anew, and nothing happened that speaks against it"
    assert house._newest.release.version > after.version
    house.close()


def test_segments_are_of_profiles_and_everybody_is_in_one() -> None:
    labels = segments_of(tiny().people)
    assert len(labels) == 40
    assert min(labels) >= 0
    assert len(set(labels)) > 1


def test_the_plot_names_every_policy_and_both_axes() -> None:
    runs = {"ours": [np.full(50, 0.1)] * 2, "random": [np.full(50, 0.4)] * 2}
    drawn = plot("Lost", 4, runs)
    for said in ("ours 100", "random 400", "days", "acceptances lost so far", "Lost"):
        assert f">{said}<" in drawn
    assert drawn.count("<polyline") == 2
