"""Scores and draws: against the vectors, against plain arithmetic, against broken models."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.choosing import select
from edge_sdk.engine.policy import (
    Greedy,
    OnnxScorer,
    P,
    SquareCB,
    draw_number,
    explorer,
    fixed_scores,
    splitmix64,
)
from edge_sdk.errors import FormatError, TrustError
from genome_server.learning.export import ModelFacts, tower_model, untrained_model
from genome_server.learning.towers import Shape, random_towers
from tools.make_exploration_vectors import draw, slots_of, split_mix, square_cb

VECTORS = Path(__file__).parents[2] / "proto" / "vectors" / "exploration.json"
LINEAGE = bytes(range(16))
WORDS = Vocabulary(LINEAGE, [f"m:{n}" for n in range(50)])

score_lists = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=30)
gammas = st.floats(0, 1e6)
floors = st.floats(0, 1)


def vectors() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(VECTORS.read_text(encoding="utf-8"))
    return document


def scored(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32)


def test_the_vectors_of_the_generator() -> None:
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the published first output for seed 0
    for case in vectors()["splitmix64"]:
        assert draw_number(int(case["seed"]), case["slot"]) == int(case["output"]) >> 32


def test_the_vectors_of_distributions() -> None:
    for case in vectors()["distribution"]:
        found = SquareCB(case["gamma"], case["floor"]).distribution(scored(case["scores"]))
        assert found.tolist() == case["chances"]


def test_the_vectors_of_slots() -> None:
    for case in vectors()["slots"]:
        picks = select(
            scored(case["scores"]),
            np.array(case["priorities"], np.int32),
            np.array(case["groups"], np.int32),
            explorer(case["explorer"], case["gamma"], case["floor"]),
            int(case["seed"]),
            case["slots"],
        )
        assert [{"candidate": p.position, "chance": p.chance} for p in picks] == case["picked"]


@given(scores=score_lists, gamma=gammas, floor=floors, number=st.integers(0, P - 1))
def test_squarecb_is_exact(scores: list[int], gamma: float, floor: float, number: int) -> None:
    rule = SquareCB(gamma, floor)
    chances = square_cb(scores, gamma, floor)
    assert rule.distribution(scored(scores)).tolist() == chances
    assert sum(chances) == P
    drawn = rule.draw(scored(scores), number)
    assert (drawn.position, drawn.chance) == (draw(chances, number), chances[drawn.position])
    # The best never has less than the others, and nobody less than the floor's share.
    assert chances[drawn.best] == max(chances)
    assert min(chances) >= int(Fraction(floor) * P) // len(scores)


@given(
    data=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 1]), st.sampled_from([0, 1, 2])),
        min_size=1,
        max_size=9,
    ),
    seed=st.integers(0, 2**64 - 1),
    slots=st.integers(1, 6),
    rule=st.none() | st.tuples(gammas, floors),
)
def test_slots_are_drawn_from_what_is_left(
    data: list[tuple[int, int, int]], seed: int, slots: int, rule: tuple[float, float] | None
) -> None:
    scores, priorities, groups = (list(column) for column in zip(*data, strict=True))
    picks = select(
        scored(scores),
        np.array(priorities, np.int32) if any(priorities) else None,
        np.array(groups, np.int32) if any(groups) else None,
        Greedy() if rule is None else SquareCB(*rule),
        seed,
        slots,
    )
    wanted = slots_of(scores, priorities, groups, seed, slots, rule)
    assert [(p.position, p.chance) for p in picks] == wanted


def test_draws_follow_the_chances() -> None:
    rule = SquareCB(20.0, 0.1)
    scores = scored([40_000, 60_000, 20_000])
    chances = rule.distribution(scores) / P
    drawn = [rule.draw(scores, split_mix(7, n) >> 32).position for n in range(4000)]
    assert np.bincount(drawn, minlength=3) / 4000 == pytest.approx(chances, abs=0.03)


def test_greedy_takes_the_first_of_the_best() -> None:
    assert Greedy().draw(scored([1, 9, 9]), 0) == (1, P, 1)
    assert Greedy().distribution(scored([1, 9, 9])).tolist() == [0, P, 0]


def test_explorers_by_name() -> None:
    assert isinstance(explorer("", 0, 0), Greedy)
    with pytest.raises(FormatError, match="epsilon"):
        explorer("epsilon", 0, 0)
    with pytest.raises(FormatError, match="floor"):
        explorer("squarecb", 1.0, 1.5)
    with pytest.raises(FormatError, match="gamma"):
        explorer("squarecb", float("nan"), 0.5)


def test_scores_are_fixed_point_and_held() -> None:
    values = np.array([0.5, 1.0, 0.25, np.nan, 1.0, 0.1], np.float32)
    worth = np.array([65536, 65536 * 4.5, 2, 65536, 1e12, -1e12])
    assert fixed_scores(values, worth).tolist() == [
        32768, 294912, 0, -(2**31), 2**31 - 1, -(2**31),
    ]  # fmt: skip


# -- models


def towers(size: int = 50) -> bytes:
    return tower_model(
        random_towers(3, size, Shape(members=2, width=8, hidden=4, dimension=4)),
        ModelFacts(LINEAGE, size),
    )


def test_a_model_values_offers() -> None:
    scorer = OnnxScorer(towers(), WORDS)
    offers = [[(1, 1.0), (2, 0.5)], [], [(49, 2.0)]]
    rows = scorer.vectors(offers)
    values = scorer.values(np.array([1, 7]), np.array([1.0, 0.5], np.float32), rows)
    assert rows.shape == (3, scorer.dimension)
    assert values.dtype == np.float32
    assert ((values > 0) & (values < 1)).all()
    assert len(set(values.tolist())) == 3
    # One at a time gives what all at once gives.
    alone = [scorer.vectors([offer])[0] for offer in offers]
    assert np.allclose(np.array(alone), rows, atol=1e-6)
    # Without a query there still is a value, and without offers there is none.
    nothing = np.zeros(0, np.int64)
    assert len(scorer.values(nothing, nothing.astype(np.float32), rows)) == 3
    assert len(scorer.values(nothing, nothing.astype(np.float32), rows[:0])) == 0
    assert scorer.vectors([]).shape == (0, scorer.dimension)


def test_markers_beyond_the_model_are_ignored() -> None:
    scorer = OnnxScorer(towers(40), WORDS)
    rows = scorer.vectors([[(1, 1.0)], [(1, 1.0), (45, 3.0)]])
    assert np.array_equal(rows[0], rows[1])
    known, beyond = np.array([3]), np.array([3, 40, 49, 10_000])
    weights = np.ones(4, np.float32)
    assert np.array_equal(
        scorer.values(known, weights[:1], rows), scorer.values(beyond, weights, rows)
    )


def test_many_offers_go_through_in_batches() -> None:
    scorer = OnnxScorer(towers(), WORDS)
    offers = [[(n % 50, 1.0)] for n in range(5000)]
    rows = scorer.vectors(offers)
    assert np.allclose(rows[4999], scorer.vectors([offers[4999]])[0], atol=1e-6)


def test_the_untrained_model_values_everything_alike() -> None:
    scorer = OnnxScorer(untrained_model(ModelFacts(LINEAGE, 10)), WORDS)
    rows = scorer.vectors([[(1, 1.0)], [(2, 1.0)]])
    assert scorer.values(np.array([1]), np.ones(1, np.float32), rows).tolist() == [0.5, 0.5]


def refused(model: bytes, words: Vocabulary = WORDS) -> str:
    with pytest.raises(TrustError) as caught:
        OnnxScorer(model, words)
    assert caught.value.reason == "MODEL"
    return str(caught.value)


def changed(model: bytes, **facts: str | None) -> bytes:
    proto = onnx.load_model_from_string(model)
    kept = {entry.key: entry.value for entry in proto.metadata_props} | facts
    helper.set_model_props(proto, {k: v for k, v in kept.items() if v is not None})
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    "model",
    [b"", b"not a model", towers()[:-100], towers()[:200], towers()[100:], bytes(1000)],
    ids=["empty", "text", "cut at the end", "cut early", "headless", "zeros"],
)
def test_garbage_is_refused(model: bytes) -> None:
    assert "the model was refused" in refused(model)


def test_a_model_of_another_contract_or_vocabulary_is_refused() -> None:
    assert "contract" in refused(changed(towers(), contract="genome-edge/offer/2"))
    assert "contract" in refused(changed(towers(), contract=None))
    assert "dimension" in refused(changed(towers(), dimension=None))
    assert "dimension" in refused(changed(towers(), dimension="7"))
    assert "vocabulary_size" in refused(changed(towers(), vocabulary_size="-3"))
    assert "another vocabulary" in refused(towers(), Vocabulary(bytes(16), WORDS.markers))
    assert "50 markers" in refused(towers(), Vocabulary(LINEAGE, WORDS.markers[:20]))


def tampered(change: Any) -> bytes:
    proto = onnx.load_model_from_string(towers())
    change(proto)
    return bytes(proto.SerializeToString())


def test_wrong_inputs_and_outputs_are_refused() -> None:
    def renamed(proto: Any) -> None:
        proto.graph.output[1].name = "probability"

    def typed(proto: Any) -> None:
        proto.graph.input[1].type.tensor_type.elem_type = TensorProto.DOUBLE

    def more(proto: Any) -> None:
        proto.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))

    assert "'value'" in refused(tampered(renamed))
    refused(tampered(typed))
    assert "more" in refused(tampered(more))


def test_a_model_that_reaches_for_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime itself would read the file: this is what keeps it from doing so."""
    proto = onnx.load_model_from_string(towers())
    onnx.save_model(
        proto,
        str(tmp_path / "model.onnx"),
        save_as_external_data=True,
        location="secret.bin",
        size_threshold=0,
    )
    monkeypatch.chdir(tmp_path)
    assert "another file" in refused((tmp_path / "model.onnx").read_bytes())


def test_what_a_model_never_needs_is_refused() -> None:
    def foreign(proto: Any) -> None:
        proto.graph.node[0].domain = "com.example"

    def imported(proto: Any) -> None:
        proto.opset_import.append(helper.make_opsetid("com.example", 1))

    def looping(proto: Any) -> None:
        proto.graph.node[0].op_type = "Loop"

    def nested(proto: Any) -> None:
        inner = proto.graph
        for _ in range(6):
            outer = onnx.GraphProto()
            node = outer.node.add(op_type="If")
            node.attribute.append(helper.make_attribute("then_branch", inner))
            inner = outer
        proto.graph.CopyFrom(inner)

    def buried(proto: Any) -> None:
        inner = onnx.GraphProto()
        inner.node.add(op_type="RandomNormal")
        node = proto.graph.node.add(op_type="If")
        node.attribute.append(helper.make_attribute("else_branch", inner))

    def vast(proto: Any) -> None:
        proto.graph.initializer.add(name="vast", dims=[1 << 12, 1 << 12], data_type=1)

    def wide(proto: Any) -> None:
        proto.graph.value_info.append(
            helper.make_tensor_value_info("wide", TensorProto.FLOAT, [1 << 40])
        )

    def sparse(proto: Any) -> None:
        proto.graph.sparse_initializer.add()

    def hidden(proto: Any) -> None:
        inner = numpy_helper.from_array(np.zeros(3, np.float32), "inner")
        inner.data_location = TensorProto.EXTERNAL
        proto.graph.node[0].attribute.append(helper.make_attribute("value", inner))

    def function(proto: Any) -> None:
        proto.functions.append(
            helper.make_function("local", "f", ["x"], ["y"], [], [helper.make_opsetid("", 17)])
        )

    assert "com.example" in refused(tampered(foreign))
    assert "com.example" in refused(tampered(imported))
    assert "'Loop'" in refused(tampered(looping))
    assert "nested" in refused(tampered(nested))
    assert "'RandomNormal'" in refused(tampered(buried))
    assert "more numbers" in refused(tampered(vast))
    assert "dimension of" in refused(tampered(wide))
    assert "sparse" in refused(tampered(sparse))
    assert "another file" in refused(tampered(hidden))
    assert "functions" in refused(tampered(function))
