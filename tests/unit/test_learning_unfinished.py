"""A training that is broken off goes on, and ends as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genome_server.learning.evaluate import evaluate
from genome_server.learning.kin import Kin
from genome_server.learning.lessons import Teaching
from genome_server.learning.settings import Settings
from genome_server.learning.train import predict, train, train_with_persons
from genome_server.learning.unfinished import AsOf, Unfinished
from tests.unit.test_learning_train import EXAMPLES, SMALL

TAUGHT = replace(SMALL, epochs=4, teaching=Teaching(trees=8, least_examples=100))
DAY_MS = 86_400_000


class Killed(Exception):
    """Somebody pulled the plug."""


def kill_at(step: int) -> Callable[[int, int], None]:
    def on_step(done: int, total: int) -> None:
        if done >= step * total // 100:
            raise Killed

    return on_step


@pytest.fixture
def left(tmp_path: Path) -> Unfinished:
    found = Unfinished(tmp_path / "training", every_s=0.0)
    found.as_of("settings", AsOf(0, 10))
    found.accept(EXAMPLES)
    return found


def test_the_same_weights_wherever_it_was_killed(left: Unfinished) -> None:
    whole = train(EXAMPLES, None, TAUGHT)
    for percent in (25, 55):
        with pytest.raises(Killed):
            train(EXAMPLES, None, TAUGHT, kill_at(percent), left)
    begun: list[int] = []
    again = train(EXAMPLES, None, TAUGHT, lambda done, _: begun.append(done), left)
    assert begun[0] > 10, "it did not go on"
    for name in ("query_table", "hidden_weight", "output_weight", "offer_table", "output_bias"):
        assert np.array_equal(getattr(whole, name), getattr(again, name)), name


def test_folds_that_are_done_are_not_trained_again(left: Unfinished) -> None:
    settings = replace(SMALL, epochs=2)
    whole = evaluate(EXAMPLES, settings, quick=True)
    with pytest.raises(Killed):
        evaluate(EXAMPLES, settings, quick=True, on_step=kill_at(60), left=left)
    said = left.load("fold-0")
    assert said is not None
    left.save("fold-0", {**said, "cold": np.full_like(said["cold"], 0.5)})
    again = evaluate(EXAMPLES, settings, quick=True, left=left)
    assert again.random == whole.random
    assert again.by_person.with_history == whole.by_person.with_history
    assert again.by_person.cold.auc == 0.5, "what was kept is taken"


def test_it_goes_on_as_of_its_time_and_place(tmp_path: Path) -> None:
    def begin(settings: str, now: AsOf) -> AsOf:
        left = Unfinished(tmp_path / "training")
        found = left.as_of(settings, now)
        left.accept(EXAMPLES)
        return found

    first = AsOf(1_000, 10)
    assert begin("one", first) == first
    assert begin("one", AsOf(2_000, 30)) == first
    assert begin("one", AsOf(1_000 + DAY_MS, 30)) == AsOf(1_000 + DAY_MS, 30), "a day ago"
    assert begin("other", AsOf(2_000, 40)) == AsOf(2_000, 40)
    assert begin("other", AsOf(2_000, 5)) == AsOf(2_000, 5), "another log"
    Unfinished(tmp_path / "training").finish()
    assert not (tmp_path / "training").exists()


def test_two_trainings_at_once_do_not_mix(tmp_path: Path) -> None:
    one, other = Unfinished(tmp_path / "training"), Unfinished(tmp_path / "training")
    one.as_of("one", AsOf(1_000, 10))
    one.accept(EXAMPLES)
    one.save("fold-0", {"cold": np.zeros(3)})
    other.as_of("other", AsOf(2_000, 10))
    assert other.load("fold-0") is None
    one.save("fold-1", {"cold": np.ones(3)})  # its folder was taken away
    assert other.load("fold-1") is None
    again = Unfinished(tmp_path / "training")
    assert again.as_of("one", AsOf(3_000, 10)) == AsOf(3_000, 10), "what it lost it begins anew"
    assert again.load("fold-1") is None


@pytest.mark.parametrize("held", [b"", b"{}", b"[1]", b"\xff", b'{"now_ms": 1}'])
def test_a_beginning_that_cannot_be_read_is_none(tmp_path: Path, held: bytes) -> None:
    left = Unfinished(tmp_path / "training")
    left.as_of("one", AsOf(1_000, 10))
    left.accept(EXAMPLES)
    (begun,) = tmp_path.rglob("begun.json")
    begun.write_bytes(held)
    assert left.as_of("one", AsOf(2_000, 20)) == AsOf(2_000, 20)


def test_other_examples_begin_anew(left: Unfinished) -> None:
    left.save("fold-0", {"cold": np.zeros(3)})
    assert left.accept(EXAMPLES)
    assert left.load("fold-0") is not None
    label = EXAMPLES.label.copy()
    label[3] = 1 - label[3]
    assert not left.accept(replace(EXAMPLES, label=label))
    assert left.load("fold-0") is None
    known = len(EXAMPLES.fields)
    kin = Kin(np.arange(known)[None], np.ones(1, np.int64), np.full(known, -1))
    assert not left.accept(replace(EXAMPLES, kin=kin))
    assert left.accept(replace(EXAMPLES, kin=kin))
    assert not left.accept(replace(EXAMPLES, kin=replace(kin, sign=-kin.sign)))


def test_a_persons_own_marker_is_nothing_to_strangers() -> None:
    settings = Settings(shape=SMALL.shape, batch=64, person_dropout=0.5, hold_back_persons=False)
    towers, persons = train_with_persons(EXAMPLES, None, replace(settings, epochs=4))
    assert persons is not None
    assert persons.shape == (61, 2, 16)
    assert not persons[0].any()
    assert persons[1:].any()
    rows = np.arange(50)
    known = predict(towers, EXAMPLES, rows, history=True, persons=persons)
    stranger = predict(towers, EXAMPLES, rows, history=True)
    assert not np.array_equal(known, stranger)
    nobody = replace(EXAMPLES, person=np.full(len(EXAMPLES), -1, np.int32))
    assert np.array_equal(predict(towers, nobody, rows, history=True, persons=persons), stranger)
    assert train_with_persons(EXAMPLES, None, replace(SMALL, epochs=1))[1] is None
