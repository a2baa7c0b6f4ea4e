"""A tenant's decisions done again, by its releases; and the explorers that placements state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge_sdk.engine.policy import Explorer, explorer
from edge_sdk.engine.release import Release
from edge_sdk.errors import EdgeError
from genome_edge.v1 import release_pb2
from genome_server.documents import joint_placements
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.offpolicy.past import Past, PastCounts
from genome_server.offpolicy.target import NO_CHOICE, Decisions, Rebuilt, rebuild
from genome_server.releases.publish import manifest_of, part_content
from genome_server.store.protocol import Store

#: So many of the decisions that had a choice must come out again, or none of them is believed.
_COMES_OUT: Final = 0.5


@dataclass(frozen=True)
class Again:
    """The decisions that came out again, None where they are too few to be believed: `why_not` says
    so in a sentence. `counts` is what became of all that the log has. `choosy` are those of
    placements that ask for a least worth, see `target.rebuild`."""

    decisions: Decisions | None
    counts: Mapping[str, Any]
    why_not: str = ""
    choosy: Sequence[Rebuilt] = ()


def done_again(
    tenant: Tenant,
    store: Store,
    past: Sequence[Past],
    counts: PastCounts,
    advance: Callable[[int], object] = lambda _: None,
) -> Again:
    """Do the decisions of a log again; slots count together where their placement says so."""
    vocabulary = store.vocabulary()
    rebuilt, why, choosy = rebuild(past, releases_of(tenant, store), vocabulary, advance)
    choices = len(past) - why[NO_CHOICE]
    found = _counted(past, counts, len(rebuilt), why)
    if not rebuilt or len(rebuilt) < _COMES_OUT * choices:
        return Again(None, found, _told(found), choosy)
    joint = joint_placements(store.documents("placement"))
    decisions = Decisions(rebuilt, vocabulary, joint)
    whole = int(decisions.joint.sum())
    return Again(decisions, {**found, "judged_by_whole_slates": whole}, choosy=choosy)


def explorers_of(placements: Iterable[release_pb2.PlacementSpec]) -> dict[str, Explorer]:
    """The explorers of placements, by id."""
    return {one.id: explorer(one.explorer, one.gamma, one.floor) for one in placements}


def releases_of(tenant: Tenant, store: Store) -> Callable[[int], Release | None]:
    """Releases by version, each loaded once; None where one is gone or cannot be read."""
    known: dict[int, Release | None] = {}
    alike: dict[tuple[bytes, ...], Release] = {}

    def load(version: int) -> Release | None:
        row = store.release(version)
        if row is None:
            return None
        manifest = manifest_of(row)
        parts = [part for part in manifest.parts if not part.asset]
        key = tuple(part.sha256 for part in parts if part.name != "golden")
        if key not in alike:
            try:
                contents = {part.name: part_content(tenant, part) for part in parts}
                alike[key] = Release.from_parts(manifest, contents)
            except (Refused, EdgeError):
                return None
        return alike[key]

    def release_of(version: int) -> Release | None:
        if version not in known:
            known[version] = load(version)
        return known[version]

    return release_of


def _counted(
    past: Sequence[Past], counts: PastCounts, come_out: int, why: Counter[str]
) -> dict[str, Any]:
    return {
        "in_the_log": counts.decisions,
        "left_out": dict(counts.left_out),
        "asked_about": len(past),
        "come_out": come_out,
        "do_not_come_out": dict(why),
    }


def _told(counts: Mapping[str, Any]) -> str:
    """Why decisions cannot be gone by, in a sentence."""
    reasons = {**counts["left_out"], **counts["do_not_come_out"]}
    said = ", ".join(f"{number:,}: {why}" for why, number in sorted(
        reasons.items(), key=lambda pair: -pair[1]))  # fmt: skip
    told = f" ({said})" if said else ""
    return (
        f"of {counts['in_the_log']:,} decisions in the log {counts['come_out']:,} can be done again"
        f"{told}"
    )
