"""DecisionService: decisions for thin clients, and what followed them.

The server keeps device, epoch and sequence for them: what is decided and reported
here is logged under the device "server". A `request_id`, an `interaction_id`, or an
`event_id` with its kind makes a retry return the first answer: it is written in the
same transaction as the event, per caller, and remembered for a day. What was asked
the second time does not matter. A decision is remembered for thirty days at least,
for outcomes that come late.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from edge_sdk.context import Context
from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.markers import nearest_name, split
from edge_sdk.errors import InvalidMarker, UsageError
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import decision_pb2, decision_pb2_grpc, event_pb2
from genome_server.log import Kept, OwnEvent
from genome_server.services.auth import Caller, caller
from genome_server.services.deciding import (
    REMEMBERED_MS,
    Customer,
    Decider,
    Remembered,
)
from genome_server.services.errors import CallRefusedError
from genome_server.services.landing import Landing
from genome_server.services.room import Room
from genome_server.services.server_caps import counts

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

ANSWER_MS = 24 * 3_600_000
_MAX_ID = 128
_MAX_SALIENCE_Q8 = 4096
_MAX_DNA = 64

_Answer = TypeVar("_Answer", bound=Message)
# The answer, the events behind it, what to keep with them, and what to do once they are durable.
_Prepared = tuple[_Answer, Sequence[OwnEvent], Sequence[Kept], Callable[[], None]]


class DecisionService(decision_pb2_grpc.DecisionServiceServicer):
    """Decides, and takes outcomes and imprints. Tenant and audience come from the credential."""

    def __init__(self, pool: Executor, landing: Landing) -> None:
        self._pool = pool
        self._landing = landing
        self._deciders: dict[Room, Decider] = {}

    async def Decide(  # noqa: N802
        self,
        request: decision_pb2.DecideRequest,
        context: Any,  # noqa: ARG002
    ) -> decision_pb2.DecideResponse:
        """Choose offers for a moment; answered when the decision is in the log."""
        who = caller()
        return await self._once(
            who,
            _key(who, "decide", request.request_id),
            decision_pb2.DecideResponse,
            lambda: _decide(who, self._decider(who), request),
        )

    async def ReportOutcome(  # noqa: N802
        self,
        request: decision_pb2.ReportOutcomeRequest,
        context: Any,  # noqa: ARG002
    ) -> decision_pb2.ReportOutcomeResponse:
        """Take what followed a decision; answered when it is in the log."""
        who = caller()
        return await self._once(
            who,
            _key(who, f"outcome\0{request.kind}", request.event_id),
            decision_pb2.ReportOutcomeResponse,
            lambda: _outcome(who, self._decider(who), request),
        )

    async def Imprint(  # noqa: N802
        self,
        request: decision_pb2.ImprintRequest,
        context: Any,  # noqa: ARG002
    ) -> decision_pb2.ImprintResponse:
        """Take what a customer did; answered when it is in the log."""
        who = caller()
        return await self._once(
            who,
            _key(who, "imprint", request.interaction_id),
            decision_pb2.ImprintResponse,
            lambda: _imprint(who, self._decider(who), request),
        )

    def _decider(self, who: Caller) -> Decider:
        decider = self._deciders.get(who.room)
        if decider is None:
            decider = self._deciders.setdefault(who.room, Decider(who.room))
        return decider

    async def _once(
        self,
        who: Caller,
        key: bytes | None,
        kind: type[_Answer],
        prepare: Callable[[], _Prepared[_Answer]],
    ) -> _Answer:
        """Prepare an answer and log what is behind it; a `key` answered before gets that answer."""
        loop = asyncio.get_running_loop()
        if key is not None:
            now_ms = time.time_ns() // 1_000_000
            kept = await loop.run_in_executor(self._pool, who.room.reader.kept, key, now_ms)
            if kept is not None:
                return kind.FromString(kept[0])
        answer, events, keep, durable = await loop.run_in_executor(self._pool, prepare)
        if key is not None:
            until_ms = time.time_ns() // 1_000_000 + ANSWER_MS
            subject = events[0].subject
            keep = [*keep, Kept(key, answer.SerializeToString(), subject, until_ms)]
        written = who.room.log.record(events, keep, key)
        earlier = await self._landing.bring(written)
        if earlier is not None:  # the same request came twice at once
            return kind.FromString(earlier)
        durable()
        return answer


def _decide(
    who: Caller, decider: Decider, request: decision_pb2.DecideRequest
) -> _Prepared[decision_pb2.DecideResponse]:
    release = decider.release()
    placement = release.placements.get(request.placement)
    if placement is None:
        near = nearest_name(request.placement, release.placements)
        hint = f"; did you mean {near!r}?" if near else ""
        raise CallRefusedError(
            "UNKNOWN_PLACEMENT", f"there is no placement of this name{hint}", nearest=near or ""
        )
    unknown: list[str] = []
    customer = Customer()
    if request.customer:
        found = decider.customer(who.audience, request.customer, release)
        if found is None:
            unknown.append("unknown customer")
        else:
            customer = found
    try:
        decision, record = decider.decide(
            release,
            _context(request.moment),
            request.placement,
            request.slots or 1,
            customer,
        )
    except UsageError as error:
        raise _invalid(str(error)) from None
    unknown += [str(name) for name in decision.unknown]
    offers = tuple(slot.offer.id if slot.offer else "" for slot in decision.slots)
    now_ms = time.time_ns() // 1_000_000
    event = _event(customer.subject, FrameKind.DECISION, now_ms, decision=record)
    window_ms = placement.outcome_window_hours * 3_600_000
    remembered = Remembered(who.audience, placement.id, offers, placement.shown_on_view)
    keep = Kept(
        _decision_key(record.decision_id),
        remembered.to_bytes(),
        customer.subject,
        now_ms + max(window_ms, REMEMBERED_MS),
    )
    answer = decision_pb2.DecideResponse(
        decision_id=decision.id,
        slots=[
            decision_pb2.DecidedSlot(
                offer=slot.offer.id if slot.offer else "",
                reason=slot.reason.value,
                score=slot.score,
                propensity=slot.propensity,
                content=dict(slot.offer.content) if slot.offer else {},
            )
            for slot in decision.slots
        ],
        reason=decision.reason.value,
        release_version=decision.release,
        unknown=unknown,
    )

    def durable() -> None:
        if not placement.shown_on_view:
            decider.shown(customer.subject, record, now_ms)

    return answer, [event], [keep], durable


def _outcome(
    who: Caller, decider: Decider, request: decision_pb2.ReportOutcomeRequest
) -> _Prepared[decision_pb2.ReportOutcomeResponse]:
    now_ms = time.time_ns() // 1_000_000
    decision_id = _decision_id(request.decision_id)
    kept = who.room.reader.kept(_decision_key(decision_id), now_ms)
    remembered = Remembered.from_bytes(kept[0]) if kept is not None else None
    if kept is None or remembered is None or remembered.audience != who.audience:
        raise CallRefusedError("UNKNOWN_DECISION", "there is no such decision of this client")
    if request.slot >= len(remembered.offers) or not remembered.offers[request.slot]:
        raise _invalid(f"slot {request.slot} of this decision showed nothing", field="slot")
    _check_kind(decider.release(), request.kind)
    if request.value_micros < 0:
        raise _invalid("a value is not negative", field="value_micros")
    subject, offer = kept[1], remembered.offers[request.slot]
    event_id = request.event_id or secrets.token_hex(16)
    outcome = event_pb2.Outcome(
        decision_id=decision_id,
        slot=request.slot,
        kind=request.kind,
        offer=offer,
        value_micros=request.value_micros,
        event_id=event_id,
        placement=remembered.placement,
    )
    event = _event(subject, FrameKind.OUTCOME, now_ms, outcome=outcome)

    def durable() -> None:
        if counts(request.kind, remembered.shown_on_view):
            decider.count(subject, offer, request.kind, now_ms)

    return decision_pb2.ReportOutcomeResponse(event_id=event_id), [event], [], durable


def _imprint(
    who: Caller, decider: Decider, request: decision_pb2.ImprintRequest
) -> _Prepared[decision_pb2.ImprintResponse]:
    release = decider.release()
    _check_kind(release, request.kind)
    if bool(request.product) == bool(request.dna):
        raise _invalid("an imprint has a product, or DNA of its own", field="product")
    if request.product and who.room.store.document("product", request.product) is None:
        near = nearest_name(request.product, release.products.ids)
        hint = f"; did you mean {near!r}?" if near else ""
        raise _invalid(f"there is no product of this id{hint}", field="product")
    _check_dna(request.dna)
    if request.amount_micros < 0:
        raise _invalid("an amount is not negative", field="amount_micros")
    customer = decider.customer(who.audience, request.customer, release)
    if customer is None:
        raise CallRefusedError("NOT_IN_AUDIENCE", "this client may not speak for this customer")
    interaction_id = request.interaction_id or secrets.token_hex(16)
    interaction = event_pb2.Interaction(
        interaction_id=interaction_id,
        kind=request.kind,
        product=request.product,
        dna=request.dna,
        amount_micros=request.amount_micros,
        currency=request.currency[:_MAX_ID],
    )
    now_ms = time.time_ns() // 1_000_000
    event = _event(customer.subject, FrameKind.INTERACTION, now_ms, interaction=interaction)
    return decision_pb2.ImprintResponse(interaction_id=interaction_id), [event], [], _nothing


def _context(moment: decision_pb2.Moment) -> Context:
    """Read a moment. Raises InvalidContext, or INVALID_ARGUMENT for a time."""
    time_given: datetime | None = None
    if moment.time:
        try:
            time_given = datetime.fromisoformat(moment.time)
        except ValueError:
            time_given = None
        if time_given is None or time_given.tzinfo is None:
            raise _invalid("a time is ISO 8601 with an offset", field="moment.time")
    return Context(
        cell=moment.cell or None,
        place=moment.place or None,
        activity=moment.activity or None,
        time=time_given,
        channel=moment.channel or None,
        basket=tuple(moment.basket),
        stage=moment.stage or None,
        attributes=dict(moment.attributes),
    )


def _check_kind(release: Release, kind: str) -> None:
    try:
        release.schema.kind(kind)
    except UsageError as error:
        raise _invalid(str(error), field="kind") from None


def _check_dna(dna: Sequence[Any]) -> None:
    if len(dna) > _MAX_DNA:
        raise _invalid(f"at most {_MAX_DNA} markers", field="dna")
    for weighted in dna:
        try:
            split(weighted.marker)
        except InvalidMarker as error:
            raise _invalid(str(error), field="dna") from None
        if not 1 <= weighted.salience_q8 <= _MAX_SALIENCE_Q8:
            raise _invalid(f"a salience lies from 1 to {_MAX_SALIENCE_Q8}", field="dna")


def _event(subject: bytes, kind: FrameKind, at_ms: int, **payload: Any) -> OwnEvent:
    when = event_pb2.EventTime(wall_ms=at_ms, offset_known=True)
    event = event_pb2.Event(time=when, **payload)
    return OwnEvent(subject or NOBODY, int(kind), at_ms, event.SerializeToString())


def _key(who: Caller, what: str, request_id: str) -> bytes | None:
    if not request_id:
        return None
    if len(request_id) > _MAX_ID:
        raise _invalid(f"an id has at most {_MAX_ID} characters")
    parts = (what, str(who.role), who.name, request_id)
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _decision_key(decision_id: bytes) -> bytes:
    return b"decision\0" + decision_id


def _decision_id(text: str) -> bytes:
    try:
        decision_id = bytes.fromhex(text)
    except ValueError:
        decision_id = b""
    if len(decision_id) != 16:
        raise _invalid("a decision id is 32 hexadecimal characters", field="decision_id")
    return decision_id


def _invalid(message: str, **facts: str) -> CallRefusedError:
    return CallRefusedError("INVALID_ARGUMENT", message, **facts)


def _nothing() -> None:
    """Nothing more to do."""
