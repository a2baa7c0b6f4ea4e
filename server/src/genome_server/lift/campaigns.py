"""What a campaign is: a placement, an offer, or the offers that belong together. Free of I/O.

Rules.
- NAME is a placement, an offer or the campaign that offers say they belong to; where it is several
  of these, `placement:NAME`, `offer:NAME` or `campaign:NAME` says which.
- Of a placement, whatever was chosen there counts. Of offers, what was chosen of them in any
  placement with a hold-out.
- The window is what the placement states as its `outcome_window_hours`; of several the longest that
  any states. Where none is stated it is a week: what a decision is credited with within a day (the
  default of placements) is not all that showing does.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge_sdk.dna.schema import HOUR_MS
from edge_sdk.engine.slates import Slate
from genome_server.documents import placement_spec
from genome_server.errors import UsageError
from genome_server.times import DAY_MS

WINDOW_MS: Final = 7 * DAY_MS
_KINDS: Final = ("placement", "offer", "campaign")
_MILLION: Final = 1_000_000

Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Drawn:
    """A placement in which people are drawn: the share (0 to 1) that its document holds out."""

    id: str
    share: float
    slate: Slate | None

    def holds_out(self, subject: bytes) -> bool:
        """Whether the document, as it is now, holds a customer out."""
        return self.slate is not None and self.slate.holds_out(subject, b"")


@dataclass(frozen=True)
class Campaign:
    """What is asked about. `offers` None: everything. The number of a placement is its index."""

    kind: str
    name: str
    offers: frozenset[str] | None
    placements: tuple[Drawn, ...]
    window_ms: int

    def __str__(self) -> str:
        """As a person says it."""
        return f"{self.kind} {self.name}"


def find_campaign(said: str, placements: Documents, offers: Documents) -> Campaign:
    """The campaign of this name. Raises UsageError where there is none, or more than one."""
    tags = {str(one["campaign"]) for one in offers.values() if one.get("campaign")}
    known = dict(zip(_KINDS, (placements, offers, tags), strict=True))
    kind, colon, name = said.partition(":")
    if colon and kind in known:
        kinds = [kind] if name in known[kind] else []
    else:
        name = said
        kinds = [kind for kind in _KINDS if name in known[kind]]
    if not kinds:
        names = sorted({*placements, *offers, *tags})
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"there is no placement, offer or campaign {name!r}{hint}")
    if len(kinds) > 1:
        raise UsageError(
            f"{name!r} is {' and '.join(kinds)}: say " + " or ".join(f"{k}:{name}" for k in kinds)
        )
    return _campaign(kinds[0], name, placements, offers)


def _campaign(kind: str, name: str, placements: Documents, offers: Documents) -> Campaign:
    chosen = placements
    belongs: frozenset[str] | None = None
    if kind == "placement":
        chosen = {name: placements[name]}
    elif kind == "offer":
        belongs = frozenset((name,))
    else:
        belongs = frozenset(one for one, doc in offers.items() if doc.get("campaign") == name)
    drawn = tuple(_drawn(one, doc) for one, doc in sorted(chosen.items()))
    stated = [
        int(doc["outcome_window_hours"]) * HOUR_MS
        for one, doc in chosen.items()
        if doc.get("outcome_window_hours") and (kind == "placement" or doc.get("holdout"))
    ]
    return Campaign(kind, name, belongs, drawn, max(stated, default=WINDOW_MS))


def _drawn(name: str, document: Mapping[str, Any]) -> Drawn:
    spec = placement_spec({"id": name, **document})
    return Drawn(name, spec.holdout_ppm / _MILLION, Slate.of(spec))
