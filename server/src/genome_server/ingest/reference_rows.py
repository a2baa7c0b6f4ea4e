"""Rows of products, offers, placements and places as the documents that the store keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.dna.markers import marker
from edge_sdk.engine.cells import format_cell, parse_cell
from edge_sdk.engine.covers import compacted
from edge_sdk.engine.offer_check import check_offer
from edge_sdk.engine.offers import InvalidDocument
from edge_sdk.errors import InvalidContext, InvalidMarker
from genome_server.dna_file import read_things
from genome_server.documents import offer_spec, placement_spec
from genome_server.ingest.areas import DEFAULT_RADIUS_M, disk
from genome_server.ingest.assets import take_assets
from genome_server.ingest.check import RowError
from genome_server.ingest.dna import (
    content_dna,
    offer_markers,
    problem_error,
    product_dna,
    row_error,
)
from genome_server.ingest.nearest import KnownIds
from genome_server.ingest.worth import beyond_offer, beyond_placement
from genome_server.things.kept import learnt
from genome_server.value.pricing import with_depth

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

Document = dict[str, Any]


Convert = Callable[[Mapping[str, Any]], tuple[Document, list[str]]]


def product_row(tenant: Tenant, store: Store) -> Convert:
    """What makes a row the document of a product, and its markers. It raises RowError.

    Where dna.yaml reads texts or weighs rarity, a marker gets its index when something has it:
    what is left out of all DNA would stand in the vocabulary for ever.
    """
    settings = read_things(tenant.dna_path)
    later = settings.said or learnt(store) is not None

    def convert(row: Mapping[str, Any]) -> tuple[Document, list[str]]:
        document, names = product(row)
        return document, [] if later else names

    return convert


def product(row: Mapping[str, Any]) -> tuple[Document, list[str]]:
    """The document of a product, and the markers that it declares. Raises RowError."""
    document = dict(row)
    return document, [name for name, _ in product_dna(document)]


def content_row(store: Store) -> Convert:
    """What makes a row the document of content; its markers get their indices when something has
    them. It raises RowError, also for a product that is not there."""
    known = KnownIds("product", (name for name, _ in store.documents("product")))

    def convert(row: Mapping[str, Any]) -> tuple[Document, list[str]]:
        document = dict(row)
        for at, name in enumerate(row.get("products", ())):
            if name not in known:
                raise RowError(f"products[{at}]", known.unknown(name))
        content_dna(document)
        return document, []

    return convert


def offer(row: Mapping[str, Any], folder: Path, parts: Path | None) -> tuple[Document, list[str]]:
    """The document of an offer, and its markers; its files are taken in (see `assets`), its area is
    written in as few cells as possible.

    Raises RowError for what breaks the format, for a file that cannot be used, and for an offer
    that is worth more than a score holds or can never be shown.
    """
    try:
        document = with_depth(row)
    except InvalidDocument as error:
        raise row_error(error) from error
    # Said to have none, as JSON can, it is the same document.
    if document.pop("assets", None):
        document["assets"] = take_assets(row, folder, parts)
    try:
        spec = offer_spec(document)
    except InvalidDocument as error:
        raise row_error(error) from error
    for problem in beyond_offer(spec):
        raise problem_error(problem)
    problems = check_offer(spec)
    if problems:
        raise problem_error("; ".join(problems), "it can never be shown: ")
    _compact(document)
    return document, offer_markers(spec)


def count_cells(offer: Mapping[str, Any]) -> int:
    """How many cells an offer, as row or document, says its area in."""
    return len(offer.get("areas", {}).get("cells", ())) + len(offer.get("cells", ()))


def _compact(document: Document) -> None:
    """Say the same area in as few cells; rings are around cells as they are written."""
    areas = document.get("areas", {})
    said = [*areas.get("cells", ()), *document.get("cells", ())]
    if not said or areas.get("rings") or document.get("rings"):
        return
    fewest = compacted(map(parse_cell, said))
    if len(fewest) < len(said):
        document.pop("cells", None)
        document["areas"] = {**areas, "cells": [format_cell(cell) for cell in fewest]}


def placement(row: Mapping[str, Any]) -> tuple[Document, list[str]]:
    """The document of a placement, and its markers. Raises RowError."""
    document = dict(row)
    try:
        spec = placement_spec(document)
    except InvalidDocument as error:
        raise row_error(error) from error
    for problem in beyond_placement(spec):
        raise problem_error(problem)
    return document, [f"channel:{spec.channel}"] if spec.channel else []


def place(row: Mapping[str, Any]) -> tuple[Document, list[str]]:
    """The document of a place, and the marker of its kind; others get their indices when something
    has them.

    It has `cells` (hex strings, ascending) and `saliences_q8`, one per cell;
    coordinates and radius have become them and are gone. Raises RowError.
    """
    kind = _place_marker(row["kind"])
    salience = float(row.get("salience", 1.0))
    cells = dict(_cells(row, salience))
    ordered = sorted(cells)
    document = {
        "id": row["id"],
        "kind": kind,
        "cells": [format_cell(cell) for cell in ordered],
        "saliences_q8": [cells[cell] for cell in ordered],
    }
    said = ("name", "attributes", "dna")
    document.update((field, row[field]) for field in said if row.get(field))
    content_dna(document)
    return document, [kind]


def _place_marker(kind: str) -> str:
    try:
        return marker("place", kind.removeprefix("place:"))
    except InvalidMarker as error:
        raise RowError("kind", str(error)) from error


def _cells(row: Mapping[str, Any], salience: float) -> Iterable[tuple[int, int]]:
    has_point = "lat" in row or "lng" in row
    if has_point and "cells" in row:
        raise RowError("cells", "and coordinates exclude each other; give one of them")
    if has_point:
        missing = [name for name in ("lat", "lng") if name not in row]
        if missing:
            raise RowError(missing[0], "is missing: lat and lng belong together")
        return disk(row["lat"], row["lng"], row.get("radius_m", DEFAULT_RADIUS_M), salience)
    if "radius_m" in row:
        raise RowError("radius_m", "says nothing without lat and lng")
    if not row.get("cells"):
        raise RowError("cells", "is missing: a place has cells, or lat and lng")
    return [
        (_cell(text, f"cells[{n}]"), max(1, round(salience * 256)))
        for n, text in enumerate(row["cells"])
    ]


def _cell(text: str, field: str) -> int:
    try:
        return parse_cell(text)
    except InvalidContext as error:
        raise RowError(field, str(error)) from error
