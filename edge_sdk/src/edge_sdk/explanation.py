"""Why a decision came out as it did: who lost and why, what carried the scores, what was drawn."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.decision import Decision, Reason, Slot


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
