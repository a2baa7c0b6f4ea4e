from __future__ import annotations

import math

import numpy as np
import pytest

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.learning import dataset
from genome_server.learning.survey import Person, survey
from tests.unit._learning import OFFERS, Log, at, query, who

ANN, BOB = who(1), who(2)
REDEEM = round(math.log2(1 + 2), 3)  # what one success weighs at once


def test_an_answer_becomes_an_example_with_its_moment() -> None:
    log = Log()
    log.agreed(ANN)
    log.persons[ANN] = Person((("age:30", 256),), True)
    log.did(ANN, 5, "redeem", "activity:flight", "never:seen", offer="spa")
    log.did(ANN, 30, "dismiss", offer="taxi")
    log.did(ANN, 40, "view", offer="taxi")
    log.did(ANN, 41, "redeem", product="soap")
    examples, counts = log.examples()
    assert (counts.answers, counts.decisions, counts.successes, counts.persons) == (2, 0, 1, 1)
    assert examples.label.tolist() == [1, 0]
    assert [examples.offers.ids[row] for row in examples.offer] == ["spa", "taxi"]
    assert examples.time_ms.tolist() == [at(5), at(30)]
    assert query(examples, 0) == {"age:30": (1, 1), "activity:flight": (1, 1)}
    # A day later half a half-life of the spa is gone; strengths are quantised downwards.
    later = query(examples, 1)
    assert later["age:30"] == (1.0, 1.0)
    assert later["service:spa"][1] == 0
    assert later["service:spa"][0] == pytest.approx(math.log2(1 + 2 * 2 ** (-25 / 48)), abs=0.12)
    assert later["calm:yes"][0] == pytest.approx(math.log2(1 + 2 ** (-25 / 240)), abs=0.12)
    assert examples.with_history.tolist() == [False, True]
    assert examples.offers.weight.tolist() == [[1, 0], [1, 0.5], [0, 0]]


def test_an_answer_does_not_know_its_own_hour() -> None:
    log = Log()
    log.agreed(ANN)
    log.did(ANN, 10.1, "redeem", offer="spa")  # the same visit, logged before and after
    log.did(ANN, 10.5, "redeem", offer="taxi")
    log.did(ANN, 10.9, "view", dna=[{"marker": "brand:acme", "salience_q8": 256}])
    log.did(ANN, 11.0, "redeem", offer="taxi")
    examples, _ = log.examples()
    assert query(examples, 0) == query(examples, 1) == {}
    assert set(query(examples, 2)) == {"service:spa", "calm:yes", "service:taxi", "brand:acme"}


def test_a_decision_knows_what_happened_before_it_and_nothing_after() -> None:
    log = Log()
    log.agreed(ANN)
    log.decided(1, 10.50, "taxi", subject=ANN, context=["activity:flight"], propensity=0.25)
    log.followed(1, 10.51, "redeem", subject=ANN, offer="taxi")
    log.did(ANN, 10.49, "redeem", product="soap")  # reported late
    log.did(ANN, 10.52, "redeem", offer="spa")
    examples, counts = log.examples()
    assert (counts.decisions, counts.answers) == (1, 1)
    assert query(examples, 0) == {"brand:acme": (REDEEM, 0), "activity:flight": (1, 1)}
    assert examples.label.tolist() == [1, 1]
    assert examples.propensity.tolist() == [0.25, 1]


def test_a_moment_is_learned_from_as_strong_as_it_was() -> None:
    log = Log()
    moment = ["activity:flight", "b:decided"]
    log.decided(1, 10, "taxi", context=moment, saliences_q8=[128, 256])
    log.followed(1, 10.1, "redeem", offer="taxi")
    examples, _ = log.examples()
    weights = query(examples, 0)
    assert weights["activity:flight"] == (0.5, 0.5)
    assert set(weights.values()) <= {(0.5, 0.5), (1, 1)}


@pytest.mark.parametrize(("hours_before", "seen"), [(0.1, False), (2.0, True)])
def test_a_planted_leak_is_not_picked_up(hours_before: float, seen: bool) -> None:
    """Answers are coin flips, and what is bought with a yes tells them.

    In the same visit it must not be seen; two hours before, it is the past, and the
    measure sees it: a leak would look like that.
    """
    rng = np.random.default_rng(0)
    log = Log()
    for number in range(40):
        log.agreed(who(number + 1))
        for visit in range(1, 11):
            yes = rng.random() < 0.5
            log.did(
                who(number + 1), visit * 100 + 0.5, "redeem" if yes else "dismiss", offer="taxi"
            )
            product = "soap" if yes else "bread"
            log.did(who(number + 1), visit * 100 + 0.5 - hours_before, "redeem", product=product)
    examples, _ = log.examples()
    for marker, told in (("service:taxi", False), ("brand:acme", seen)):
        weight = np.array([query(examples, i).get(marker, (0, 0))[0] for i in range(400)])
        gap = abs(weight[examples.label > 0].mean() - weight[examples.label == 0].mean())
        assert bool(gap > 0.5) is told, (marker, gap)


def test_only_those_who_agreed_to_learning_give_examples() -> None:
    log = Log()
    log.agreed(ANN)
    log.did(ANN, 5, "redeem", offer="spa")
    log.did(BOB, 5, "redeem", offer="spa")
    log.did(BOB, 15, "dismiss", offer="spa")
    log.decided(1, 20, "taxi", "spa", subject=BOB)
    log.did(who(3), 30, "view", offer="spa")
    examples, counts = log.examples()
    assert len(examples) == counts.examples == 1
    assert counts.without_consent == 4
    assert counts.persons_without_consent == 1


def test_what_nobody_did_stays_and_is_nobody_each_time() -> None:
    log = Log()
    for number in range(3):
        log.decided(number, 10 + number, "taxi", context=["activity:flight"])
    log.followed(1, 11.5, "redeem", offer="taxi")
    examples, counts = log.examples()
    assert examples.label.tolist() == [0, 1, 0]
    assert len(set(examples.person.tolist())) == counts.persons == 3
    assert query(examples, 0) == {"activity:flight": (1, 1)}


def test_a_genome_that_was_not_read_is_not_learned_from() -> None:
    log = Log()
    log.persons[ANN] = Person((("age:30", 256),), True)
    log.did(ANN, 1, "redeem", product="soap")
    log.decided(1, 10, "taxi", subject=ANN, genome_used=False, context=["activity:flight"])
    examples, _ = log.examples()
    assert query(examples, 0) == {"activity:flight": (1, 1)}


def test_slots_are_judged_by_what_the_placement_says() -> None:
    log = Log()
    log.decided(1, 10, "taxi", "spa", "", placement="feed")
    log.followed(1, 10.1, "view", slot=1)
    log.decided(2, 10, "taxi", "gone")
    log.decided(3, 10, "taxi", placement="moved")
    log.decided(4, 40, "taxi")
    examples, counts = log.examples(now_hours=50)
    assert [
        (examples.offers.ids[o], y) for o, y in zip(examples.offer, examples.label, strict=True)
    ] == [
        ("spa", 0),
        ("taxi", 0),
    ]
    assert counts.not_viewed == counts.still_open == 1
    assert counts.unknown_offer == counts.unknown_placement == 1


def test_what_came_twice_counts_once() -> None:
    log = Log()
    log.agreed(ANN)
    for _ in range(2):
        log.did(ANN, 5, "redeem", offer="spa", interaction_id="one")
        log.did(ANN, 6, "redeem", offer="bare", interaction_id="two")
        log.followed(9, 7, "redeem", subject=ANN, offer="taxi", event_id="ride")
    log.did(ANN, 55, "dismiss", offer="spa")
    examples, counts = log.examples()
    assert counts.answers == 3
    taxi = query(examples, 2)["service:taxi"][0]
    assert taxi == pytest.approx(math.log2(1 + 2 * 2 ** (-48 / 48)), abs=0.1)


def test_linked_subjects_are_one_person_once_they_are_linked() -> None:
    log = Log()
    log.persons[ANN] = Person((("age:30", 256),), True)
    log.agreed(BOB)
    log.did(ANN, 1, "redeem", product="soap")
    log.did(BOB, 5, "redeem", offer="taxi")
    log.linked(BOB, ANN, 20)
    log.did(BOB, 30, "dismiss", offer="taxi")
    examples, counts = log.examples()
    assert counts.persons == 1
    assert set(examples.person.tolist()) == {0}
    assert query(examples, 0) == {"age:30": (1, 1)}
    assert {"age:30", "brand:acme", "service:taxi"} == set(query(examples, 1))


def test_a_linked_subject_that_did_not_agree_is_left_out() -> None:
    log = Log()
    log.persons[ANN] = Person((("age:30", 256),), False)
    log.agreed(BOB)
    log.did(ANN, 1, "redeem", offer="spa")
    log.linked(BOB, ANN, 2)
    log.did(BOB, 30, "dismiss", offer="taxi")
    examples, counts = log.examples()
    assert len(examples) == 1
    assert query(examples, 0) == {}
    assert counts.without_consent == 1


def test_parts_of_the_persons_give_the_same_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    for number in range(30):
        log.agreed(who(number + 1))
        log.did(who(number + 1), number, "redeem", offer="spa")
        log.did(who(number + 1), number + 40, "dismiss", offer="taxi")
    log.decided(1, 10, "taxi")
    whole, counts = log.examples()
    monkeypatch.setattr(dataset, "_EVENTS_PER_PART", 10)
    parts, again = log.examples()
    assert again == counts
    assert np.array_equal(whole.time_ms, parts.time_ms)
    assert [query(whole, i) for i in range(61)] == [query(parts, i) for i in range(61)]


def test_the_survey_finds_the_markers_that_deserve_an_index() -> None:
    log = Log()
    for number in range(5):
        log.did(ANN, number, "redeem", "a:often", f"session:{number}", offer="spa")
    for number in range(3):
        log.decided(number, number, "taxi", context=["b:decided"])
        log.did(ANN, number, "view", "c:no-answer", offer="spa")
    found = survey(log.sources())
    assert found.frequent_markers() == ["a:often", "b:decided"]
    assert found.events == 11


def test_an_unreadable_event_is_passed_over() -> None:
    log = Log()
    log.agreed(ANN)
    log.did(ANN, 5, "redeem", offer="spa")
    log.frames[0] = log.frames[0]._replace(body=b"\xff\xff")
    log.did(ANN, 6, "unheard-of", offer="spa")
    examples, counts = log.examples()
    assert len(examples) == 0
    assert counts.events == 2
    assert examples.batch(np.zeros(0, np.int64)).label.shape == (0,)


def test_offers_without_known_dna_have_empty_rows() -> None:
    examples, _ = Log().examples(vocabulary=Vocabulary(bytes(16), ["service:taxi"]))
    assert examples.offers.ids == tuple(OFFERS)
    assert examples.offers.weight.tolist() == [[1], [0], [0]]


def test_an_impression_stands_for_those_that_its_device_gave_up() -> None:
    log = Log()
    log.agreed(ANN)
    for number in range(1, 7):
        log.decided(number, number, "taxi", subject=ANN)
        log.followed(number, number + 0.1, "dismiss", subject=ANN, offer="taxi")
    for first, last, ppm in ((3, 6, 750_000), (7, 7, 999_999), (9, 9, 0), (11, 11, 1_000_000)):
        said = event_pb2.Evicted(first_sequence=first, last_sequence=last, probability_ppm=ppm)
        log.add(NOBODY, FrameKind.EVICTED, 1, evicted=said)
    examples, counts = log.examples()
    assert counts.decisions == 6
    # Sequences 1, 3, 5 … are the decisions. Nobody is believed to stand for a million.
    assert examples.stands_for.tolist() == [1, 4, 4, 64, 1, 1]
    assert examples.batch(np.arange(6)).stands_for.tolist() == [1, 4, 4, 64, 1, 1]


def test_examples_that_stand_for_many_count_as_many() -> None:
    rng = np.random.default_rng(1)
    all_of_them, thinned = Log(), Log()
    shown = []
    for number in range(4_000):
        yes = number % 4 == 0
        for log in (all_of_them, thinned):
            if log is thinned and not yes and rng.random() < 0.75:
                continue
            log.decided(number + 1, number / 100, "taxi")
            if log is thinned:
                shown.append((len(log.frames), yes))
            log.followed(number + 1, number / 100 + 0.1, "redeem" if yes else "dismiss")
    for sequence, yes in shown:
        if not yes:
            said = event_pb2.Evicted(
                first_sequence=sequence, last_sequence=sequence, probability_ppm=750_000
            )
            thinned.add(NOBODY, FrameKind.EVICTED, 1, evicted=said)
    means = []
    for log in (all_of_them, thinned):
        examples, _ = log.examples()
        weight = examples.stands_for
        means.append(float((examples.label * weight).sum() / weight.sum()))
    assert means[0] == pytest.approx(means[1], abs=0.02)
