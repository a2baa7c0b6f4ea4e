"""Whether an offer was redeemed as often as it may be: of everything that the server counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_rules import REDEEM, CapRule, counters_of
from edge_sdk.engine.caps import CapLedger

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release


def is_used_up(
    ledger: CapLedger, release: Release, rule: CapRule, subject: bytes, now_ms: int
) -> bool:
    """Say whether a limit on redemptions is reached.

    Looks at every row, which only offers with such a limit cost.
    """
    limits = [
        limit
        for limit in rule.limits
        if limit.kind == REDEEM and (limit.strangers or subject != NOBODY)
    ]
    if not limits:
        return False
    rules = release.catalogue.caps
    redeemed = []
    for row in ledger.rows():
        if row.kind == REDEEM:
            known = rules.get(row.offer)
            campaign, group = (known.campaign, known.group) if known else (row.campaign, row.group)
            redeemed.append((row, counters_of(row.offer, campaign, group)))
    return any(
        sum(
            limit.counter in counters
            and row.at_ms >= limit.since_ms(now_ms)
            and (not row.elsewhere if limit.device else row.subject == subject)
            for row, counters in redeemed
        )
        >= limit.allowed(now_ms)
        for limit in limits
    )
