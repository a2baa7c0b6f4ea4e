"""What the bench asks of Open Bandit: fair columns, and estimates that agree with the truth."""

from __future__ import annotations

import numpy as np
import pytest

from examples.datasets import DataSetMissing, find
from genome_server.offpolicy.estimate import evaluate
from genome_server.offpolicy.needs import NOTHING
from tests.bench import offpolicy


def test_a_log_is_asked_about_the_target_in_its_own_positions() -> None:
    rng = np.random.default_rng(1)
    position, item = rng.integers(0, 3, 600), rng.integers(0, 4, 600)
    log = offpolicy.Shown(position, item, np.full(600, 0.25), (item == 2).astype(float))
    target = offpolicy.frequencies(log, 4)
    assert target.sum(axis=1) == pytest.approx(1.0)
    assert target[1, 2] == ((position == 1) & (item == 2)).sum() / (position == 1).sum()
    logged, policy = offpolicy.asked(log, target)
    assert (policy.chance[:, 0] == target[position, item]).all()
    assert policy.predicted is not None
    assert policy.expected is not None
    # The model has learned what is clicked; its mean over the target is between its predictions.
    assert policy.predicted[item == 2].min() > policy.predicted[item != 2].max()
    assert policy.expected == pytest.approx(0.25, abs=0.1)
    truth = (target[:, 2] * np.bincount(position) / 600).sum()
    assert evaluate(logged, policy).estimates["dr"].value == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize(("log", "other"), [("random", "bts"), ("bts", "random")])
def test_on_open_bandit_intervals_meet_the_truths(log: str, other: str) -> None:
    try:
        folder = find("open_bandit")
    except DataSetMissing as missing:
        pytest.skip(str(missing))
    of = {name: offpolicy.read(folder / f"men_{name}.parquet") for name in ("random", "bts")}
    assert of["random"].chance == pytest.approx(1 / 34)
    target = np.full((3, 34), 1 / 34)
    if other == "bts":
        target = offpolicy.frequencies(of["bts"], 34)
    told = evaluate(*offpolicy.asked(of[log], target), needs=NOTHING)
    truth = evaluate(*offpolicy.on_policy(of[other])).estimates["ips"]
    for name in ("ips", "snips", "dr"):
        said = told.estimates[name]
        assert said.low < truth.value < said.high
    # Of BTS's log too few clicks speak of showing at random; nothing is concluded from them.
    judged = evaluate(*offpolicy.asked(of[log], target))
    assert judged.concludes == (log == "random")
    assert 0.9 < judged.overlaps[0].mean_weight < 1.1
