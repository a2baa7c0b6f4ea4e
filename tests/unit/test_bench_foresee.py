"""What the benches of foreseeing and of the segment count is what they say they count."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.dna.imprint import GenomeState, contribution, encode_row, event_weight
from examples.datasets import DataSetMissing, find
from genome_server.foresee import pauses, rivals
from genome_server.foresee.columns import events_of
from genome_server.learning.metrics import auc
from tests.bench import foresee, foresee_sets, segment, segment_rewards
from tests.bench.segment import Did, Genomes, schema_of


def test_the_plain_ones_by_hand() -> None:
    who = np.array([0, 0, 0, 1, 1])
    hour = np.array([1, 2, 9, 1, 9])
    what = np.array([0, 0, 1, 1, 0])
    events = events_of(who, hour, what, what, 2, 2)
    wanted = events.hour == 9
    found = dict(rivals.plain(events, 2, wanted))
    popular = np.array([2.5, 1.5]) / 4
    assert sorted(found) == [2, 4]
    np.testing.assert_allclose(found[2]["popularity"], popular)
    np.testing.assert_allclose(found[2]["frequency"], (np.array([2, 0]) + popular) / 3)
    np.testing.assert_allclose(found[4]["frequency"], (np.array([0, 1]) + popular) / 2)
    np.testing.assert_allclose(found[2]["markov"], (np.array([1, 0]) + popular) / 2)


def test_measures_by_hand() -> None:
    told = foresee.Told()
    told.take(np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), np.array([0, 1]))
    found = told.figures()
    assert found["accuracy_at_1"] == 0.5
    assert found["accuracy_at_5"] == 1.0
    assert found["log_loss"] == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2)
    assert found["ece"] == pytest.approx((0.5 + 0.7) / 2)


def test_cuts_are_in_order_of_time_and_leave_a_fifth() -> None:
    hour = np.random.default_rng(0).permutation(100)
    events = events_of(np.zeros(100, int), hour, np.zeros(100, int), np.zeros(100, int), 1, 1)
    assert foresee_sets.cuts_of(events) == foresee_sets.Cuts(59, 79, 99)
    asked = foresee.wanted_after(events, 79, 99)
    assert events.hour[asked].tolist() == list(range(80, 100))


def test_an_interval_draws_persons_and_not_cases() -> None:
    gains = np.array([1.0] * 50 + [0.0] * 50)
    alone = rivals.interval(gains, np.arange(100))
    together = rivals.interval(gains, np.repeat([0, 1], 50))
    assert 0.35 < alone[0] < 0.5 < alone[1] < 0.65
    assert together == (0.0, 1.0)


def test_plain_medians_know_only_what_has_ended() -> None:
    who, hour = np.zeros(4, np.int64), np.array([0, 4, 10, 30])
    what = np.zeros(4, np.int64)
    events, hours = pauses.pauses_of(events_of(who, hour, what, what, 1, 1), what)
    said = rivals.plain_pauses(events, hours, 10, np.array([1, 2]))
    assert said["popularity"].tolist() == [5, 5]  # 4 and 6 had ended by then
    assert said["frequency"].tolist() == [4, 5]
    assert said["markov"].tolist() == [5, 5]


def test_genomes_are_the_sdks_and_know_only_earlier_hours() -> None:
    schema = schema_of(400_000)
    did = {
        "ann": [
            Did(400_010, "buy", (("brand:acme", 256),), 7.0),
            Did(400_020, "view", (("brand:acme", 128),)),
            Did(400_020, "receive", (("brand:leaf", 256),)),
        ]
    }
    genomes = Genomes(schema, did)
    names = [genomes.vocabulary.name(i) for i in range(len(genomes.vocabulary))]
    assert names == ["brand:acme", "seen-brand:acme", "got-brand:leaf"]
    at_10, at_20, at_21 = genomes.at("ann", [400_010, 400_020, 400_021])
    assert at_10 == {}
    assert sorted(at_20) == [0]
    assert sorted(at_21) == [0, 1, 2]
    state = GenomeState()
    weight = event_weight(schema, "buy", 7_000_000)
    state.add(0, contribution(weight, 256, 10, schema.half_life("brand")), 400_010)
    row = encode_row(state, {}, schema, genomes.vocabulary)
    assert row.indices.tolist() == [0]
    assert list(genomes.at("bob", [400_021])) == [{}]


@pytest.mark.parametrize(
    ("viewed", "completed", "right"),
    [([5], [5], 1), ([5], [6], 1), ([7], [6], 0), ([], [6], 0), ([5], [], 0), ([5], [99], 0),
     ([1], [6], 0)],
)  # fmt: skip
def test_viewed_then_completed(viewed: list[int], completed: list[int], right: int) -> None:
    happened = {
        ("ann", "offer viewed", "x"): viewed,
        ("ann", "offer completed", "x"): completed,
    }
    assert segment_rewards._success(happened, "ann", "x", 2, 50) == bool(right)


def cases(n: int = 3000, worth: float = 2.0) -> segment.Cases:
    """Cases in which the genome tells (by `worth`) and the profile does not."""
    rng = np.random.default_rng(0)
    genome = rng.normal(size=(n, 2)).astype(np.float32)
    label = (rng.random(n) < 1 / (1 + np.exp(-worth * genome[:, 0]))).astype(float)
    person = np.repeat(np.arange(n // 3), 3)
    late = np.tile([False, False, True], n // 3)
    return segment.Cases(
        person=person, label=label, learn=~late, judge=late,
        fold=np.array([segment.fold_of(one) for one in person.tolist()]),
        thing=np.zeros((n, 1)), profile=rng.normal(size=(n, 2)), genome=genome,
        base=np.zeros(n, int), cell=rng.integers(0, 5, n),
    )  # fmt: skip


def test_scores_of_everybody_who_is_judged_and_what_tells_is_seen() -> None:
    pytest.importorskip("lightgbm")
    some = cases()
    said = segment.scores(some)
    label, person = some.label[some.judge], some.person[some.judge]
    assert all(not np.isnan(each).any() for each in said.values())
    found = {name: auc(label, each) or 0.0 for name, each in said.items()}
    assert found["genome"] > 0.75
    assert found["profile"] < 0.58
    low, high = segment.auc_difference(label, said["genome"], said["profile"], person)
    assert 0.1 < low < found["genome"] - found["profile"] < high


def test_nobody_is_judged_by_what_was_learned_of_them() -> None:
    some = cases(300)
    label = some.label.copy()
    others = some.fold != 0
    one = segment.segment_rates(some, some.learn & others, some.judge & ~others)
    some.label[~others] = 1 - label[~others]
    np.testing.assert_array_equal(
        one, segment.segment_rates(some, some.learn & others, some.judge & ~others)
    )


@pytest.mark.dataset
def test_the_sets_are_read_as_they_lie() -> None:
    try:
        find("starbucks_rewards")
    except DataSetMissing as missing:
        pytest.skip(str(missing).splitlines()[0])
    one = foresee_sets.starbucks()
    assert one.symbols == ["offer completed", "offer viewed", "transaction"]
    assert len(one.events) == len(one.own) == len(one.state)
    assert np.array_equal(one.events.symbol >= 0, one.own)
