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
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from edge_sdk.dna.markers import nearest_name
from edge_sdk.errors import UsageError
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.sidecar.messages import context_of, response_of
from genome_edge.v1 import decision_pb2, decision_pb2_grpc
from genome_server.log import Kept
from genome_server.services import aftermath, explaining
from genome_server.services.auth import Caller, caller
from genome_server.services.deciding import REMEMBERED_MS, Customer, Decider, Remembered
from genome_server.services.errors import CallRefusedError
from genome_server.services.landing import Landing
from genome_server.services.prepared import (
    MAX_ID,
    Answer,
    Prepared,
    decision_key,
    invalid,
    own_event,
)
from genome_server.services.room import Room
from genome_server.times import DAY_MS

ANSWER_MS = DAY_MS

Request = TypeVar("Request")
_Prepare = Callable[[Caller, Decider, Request], Prepared[Answer]]


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
        asked = ("decide", request.request_id)
        return await self._once(asked, decision_pb2.DecideResponse, _decide, request)

    async def ReportOutcome(  # noqa: N802
        self,
        request: decision_pb2.ReportOutcomeRequest,
        context: Any,  # noqa: ARG002
    ) -> decision_pb2.ReportOutcomeResponse:
        """Take what followed a decision; answered when it is in the log."""
        asked = (f"outcome\0{request.kind}", request.event_id)
        kind = decision_pb2.ReportOutcomeResponse
        return await self._once(asked, kind, aftermath.outcome, request)

    async def Imprint(  # noqa: N802
        self,
        request: decision_pb2.ImprintRequest,
        context: Any,  # noqa: ARG002
    ) -> decision_pb2.ImprintResponse:
        """Take what a customer did; answered when it is in the log."""
        asked = ("imprint", request.interaction_id)
        return await self._once(asked, decision_pb2.ImprintResponse, aftermath.imprint, request)

    async def Redeem(  # noqa: N802
        self,
        request: decision_pb2.RedeemRequest,
        context: Any,  # noqa: ARG002
    ) -> decision_pb2.RedeemResponse:
        """Redeem what a decision offered; granted when it is in the log, and once."""
        return await self._log(caller(), aftermath.redeem, request)

    async def SetConsent(  # noqa: N802
        self,
        request: decision_pb2.SetConsentRequest,
        context: Any,  # noqa: ARG002
    ) -> decision_pb2.SetConsentResponse:
        """Take what a customer agrees to, or no longer, which holds at once."""
        return await self._log(caller(), aftermath.consent, request)

    async def Explain(  # noqa: N802
        self,
        request: decision_pb2.ExplainRequest,
        context: Any,  # noqa: ARG002
    ) -> decision_pb2.ExplainResponse:
        """Explain one of the last decisions that were made here."""
        who = caller()
        loop = asyncio.get_running_loop()
        decider = self._decider(who)
        return await loop.run_in_executor(self._pool, explaining.explain, who, decider, request)

    def _decider(self, who: Caller) -> Decider:
        decider = self._deciders.get(who.room)
        if decider is None:
            decider = self._deciders.setdefault(who.room, Decider(who.room))
        return decider

    async def _once(
        self,
        asked: tuple[str, str],
        kind: type[Answer],
        prepare: _Prepare[Request, Answer],
        request: Request,
    ) -> Answer:
        """Prepare an answer and log what is behind it. `asked` says what, and its id: one that was
        answered before gets that answer, an empty one always a new one."""
        who = caller()
        key = _key(who, *asked)
        if key is None:
            return await self._log(who, prepare, request)
        loop = asyncio.get_running_loop()
        now_ms = time.time_ns() // 1_000_000
        kept = await loop.run_in_executor(self._pool, who.room.reader.kept, key, now_ms)
        if kept is not None:
            return kind.FromString(kept[0])
        made = await loop.run_in_executor(self._pool, self._prepared, who, prepare, request)
        until_ms = time.time_ns() // 1_000_000 + ANSWER_MS
        answer = made.answer.SerializeToString()
        keep = [*made.keep, Kept(key, answer, made.events[0].subject, until_ms)]
        earlier = await self._landing.bring(who.room.log.record(made.events, keep, key))
        if earlier is not None:  # the same request came twice at once
            return kind.FromString(earlier)
        made.durable()
        return made.answer

    async def _log(
        self, who: Caller, prepare: _Prepare[Request, Answer], request: Request
    ) -> Answer:
        """Prepare an answer and log what is behind it, where there is something."""
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._pool, self._prepared, who, prepare, request)
        if not made.events:
            return made.answer
        written = who.room.log.record(made.events, made.keep, made.once)
        if await self._landing.bring(written) is not None and made.otherwise is not None:
            return made.otherwise
        made.durable()
        return made.answer

    def _prepared(
        self, who: Caller, prepare: _Prepare[Request, Answer], request: Request
    ) -> Prepared[Answer]:
        return prepare(who, self._decider(who), request)


def _decide(
    who: Caller, decider: Decider, request: decision_pb2.DecideRequest
) -> Prepared[decision_pb2.DecideResponse]:
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
            context_of(request.moment),
            request.placement,
            request.slots or 1,
            customer,
        )
    except UsageError as error:
        raise invalid(str(error)) from None
    unknown += map(str, decision.unknown)
    offers = tuple(slot.offer.id if slot.offer else "" for slot in decision.slots)
    now_ms = time.time_ns() // 1_000_000
    event = own_event(customer.subject, FrameKind.DECISION, now_ms, decision=record)
    placement = release.placements[decision.placement]  # which may be an arm
    window_ms = placement.outcome_window_hours * 3_600_000
    remembered = Remembered(who.audience, placement.id, offers, placement.shown_on_view)
    keep = Kept(
        decision_key(record.decision_id),
        remembered.to_bytes(),
        customer.subject,
        now_ms + max(window_ms, REMEMBERED_MS),
    )
    answer = response_of(decision, unknown)

    return Prepared(answer, [event], [keep])


def _key(who: Caller, what: str, request_id: str) -> bytes | None:
    if not request_id:
        return None
    if len(request_id) > MAX_ID:
        raise invalid(f"an id has at most {MAX_ID} characters")
    parts = (what, str(who.role), who.name, request_id)
    return hashlib.sha256("\0".join(parts).encode()).digest()
