"""Whether an offer that was shown may be redeemed: once per decision and slot, within its caps.

The last word is spoken inside the transaction that writes the redemption, so that two tills of one
device that hold the same decision cannot both grant it.
"""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from typing import Final

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_rules import REDEEM, CapRule, Limit
from edge_sdk.numbers import Cap
from edge_sdk.outbox.entries import WRITTEN, Guard
from edge_sdk.store.rows import sealed
from edge_sdk.store.tables import AWAY, HERE
from edge_sdk.values import dataclass

# Where the table of caps says what each Cap.Over counts.
_COLUMNS: Final[dict[int, str]] = {
    Cap.OVER_OFFER: "offer",
    Cap.OVER_CAMPAIGN: "campaign",
    Cap.OVER_GROUP: "exclusivity",
}


class RedemptionReason(StrEnum):
    """Why a redemption was granted or refused."""

    GRANTED = "GRANTED"
    ALREADY_REDEEMED = "ALREADY_REDEEMED"  #: this slot of this decision was redeemed before
    ENDED = "ENDED"  #: the offer is no longer valid
    CAPPED = "CAPPED"  #: redeemed as often as allowed
    UNKNOWN_DECISION = "UNKNOWN_DECISION"  #: this device does not know the decision (any more)
    NOTHING_OFFERED = "NOTHING_OFFERED"  #: the slot was empty


@dataclass(frozen=True)
class Redemption:
    """The answer to `redeem`. True where it was granted."""

    granted: bool
    reason: RedemptionReason
    decision: str
    slot: int
    offer: str = ""
    event_id: str = ""

    def __bool__(self) -> bool:
        return self.granted


def guard(
    decision_id: bytes, slot: int, subject: bytes, rule: CapRule | None, now_ms: int
) -> Guard:
    """What the writer asks before it writes the redemption: WRITTEN, or why not."""

    def check(connection: sqlite3.Connection) -> str:
        known = connection.execute(
            "SELECT 1 FROM redemptions WHERE decision = ? AND slot = ?", (decision_id, slot)
        ).fetchone()
        if known is not None:
            return RedemptionReason.ALREADY_REDEEMED
        if rule is not None and _capped(connection, rule, subject, now_ms):
            return RedemptionReason.CAPPED
        connection.execute(
            "INSERT INTO redemptions VALUES (?, ?, ?, ?)", sealed(decision_id, slot, now_ms)
        )
        return WRITTEN

    return check


def _capped(connection: sqlite3.Connection, rule: CapRule, subject: bytes, now_ms: int) -> bool:
    def count(limit: Limit) -> int:
        over, name = limit.counter
        said = f"FROM caps WHERE {_COLUMNS[over]} = ? AND kind = ? AND at_ms >= ?"
        given = (name, REDEEM, limit.since_ms(now_ms))
        found = (
            connection.execute(f"SELECT count(*) {said} AND {which}", more).fetchone()[0]
            for which, more in (
                ((HERE, given),)
                if limit.device
                else ((f"subject = ? AND {rows}", (*given, subject)) for rows in (HERE, AWAY))
            )
        )
        return sum(found)

    return any(
        count(limit) >= limit.allowed(now_ms)
        for limit in rule.limits
        if limit.kind == REDEEM and (limit.strangers or subject != NOBODY)
    )
