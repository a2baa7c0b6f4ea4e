"""Rules by what is asked of them: what an event counts for, and what limits it. No input or output.

One rulebook is of one set of rules and never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_holds import DEVICE, Where
from edge_sdk.engine.cap_kept import Key
from edge_sdk.engine.cap_rules import NEVER, CapRow, CapRule, Counter, Limit, counters_of

Rows = list[tuple[Key, CapRow]]

# What no rule asks for any more is kept this long: a later release may ask again.
_FORGOTTEN_AFTER_MS: Final = 90 * 24 * 3_600_000


class Rulebook:
    """The rules of a release, by offer; `limits` by counter and kind, `offers` by limit."""

    def __init__(self, rules: Mapping[str, CapRule]) -> None:
        self.rules = rules
        self.limits: dict[tuple[Counter, str], set[Limit]] = {}
        self.offers: dict[Limit, list[str]] = {}
        for offer, rule in rules.items():
            for limit in dict.fromkeys(rule.limits):
                self.limits.setdefault((limit.counter, limit.kind), set()).add(limit)
                self.offers.setdefault(limit, []).append(offer)
        # Whose events a counter and kind is asked for: of a customer, of everybody.
        self._whose = {
            asked: (any(not one.device for one in by), any(one.device for one in by))
            for asked, by in self.limits.items()
        }
        self._counters: dict[str, tuple[Counter, ...]] = {}

    def counts(self, offer: str, kind: str, subject: bytes) -> bool:
        """Whether a limit asks for events of this kind of this offer, by this subject."""
        rule = self.rules.get(offer)
        if rule is None:
            return False
        return any(
            limit.strangers or subject != NOBODY
            for counter in counters_of(offer, rule.campaign, rule.group)
            for limit in self.limits.get((counter, kind), ())
        )

    def counts_for_all(self, offer: str, kind: str) -> bool:
        """Whether a limit asks for these events of everybody together."""
        rule = self.rules.get(offer)
        counters = () if rule is None else counters_of(offer, rule.campaign, rule.group)
        return any(
            limit.device for counter in counters for limit in self.limits.get((counter, kind), ())
        )

    def limited(self, offer: str, subject: bytes) -> bool:
        """Whether anything can keep this offer away from this subject."""
        rule = self.rules.get(offer)
        limits = rule.limits if rule is not None else ()
        return any(limit.strangers or subject != NOBODY for limit in limits)

    def counters(self, offer: str, campaign: str, group: str) -> tuple[Counter, ...]:
        """What an event counts for; `campaign` and `group` are those of an offer that is gone."""
        known = self._counters.get(offer)
        if known is not None:
            return known
        rule = self.rules.get(offer)
        if rule is None:
            return counters_of(offer, campaign, group)
        known = self._counters[offer] = counters_of(offer, rule.campaign, rule.group)
        return known

    def touched(self, row: CapRow) -> set[Where]:
        """Whose counters an event counts for, as far as a limit asks for them."""
        touched: set[Where] = set()
        for counter in self.counters(row.offer, row.campaign, row.group):
            whose = self._whose.get((counter, row.kind))
            if whose is None:
                continue
            if whose[0] and row.subject:
                touched.add((row.subject, counter, row.kind))
            if whose[1] and not row.elsewhere:
                touched.add((DEVICE, counter, row.kind))
        return touched

    def relevant_ms(self, row: CapRow) -> int:
        """How long an event may block something."""
        asked = [
            limit.relevant_ms
            for counter in self.counters(row.offer, row.campaign, row.group)
            for limit in self.limits.get((counter, row.kind), ())
            if not (limit.device and row.elsewhere)
        ]
        return max(asked, default=_FORGOTTEN_AFTER_MS)

    def ends_ms(self, row: CapRow) -> int:
        """From when on an event can block nothing, in Unix milliseconds; NEVER: it always can."""
        return min(row.at_ms + self.relevant_ms(row), NEVER)

    def ended(self, rows: Rows, now_ms: int) -> tuple[Rows, int]:
        """Those of some rows that can no longer block anything, and when the next one ends."""
        found: Rows = []
        soonest = NEVER
        for key, row in rows:
            ends = self.ends_ms(row)
            if ends > now_ms:
                soonest = min(soonest, ends)
            else:
                found.append((key, row))
        return found, soonest
