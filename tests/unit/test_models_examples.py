"""The worked examples of models from elsewhere: each keeps the contract, and what it learned."""

from __future__ import annotations

import runpy
from typing import Any

import numpy as np
import pytest

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.scoring import open_scorer
from examples.models import lightgbm_trees, pytorch_towers, scikit_learn
from examples.models.contract import Bags, Floats, Handout
from genome_server.models.check import check_model

LINEAGE = bytes(range(16))
SIZE = 60
WORDS = Vocabulary(LINEAGE, [f"m:{n}" for n in range(SIZE + 5)])


@pytest.fixture(scope="module")
def handout() -> Handout:
    """People of two tastes, whose markers say which; some rows say nothing, some twice."""
    rng = np.random.default_rng(4)
    offers = [(np.array([40 + n, 50 + n % 3]), np.array([1.0, 0.5], np.float32)) for n in range(6)]
    queries, offered, success = [], [], []
    for row in range(1200):
        taste = row % 2
        markers = rng.integers(0, 40, rng.integers(0, 9))
        markers = np.append(markers[markers % 2 == taste], taste if row % 7 else markers[:0])
        number = int(rng.integers(0, 6))
        queries.append((markers.astype(np.int64), rng.exponential(1, len(markers)).astype("f")))
        offered.append(offers[number])
        success.append(rng.random() < (0.8 if number % 2 == taste else 0.2))
    label, person = np.array(success), np.arange(1200)
    return Handout(LINEAGE.hex(), SIZE, 7, queries, offered, label, person)


def on_device(content: bytes, queries: Bags, offers: Bags) -> Floats:
    """What a device makes of each row; markers beyond the model's are left out."""
    scorer = open_scorer(content, WORDS)
    vectors = scorer.vectors([list(zip(i.tolist(), w.tolist(), strict=True)) for i, w in offers])
    return np.concatenate(
        [scorer.values(i, w, vectors[row : row + 1]) for row, (i, w) in enumerate(queries)]
    )


def proven(content: bytes, handout: Handout, wanted: Floats) -> None:
    found = on_device(content, handout.queries, handout.offers)
    assert float(np.abs(found - wanted).max()) <= 1e-5
    right = (found > 0.5) == handout.success
    assert right.mean() > 0.65, "it has learned something"
    checked = check_model(content, WORDS)
    assert {one.name for one in checked.findings} <= {"slow"}, checked.findings
    assert checked.facts["trained_ms"] == "7"
    assert checked.facts["examples"] == "1200"


def test_lightgbm(handout: Handout) -> None:
    pytest.importorskip("lightgbm", reason="LightGBM is not installed (make setup)")
    booster, asked, offered = lightgbm_trees.fit(handout)
    content = lightgbm_trees.export(booster, handout, asked, offered)
    features = lightgbm_trees.features(handout, asked, offered)
    proven(content, handout, booster.predict(features))


def test_lightgbm_thresholds_part_what_is_equal_to_them() -> None:
    """A column that is exactly the threshold, or one step beside it, goes the same way."""
    steps = np.array([0.1, 0.7, 1 / 3, 2.5e-7, 1e7], np.float32)
    for at in np.concatenate([steps, np.nextafter(steps, np.float32(9e9))]):
        for threshold in (float(at), float(at) * (1 + 1e-12), float(at) * (1 - 1e-12)):
            below = lightgbm_trees._below(threshold)
            assert float(np.float32(below)) == below
            for value in (np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(9e9))):
                assert (float(value) <= threshold) == (value <= np.float32(below))


def test_scikit_learn(handout: Handout) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (make setup)")
    model, asked, offered = scikit_learn.fit(handout)
    features = scikit_learn.features(handout, asked, offered)
    content = scikit_learn.export(model, handout, asked, offered)
    proven(content, handout, model.predict_proba(features)[:, 1])


def random_state() -> dict[str, Any]:
    rng = np.random.default_rng(1)

    def some(*shape: int) -> Floats:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    return {
        "query.weight": some(SIZE, 16), "query_bias": some(16), "mix.weight": some(5, 16),
        "mix.bias": some(5), "offer.weight": some(SIZE, 5), "offer_bias.weight": some(SIZE, 1),
        "bias": some(1),
    }  # fmt: skip


def test_the_towers_file_says_what_their_weights_say(handout: Handout) -> None:
    """Also where PyTorch is not: the file is written from weights by name."""
    state = random_state()
    content = pytorch_towers.export(state, handout)
    found = on_device(content, handout.queries, handout.offers)
    wanted = pytorch_towers.predict(state, handout.queries, handout.offers)
    assert float(np.abs(found - wanted).max()) <= 1e-5
    assert check_model(content, WORDS).findings == ()


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("lightgbm_trees", 2, "lightgbm is not installed for this Python. Run: make setup"),
        ("pytorch_towers", 2, "torch is not installed for this Python. PyTorch is no dependency"),
        ("scikit_learn", 2, "sklearn is not installed for this Python. Run: make setup"),
        ("scikit_learn", 1, "usage: python -m examples.models.scikit_learn FOLDER OUT.onnx"),
    ],
)
def test_what_keeps_an_example_from_running_is_said(
    module: str,
    arguments: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("examples.models.contract.find_spec", lambda _: None)
    monkeypatch.setattr("sys.argv", [f"{module}.py", "handout", "own.onnx"][: arguments + 1])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"examples.models.{module}", run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(said)


def test_pytorch(handout: Handout) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed, nor is it a dependency")
    state = pytorch_towers.fit(handout)
    wanted = pytorch_towers.predict(state, handout.queries, handout.offers)
    proven(pytorch_towers.export(state, handout), handout, wanted)


@pytest.mark.parametrize("chosen", [0, 1, 60])
def test_columns_are_what_the_graph_makes_of_markers(handout: Handout, chosen: int) -> None:
    from examples.models.contract import columns

    some = np.arange(chosen)
    dense = columns(handout.queries[:50], some, SIZE)
    for row, (markers, weights) in enumerate(handout.queries[:50]):
        for column in some.tolist():
            wanted = weights[markers == column].sum()
            assert dense[row, column] == pytest.approx(wanted, abs=1e-6)
