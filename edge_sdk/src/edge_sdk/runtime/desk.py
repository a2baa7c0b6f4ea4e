"""Where decisions are made and what follows them is taken down: what clients and sessions share."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from edge_sdk.context import Context
from edge_sdk.decision import Decision, Reason, Unknown
from edge_sdk.engine import decide as engine
from edge_sdk.engine.cap_views import Blocked
from edge_sdk.engine.record import Record
from edge_sdk.outbox import recording
from edge_sdk.runtime.aftermath import Aftermath, Made, decision_id
from edge_sdk.runtime.claiming import within_caps
from edge_sdk.runtime.live import Live, Visitor
from edge_sdk.runtime.recent import Trail

__all__ = ["Desk", "decision_id"]


class Desk(Aftermath):
    """Decides and takes down. Thread-safe."""

    # Deciding -----------------------------------------------------------------------------------

    def decide(
        self,
        visitor: Visitor,
        context: Context,
        placement: str,
        slots: int,
        *,
        kept: bool = True,
        trail: Trail | None = None,
        durable: bool = False,
    ) -> Decision:
        """Choose offers for a visitor. `kept` is False for one whose caps end with the visit, and
        `trail` what such a one was doing before.

        Raises UsageError, and with `durable` StoreError.
        """
        room = self.room
        live = room.live
        now_ms, stamp = room.clock.reading()
        context = room.past.amid(context, visitor, live.release, now_ms, trail)
        choose = partial(self.choose, live, visitor, context, placement, slots, now_ms)
        decision, record, caps = within_caps(
            room.claims,
            live.release,
            visitor.subject,
            now_ms,
            slots,
            choose,
            kept=kept,
            hold=durable,
        )
        entry = recording.decision(record, visitor, stamp, caps)
        if durable:
            self.keep_decision(entry, kept=kept)
        else:
            self.keeper.put(entry)
        offers = tuple([slot.offer.id if slot.offer is not None else "" for slot in decision.slots])
        made = Made(visitor.subject, decision.placement, offers, visitor.private)
        self.made(decision, made)
        room.counts.add(decision.reason)
        if (
            visitor.unknown
            or record.inputs.moment.unknown
            or (decision.reason is Reason.UNKNOWN_PLACEMENT)
        ):
            return self._wonder(decision, record, visitor)
        return decision

    def choose(
        self,
        live: Live,
        visitor: Visitor,
        context: Context,
        placement: str,
        slots: int,
        now_ms: int,
        blocked: Blocked,
        again: Record | None,
    ) -> tuple[Decision, Record]:
        """Ask the engine; `again` with the draw of a decision that cannot be shown. Raises
        UsageError and nothing else."""
        room = self.room
        draw = again.inputs if again is not None else None
        return engine.decide(
            live.release,
            context,
            placement,
            slots,
            genome=visitor.genome,
            consents=visitor.consents,
            blocked=blocked.offers,
            why_blocked=blocked.why,
            rooms=blocked.rooms,
            seed=draw.seed if draw is not None else None,
            decision_id=draw.decision_id if draw is not None else None,
            terms=room.terms(live, now_ms),
            now_ms=now_ms,
            subject=visitor.subject,
        )

    def _wonder(self, decision: Decision, record: Record, visitor: Visitor) -> Decision:
        """Count and tell of what was not known; a customer is in no release, so say it here."""
        unknown = [Unknown(kind, name, None) for kind, name in record.inputs.moment.unknown]
        if decision.reason is Reason.UNKNOWN_PLACEMENT:
            unknown.append(Unknown("placement", decision.placement, None))
        for one in (*unknown, *visitor.unknown):
            self.note_unknown(one)
        if not visitor.unknown:
            return decision
        return replace(decision, _unknown=lambda: (*visitor.unknown, *decision.unknown))
