"""Campaigns with a known truth: customers who come day by day, and what they do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from genome_server.genomes.events import LinkSaid
from genome_server.lift.campaigns import WINDOW_MS, Campaign, Drawn
from genome_server.lift.rules import NEVER, Entered, Floats, LeftOut, Meetings, Met, Rows, enter
from genome_server.store.rows import CONSENT_LEARNING, CustomerRow
from genome_server.times import DAY_MS

BEGIN_MS: Final = 1_780_300_800_000
_BOTH: Final = 2


@dataclass(frozen=True)
class World:
    """`share` of the customers are held out, and `base` of these buy; of the shown by `effect`
    more. Amounts are log-normal with this `spread` (0: nobody pays). So many come a `day`.

    With `two` placements the second holds out half, and its customers buy three times as often.
    """

    name: str
    share: float
    base: float
    day: int
    effect: float = 0.0
    spread: float = 0.0
    two: bool = False

    @property
    def campaign(self) -> Campaign:
        """The campaign, drawn by nothing but the dice of this world."""
        shares = (self.share, 0.5) if self.two else (self.share,)
        drawn = tuple(Drawn(f"p{n}", share, None) for n, share in enumerate(shares))
        return Campaign("placement", self.name, None, drawn, WINDOW_MS)

    @property
    def truth(self) -> dict[str, tuple[float, float]]:
        """The difference of shares and of amounts, each with the mean of the held out."""
        base = 2 * self.base if self.two else self.base
        worth = float(np.exp(2.0 + self.spread**2 / 2))
        return {
            "share": (self.effect * base, base),
            "amount": (self.effect * base * worth, base * worth),
        }

    def draw(self, dice: np.random.Generator, days: int) -> Rows:
        """All customers of so many days, with what they are going to do."""
        n = int(dice.poisson(self.day * days))
        at_ms = BEGIN_MS + np.sort(dice.integers(0, days * DAY_MS, n))
        second = dice.random(n) < (0.5 if self.two else 0.0)
        held = dice.random(n) < np.where(second, 0.5, self.share)
        chance = np.where(second, 3 * self.base, self.base)
        did = dice.random(n) < chance * np.where(held, 1.0, 1.0 + self.effect)
        amount: Floats = np.zeros(n)
        if self.spread:
            amount = np.where(did, np.exp(dice.normal(2.0, self.spread, n)), 0.0)
        entered = Entered(
            subject=[b""] * n,
            ids=[()] * n,
            at_ms=at_ms,
            group=held.astype(np.int64),
            placement=second.astype(np.int64),
            offset=np.arange(n),
            other_ms=np.full(n, NEVER),
            earlier=np.zeros(n, bool),
            left_out=LeftOut(),
        )
        return Rows(entered, WINDOW_MS, did.astype(np.int64), amount, "EUR", 0, BEGIN_MS, 0)


def until(rows: Rows, as_of_ms: int) -> Rows:
    """What is known of them at a moment: who has come by then."""
    entered, came = rows.entered, int((rows.entered.at_ms <= as_of_ms).sum())
    return Rows(
        Entered(
            subject=entered.subject[:came],
            ids=entered.ids[:came],
            at_ms=entered.at_ms[:came],
            group=entered.group[:came],
            placement=entered.placement[:came],
            offset=entered.offset[:came],
            other_ms=entered.other_ms[:came],
            earlier=entered.earlier[:came],
            left_out=entered.left_out,
        ),
        window_ms=rows.window_ms,
        times=rows.times[:came],
        amount=rows.amount[:came],
        currency=rows.currency,
        elsewhere=rows.elsewhere,
        newest_ms=rows.newest_ms,
        outcomes=rows.outcomes,
    )


def linked(dice: np.random.Generator, people: int) -> tuple[Rows, Rows]:
    """Half of the customers come under two ids and buy four times as often; showing does nothing.

    Once by the rules, and once without those who met both groups, as one might think right.
    """
    meetings = Meetings()
    customers = {}
    loyal = dice.random(people) < 0.5
    for number in range(people):
        ids = [hashlib.sha256(f"{number} {card}".encode()).digest()[:16] for card in range(_BOTH)]
        for subject in ids[: 1 + int(loyal[number])]:
            customers[subject] = CustomerRow(subject, consents=CONSENT_LEARNING)
            at_ms = BEGIN_MS + int(dice.integers(DAY_MS))
            held = bool(dice.random() < 0.2)
            meetings.meet(0, Met(at_ms, subject, True, number, subject), group=held)
        if loyal[number]:
            meetings.hear(LinkSaid(ids[0], ids[1], linked=True, time_ms=BEGIN_MS))
    entered = enter(meetings, customers)
    two = np.array([len(ids) == _BOTH for ids in entered.ids])
    times = (dice.random(people) < np.where(two, 0.4, 0.1)).astype(np.int64)
    rows = Rows(entered, WINDOW_MS, times, np.zeros(people), "", 0, BEGIN_MS, 0)
    kept = np.flatnonzero(entered.other_ms == NEVER)
    without = Entered(
        subject=[entered.subject[row] for row in kept.tolist()],
        ids=[entered.ids[row] for row in kept.tolist()],
        at_ms=entered.at_ms[kept],
        group=entered.group[kept],
        placement=entered.placement[kept],
        offset=entered.offset[kept],
        other_ms=entered.other_ms[kept],
        earlier=entered.earlier[kept],
        left_out=entered.left_out,
    )
    other = Rows(without, WINDOW_MS, times[kept], np.zeros(len(kept)), "", 0, BEGIN_MS, 0)
    return rows, other
