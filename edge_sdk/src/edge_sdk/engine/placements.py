"""Turn documents about placements into the contract's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edge_sdk.engine import documents as read
from edge_sdk.engine.slates import MILLION
from genome_edge.v1 import release_pb2

DEFAULT_GAMMA: Final = 100.0
DEFAULT_OUTCOME_WINDOW_HOURS: Final = 24
MAX_SLOTS: Final = 64
_SHOWN: Final = {
    "decide": release_pb2.PlacementSpec.SHOWN_ON_DECIDE,
    "view": release_pb2.PlacementSpec.SHOWN_ON_VIEW,
}
_EXPLORERS: Final = {"greedy": "greedy", "squarecb": "squarecb"}
_FIELDS: Final = (
    "id",
    "slots",
    "channel",
    "shown",
    "house_offer",
    "explorer",
    "gamma",
    "floor",
    "outcome_window_hours",
    "sizes",
    "holdout",
    "holdout_seed",
    "most_per_category",
    "least_worth",
    "experiment",
)


def placement_from_document(doc: Mapping[str, Any]) -> release_pb2.PlacementSpec:
    """The placement that `doc` describes.

    Left out, a placement has one slot, counts an offer as shown when it is decided, chooses
    greedily, credits outcomes for 24 hours, fits every size, holds nobody out, has no arms and
    limits neither categories nor worth. Raises InvalidDocument.
    """
    read.known(doc, _FIELDS)
    window = doc.get("outcome_window_hours", DEFAULT_OUTCOME_WINDOW_HOURS)
    spec = release_pb2.PlacementSpec(
        id=read.identifier(doc.get("id"), "id"),
        max_slots=read.integer(doc.get("slots", 1), "slots", 1, MAX_SLOTS),
        channel=read.channel(doc["channel"], "channel") if doc.get("channel") else "",
        shown=read.one_of(doc.get("shown") or "decide", "shown", _SHOWN),
        house_offer=read.text(doc, "house_offer"),
        explorer=read.one_of(doc.get("explorer") or "greedy", "explorer", _EXPLORERS),
        gamma=read.number(doc.get("gamma", DEFAULT_GAMMA), "gamma", 0.0, 1e6),
        floor=read.number(doc.get("floor", 0.0), "floor", 0.0, 1.0),
        outcome_window_hours=read.integer(window, "outcome_window_hours", 1, 24 * 366),
        sizes=read.unique(read.each(doc.get("sizes"), "sizes", read.size)),
        holdout_ppm=round(read.number(doc.get("holdout", 0.0), "holdout", 0.0, 1.0) * MILLION),
        holdout_seed=read.text(doc, "holdout_seed"),
        most_per_category=read.integer(
            doc.get("most_per_category", 0), "most_per_category", 0, MAX_SLOTS
        ),
    )
    if doc.get("least_worth") is not None:
        spec.least_worth_micros = read.money(doc, "least_worth", 0.0, -read.MAX_VALUE)
    if doc.get("experiment"):
        _experiment(spec, read.mapping(doc["experiment"], "experiment"))
    return spec


def _experiment(spec: release_pb2.PlacementSpec, said: Mapping[str, Any]) -> None:
    """Put in the arms, in the order of their names, in which stores keep them."""
    read.known(said, ("seed", "arms"), "experiment.")
    if said.get("seed"):
        spec.experiment_seed = read.identifier(said["seed"], "experiment.seed")
    arms = read.mapping(said.get("arms"), "experiment.arms")
    total = 0
    for name, share in sorted(arms.items()):
        field = f"experiment.arms.{name}"
        if name == spec.id:
            read.fail(field, name, "another placement")
        ppm = round(read.number(share, field, 0.0, 1.0) * MILLION)
        # Six sixths are rounded up: the last ones have what is left.
        left = max(MILLION - total, 0)
        spec.arms.add(placement=read.identifier(name, field), share_ppm=min(ppm, left))
        total += ppm
    if not 0 < total <= MILLION + len(arms) // 2:
        read.fail("experiment.arms", said.get("arms"), "shares that come to more than 0, at most 1")
