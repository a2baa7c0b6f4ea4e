"""Everything that is wrong with a model file, as a list. No input or output but the clock's.

A check tells all that it can: what the file holds, what it declares, what it says of itself, and
what it answers. Where facts are missing or do not fit, it is tried as if they did, so that the next
thing that is wrong is told as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import CONTRACT
from edge_sdk.engine.scoring import open_scorer
from edge_sdk.engine.scoring_towers import TowerScorer
from edge_sdk.errors import TrustError
from genome_server.models.check_answers import answer_findings, golden_findings, measure_latency
from genome_server.models.check_contract import (
    MAX_DIMENSION,
    Declared,
    as_text,
    declared_by_file,
    declared_by_session,
    fact_findings,
    tensor_findings,
)
from genome_server.models.check_file import file_findings, parse
from genome_server.models.findings import BAD, WARNING, Budgets, Checked, Finding
from genome_server.models.golden import FACT, read_golden, unreadable
from genome_server.models.samples import Samples

_SAID: Final = 300


def check_model(
    content: bytes,
    vocabulary: Vocabulary,
    samples: Samples | None = None,
    budgets: Budgets | None = None,
    *,
    beside: str | None = None,
    only_file: bool = False,
) -> Checked:
    """Return all that is wrong with a file for devices of the tenant with this vocabulary.

    It runs the model in this process: for a file from somewhere else see `trial`. `beside` are
    golden vectors that are not in the file, see `golden`. `only_file`: look at the bytes alone, and
    run nothing.
    """
    found = Checked(len(content), hashlib.sha256(content).hexdigest(), ())
    findings: list[Finding] = []
    try:
        for part in _look(
            content, vocabulary, samples or Samples(), budgets or Budgets(), beside, only_file
        ):
            findings += part.pop("findings", ())
            found = replace(found, **part)
    except UnicodeError as error:  # wherever a name is read
        findings.append(
            Finding("not-text", BAD, f"a name in it is not text: {error}", "write names in UTF-8")
        )
    return replace(found, findings=tuple(findings))


def _look(
    content: bytes,
    vocabulary: Vocabulary,
    samples: Samples,
    budgets: Budgets,
    beside: str | None,
    only_file: bool,
) -> Iterator[dict[str, Any]]:
    """Yield fields of `Checked` as they become known; of `findings` those that are new."""
    proto = parse(content)
    findings = list(file_findings(content, proto, budgets))
    yield {"findings": findings}
    if only_file or proto is None or not proto.HasField("graph"):
        return
    session = unreadable = None
    if all(one.severity != BAD or one.name == "size" for one in findings):
        session, unreadable = _open(content)
    if unreadable is not None:
        yield {"findings": [unreadable]}
    facts = {as_text(one.key): as_text(one.value) for one in proto.metadata_props}
    inputs, outputs = _declared(proto, session)
    tensors = list(tensor_findings(inputs, outputs))
    said = fact_findings(facts, vocabulary.lineage, len(vocabulary), _width(inputs))
    yield {"facts": facts, "findings": [*tensors, *said]}
    tried = None
    if session is not None and not any(one.severity == BAD for one in tensors):
        tried = _as_if(content, proto, facts, _width(inputs), vocabulary)
    if tried is None:
        yield {"findings": [_not_tried()]}
        return
    texts = {"in its metadata_props": facts.get(FACT), "beside it": beside}
    golden = {where: text for where, text in texts.items() if text is not None}
    yield from _try(tried, vocabulary, samples, budgets, golden)


def _try(
    model: bytes,
    vocabulary: Vocabulary,
    samples: Samples,
    budgets: Budgets,
    golden: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """What is wrong with what it answers, its architecture and its latency in microseconds."""
    try:
        scorer: Any = open_scorer(model, vocabulary)
    except TrustError as error:
        # What else could be wrong has been told; this is the devices' word all the same.
        found = Finding("refused", BAD, f"devices refuse it: {error}", "see docs/models.md")
        yield {"findings": [found]}
        return
    default = isinstance(scorer, TowerScorer)
    findings = list(answer_findings(scorer, scorer.vocabulary_size, samples))
    latency = None
    if all(one.severity != BAD or not _stops(one) for one in findings):
        latency = round(measure_latency(scorer, scorer.vocabulary_size, samples), 1)
        if latency > budgets.latency_us and not default:
            findings.append(_slow(latency, budgets))
        yield from _play(scorer, golden)
    architecture = "default" if default else "other"
    yield {"findings": findings, "architecture": architecture, "latency_us": latency}


def _play(scorer: Any, texts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What is wrong with golden vectors, by where they are, and how many were played."""
    played = 0
    for where, text in texts.items():
        try:
            vectors = read_golden(text, scorer.vocabulary_size)
        except ValueError as error:
            yield {"findings": [unreadable(where, error)]}
            continue
        played += len(vectors)
        yield {"findings": list(golden_findings(scorer, vectors, where)), "golden": played}


def _stops(finding: Finding) -> bool:
    """Whether it gave no answer that could be timed."""
    return finding.name in ("fails", "rows", "marker", "not-a-number")


def _slow(latency: float, budgets: Budgets) -> Finding:
    return Finding(
        "slow",
        WARNING,
        f"1,000 offers take {latency:,.0f} µs here (median); the budget is "
        f"{budgets.latency_us:,.0f}",
        "work out in `vector` what does not depend on the query, and take fewer trees or layers",
    )


def _not_tried() -> Finding:
    return Finding(
        "not-tried",
        WARNING,
        "what it answers was not tried",
        "mend what stands above, and check again",
    )


def _open(content: bytes) -> tuple[Any | None, Finding | None]:
    """The runtime's session over a file; a finding where it does not read it."""
    from genome_server.learning.export import open_session

    try:
        return open_session(content), None
    except Exception as error:  # noqa: BLE001 the runtime raises a dozen types of its own
        said = " ".join(str(error).split())[:_SAID]
        return None, Finding(
            "unreadable",
            BAD,
            f"ONNX Runtime cannot read it: {said}",
            "open it with onnxruntime.InferenceSession, and onnx.checker.check_model",
        )


def _declared(
    proto: Any, session: Any | None
) -> tuple[Mapping[str, Declared], Mapping[str, Declared]]:
    if session is not None:
        return declared_by_session(session.get_inputs()), declared_by_session(session.get_outputs())
    inside = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in inside]
    return declared_by_file(inputs), declared_by_file(proto.graph.output)


def _width(inputs: Mapping[str, Declared]) -> int | None:
    """The fixed second size of `offer_vector`; None where it is not fixed."""
    declared = inputs.get("offer_vector")
    return declared.shape[1] if declared is not None and len(declared.shape) == 2 else None


def _as_if(
    content: bytes,
    proto: Any,
    facts: Mapping[str, str],
    width: int | None,
    vocabulary: Vocabulary,
) -> bytes | None:
    """The model with facts that fit, to try it; None where it cannot be known how it is meant."""
    known, dimension = facts.get("vocabulary_size", ""), facts.get("dimension", "")
    if width is None and dimension.isdecimal():
        width = int(dimension)
    if not known.isdecimal() or width is None or not 1 <= width <= MAX_DIMENSION:
        return None
    wanted = {
        **facts,
        "contract": CONTRACT,
        "vocabulary_lineage": vocabulary.lineage.hex(),
        "vocabulary_size": str(min(int(known), len(vocabulary))),
        "dimension": str(width),
    }
    columns = next(one for one in proto.graph.input if one.name == "offer_vector")
    column = columns.type.tensor_type.shape.dim[1]
    if wanted == dict(facts) and column.dim_value == width:
        return content
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    onnx.helper.set_model_props(copy, wanted)
    for one in copy.graph.input:
        if one.name == "offer_vector":
            one.type.tensor_type.shape.dim[1].dim_value = width
    return bytes(copy.SerializeToString())
