"""What a model says of examples: how far off it is, what chance makes of it, and what tells."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from genome_server.gate.measure import alone, calibration_of, fall
from genome_server.learning.examples import Examples, ExamplesBuilder, OfferTable
from genome_server.learning.metrics import calibration_error
from genome_server.learning.towers import Floats


def drawn(
    seed: int, persons: int, each: int, off: float = 0.0, alike: float = 0.0
) -> tuple[Floats, Floats, NDArray[np.int32], Floats]:
    """Answers that come true as often as is said plus `off`; those of a person lean one way."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(persons), each).astype(np.int32)
    said = rng.uniform(0.15, 0.85, persons * each).astype(np.float32)
    lean = rng.choice([-alike, alike], persons)[person]
    label = (rng.random(len(said)) < said + off + lean).astype(np.float32)
    return label, said, person, np.ones(len(said), np.float32)


def test_an_error_is_that_of_training() -> None:
    label, said, person, weight = drawn(1, 300, 5, off=0.05)
    found = calibration_of(label, said, person, weight)
    assert found.error == pytest.approx(calibration_error(label, said))
    assert found.overall == pytest.approx(abs(float((label - said).mean())), abs=1e-6)
    assert sum(one.examples for one in found.bins) == len(label)
    twice = calibration_of(label, said, person, 2 * weight)
    assert twice.error == pytest.approx(found.error)


def test_what_chance_makes_of_an_error_holds() -> None:
    # What is said is right, and answers of a person resemble each other: seldom is more seen.
    beyond = {"error": 0, "overall": 0}
    for seed in range(150):
        found = calibration_of(*drawn(seed, 60, 10, alike=0.15))
        beyond["error"] += found.error > found.chance
        beyond["overall"] += found.overall > found.overall_chance
        assert found.chance <= found.chance_at_most * 1.1
    assert max(beyond.values()) <= 6
    # And an error that is there is seen.
    off = [calibration_of(*drawn(seed, 200, 10, off=0.1)) for seed in range(20)]
    assert all(found.error > found.chance for found in off)
    assert all(found.overall > found.overall_chance for found in off)


def moments(rows: list[tuple[int, bool, list[int]]]) -> Examples:
    """(person, success, markers) of a vocabulary of 6 markers in 3 namespaces."""
    builder = ExamplesBuilder()
    for at, (person, label, markers) in enumerate(rows):
        builder.add(
            [(marker, 1.0, 1.0) for marker in markers],
            offer=0, label=label, propensity=1.0, person=person, time_ms=at,
        )  # fmt: skip
    fields = np.array([0, 0, 1, 1, 2, 2], np.int32)
    return builder.build(OfferTable.build({"a": [(0, 1.0)]}), fields)


def test_what_tells_the_answer_by_itself_is_found() -> None:
    rng = np.random.default_rng(2)
    rows = []
    for number in range(600):
        yes = bool(rng.random() < 0.4)
        markers = [int(rng.integers(2))]  # 0 or 1: says nothing
        if number % 4 == 0:
            markers.append(2 if yes else 3)  # a quarter was imported, with the answer
        if yes and number % 4 == 1:
            markers.append(4)  # only what succeeded has one
        rows.append((number % 97, yes, markers))
    examples = moments(rows)
    everything = np.arange(len(examples))

    def told(field: int) -> tuple[float, int]:
        found = alone(examples, everything, examples.fields == field)
        assert found is not None
        return found.auc, len(found.rows)

    assert told(0)[0] < 0.6
    auc, of = told(1)
    assert auc > 0.95
    assert of == 150, "it is looked at among those that have it"
    assert told(2)[1] == 600
    assert told(2)[0] > 0.55
    assert alone(examples, everything, np.zeros(6, bool)) is None


def test_a_fall_is_told_with_its_interval() -> None:
    label, said, person, weight = drawn(3, 100, 10)
    good = (said, person, weight)
    luck = np.random.default_rng(1).random(len(said)).astype(np.float32)
    high, low, least = fall(
        [label, label],
        [(label * 0.5 + said / 4).astype(np.float32), luck],
        [person, person],
        [weight, weight],
    )
    assert high > 0.95
    assert abs(low - 0.5) < 0.06
    assert 0.3 < least < high - low
    same = fall([label, label], [good[0]] * 2, [good[1]] * 2, [good[2]] * 2)
    assert same[0] == same[1]
    assert same[2] < 0
    with pytest.raises(ValueError, match="both kinds"):
        fall([label * 0, label], [said, said], [person, person], [weight, weight])
