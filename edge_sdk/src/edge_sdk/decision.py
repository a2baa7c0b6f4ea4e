"""What a decision is made of: reasons, offers, slots, and the explanation of all of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from edge_sdk.arguments import is_text, shown
from edge_sdk.errors import UsageError


class Tier(StrEnum):
    """How far the release may be trusted: it degrades in steps, it does not stop working.

    FRESH and STALE decide alike. RESTRICTED shows only offers with an end of validity of their
    own. HOUSE shows house defaults only. EMPTY: there is no release at all.
    """

    FRESH = "fresh"
    STALE = "stale"
    RESTRICTED = "restricted"
    HOUSE = "house"
    EMPTY = "empty"


class Reason(StrEnum):
    """Why a slot holds what it holds, and why an offer is not in any."""

    # A slot has an offer.
    CHOSEN = "CHOSEN"  #: the best score
    EXPLORED = "EXPLORED"  #: drawn although another one scored better
    UNSCORED = "UNSCORED"  #: the model failed: drawn from equal values
    HOUSE = "HOUSE"  #: the placement's house default
    FORCED = "FORCED"  #: a test asked for it

    # A slot is empty; also why the house default is shown.
    NO_RELEASE = "NO_RELEASE"  #: nothing was ever synced or bundled
    EXPIRED = "EXPIRED"  #: the release is too old for anything but house defaults
    UNKNOWN_PLACEMENT = "UNKNOWN_PLACEMENT"  #: the release has no such placement
    NOTHING_NEAR = "NOTHING_NEAR"  #: no offer is for this place
    NOT_ELIGIBLE = "NOT_ELIGIBLE"  #: offers are near, none is for this moment and customer
    CAPPED = "CAPPED"  #: seen, redeemed or dismissed often enough
    NO_MORE = "NO_MORE"  #: fewer eligible offers than slots
    TOO_MANY_SLOTS = "TOO_MANY_SLOTS"  #: beyond what the placement has
    HELD_OUT = "HELD_OUT"  #: held out, so that what showing does can be measured
    TOO_LITTLE = "TOO_LITTLE"  #: nothing is worth what the placement asks at least

    # No eligible offer may be shown on this device; also why one was not shown.
    STOPPED = "STOPPED"  #: it is on the stop list
    OFFLINE = "OFFLINE"  #: the server was not heard for longer than it allows
    ASSETS = "ASSETS"  #: a file that it needs in this language is not on this device

    # An offer was not shown.
    FEATURE = "FEATURE"  #: it needs a newer SDK
    TIER = "TIER"  #: the release is old and the offer has no end of validity of its own
    AREA = "AREA"  #: for another area
    NEAR_PLACE = "NEAR_PLACE"  #: not near such a place
    NOT_STARTED = "NOT_STARTED"  #: valid later
    BETWEEN = "BETWEEN"  #: between two times at which it is valid
    ENDED = "ENDED"  #: no longer valid
    DAY = "DAY"  #: not on this day of the week
    HOUR = "HOUR"  #: not at this hour
    CHANNEL = "CHANNEL"  #: not on this channel
    PLACEMENT = "PLACEMENT"  #: not for this placement
    SIZE = "SIZE"  #: in no size that fits the placement
    CONSENT = "CONSENT"  #: the customer did not agree to its purpose
    ALL_OF = "ALL_OF"  #: a marker that it asks for is missing
    ANY_OF = "ANY_OF"  #: none of the markers that it asks for is there
    NONE_OF = "NONE_OF"  #: a marker that rules it out is there
    PRIORITY = "PRIORITY"  #: another offer comes first whatever the score
    EXCLUSIVE = "EXCLUSIVE"  #: another one of its group is shown
    CATEGORY = "CATEGORY"  #: enough of its category are shown
    COOL_DOWN = "COOL_DOWN"  #: shown to this customer a short while ago
    PACED = "PACED"  #: shown as often as the share of its window that has passed allows
    REDEEMED = "REDEEMED"  #: this customer has redeemed it
    CONVERTED = "CONVERTED"  #: it has done with this customer what it is for
    DISMISSED = "DISMISSED"  #: this customer does not want it
    BUDGET = "BUDGET"  #: what there is of it is spent
    SCORE = "SCORE"  #: eligible, and another one was drawn


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer to show: its id and what the app shows of it, by name (title, body, image …)."""

    id: str
    content: Mapping[str, str]
    _assets: Mapping[str, Path] = field(default_factory=dict, repr=False, compare=False)

    def asset(self, name: str) -> Path:
        """The offer's file of this name ("image", "audio" …) in the language of the moment.

        Raises UsageError where it has none.
        """
        path = self._assets.get(name) if is_text(name) else None
        if path is None:
            known = ", ".join(sorted(self._assets)) or "none"
            raise UsageError(f"offer {self.id!r} has no file {shown(name)}; it has: {known}")
        return path


@dataclass(frozen=True, slots=True)
class Slot:
    """One position: an offer or none, and why.

    `score` is the expected worth of showing it; `propensity` the exact probability with which
    this slot got this offer, given the slots before it (1.0 where nothing was drawn).
    """

    offer: Offer | None
    reason: Reason
    score: float = 0.0
    propensity: float = 1.0


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that the release does not know: `kind` is placement, marker or product."""

    kind: str
    name: str
    nearest: str | None

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return f"unknown {self.kind} {self.name!r}{hint}"


@dataclass(frozen=True, slots=True)
class Loser:
    """An offer that was not shown, every reason why, and its score where it got one.

    `details` says more of each of `reasons`, for people; empty where there is no more to say.
    `until_ms`: when what keeps it away ends, in Unix milliseconds (0: nobody knows, or nothing
    does; `NEVER_MS`: it does not end).
    """

    offer: str
    reasons: tuple[Reason, ...]
    score: float | None = None
    details: tuple[str, ...] = ()
    until_ms: int = 0

    def __str__(self) -> str:
        said = [*self.details, *[""] * (len(self.reasons) - len(self.details))]
        told = zip(self.reasons, said, strict=False)
        return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in told)


#: `Loser.until_ms` of what never ends.
NEVER_MS: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Carrier:
    """What one marker did for an offer: its score minus the score without the marker."""

    marker: str
    source: str  #: "genome", "context", or "offer" for a marker of the offer itself
    weight: float
    difference: float


@dataclass(frozen=True, slots=True)
class Draw:
    """How one slot was drawn.

    `chances` are those that had one, (offer, chance), the likeliest first; `best` is the offer with
    the best score, and `number` the one out of 0 … 2^32 - 1 that decided.
    """

    number: int
    best: str
    chances: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class SlotExplanation:
    """Why one slot came out as it did.

    `slot` is what was chosen, also where it was held out. `carriers` are the markers of genome and
    moment and `own` those of the offer, the strongest first; `unmarked` is the score that the offer
    has where nothing is known of genome and moment. All of it is empty, and `draw` None, where no
    offer was drawn or the model does not work.
    """

    slot: Slot
    carriers: tuple[Carrier, ...] = ()
    own: tuple[Carrier, ...] = ()
    unmarked: float = 0.0
    draw: Draw | None = None


@dataclass(frozen=True, slots=True)
class Considered:
    """How many offers were left, stage by stage.

    `offers` of the release; `near` by area and place; `eligible` by all that they ask of the moment
    and the customer; of these `withheld` from this device, `capped`, and `too_little` worth for the
    placement; `candidates` are the rest, from which slots were drawn.
    """

    offers: int = 0
    near: int = 0
    eligible: int = 0
    withheld: int = 0
    capped: int = 0
    too_little: int = 0
    candidates: int = 0

    def __str__(self) -> str:
        return (
            f"{self.offers} offers, {self.near} near, {self.eligible} eligible "
            f"({self.withheld} withheld, {self.capped} capped, "
            f"{self.too_little} worth too little), {self.candidates} to draw from"
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a decision came out as it did.

    `slots` has one entry for each that was asked for; `moment` are the markers of the moment, and
    `notes` say what cannot be told, for people.
    """

    decision: Decision
    losers: tuple[Loser, ...] = ()
    slots: tuple[SlotExplanation, ...] = ()
    considered: Considered = Considered()
    moment: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def carriers(self) -> tuple[Carrier, ...]:
        """The markers of genome and moment that carried slot 0, the strongest first."""
        return self.slots[0].carriers if self.slots else ()

    def __str__(self) -> str:
        lines = [str(self.decision), f"  {self.considered}"]
        for number, one in enumerate(self.slots):
            told = [f"{c.marker} ({c.source}, {c.weight:.2f})" for c in (*one.carriers, *one.own)]
            moved = [c.difference for c in (*one.carriers, *one.own)]
            lines += [
                f"  slot {number}: {difference:+.4f} {name}"
                for name, difference in zip(told, moved, strict=True)
            ]
        lines += [f"  not {loser.offer}: {loser}" for loser in self.losers]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer: one slot for each that was asked for. Immutable.

    `id` (32 hex characters) is valid in any process of this device, hours later. `reason` says how
    slot 0 came about, or why nothing but a house default may be shown. `release` is the version
    decided from (0: none), `seed` reproduces every draw, `genome_used` says whether a genome was
    read.
    """

    id: str
    slots: tuple[Slot, ...]
    reason: Reason
    placement: str
    release: int
    seed: int
    tier: Tier
    genome_used: bool
    _unknown: Callable[[], tuple[Unknown, ...]] | None = field(
        default=None, repr=False, compare=False
    )
    _explain: Callable[[Decision, Collection[str] | None], Explanation] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def offer(self) -> Offer | None:
        """The offer of slot 0."""
        return self.slots[0].offer

    @property
    def unknown(self) -> tuple[Unknown, ...]:
        """Names that the release does not know, each with the nearest that it does."""
        return self._unknown() if self._unknown is not None else ()

    def explain(self, offers: Collection[str] | None = None) -> Explanation:
        """Who lost and why, and which markers carried the score. Costs milliseconds.

        `offers` names those whose losing is asked about; None: all, which costs some ten
        microseconds for each offer of the release.
        """
        if self._explain is None:
            return Explanation(self)
        return self._explain(self, offers)

    def __str__(self) -> str:
        shown = ", ".join(
            f"{slot.offer.id if slot.offer else 'nothing'} ({slot.reason})" for slot in self.slots
        )
        return f"{self.placement}: {shown}"
