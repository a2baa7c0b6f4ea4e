"""What is wrong with a model file: each finding, shown by a file that has just this fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine import scoring
from edge_sdk.sync.worker import TIMEOUT_S
from genome_server.learning.export import ModelFacts, tower_model, untrained_model
from genome_server.learning.towers import Floats, Indices, Shape, random_towers
from genome_server.models import check, check_contract, trial
from genome_server.models.check_answers import answer_findings
from genome_server.models.check_file import NEWEST_IR, NEWEST_OPSETS
from genome_server.models.findings import Budgets, Checked
from genome_server.models.samples import Samples

# How fast this machine is at the moment is nobody's fault.
PATIENT = Budgets(latency_us=1e6)
LINEAGE = bytes(range(16))
KNOWN = 40
WORDS = Vocabulary(LINEAGE, [f"m:{n}" for n in range(50)])
DEFAULT = tower_model(
    random_towers(1, KNOWN, Shape(2, 64, 8, 4)),
    ModelFacts(LINEAGE, KNOWN, trained_ms=7, examples=9),
)


def check_model(
    content: bytes, words: Vocabulary, samples: Samples | None = None, budgets: Budgets = PATIENT
) -> Checked:
    return check.check_model(content, words, samples, budgets)


def check_apart(
    content: bytes,
    words: Vocabulary,
    samples: Samples | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Checked:
    return trial.check_apart(content, words, samples, PATIENT, timeout_s=timeout_s)


FACTS = {
    "contract": "genome-edge/offer/1",
    "vocabulary_lineage": LINEAGE.hex(),
    "vocabulary_size": str(KNOWN),
    "dimension": "1",
    "trained_ms": "7",
    "examples": "9",
}
# A logistic model of sums: vector = sum of offer markers, value = sigmoid(query sum · vector).
LINES = (
    "rows = Gather(table, query_index)",
    "weighted = Mul(rows, query_weight)",
    "q = ReduceSum(weighted, axis_0) keepdims=0",
    "offers = Gather(table, offer_index)",
    "heavy = Mul(offers, offer_weight)",
    "vector = ReduceSum(heavy, axis_1) keepdims=1",
    "product = Mul(offer_vector, q)",
    "logit = Squeeze(product, axis_1)",
    "value = Sigmoid(logit)",
)
TENSORS = {
    "table": np.linspace(-0.05, 0.05, KNOWN).astype(np.float32),
    "axis_0": np.array([0], np.int64),
    "axis_1": np.array([1], np.int64),
}
INPUTS: dict[str, tuple[int, list[Any]]] = {
    "query_index": (TensorProto.INT64, ["n"]),
    "query_weight": (TensorProto.FLOAT, ["n"]),
    "offer_index": (TensorProto.INT64, ["m", "w"]),
    "offer_weight": (TensorProto.FLOAT, ["m", "w"]),
    "offer_vector": (TensorProto.FLOAT, ["k", 1]),
}
OUTPUTS: dict[str, tuple[int, list[Any]]] = {
    "vector": (TensorProto.FLOAT, ["m", 1]),
    "value": (TensorProto.FLOAT, ["k"]),
}


def made(
    *lines: str,
    tensors: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    outputs: dict[str, Any] | None = None,
    facts: dict[str, str | None] | None = None,
    change: Callable[[Any], object] = lambda proto: None,
) -> bytes:
    """The model of sums; each of `lines` replaces the one that makes the same value, or is added
    before the last."""
    steps = {line.split(" = ")[0]: line for line in LINES}
    last = steps.pop("value")
    steps |= {line.split(" = ")[0]: line for line in lines}
    steps.setdefault("value", last)
    order = [*(name for name in steps if name != "value"), "value"]
    nodes = []
    for name in order:
        call, _, said = steps[name].split(" = ")[1].partition(") ")
        kind, _, arguments = call.rstrip(")").partition("(")
        domain, _, kind = kind.rpartition("::")
        given = [one.strip() for one in arguments.split(",") if one.strip()]
        node = helper.make_node(kind, given, [name], domain=domain)
        for key, value in (one.split("=") for one in said.split()):
            node.attribute.append(helper.make_attribute(key, int(value)))
        nodes.append(node)
    values = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, (kind, shape) in {**INPUTS, **(inputs or {})}.items()
        if shape is not None
    ]
    results = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, (kind, shape) in {**OUTPUTS, **(outputs or {})}.items()
        if shape is not None
    ]
    held = {**TENSORS, **(tensors or {})}
    graph = helper.make_graph(
        nodes, "g", values, results,
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    props: dict[str, str | None] = {**FACTS, **(facts or {})}
    helper.set_model_props(model, {key: text for key, text in props.items() if text is not None})
    change(model)
    return bytes(model.SerializeToString())


def names(checked: Checked) -> list[str]:
    return [one.name for one in checked.findings]


def test_nothing_is_wrong_with_models_that_keep_the_contract() -> None:
    checked = check_model(made(), WORDS)
    assert checked.findings == ()
    assert (checked.fit, checked.architecture, checked.facts) == (True, "other", FACTS)
    assert checked.latency_us is not None
    assert 0 < checked.latency_us < 10_000
    ours = check_model(DEFAULT, WORDS)
    assert (ours.findings, ours.architecture) == ((), "default")
    assert Checked.from_json(json.loads(json.dumps(ours.to_json()))) == ours
    assert check_model(untrained_model(ModelFacts(LINEAGE, KNOWN)), WORDS).fit


def test_the_contract_is_that_of_devices() -> None:
    assert check_contract.INPUTS == scoring._INPUTS
    assert check_contract.OUTPUTS == scoring._OUTPUTS


def opset(domain: str, version: int) -> Callable[[Any], object]:
    def change(proto: Any) -> None:
        kept = [one for one in proto.opset_import if one.domain != domain]
        del proto.opset_import[:]
        proto.opset_import.extend([*kept, helper.make_opsetid(domain, version)])

    return change


def ir(version: int) -> Callable[[Any], object]:
    return lambda proto: setattr(proto, "ir_version", version)


def elsewhere(proto: Any) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def function(proto: Any) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    made_of = helper.make_function("own", "F", ["x"], ["y"], [relu], [helper.make_opsetid("", 17)])
    proto.functions.append(made_of)


def sparse(proto: Any) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    where = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [3]))


def nested(proto: Any) -> None:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(6):
        node = helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
    proto.graph.node.append(inner.node[0])


def thick(proto: Any) -> None:
    for number in range(10_001):
        proto.graph.node.append(helper.make_node("Identity", ["table"], [f"t{number}"]))


def many(proto: Any) -> None:
    proto.graph.initializer[0].dims[:] = [1 << 23]


FAULTS_OF_FILES: list[tuple[list[str], bytes]] = [
    (["not-onnx"], b""),
    (["not-onnx"], b"hello"),
    (["not-onnx"], onnx.ModelProto(ir_version=9).SerializeToString()),
    (["cut"], made()[:-100]),
    (["external-data"], made(change=elsewhere)),
    (["operator"], made("loud = RandomUniformLike(logit)")),
    (["operator", "operator"], made("a = RandomNormalLike(logit)", "b = Bernoulli(a)")),
    (["operator-domain", "operator-domain"],
     made("own = com.acme::Secret(logit)", change=opset("com.microsoft", 1))),
    (["functions"], made(change=function)),
    (["training-graph"], made(change=lambda proto: proto.training_info.add())),
    (["sparse"], made(change=sparse)),
    (["ambiguous"], made() + b"\x42\x06\x0a\x00\x0a\x00\x10\x11"),
    (["not-text"], made().replace(b"trained_ms", b"traine\xd2\xff\xff\xff")),
    (["nested"], made(change=nested)),
    (["nodes"], made(change=thick)),
    (["shape"], made(change=many)),
    (["ir-version"], made(change=ir(99))),
    (["opset"], made(change=opset("", 99))),
    (["opset"], made(change=opset("ai.onnx.ml", 99))),
    (["external-data", "operator", "opset"],
     made("a = Loop(logit)", change=lambda proto: [f(proto) for f in (elsewhere, opset("", 99))])),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "content"), FAULTS_OF_FILES)
def test_what_a_file_must_not_hold(wanted: list[str], content: bytes) -> None:
    checked = check_model(content, WORDS)
    assert sorted(set(names(checked)) - {"not-tried"}) == sorted(set(wanted))
    bad = [one for one in checked.findings if one.severity == "bad"]
    assert len(bad) == len(wanted)
    assert all(one.cause and one.advice for one in bad)


def test_a_large_file_is_told_and_tried_all_the_same() -> None:
    checked = check_model(made(), WORDS, budgets=replace(PATIENT, max_bytes=100))
    assert names(checked) == ["size"]
    assert "the budget is 100" in checked.findings[0].cause
    assert checked.latency_us is not None
    huge = check_model(bytes((64 << 20) + 1), WORDS)
    assert names(huge) == ["too-large-for-devices", "size"]


def test_an_old_opset_is_a_warning() -> None:
    checked = check_model(made(change=opset("", 14)), WORDS)
    assert (names(checked), checked.fit) == (["opset-old"], True)


def test_the_runtime_reads_what_is_said_to_be_the_newest() -> None:
    both = (ir(NEWEST_IR), opset("", NEWEST_OPSETS[""]))
    newest = made(change=lambda proto: [f(proto) for f in both])
    assert names(check_model(newest, WORDS)) == []
    learned = made(
        "scaled = ai.onnx.ml::Normalizer(offer_vector)",
        change=opset("ai.onnx.ml", NEWEST_OPSETS["ai.onnx.ml"]),
    )
    assert names(check_model(learned, WORDS)) == []


FAULTS: list[tuple[list[str], bytes]] = [
    (["unreadable", "not-tried"], made("value = Sigmoid(nowhere)")),
    (["input-missing", "not-tried"], made(
        "heavy = Identity(offers)", inputs={"offer_weight": (1, None)})),
    (["input-type", "not-tried"], made(
        "index = Cast(query_index) to=7", "rows = Gather(table, index)",
        inputs={"query_index": (TensorProto.INT32, ["n"])})),
    (["input-type", "output-type", "not-tried"], made(
        inputs={"offer_index": (TensorProto.INT64, ["m", "w", 1])})),
    (["input-extra", "not-tried"], made(inputs={"temperature": (TensorProto.FLOAT, [1])})),
    (["output-missing", "not-tried"], made(outputs={"vector": (1, None)})),
    (["output-type", "not-tried"], made(
        "value = Cast(logit) to=11", outputs={"value": (TensorProto.DOUBLE, ["k"])})),
    (["output-type", "not-tried"], made("value = Sigmoid(product)",
        outputs={"value": (TensorProto.FLOAT, ["k", 1])})),
    (["output-extra"], made(outputs={"logit": (TensorProto.FLOAT, ["k"])})),
    (["contract"], made(facts={"contract": None})),
    (["contract"], made(facts={"contract": "acme/2"})),
    (["vocabulary-lineage"], made(facts={"vocabulary_lineage": None})),
    (["vocabulary-lineage"], made(facts={"vocabulary_lineage": "00" * 16})),
    (["vocabulary-size", "not-tried"], made(facts={"vocabulary_size": None})),
    (["vocabulary-size", "not-tried"], made(facts={"vocabulary_size": "many"})),
    (["vocabulary-size"], made(facts={"vocabulary_size": "60"},
        tensors={"table": np.linspace(-0.05, 0.05, 60).astype(np.float32)})),
    (["dimension"], made(facts={"dimension": None})),
    (["dimension"], made(facts={"dimension": "2"})),
    (["dimension"], made(inputs={"offer_vector": (TensorProto.FLOAT, ["k", "d"])})),
    (["trained-ms"], made(facts={"trained_ms": None})),
    (["examples"], made(facts={"examples": None})),
    (["examples"], made(facts={"examples": "0"})),
    (["contract", "vocabulary-lineage", "out-of-range"], made(
        "value = Add(logit, two)", tensors={"two": np.float32(2)},
        facts={"contract": None, "vocabulary_lineage": None})),
    # What it answers.
    (["out-of-range"], made("value = Add(logit, two)", tensors={"two": np.float32(2)})),
    (["not-a-number"], made("root = Sqrt(logit)", "value = Sigmoid(root)")),
    (["not-a-number"], made("heavy = Log(offer_weight)")),
    (["marker"], made(tensors={"table": np.linspace(-0.05, 0.05, KNOWN - 3).astype(np.float32)})),
    (["fails"], made(
        "first = Slice(weighted, begin, end)", "q = Reshape(first, none)",
        "longer = Mul(q, q)",
        tensors={"begin": np.array([0]), "end": np.array([1]), "none": np.zeros(0, np.int64)})),
    (["rows"], made("value = Slice(logit, begin, end)",
        tensors={"begin": np.array([0]), "end": np.array([3])})),
    (["other-offers"], made("value = Softmax(logit) axis=0")),
    (["offer-order", "other-offers"], made(
        "total = CumSum(logit, axis)", "value = Sigmoid(total)", tensors={"axis": np.int64(0)})),
    (["query-order"], made(
        "steps = CumSum(weighted, axis)", "q = ReduceSum(steps, axis_0) keepdims=0",
        tensors={"axis": np.int64(0)})),
    (["offer-marker-order", "padding"], made(
        "steps = CumSum(heavy, axis)", "vector = ReduceSum(steps, axis_1) keepdims=1",
        tensors={"axis": np.int64(1)})),
    (["padding"], made("vector = ReduceSum(offers, axis_1) keepdims=1")),
    (["ignores-offers"], made(
        "none = Mul(offer_vector, zero)", "product = Add(none, q)",
        tensors={"zero": np.float32(0)})),
    (["ignores-query"], made("product = Identity(offer_vector)")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "content"), FAULTS, ids=[f"{n}-{'+'.join(w)}" for n, (w, _) in enumerate(FAULTS)]
)
def test_each_fault_is_found_and_no_other(wanted: list[str], content: bytes) -> None:
    checked = check_model(content, WORDS)
    found = set(names(checked))
    if wanted == ["offer-marker-order", "padding"]:  # the first of the two is told
        assert len(found & set(wanted)) == 1
        return
    assert found == set(wanted), checked.findings
    only_warned = {"output-extra", "trained-ms", "examples", "ignores-offers", "ignores-query"}
    assert checked.fit == (found <= only_warned)
    assert all(one.cause and one.advice for one in checked.findings)


class Odd:
    """A scorer that does something else each time: the file format has no operator for it."""

    vocabulary_size = KNOWN

    def __init__(self, how: str) -> None:
        self.how = how
        self.asked = 0

    def vectors(self, dna: Sequence[Sequence[tuple[int, float]]]) -> Floats:
        return np.array([[sum(i * w for i, w in one) / 999] for one in dna], np.float32)

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        self.asked += 1
        if self.how == "empty" and not len(vectors):
            raise ValueError("no rows to reduce")
        if self.how == "nobody" and not len(indices):
            raise ValueError("no markers to reduce")
        luck = self.asked % 2 * 1e-6 if self.how == "luck" else 0.0
        total = float((weights * indices).sum()) / 9999
        return np.asarray(1 / (1 + np.exp(-vectors[:, 0] * total)) + luck, np.float32)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("", []),
        ("luck", ["not-repeatable"]),
        ("empty", ["empty-offers"]),
        ("nobody", ["empty-query"]),
    ],
)
def test_what_no_file_of_a_few_lines_does(how: str, wanted: list[str]) -> None:
    assert [one.name for one in answer_findings(Odd(how), KNOWN, Samples())] == wanted


def test_a_slow_model_is_warned_of_unless_it_is_of_the_default_architecture() -> None:
    none = Budgets(latency_us=0)
    assert names(check_model(made(), WORDS, budgets=none)) == ["slow"]
    assert names(check_model(DEFAULT, WORDS, budgets=none)) == []
    assert check_model(made(), WORDS, budgets=none).fit


def test_real_offers_and_genomes_are_tried_too() -> None:
    # Only a weight of exactly 3.5 makes it fail: nothing but the sample has it.
    model = made(
        "off = Sub(query_weight, odd)", "one = Div(query_weight, off)",
        "sum = ReduceSum(one, axis_0) keepdims=0", "tame = Mul(sum, zero)",
        "bent = Add(logit, tame)", "value = Sigmoid(bent)",
        tensors={"odd": np.float32(3.5), "zero": np.float32(0)},
    )  # fmt: skip
    query = (np.array([2, 5]), np.array([1.0, 3.5], np.float32))
    assert names(check_model(model, WORDS)) == []
    samples = Samples(offers=(((1, 1.0),), ()), queries=(query,))
    assert names(check_model(model, WORDS, samples)) == ["not-a-number"]
    assert names(check_apart(model, WORDS, samples)) == ["not-a-number"]
    again = Samples.from_json(json.loads(json.dumps(samples.to_json())))
    assert (again.offers, again.queries[0][1].tolist()) == (samples.offers, [1.0, 3.5])


def test_a_check_in_a_process_of_its_own_says_the_same() -> None:
    content = made(facts={"contract": None})
    here, apart = check_model(content, WORDS), check_apart(content, WORDS)
    assert replace(apart, latency_us=None) == replace(here, latency_us=None)


def test_a_model_that_ends_its_process_is_told() -> None:
    # 2^40 numbers, as soon as `value` is asked for: more than a device lets it have.
    greedy = made(
        "room = Expand(logit, all)", "most = ReduceSum(room) keepdims=0",
        "tame = Mul(most, zero)", "bent = Add(logit, tame)", "value = Sigmoid(bent)",
        tensors={"all": np.array([1 << 23, 1 << 17, 1]), "zero": np.float32(0)},
    )  # fmt: skip
    checked = check_apart(greedy, WORDS)
    assert not checked.fit
    assert {"fails", "ends-the-process"} & set(names(checked))
    late = check_apart(made(), WORDS, timeout_s=0.01)
    assert "not done within 0.01 s" in late.findings[0].cause


def sums(indices: list[int], offer: list[int]) -> float:
    """What the model of sums says, by hand."""
    table = np.linspace(-0.05, 0.05, KNOWN)
    return float(1 / (1 + np.exp(-table[indices].sum() * table[offer].sum())))


def golden(off: float = 0.0, known: int = KNOWN) -> str:
    """Three questions of the model of sums, with answers that are off by so much."""
    vectors = []
    for query, offers in (([], [[1]]), ([0, 1], [[0, 2, 3], [], [39]]), ([known - 1], [[38]])):
        bags = [{"index": one, "weight": [1.0] * len(one)} for one in (query, *offers)]
        values = [sums(query, one) + off for one in offers]
        vectors.append({"query": bags[0], "offers": bags[1:], "values": values})
    return json.dumps({"vectors": vectors})


def test_golden_vectors_are_played_wherever_they_are() -> None:
    inside = made(facts={"golden_vectors": golden()})
    assert (names(check_model(inside, WORDS)), check_model(inside, WORDS).golden) == ([], 3)
    wrong = check_model(made(facts={"golden_vectors": golden(1.1e-5)}), WORDS)
    assert names(wrong) == ["golden"]
    assert "3 of 3 golden vectors in its metadata_props are off" in wrong.findings[0].cause
    assert names(check_model(made(facts={"golden_vectors": golden(0.9e-5)}), WORDS)) == []
    # Beside the file, here and in a process of its own; and both.
    for beside, told in ((golden(), []), (golden(0.1), ["golden"])):
        here = check.check_model(inside, WORDS, None, PATIENT, beside=beside)
        apart = trial.check_apart(inside, WORDS, None, PATIENT, beside=beside)
        assert names(here) == names(apart) == told
        assert here.golden == apart.golden == 6
    # A model that gives no answers is not asked for these; that has been told.
    broken = made("root = Sqrt(logit)", "value = Sigmoid(root)", facts={"golden_vectors": golden()})
    assert names(check_model(broken, WORDS)) == ["not-a-number"]


def test_of_golden_vectors_that_are_off_the_worst_is_shown() -> None:
    told = json.loads(golden())
    told["vectors"][0]["values"][0] += 0.0002
    told["vectors"][1]["values"][1] += 0.0001
    told["vectors"][1]["values"][2] += 0.3
    told["vectors"][2]["values"][0] += 0.1
    checked = check.check_model(made(), WORDS, None, PATIENT, beside=json.dumps(told))
    (cause,) = (one.cause for one in checked.findings)
    assert "3 of 3 golden vectors beside it are off, by up to 0.3 " in cause
    assert "; most of all vector 1, offer 2: it answers " in cause


BAG: dict[str, Any] = {"index": [1], "weight": [1.0]}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "Expecting"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "no list of vectors"),
        ('{"vectors": []}', "no list of vectors"),
        ('{"vectors": [3]}', "vector 0 is no object"),
        ({"offers": []}, "no lists of offers and values"),
        ({"values": [0.5, 0.5]}, "1 offers and 2 values"),
        ({"values": ["0.5"]}, "'0.5' is no number"),
        ({"values": [float("nan")]}, "nan is no number"),
        ({"values": [10**400]}, "is no number"),
        ({"query": {"index": [1], "weight": []}}, "of one length"),
        ({"query": {"index": [KNOWN], "weight": [1]}}, f"{KNOWN} is no index of the {KNOWN}"),
        ({"offers": [{"index": [True], "weight": [1]}]}, "offer 0: True is no index"),
        ({"query": {"index": [[[0] * 300_000]], "weight": [1]}}, "query: [[0, 0, 0,"),
        ({"query": {"index": [1], "weight": [1e300]}}, "query: 1e+300 is beyond float32"),
        ({"offers": [{"index": [1], "weight": [-3.5e38]}]}, "offer 0: -3.5e+38 is beyond float32"),
        (" " * 4_000_001, "4,000,000 are read"),
    ],
)
def test_what_is_no_golden_vector_is_told_with_its_place(text: Any, cause: str) -> None:
    if isinstance(text, dict):
        one = {"query": BAG, "offers": [BAG], "values": [0.5], **text}
        text = json.dumps({"vectors": [one]})
    checked = check.check_model(made(), WORDS, None, PATIENT, beside=text)
    assert names(checked) == ["golden-unreadable"]
    assert cause in checked.findings[0].cause
    assert len(checked.findings[0].cause) < 200
    assert not checked.fit
    assert checked.golden == 0
