"""The closed loop resumes what was played, and asks models as training does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genome_server.learning.towers import Shape, random_towers
from genome_server.learning.train import predict
from tests.bench import regret_runs
from tests.bench.regret_loop import Judge, Random
from tests.bench.regret_runs import Run, _play, judge_of
from tests.bench.regret_sure import _answers, moments_of
from tests.unit._learning import Log
from tests.unit.test_world import tiny


class Counted(Random):
    """Random; counts how often it was made."""

    made = 0

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        Counted.made += 1


def test_what_was_played_is_not_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regret_runs, "KEPT", tmp_path)
    monkeypatch.setattr(regret_runs, "WORLDS", {"tiny": tiny})
    monkeypatch.setattr(regret_runs, "POLICIES", {"counted": Counted})
    judge_of.cache_clear()
    run = Run("tiny", 3, 2, 20, "counted")
    first = _play("code", run)
    again = _play("code", run)
    assert Counted.made == 1
    assert first[0] == again[0] == run
    assert first[1].tolist() == again[1].tolist()
    _play("other code", run)
    assert Counted.made == 2
    assert len(list(tmp_path.iterdir())) == 2
    judge_of.cache_clear()


def test_what_is_measured_is_what_the_model_says() -> None:
    log = Log()
    for number in range(60):
        log.decided(number, number, ("taxi", "spa")[number % 2], context=["activity:flight"])
        if number % 3 == 0:
            log.followed(number, number + 0.1, "redeem")
    examples, _ = log.examples()
    towers = random_towers(3, examples.vocabulary_size, Shape(2, 8, 4, 2))
    rows = np.arange(len(examples))
    logits, parts = _answers(towers, examples, rows)
    said = 1 / (1 + np.exp(-logits.mean(-1)[rows, examples.offer]))
    assert said == pytest.approx(predict(towers, examples, rows, history=True), abs=1e-5)
    assert parts.sum(-1) == pytest.approx(logits.mean(-1), abs=1e-6)


def test_every_example_finds_its_moment() -> None:
    log = Log()
    log.decided(1, 5, "taxi")
    log.decided(2, 5, "spa")
    log.decided(3, 7, "taxi")
    examples, _ = log.examples()

    class Stream:
        at_ms = np.array([examples.time_ms[0], examples.time_ms[0], 0, examples.time_ms[2]])

    class Truth:
        stream = Stream

    assert moments_of(Truth, examples).tolist() == [0, 1, 3]  # type: ignore[arg-type]
