"""Models as scorers: what is refused, and that both ways of evaluating one agree."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import Scorer
from edge_sdk.engine.scoring import OnnxScorer, open_scorer
from edge_sdk.engine.scoring_towers import TowerScorer, read_towers
from edge_sdk.errors import TrustError
from genome_server.learning.export import ModelFacts, tower_model, untrained_model
from genome_server.learning.towers import Shape, random_towers

LINEAGE = bytes(range(16))
WORDS = Vocabulary(LINEAGE, [f"m:{n}" for n in range(50)])
# Of the first the runtime takes care: its sums do not fill a strip.
ODD = Shape(members=2, width=8, hidden=4, dimension=4)
EVEN = Shape(members=4, width=16, hidden=8, dimension=4)


def towers(size: int = 50, shape: Shape = EVEN) -> bytes:
    return tower_model(random_towers(3, size, shape), ModelFacts(LINEAGE, size))


def both() -> list[Scorer]:
    return [OnnxScorer(towers(), WORDS), open_scorer(towers(), WORDS)]


def test_the_graph_says_how_a_model_is_evaluated() -> None:
    assert isinstance(open_scorer(towers(), WORDS), TowerScorer)
    assert isinstance(open_scorer(towers(shape=Shape()), WORDS), TowerScorer)
    assert isinstance(open_scorer(towers(shape=ODD), WORDS), OnnxScorer)
    assert isinstance(open_scorer(untrained_model(ModelFacts(LINEAGE, 10)), WORDS), OnnxScorer)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.sampled_from([EVEN, Shape(), Shape(1, 64, 20, 3), Shape(2, 96, 90, 30)]),
    offers=st.sampled_from([0, 1, 2, 126, 127, 128, 300, 1000]),
    markers=st.sampled_from([0, 1, 5, 64, 143, 144, 400]),
)
def test_both_ways_agree(seed: int, shape: Shape, offers: int, markers: int) -> None:
    model = tower_model(random_towers(seed, 40, shape), ModelFacts(LINEAGE, 40))
    direct, runtime = read_towers(model, WORDS), OnnxScorer(model, WORDS)
    assert direct is not None
    assert (direct.dimension, direct.vocabulary_size) == (runtime.dimension, 40)
    rng = np.random.default_rng(seed)
    # Some are beyond the model, some come twice, and some offers say nothing.
    dna = [
        [(int(i), float(rng.uniform(0, 2))) for i in rng.integers(0, 50, rng.integers(0, 9))]
        for _ in range(offers)
    ]
    rows = direct.vectors(dna)
    assert rows.dtype == np.float32
    assert np.allclose(rows, runtime.vectors(dna), atol=1e-5)
    indices = np.sort(rng.integers(0, 50, markers))
    weights = rng.uniform(0, 6 / max(1, markers) ** 0.5, markers).astype(np.float32)
    found = direct.values(indices, weights, rows)
    assert found.dtype == np.float32
    assert found.shape == (offers,)
    assert np.allclose(found, runtime.values(indices, weights, rows), atol=1e-5)
    assert np.array_equal(found, direct.values(indices, weights, rows))


def test_what_differs_from_the_architecture_is_left_to_the_runtime() -> None:
    def attribute(proto: Any) -> None:
        proto.graph.node[0].attribute[0].i = 1

    def order(proto: Any) -> None:
        proto.graph.node[6].input.reverse()

    def name(proto: Any) -> None:
        proto.graph.node[0].output[0] = proto.graph.node[1].input[1] = "lines"

    def opset(proto: Any) -> None:
        proto.opset_import[0].version = 99

    def another(proto: Any) -> None:
        proto.graph.initializer.add(name="another", dims=[0], data_type=1, raw_data=b"")

    def spelled(proto: Any) -> None:
        tensor = next(t for t in proto.graph.initializer if t.name == "query_bias")
        numbers = numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(numbers.tolist())

    def output(proto: Any) -> None:
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    numbers: list[tuple[str, Callable[[Any], Any]]] = [
        ("hidden_bias", lambda array: array * np.inf),
        ("query_row", lambda array: array + 1),
        ("offer_row", lambda array: array * 0 - 1),
        ("query_bias", lambda array: array.astype(np.int64)),
        ("query_bias", lambda array: array[None]),
        ("axis_2", lambda array: array - 3),
    ]
    for tensor, other in numbers:
        assert read_towers(tampered(partial(weights, tensor, other)), WORDS) is None, tensor
    for change in (
        attribute, order, name, opset, another,
        spelled, output,
    ):  # fmt: skip
        assert read_towers(tampered(change), WORDS) is None, change.__name__
    assert read_towers(tampered(lambda proto: None), WORDS) is not None
    assert read_towers(towers(), Vocabulary(bytes(16), WORDS.markers)) is None
    assert read_towers(changed(towers(), dimension="7"), WORDS) is None
    # Written otherwise it is the same model.
    assert isinstance(open_scorer(tampered(spelled), WORDS), OnnxScorer)


def weights(name: str, change: Any, proto: Any) -> None:
    """Change the numbers of one tensor."""
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))


@pytest.mark.parametrize("scorer", both(), ids=["runtime", "direct"])
def test_a_model_values_offers(scorer: Any) -> None:
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


@pytest.mark.parametrize("make", [OnnxScorer, open_scorer])
def test_markers_beyond_the_model_are_ignored(make: Any) -> None:
    scorer = make(towers(40), WORDS)
    rows = scorer.vectors([[(1, 1.0)], [(1, 1.0), (45, 3.0)]])
    assert np.array_equal(rows[0], rows[1])
    known, beyond = np.array([3]), np.array([3, 40, 49, 10_000])
    weights = np.ones(4, np.float32)
    assert np.array_equal(
        scorer.values(known, weights[:1], rows), scorer.values(beyond, weights, rows)
    )


@pytest.mark.parametrize("scorer", both(), ids=["runtime", "direct"])
def test_many_offers_go_through_in_batches(scorer: Any) -> None:
    offers = [[(n % 50, 1.0)] for n in range(5000)]
    rows = scorer.vectors(offers)
    assert np.allclose(rows[4999], scorer.vectors([offers[4999]])[0], atol=1e-6)


def test_the_untrained_model_values_everything_alike() -> None:
    scorer = OnnxScorer(untrained_model(ModelFacts(LINEAGE, 10)), WORDS)
    rows = scorer.vectors([[(1, 1.0)], [(2, 1.0)]])
    assert scorer.values(np.array([1]), np.ones(1, np.float32), rows).tolist() == [0.5, 0.5]


def refused(model: bytes, words: Vocabulary = WORDS) -> str:
    """Why, which is the same at both doors."""
    said = set()
    for door in (OnnxScorer, open_scorer):
        with pytest.raises(TrustError) as caught:
            door(model, words)
        assert caught.value.reason == "MODEL"
        said.add(str(caught.value))
    assert len(said) == 1
    return said.pop()


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


def test_a_query_in_parts_is_the_same_query() -> None:
    direct = read_towers(towers(), WORDS)
    assert direct is not None
    rows = direct.vectors([[(n, 1.0)] for n in range(20)])
    rng = np.random.default_rng(4)
    parts = [
        (rng.integers(0, 50, number), rng.uniform(0, 2, number).astype(np.float32))
        for number in (0, 3, 30)
    ]
    whole = direct.values(
        np.concatenate([indices for indices, _ in parts]),
        np.concatenate([weights for _, weights in parts]),
        rows,
    )
    first = direct.doubles_of(parts, rows)
    assert np.allclose(first / 2, whole, atol=1e-5)
    # What is remembered gives the same to the bit, and so does another scorer that knows nothing.
    assert np.array_equal(first, direct.doubles_of(parts, rows))
    again = read_towers(towers(), WORDS)
    assert again is not None
    assert np.array_equal(first, again.doubles_of(parts, rows))
    assert len(direct._sums) == 3
    del parts
    assert not direct._sums, "nothing is remembered of weights that are gone"


def test_what_the_trainer_exports_is_evaluated_here() -> None:
    """Exporter and reader name everything alike, whatever the size of the vocabulary."""
    for size in (1, 50):
        model = tower_model(random_towers(1, size), ModelFacts(LINEAGE, size))
        assert read_towers(model, WORDS) is not None
