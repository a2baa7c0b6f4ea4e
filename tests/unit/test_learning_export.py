from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.scoring import OnnxScorer
from edge_sdk.errors import TrustError
from genome_server.learning.export import (
    CONTRACT,
    ExportError,
    ModelFacts,
    Probe,
    model_facts,
    open_session,
    prove_parity,
    run_model,
    tower_model,
    untrained_model,
)
from genome_server.learning.towers import Floats, Shape, Towers, random_towers

SIZE = 50
LINEAGE = bytes(range(16))
FACTS = ModelFacts(LINEAGE, SIZE, trained_ms=123, auc_by_person=0.75)
TOWERS = random_towers(1, SIZE, Shape(members=3, width=8, hidden=6, dimension=4))
MODEL = tower_model(TOWERS, FACTS)
SESSION = open_session(MODEL)


def probe(seed: int, n: int, m: int, w: int) -> Probe:
    rng = np.random.default_rng(seed)
    return Probe(
        rng.integers(0, SIZE, n),
        rng.exponential(1.0, n).astype(np.float32),
        rng.integers(0, SIZE, (m, w)),
        rng.exponential(1.0, (m, w)).astype(np.float32),
    )


def by_hand(towers: Towers, given: Probe) -> Floats:
    """The formula of `towers`, one member and one offer after the other, in float64."""
    d = towers.shape.dimension
    values = []
    for markers, worth in zip(given.offer_index, given.offer_weight, strict=True):
        logits = []
        for e in range(towers.shape.members):
            x = towers.query_bias[e].astype(float)
            for marker, weight in zip(given.query_index, given.query_weight, strict=True):
                x = x + weight * towers.query_table[towers.query_row[marker], e]
            h = np.maximum(x, 0) @ towers.hidden_weight[e] + towers.hidden_bias[e]
            q = np.maximum(h, 0) @ towers.output_weight[e] + towers.output_bias[e]
            o = np.zeros(d + 1)
            for marker, weight in zip(markers, worth, strict=True):
                o = o + weight * towers.offer_table[towers.offer_row[marker], e]
            logits.append(q[:d] @ o[:d] + q[d] + o[d])
        values.append(1 / (1 + np.exp(-np.mean(logits))))
    return np.array(values, np.float32)


@given(st.integers(0, 2**32), st.integers(0, 70), st.integers(0, 9), st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_the_file_says_what_the_formula_says(seed: int, n: int, m: int, w: int) -> None:
    given_probe = probe(seed, n, m, w)
    found = run_model(SESSION, given_probe)
    assert found.shape == (m,)
    assert np.abs(found - by_hand(TOWERS, given_probe)).max(initial=0) <= 1e-5


def test_parity_is_proven_and_a_difference_stops_the_export() -> None:
    probes = [probe(seed, seed % 65, 5, 3) for seed in range(40)]
    proof = prove_parity(MODEL, lambda one: by_hand(TOWERS, one), probes)
    assert proof.probes == 40
    assert proof.max_difference <= 1e-5
    table = TOWERS.offer_table.copy()
    table[3] += 0.01
    other = replace(TOWERS, offer_table=table)
    with pytest.raises(ExportError, match=r"differs from the trainer by"):
        prove_parity(MODEL, lambda one: by_hand(other, one), probes)


def test_values_that_are_not_numbers_stop_the_export() -> None:
    broken = replace(TOWERS, output_bias=TOWERS.output_bias * np.float32(np.nan))
    model = tower_model(broken, FACTS)
    with pytest.raises(ExportError, match="not all numbers"):
        prove_parity(model, lambda one: np.zeros(5, np.float32), [probe(1, 3, 5, 2)])


def test_an_unknown_marker_changes_nothing() -> None:
    forgotten = replace(TOWERS, query_row=np.where(np.arange(SIZE) == 7, 0, TOWERS.query_row))
    session = open_session(tower_model(forgotten, FACTS))
    base = probe(5, 4, 6, 3)
    with_it = replace(
        base,
        query_index=np.append(base.query_index, 7),
        query_weight=np.append(base.query_weight, np.float32(3)),
    )
    assert np.array_equal(run_model(session, base), run_model(session, with_it))


def test_the_file_says_what_it_is() -> None:
    facts = model_facts(MODEL)
    assert facts == {
        "contract": CONTRACT,
        "vocabulary_lineage": LINEAGE.hex(),
        "vocabulary_size": "50",
        "dimension": str(3 * (4 + 2)),
        "trained_ms": "123",
        "auc_by_person": "0.7500",
    }
    proto = onnx.load_model_from_string(MODEL)
    assert proto.opset_import[0].version >= 17
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    assert tower_model(TOWERS, FACTS) == MODEL, "the same weights are the same bytes"


def test_the_untrained_model_values_every_offer_the_same() -> None:
    session = open_session(untrained_model(FACTS))
    for shape in ((0, 0, 0), (9, 4, 3)):
        assert run_model(session, probe(1, *shape)).tolist() == [0.5] * shape[1]


@pytest.mark.parametrize("model", [MODEL, untrained_model(FACTS)], ids=["towers", "untrained"])
def test_devices_take_it(model: bytes) -> None:
    words = Vocabulary(LINEAGE, [f"m:{number}" for number in range(SIZE + 3)])
    scorer = OnnxScorer(model, words)
    vectors = scorer.vectors([[(1, 1.0), (SIZE + 1, 1.0)], []])
    values = scorer.values(
        np.array([3, SIZE + 2]), np.array([1.0, 9.0], np.float32), np.ascontiguousarray(vectors)
    )
    known = Probe(
        np.array([3]), np.ones(1, np.float32), np.array([[1], [0]]), np.array([[1.0], [0.0]], "f")
    )
    assert np.allclose(values, run_model(open_session(model), known), atol=1e-6)
    with pytest.raises(TrustError):
        OnnxScorer(model, Vocabulary(bytes(16), words.markers))


def test_what_is_no_model_of_ours_is_refused() -> None:
    with pytest.raises(ExportError, match="not an ONNX file"):
        model_facts(b"\xff\xff\xff")
    with pytest.raises(ExportError, match="contract"):
        model_facts(onnx.ModelProto().SerializeToString())
    with pytest.raises(ExportError, match="50 markers"):
        tower_model(TOWERS, replace(FACTS, vocabulary_size=51))
