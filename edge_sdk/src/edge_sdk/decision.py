"""What a decision is made of: reasons, offers and slots. What explains it is in `explanation`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_sdk.arguments import is_text, shown
from edge_sdk.errors import UsageError
from edge_sdk.lazy import later
from edge_sdk.values import dataclass

if TYPE_CHECKING:
    from edge_sdk import explanation as explanations
else:
    explanations = later("edge_sdk.explanation")


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


#: `Loser.until_ms` of what never ends.
NEVER_MS: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer: one slot for each that was asked for. Immutable.

    `id` (32 hex characters) is valid in any process of this device, hours later. `reason` says how
    slot 0 came about, or why nothing but a house default may be shown. `release` is the version
    decided from (0: none), `seed` reproduces every draw, `genome_used` says whether a genome was
    read. Where the placement that was asked for has arms, `experiment` names it, and `placement` is
    the one that was drawn for this customer: an arm, or the same.
    """

    id: str
    slots: tuple[Slot, ...]
    reason: Reason
    placement: str
    release: int
    seed: int
    tier: Tier
    genome_used: bool
    experiment: str = ""
    _unknown: Callable[[], tuple[Unknown, ...]] | None = field(
        default=None, repr=False, compare=False
    )
    _explain: Callable[[Decision, Collection[str] | None], explanations.Explanation] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def offer(self) -> Offer | None:
        """The offer of slot 0."""
        return self.slots[0].offer

    @property
    def is_arm(self) -> bool:
        """Whether an arm of the placement that was asked for decided in its place."""
        return self.experiment not in ("", self.placement)

    @property
    def unknown(self) -> tuple[Unknown, ...]:
        """Names that the release does not know, each with the nearest that it does."""
        return self._unknown() if self._unknown is not None else ()

    def explain(self, offers: Collection[str] | None = None) -> explanations.Explanation:
        """Who lost and why, and which markers carried the score. Costs milliseconds.

        `offers` names those whose losing is asked about; None: all, which costs some ten
        microseconds for each offer of the release.
        """
        if self._explain is None:
            return explanations.Explanation(self)
        return self._explain(self, offers)

    def __str__(self) -> str:
        shown = ", ".join(
            f"{slot.offer.id if slot.offer else 'nothing'} ({slot.reason})" for slot in self.slots
        )
        arm = f", an arm of {self.experiment}" if self.is_arm else ""
        return f"{self.placement}{arm}: {shown}"
