"""Deciding for the rows of a list, one after the other: the engine and the caps of every decision.

Ids and seeds follow from the run and the row, so that what is decided again comes out again. Time
stands still: the run counts as made at one moment. What is shown when it is viewed is held for as
long as the run goes on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edge_sdk.clock import Stamp
from edge_sdk.decision import Reason
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_holds import Hold
from edge_sdk.engine.caps import VIEW
from edge_sdk.engine.decide import decide
from edge_sdk.outbox.encoding import bodies
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.runtime.claiming import HOLD_MS, Claims, claim_of, within_caps
from genome_server.bulk.budgets import NOT_SHOWN, Budgets
from genome_server.bulk.moments import Asked
from genome_server.bulk.results import Row
from genome_server.log import Kept, OwnEvent
from genome_server.services.deciding import REMEMBERED_MS, Customer, Remembered
from genome_server.services.prepared import decision_key

if TYPE_CHECKING:
    from edge_sdk.decision import Decision
    from edge_sdk.engine.cap_views import Blocked
    from edge_sdk.engine.record import Record
    from edge_sdk.engine.release import Release
    from edge_sdk.engine.withheld import Terms

_STRANGER: Final = Customer()


@dataclass
class Decided:
    """What came of a part: rows, what the log is to hold, and by name what nobody knows."""

    rows: list[Row] = field(default_factory=list)
    events: list[OwnEvent] = field(default_factory=list)
    keep: list[Kept] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    genomes: int = 0


class ListDecider:
    """Decides for one list. `key` is the run's, 32 bytes; `at_ms` when the run counts as made.

    `audience` names the thin clients that may report what follows; empty: none.
    """

    def __init__(
        self,
        release: Release,
        claims: Claims,
        budgets: Budgets,
        key: bytes,
        at_ms: int,
        audience: str = "",
    ) -> None:
        self._release = release
        self._claims = claims
        self._budgets = budgets
        self._key = key
        self._at_ms = at_ms
        self._stamp = Stamp(at_ms, 0, b"", 0)
        self._audience = audience
        self._campaigns = {offer.id: offer.campaign for offer in release.catalogue.offers}

    def recall(self, shown: Iterable[tuple[bytes, str, int, str, str, str]]) -> None:
        """Count what earlier parts of the run show, as `results.shown_in` gives it."""
        ledger, caps = self._claims.ledger, self._release.catalogue.caps
        rows = []
        for subject, decision_id, slot, placement, offer, reason in shown:
            self._budgets.spend([(offer, reason)])
            counted = offer in caps and reason not in NOT_SHOWN and subject != NOBODY
            if not counted or not ledger.counts(offer, VIEW, subject):
                continue
            claim = claim_of(bytes.fromhex(decision_id), slot)
            if self._release.placements[placement].shown_on_view:
                rule = caps[offer]
                lapse = ledger.elapsed() + HOLD_MS
                ledger.hold(Hold(claim, subject, offer, lapse, rule.campaign, rule.group))
            elif (row := ledger.row(subject, offer, VIEW, self._at_ms, claim)) is not None:
                rows.append(row)
        ledger.apply(rows)

    def part(
        self,
        first: int,
        asked: Sequence[Asked],
        customers: Mapping[bytes, Customer],
        terms: Terms,
        *,
        logged: bool,
    ) -> Decided:
        """Decide for a part of the list; `first` is the number of decisions before it."""
        done = Decided()
        for number, one in enumerate(asked, first):
            customer = customers.get(one.subject) or Customer(one.subject)
            if one.subject == NOBODY:
                customer = _STRANGER
            decision, record = self._decide(number, one, customer, terms)
            self._budgets.spend(
                [(slot.offer.id if slot.offer else "", slot.reason) for slot in decision.slots]
            )
            done.rows += self._rows(one, decision)
            done.genomes += decision.genome_used
            done.unknown.update(f"{kind} {name!r}" for kind, name in record.inputs.moment.unknown)
            if logged:
                self._log(one, decision, record, done)
        return done

    def _decide(
        self, number: int, one: Asked, customer: Customer, terms: Terms
    ) -> tuple[Decision, Record]:
        digest = hashlib.sha256(self._key + number.to_bytes(8, "big")).digest()
        decision_id, seed = digest[:16], int.from_bytes(digest[16:24], "big")
        release, budgets = self._release, self._budgets

        def choose(blocked: Blocked, again: Record | None) -> tuple[Decision, Record]:  # noqa: ARG001
            blocked = budgets.keeping_away(blocked)
            return decide(
                release,
                one.context,
                one.placement,
                one.slots,
                genome=customer.genome,
                consents=customer.consents,
                blocked=blocked.offers,
                why_blocked=blocked.why,
                rooms=budgets.leaving(blocked.rooms, one.slots),
                seed=seed,
                decision_id=decision_id,
                terms=terms,
                now_ms=self._at_ms,
                subject=customer.subject,
            )

        if customer.subject == NOBODY:  # as for thin clients: strangers are not one customer
            return choose(self._claims.blocking(NOBODY, self._at_ms, one.slots), None)
        decision, record, _ = within_caps(
            self._claims, release, customer.subject, self._at_ms, one.slots, choose
        )
        return decision, record

    def _rows(self, one: Asked, decision: Decision) -> list[Row]:
        rows = []
        for number, slot in enumerate(decision.slots):
            offer = slot.offer
            rows.append(
                Row(
                    one.line,
                    one.id,
                    one.source if one.customer else "",
                    one.customer,
                    decision.id,
                    decision.placement,
                    number,
                    offer.id if offer is not None else "",
                    self._campaigns.get(offer.id, "") if offer is not None else "",
                    slot.reason.value,
                    slot.score,
                    slot.propensity,
                    decision.genome_used,
                    dict(offer.content) if offer is not None else None,
                    one.subject,
                )
            )
        return rows

    def _log(self, one: Asked, decision: Decision, record: Record, done: Decided) -> None:
        body, _ = bodies(record, self._stamp, private=False)
        done.events.append(OwnEvent(one.subject, int(FrameKind.DECISION), self._at_ms, body))
        placement = self._release.placements[decision.placement]
        shown = any(slot.offer and slot.reason is not Reason.HOUSE for slot in decision.slots)
        if not self._audience or not shown:
            return
        remembered = Remembered(
            self._audience,
            placement.id,
            tuple(slot.offer.id if slot.offer else "" for slot in decision.slots),
            placement.shown_on_view,
        )
        until_ms = self._at_ms + max(placement.outcome_window_hours * 3_600_000, REMEMBERED_MS)
        done.keep.append(
            Kept(
                decision_key(record.inputs.decision_id),
                remembered.to_bytes(),
                one.subject,
                until_ms,
            )
        )
