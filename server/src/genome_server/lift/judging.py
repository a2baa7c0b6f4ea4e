"""From the persons of a campaign to what is said of it. Free of I/O.

Rules.
- Compared are those whose window is over. Whether the groups are a fair draw is asked of all who
  entered.
- Placements in which a group has nobody yet say nothing and are left out.
- A person belongs to the group that the log says. If the placement's document now draws another
  one for more than `CHANGED` of them, share or seed were changed, or a device does not hold out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from genome_server.lift.balance import Balance, balance
from genome_server.lift.campaigns import Campaign
from genome_server.lift.estimates import ERROR, Contrast, contrast_amounts, contrast_shares
from genome_server.lift.needs import (
    Due,
    base_of,
    due,
    per_day,
    spread_of_amounts,
    spread_of_shares,
)
from genome_server.lift.rules import Flags, Ints, Rows
from genome_server.lift.segments import Segments, by_segment

CHANGED: Final = 0.01


@dataclass(frozen=True)
class Group:
    """Persons of a group whose window is over, those of them who did something, and how often;
    the amounts of all together."""

    persons: int
    did: int
    times: int
    amount: float


@dataclass(frozen=True)
class Outcome:
    """One thing that is compared, "share" or "amount": how, and when it can be told.

    `stated` is for the effect that was asked for, `seen` for that which was seen.
    """

    name: str
    contrast: Contrast
    stated: Due | None
    seen: Due | None


@dataclass(frozen=True)
class Verdict:
    """What is said of a campaign. Times in Unix milliseconds.

    `under_way` persons entered, and their window is not over; the first that will be is at
    `first_over_ms` (None: none). `both` met the other group, too, within their window, and
    `earlier` had decisions before what was asked about. `undeclared` entered in placements whose
    documents state no share any more. `redrawn` are in another group than the
    document now draws. `one_sided` persons are of placements that say nothing yet.
    """

    shown: Group
    held: Group
    outcomes: tuple[Outcome, ...]
    balances: tuple[Balance, ...]
    segments: Segments | None
    per_day: float
    under_way: int
    first_over_ms: int | None
    both: int
    earlier: int
    redrawn: int
    one_sided: int
    undeclared: int

    @property
    def entered(self) -> int:
        """All persons who entered."""
        return self.shown.persons + self.held.persons + self.under_way + self.one_sided

    @property
    def changed(self) -> bool:
        """Whether too many are in another group than the documents draw."""
        return self.redrawn > CHANGED * self.entered

    @property
    def fair(self) -> bool:
        """Whether the groups can be a fair draw, and are drawn as the documents say."""
        return all(one.fair for one in self.balances) and not self.changed

    def outcome(self, name: str) -> Outcome | None:
        """What is compared under a name; None where there is too little."""
        return next((one for one in self.outcomes if one.name == name), None)


def judge(
    rows: Rows,
    campaign: Campaign,
    as_of_ms: int,
    *,
    effect: float,
    money: bool,
    by: tuple[str, Sequence[str | None]] | None = None,
    error: float = ERROR,
) -> Verdict:
    """What is said of a campaign as of a moment (Unix ms).

    `effect` is the lift (0.1: a tenth more) for which a day is told; `money` whether amounts are
    compared; `by` a namespace and the segment of each person; `error` the chance with which an
    interval may err.
    """
    entered = rows.entered
    over = rows.over(as_of_ms)
    told = over & ~_one_sided(entered.held, entered.placement, over)
    held, stratum = entered.held[told], entered.placement[told]
    did, amount = rows.times[told] > 0, rows.amount[told]
    outcomes = []
    times = (entered.at_ms, rows.window_ms, as_of_ms)
    contrast = contrast_shares(did, held, stratum, error)
    if contrast is not None:
        overall = float(did.mean())
        spread = spread_of_shares(overall, effect, held, stratum)
        difference = effect * base_of(overall, effect, held)
        outcomes.append(_outcome("share", contrast, effect, difference, spread, times, error))
    contrast = contrast_amounts(amount, held, stratum, error) if money else None
    if contrast is not None:
        spread = spread_of_amounts(amount, effect, held, stratum)
        difference = effect * base_of(float(amount.mean()), effect, held)
        outcomes.append(_outcome("amount", contrast, effect, difference, spread, times, error))
    waiting = entered.at_ms[~over]
    segments = None
    if by is not None:
        names = [name for name, inside in zip(by[1], told.tolist(), strict=True) if inside]
        segments = by_segment(by[0], names, did, held, stratum)
    return Verdict(
        shown=_group(rows, told & ~entered.held),
        held=_group(rows, told & entered.held),
        outcomes=tuple(outcomes),
        balances=_balances(entered.held, entered.placement, campaign),
        segments=segments,
        per_day=per_day(entered.at_ms, as_of_ms),
        under_way=len(waiting),
        first_over_ms=int(waiting[0]) + rows.window_ms if len(waiting) else None,
        both=int((told & (entered.other_ms < entered.at_ms + rows.window_ms)).sum()),
        earlier=int(entered.earlier.sum()),
        redrawn=_redrawn(rows, campaign),
        one_sided=int((over & ~told).sum()),
        undeclared=_undeclared(entered.placement, campaign),
    )


def _outcome(
    name: str,
    contrast: Contrast,
    effect: float,
    difference: float,
    spread: float,
    times: tuple[Ints, int, int],
    error: float,
) -> Outcome:
    seen = None
    if contrast.lift:
        seen = due(contrast.lift, contrast.difference, contrast.spread, *times, error)
    return Outcome(name, contrast, due(effect, difference, spread, *times, error), seen)


def _group(rows: Rows, inside: Flags) -> Group:
    times = rows.times[inside]
    return Group(
        len(times), int((times > 0).sum()), int(times.sum()), float(rows.amount[inside].sum())
    )


def _one_sided(held: Flags, placement: Ints, over: Flags) -> Flags:
    """Who entered in a placement in which a group has nobody whose window is over."""
    found = np.zeros(len(held), bool)
    numbers = np.unique(placement).tolist()
    for number in numbers if len(numbers) > 1 else ():
        inside = over & (placement == number)
        if held[inside].all() or not held[inside].any():
            found |= placement == number
    return found


def _balances(held: Flags, placement: Ints, campaign: Campaign) -> tuple[Balance, ...]:
    found = []
    for number, one in enumerate(campaign.placements):
        inside = placement == number
        if inside.any() and 0 < one.share < 1:
            counts = (int(inside.sum()), int(held[inside].sum()))
            found.append(balance(one.id, *counts, one.share))
    return tuple(found)


def _undeclared(placement: Ints, campaign: Campaign) -> int:
    silent = [number for number, one in enumerate(campaign.placements) if not one.share]
    return int(np.isin(placement, silent).sum())


def _redrawn(rows: Rows, campaign: Campaign) -> int:
    """Of placements whose document says no share any more nothing is known."""
    entered = rows.entered
    return sum(
        campaign.placements[number].share > 0
        and not campaign.placements[number].draws(subject, held=held)
        for subject, held, number in zip(
            entered.subject, entered.held.tolist(), entered.placement.tolist(), strict=True
        )
    )
