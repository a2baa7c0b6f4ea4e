"""The DNA of what is imported: products, offers, customers.

One definition for import, build, learning and release. Free of I/O; takes the
documents that the store keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from edge_sdk.attributes import attribute_marker
from edge_sdk.dna.markers import split
from edge_sdk.engine.offers import InvalidDocument, dna_from_document
from edge_sdk.errors import UsageError
from genome_edge.v1.release_pb2 import OfferSpec
from genome_server.ingest.check import RowError

ONE_Q8 = 256

_NAMELESS: Final = "withheld"
"""The namespace under which a release has the markers whose names it must not tell."""
_MARKERS: Final = ("dna", "markers", "any_of", "all_of", "none_of")

Dna = list[tuple[str, int]]
"""Markers with their salience in 1/256, each marker once."""


def product_dna(document: Mapping[str, Any]) -> Dna:
    """What a product's document declares: brand, category, attributes, and `dna`, which wins.

    What it is to the genomes, `things.dna.Things` says. Raises RowError with the field that is no
    marker.
    """
    return list({marker: salience for _, marker, salience in product_parts(document)}.items())


def product_parts(document: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(field, marker, salience in 1/256) as a product's document declares them; of one marker the
    last wins. Raises RowError."""
    for field in ("brand", "category"):
        if document.get(field):
            yield field, marker_of(field, field, document[field]), ONE_Q8
    for name, value in document.get("attributes", {}).items():
        for marker in attribute_markers({name: value}):
            yield f"attributes.{name}", marker, ONE_Q8
    for marker, salience_q8 in declared_dna(document.get("dna"), "dna"):
        yield "dna", marker, salience_q8


def content_dna(document: Mapping[str, Any]) -> Dna:
    """What the document of content or of a place declares: attributes, and `dna`, which wins.

    Raises RowError with the field that is no marker.
    """
    markers = dict.fromkeys(attribute_markers(document.get("attributes", {})), ONE_Q8)
    markers.update(declared_dna(document.get("dna"), "dna"))
    return list(markers.items())


def profile_dna(row: Mapping[str, Any]) -> Dna:
    """A customer's profile: attributes, and the markers that are given as such, which win."""
    markers = dict.fromkeys(attribute_markers(row.get("attributes", {})), ONE_Q8)
    markers.update(declared_dna(row.get("markers"), "markers"))
    return list(markers.items())


def offer_markers(spec: OfferSpec) -> list[str]:
    """Every marker that an offer knows: its DNA, and those of its targeting."""
    targeting = spec.targeting
    names = [item.marker for item in spec.dna]
    for more in (targeting.any_of, targeting.all_of, targeting.none_of, targeting.near_places):
        names.extend(more)
    return names


def attribute_markers(attributes: Mapping[str, Any]) -> Iterator[str]:
    """The markers of free attributes; a list gives one each. Raises RowError."""
    for name, value in attributes.items():
        field = f"attributes.{name}"
        for item in value if isinstance(value, list) else [value]:
            yield marker_of(field, name, item)


def marker_of(field: str, name: str, value: object) -> str:
    """The marker `name:value`. Raises RowError under `field`."""
    try:
        return attribute_marker(name, value)
    except UsageError as error:
        cause = str(error).partition("is not allowed: ")[2] or str(error)
        raise RowError(field, cause) from error


def declared_dna(value: object, field: str) -> Dna:
    """DNA as written. Raises RowError with the path of what is wrong."""
    try:
        return [(item.marker, item.salience_q8) for item in dna_from_document(value, field)]
    except InvalidDocument as error:
        raise row_error(error) from error


def row_error(error: InvalidDocument) -> RowError:
    """The error of a document as that of a row."""
    return RowError(error.field, f"{error.value!r} is not allowed; expected {error.allowed}")


def problem_error(problem: str, prefix: str = "") -> RowError:
    """A problem that `check_offer` found, "field: sentence", as that of a row."""
    field, _, sentence = problem.partition(": ")
    return RowError(field, prefix + sentence)


def check_names(row: Mapping[str, Any]) -> None:
    """See that no field of a checked row says a marker of the namespace that is the releases'.

    Raises RowError.
    """
    for name, value in row.get("attributes", {}).items():
        check_free(f"attributes.{name}", attribute_markers({name: value}))
    for field in _MARKERS:
        check_free(field, (name for name, _ in declared_dna(row.get(field), field)))


def check_free(field: str, markers: Iterable[str]) -> None:
    """As `check_names`, of the markers of one field."""
    if _NAMELESS in namespaces(markers):
        raise RowError(
            field, f"{_NAMELESS!r} is for markers that have no name in a release; call it otherwise"
        )


def namespaces(markers: Iterable[str]) -> set[str]:
    """The namespaces of some markers."""
    return {split(marker)[0] for marker in markers}
