"""The check that nothing starves: no offer for everybody, no part of the decisions of much that it
is shown. Free of I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from genome_server.gate.checks import Segment
from genome_server.gate.floors import NEVER
from genome_server.gate.rules import Check, State
from genome_server.releases.exploring import FLOOR

#: An offer that was shown at least so often, where it could be, is to be shown again.
SHOWN: Final = 0.01
#: How often an offer must have been shown, in expectation, for its absence to mean something.
LEAST_SHOWN: Final = 10.0
#: A part of the decisions that loses at least so much of what it is shown today is starved.
LOST: Final = 0.25
LEAST_DECISIONS: Final = 50
_NAMED: Final = 5
_TRIED: Final = f"a floor of {FLOOR:g} or more (explorer squarecb) keeps each of them tried"


@dataclass(frozen=True)
class Offered:
    """An offer under both policies: its share of the decisions in which it could be shown, and how
    many decisions these were. It is starved below the share `least` (`floors`)."""

    offer: str
    before: float
    after: float
    decisions: float
    least: float = NEVER


@dataclass(frozen=True)
class Starved:
    """A part of the decisions that is starved: of which offers, and their share of all that is
    shown there under both policies."""

    part: str
    offers: tuple[str, ...]
    before: float
    after: float


@dataclass(frozen=True)
class Emptied:
    """A part of the decisions under a least worth that show an offer today: how many these are, and
    how many of them would show none, as far as the log knows."""

    part: str
    decisions: float
    empty: float


def starvation(
    offers: Sequence[Offered],
    decisions: int,
    parts: Mapping[str, Sequence[Offered]],
    gains: Sequence[Segment],
    emptied: Sequence[Emptied] = (),
) -> Check:
    """Whether an offer that was shown would practically never be shown again, to anybody or in one
    of the `parts`, of whose `gains` some are known.

    A part may well do without offers that somebody else is shown; so it is starved only where they
    are much of what it sees. One that is shown to gain by that has been served better, one that
    seems to lose is a stop, and of any other it cannot be told. Nor can it where a part would be
    left with house defaults (`emptied`).
    """
    out = _gone(offers)
    bare = [one for one in emptied if _is_bare(one)]
    starved = _starved(parts, {one.offer for one in out})
    figures = {
        "starved": [asdict(one) for one in out],
        "offers": len(offers),
        "starved_segments": [asdict(one) for one in starved],
        "segments": len(parts),
        "emptied": [asdict(one) for one in bare],
    }
    if out:
        out.sort(key=lambda one: -one.before * one.decisions)
        named = ", ".join(f"{one.offer!r} ({one.before:.1%} before)" for one in out[:_NAMED])
        more = f" and {len(out) - _NAMED} more" if len(out) > _NAMED else ""
        said = (
            f"{len(out)} of {len(offers)} offers would practically never be shown again: "
            f"{named}{more}; {_TRIED}"
        )
        return Check("starvation", State.STOP, said, figures)
    known = {one.name: one for one in gains}
    lost = [one for one in starved if one.part in known and known[one.part].loses]
    if lost:
        return Check("starvation", State.STOP, f"{_parts_told(lost)}; {_TRIED}", figures)
    unknown = [one for one in starved if one.part not in known or not known[one.part].gains]
    if unknown:
        said = f"{_parts_told(unknown)}, and it is not shown to gain by that; {_TRIED}"
        return Check("starvation", State.CANNOT_TELL, said, figures)
    if bare:
        return Check("starvation", State.CANNOT_TELL, _bare_told(bare), figures)
    if decisions < LEAST_DECISIONS:
        said = f"{decisions:,} decisions with a choice are too few; needed are {LEAST_DECISIONS}"
        return Check("starvation", State.CANNOT_TELL, said, figures)
    said = f"each of {len(offers)} offers that was shown would be shown"
    if parts:
        said += f", and none of {len(parts)} segments would lack what it is shown today"
    if starved:
        said += f" but {len(starved)} that gain by it"
    return Check("starvation", State.FINE, said, figures)


def _gone(offers: Sequence[Offered]) -> list[Offered]:
    """Those that were shown, and practically never would be again."""
    return [
        one
        for one in offers
        if one.before >= SHOWN
        and one.after < one.least
        and one.before * one.decisions >= LEAST_SHOWN
    ]


def _starved(parts: Mapping[str, Sequence[Offered]], apart: Collection[str]) -> list[Starved]:
    """The parts that lose much of what they are shown, the worst first; of the offers `apart` all
    lose them."""
    found = []
    for name, offers in parts.items():
        out = [one for one in _gone(offers) if one.offer not in apart]
        out.sort(key=lambda one: -one.before * one.decisions)
        before = sum(one.before * one.decisions for one in offers)
        after = sum(one.after * one.decisions for one in offers)
        lost = sum(one.before * one.decisions for one in out)
        if out and lost >= LOST * before:
            left = sum(one.after * one.decisions for one in out) / after
            names = tuple(one.offer for one in out)
            found.append(Starved(name, names, lost / before, left))
    return sorted(found, key=lambda one: -one.before)


def _is_bare(one: Emptied) -> bool:
    return one.empty >= max(LEAST_SHOWN, LOST * one.decisions)


def _bare_told(found: Sequence[Emptied]) -> str:
    worst = sorted(found, key=lambda one: -one.empty / one.decisions)
    named = "; ".join(
        f"{one.part!r}: {one.empty / one.decisions:.0%} of {one.decisions:,.0f} decisions"
        for one in worst[:_NAMED]
    )
    more = f"; and {len(worst) - _NAMED} more segments" if len(worst) > _NAMED else ""
    return (
        "house defaults would be shown where an offer is shown today, as far as the log knows "
        f"({named}{more}), because it finds less of that worth what the placement asks for"
    )


def _parts_told(found: Sequence[Starved]) -> str:
    told = []
    for one in found[:_NAMED]:
        named = ", ".join(map(repr, one.offers[:_NAMED]))
        more = f" and {len(one.offers) - _NAMED} more" if len(one.offers) > _NAMED else ""
        told.append(
            f"segment {one.part!r}: offers {named}{more} are {one.before:.0%} of what is shown "
            f"today, {one.after:.1%} under the candidate"
        )
    more = f"; and {len(found) - _NAMED} more segments" if len(found) > _NAMED else ""
    return "; ".join(told) + more
