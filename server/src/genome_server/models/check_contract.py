"""Whether a model declares what the contract "genome-edge/offer/1" asks for: tensors and facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from edge_sdk.engine.policy import CONTRACT
from genome_server.models.findings import BAD, WARNING, Finding

#: Name → type and number of dimensions, as ONNX Runtime names them.
INPUTS: Final = {
    "query_index": ("tensor(int64)", 1),
    "query_weight": ("tensor(float)", 1),
    "offer_index": ("tensor(int64)", 2),
    "offer_weight": ("tensor(float)", 2),
    "offer_vector": ("tensor(float)", 2),
}
OUTPUTS: Final = {"vector": ("tensor(float)", 2), "value": ("tensor(float)", 1)}
_SHAPES: Final = {
    "query_index": "int64 [n]", "query_weight": "float32 [n]", "offer_index": "int64 [m, w]",
    "offer_weight": "float32 [m, w]", "offer_vector": "float32 [k, dimension]",
    "vector": "float32 [m, dimension]", "value": "float32 [k]",
}  # fmt: skip
_KINDS: Final = {1: "float", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 8: "string",
                 9: "bool", 10: "float16", 11: "double"}  # fmt: skip
MAX_DIMENSION: Final = 4096
# Facts that a number stands for, and what it is.
_NUMBERS: Final = {
    "vocabulary_size": "how many markers it knows",
    "dimension": "how many numbers the vector of an offer has",
}


class Declared(NamedTuple):
    """A tensor as it is declared; sizes that are not fixed are None. `kind` as the runtime's."""

    kind: str
    shape: tuple[int | None, ...]


def declared_by_session(tensors: Any) -> dict[str, Declared]:
    """What an opened model declares: its inputs or outputs as the runtime gives them."""
    return {
        one.name: Declared(
            one.type, tuple(size if isinstance(size, int) else None for size in one.shape)
        )
        for one in tensors
    }


def declared_by_file(values: Any) -> dict[str, Declared]:
    """The same from the file (ValueInfoProto), for a model that the runtime does not open."""
    found = {}
    for value in values:
        tensor = value.type.tensor_type
        kind = f"tensor({_KINDS.get(tensor.elem_type, tensor.elem_type)})"
        sizes = (dim.dim_value or None for dim in tensor.shape.dim)
        found[as_text(value.name)] = Declared(kind, tuple(sizes))
    return found


def as_text(name: str | bytes) -> str:
    """A name of the file; protobuf gives bytes for one that is not text. Raises UnicodeError."""
    return name.decode() if isinstance(name, bytes) else name


def tensor_findings(
    inputs: Mapping[str, Declared], outputs: Mapping[str, Declared]
) -> Iterator[Finding]:
    """Yield which inputs and outputs are missing, wrong or too many."""
    for what, given, wanted in (("input", inputs, INPUTS), ("output", outputs, OUTPUTS)):
        for name, (kind, rank) in wanted.items():
            if name not in given:
                yield Finding(
                    f"{what}-missing",
                    BAD,
                    f"it has no {what} {name!r}",
                    f"the contract says {name} {_SHAPES[name]}",
                )
                continue
            found = given[name]
            if (found.kind, len(found.shape)) != (kind, rank):
                yield Finding(
                    f"{what}-type",
                    BAD,
                    f"its {what} {name!r} is {found.kind} of {len(found.shape)} dimensions",
                    f"the contract says {name} {_SHAPES[name]}",
                )
        for name in sorted(given.keys() - wanted.keys()):
            yield _extra(what, name)


def _extra(what: str, name: str) -> Finding:
    if what == "input":
        return Finding(
            "input-extra",
            BAD,
            f"it asks for an input {name!r} that nobody gives",
            "make it a number inside the file, or work it out from the markers",
        )
    return Finding(
        "output-extra",
        WARNING,
        f"it has an output {name!r} that nobody asks for",
        "leave it out: it is worked out each time, for nobody",
    )


def fact_findings(
    facts: Mapping[str, str], lineage: bytes, vocabulary_size: int, width: int | None
) -> Iterator[Finding]:
    """Yield which of `metadata_props` are missing or do not fit this tenant.

    `width` is the fixed second size of `offer_vector`, None where it is not fixed.
    """
    said = facts.get("contract")
    if said != CONTRACT:
        yield Finding(
            "contract",
            BAD,
            "it does not say which contract it keeps"
            if said is None
            else f"it keeps the contract {said!r}",
            f"set contract = {CONTRACT} in metadata_props, where it keeps that",
        )
    yield from _lineage(facts.get("vocabulary_lineage"), lineage)
    for name, what in _NUMBERS.items():
        text = facts.get(name, "")
        if not text.isdecimal():
            yield Finding(
                name.replace("_", "-"),
                BAD,
                f"it does not say its {name}" if not text else f"its {name} is {text!r}",
                f"set {name} in metadata_props: {what}",
            )
        elif name == "vocabulary_size" and int(text) > vocabulary_size:
            yield Finding(
                "vocabulary-size",
                BAD,
                f"it knows {int(text):,} markers; the vocabulary has {vocabulary_size:,}",
                "number markers as this tenant does: genome-server models examples FOLDER",
            )
        elif name == "dimension" and (not 1 <= int(text) <= MAX_DIMENSION or int(text) != width):
            taken = "any number of" if width is None else f"{width:,}"
            yield Finding(
                "dimension",
                BAD,
                f"it says dimension {text} and declares offer_vector with {taken} columns",
                f"declare offer_vector as [k, dimension], with 1 to {MAX_DIMENSION:,} columns",
            )
    if not facts.get("trained_ms", "").isdecimal():
        yield Finding(
            "trained-ms",
            WARNING,
            "it does not say up to when it has learned",
            "set trained_ms in metadata_props: the time of the newest example, Unix milliseconds; "
            "only then can it be compared on examples that it has not seen",
        )
    said = facts.get("examples", "")
    if not said.isdecimal() or int(said) < 1:
        yield Finding(
            "examples",
            WARNING,
            "it does not say how many examples it learned from",
            "set examples in metadata_props; else it counts as one, and placements that explore "
            "and state no gamma show nearly everything alike",
        )


def _lineage(said: str | None, lineage: bytes) -> Iterator[Finding]:
    if said == lineage.hex():
        return
    yield Finding(
        "vocabulary-lineage",
        BAD,
        "it does not say by which vocabulary its markers are numbered"
        if said is None
        else f"its markers are numbered by another vocabulary ({said[:40]})",
        f"this tenant's is {lineage.hex()}: train by it (genome-server models examples FOLDER), "
        "and set vocabulary_lineage in metadata_props",
    )
