"""What local apps may ask, answered by one client of this device. No protocol here.

Rules
-----
- An answer to something that happened (an outcome, an imprint, a consent, a batch) means that it
  is on disk. A decision waits for no disk, as in an app that embeds the SDK, unless it is asked to.
- A decision always comes back, with a reason: an unknown placement or a device without a release
  is no error.
- A `request_id` makes a retry return the first answer, for as long as this process lives and
  among the last ones; event and interaction ids do so for as long as the store remembers them.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from edge_sdk.client import EdgeClient
from edge_sdk.decision import Offer
from edge_sdk.errors import (
    ClientClosed,
    InvalidContext,
    StoreError,
    UnknownDecision,
    UsageError,
)
from edge_sdk.numbers import Purpose
from edge_sdk.outbox.recording import MAX_ID
from edge_sdk.runtime.aftermath import decision_id
from edge_sdk.sidecar.batches import Batches
from edge_sdk.sidecar.messages import context_of, explanation_of, from_micros, response_of
from edge_sdk.sidecar.refusals import CallRefused
from genome_edge.v1 import decision_pb2, report_pb2

log = logging.getLogger("edge_sdk.sidecar")

_ANSWERS: Final = 4_096
_ANSWER_S: Final = 30.0
_SALIENCE: Final = 256

Files = Callable[[Offer], Mapping[str, str]]


@dataclass(frozen=True)
class Method:
    """One RPC: its service and name, how its request is read, and what answers it."""

    service: str
    name: str
    request: type[Message]
    answer: Callable[[Any], Message]


class Service:
    """Answers DecisionService and ReportService. Thread-safe."""

    def __init__(self, edge: EdgeClient, files: Files) -> None:
        """`files` says where the files of an offer are to be had."""
        self._edge = edge
        self._files = files
        self._batches = Batches(edge)
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, Future[decision_pb2.DecideResponse]] = OrderedDict()

    def methods(self) -> list[Method]:
        """Every RPC of both services. One without an answer here is an AttributeError."""
        services = (
            decision_pb2.DESCRIPTOR.services_by_name["DecisionService"],
            report_pb2.DESCRIPTOR.services_by_name["ReportService"],
        )
        return [self._method(method) for service in services for method in service.methods]

    def _method(self, described: MethodDescriptor) -> Method:
        service = described.containing_service.full_name
        answer = getattr(self, snake(described.name))
        request = GetMessageClass(described.input_type)
        return Method(service, described.name, request, _guarded(described.name, answer))

    # DecisionService ----------------------------------------------------------------------------

    def decide(self, request: decision_pb2.DecideRequest) -> decision_pb2.DecideResponse:
        """Choose offers for a moment."""
        if not request.request_id:
            return self._decide(request)
        key = _id("request_id", request.request_id)
        with self._lock:
            known = self._answers.get(key)
            if known is None:
                mine = self._answers[key] = Future[decision_pb2.DecideResponse]()
                while len(self._answers) > _ANSWERS:
                    self._answers.popitem(last=False)
        if known is not None:
            return known.result(_ANSWER_S)
        try:
            answer = self._decide(request)
        except BaseException as error:
            with self._lock:
                self._answers.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(answer)
        return answer

    def _decide(self, request: decision_pb2.DecideRequest) -> decision_pb2.DecideResponse:
        decision = self._edge.decide(
            context_of(request.moment),
            request.placement,
            request.slots or 1,
            customer=request.customer or None,
            durable=request.durable,
        )
        return response_of(decision, map(str, decision.unknown), self._files)

    def report_outcome(
        self, request: decision_pb2.ReportOutcomeRequest
    ) -> decision_pb2.ReportOutcomeResponse:
        """Take what followed a decision; answered when it is on disk."""
        _not_negative("value_micros", request.value_micros)
        event_id = self._edge.report(
            _decision_id(request.decision_id),
            request.kind,
            slot=request.slot,
            value=from_micros(request.value_micros) if request.value_micros else None,
            event_id=_id("event_id", request.event_id) or None,
            durable=True,
        )
        return decision_pb2.ReportOutcomeResponse(event_id=event_id)

    def redeem(self, request: decision_pb2.RedeemRequest) -> decision_pb2.RedeemResponse:
        """Redeem what a decision offered; on disk before it is granted."""
        redemption = self._edge.redeem(_decision_id(request.decision_id), slot=request.slot)
        return decision_pb2.RedeemResponse(
            granted=redemption.granted,
            reason=redemption.reason.value,
            offer=redemption.offer,
            event_id=redemption.event_id,
        )

    def set_consent(
        self, request: decision_pb2.SetConsentRequest
    ) -> decision_pb2.SetConsentResponse:
        """Take what a customer agrees to, or no longer; answered when it is on disk."""
        if request.purpose not in set(map(int, Purpose)):
            raise CallRefused(
                "INVALID_ARGUMENT",
                f"a purpose is one of {', '.join(purpose.name for purpose in Purpose)}",
                field="purpose",
            )
        self._edge.set_consent(request.customer, Purpose(request.purpose), request.granted)
        return decision_pb2.SetConsentResponse()

    def explain(self, request: decision_pb2.ExplainRequest) -> decision_pb2.ExplainResponse:
        """Explain a decision that is among the last ones that this device keeps."""
        return explanation_of(self._edge.explain(_decision_id(request.decision_id)))

    def imprint(self, request: decision_pb2.ImprintRequest) -> decision_pb2.ImprintResponse:
        """Take what a customer did; answered when it is on disk."""
        _not_negative("amount_micros", request.amount_micros)
        # The room behind the client, as a session uses it: the client itself has no durable form.
        desk = self._edge._current()
        subject = desk.room.customers.subject_of(desk.room.live, request.customer or None)
        if subject is None:
            raise CallRefused("NOT_IN_AUDIENCE", "this device does not know this customer")
        dna = {one.marker: one.salience_q8 / _SALIENCE for one in request.dna}
        interaction_id = desk.imprint(
            subject,
            request.kind,
            product=request.product or None,
            dna=dna or None,
            interaction_id=_id("interaction_id", request.interaction_id) or None,
            facts={
                "amount": from_micros(request.amount_micros) if request.amount_micros else None,
                "currency": request.currency or None,
            },
            durable=True,
        )
        return decision_pb2.ImprintResponse(interaction_id=interaction_id)

    # ReportService ------------------------------------------------------------------------------

    def report(self, request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
        """Take a batch of a lane that a local app keeps."""
        return self._batches.take(request)

    # Beside the contract ------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """How this device is, for people and probes."""
        status = self._edge.status
        return {
            "state": status.state.value,
            "tier": status.tier.value,
            "cause": str(status.cause) if status.cause is not None else "",
            "release": status.release,
            "genomes": status.genomes,
            "outbox": status.outbox,
            "connected": status.connected,
            "reasons": dict(status.reasons),
            "counters": dict(status.counters),
            "warnings": list(status.warnings),
        }


def snake(name: str) -> str:
    """`ReportOutcome` as `report_outcome`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _guarded(name: str, answer: Callable[[Any], Message]) -> Callable[[Any], Message]:
    """The same, raising CallRefused and nothing else."""

    def guarded(request: Any) -> Message:
        try:
            return answer(request)
        except CallRefused:
            raise
        except ClientClosed:
            raise CallRefused("DRAINING", "this service is about to stop") from None
        except UnknownDecision as error:
            raise CallRefused("UNKNOWN_DECISION", str(error)) from None
        except InvalidContext as error:
            raise CallRefused("INVALID_ARGUMENT", str(error), field="moment") from None
        except UsageError as error:
            raise CallRefused("INVALID_ARGUMENT", str(error)) from None
        except StoreError as error:
            raise CallRefused("STORE_FAILED", f"the store does not take it: {error}") from None
        except Exception as error:  # noqa: BLE001  a caller gets a status, the log the place
            log.error("%s failed: %s", name, _place(error))
            raise CallRefused("INTERNAL", "the service failed; its log says where") from None

    return guarded


def _place(error: Exception) -> str:
    """An unexpected error without the values in it, which may name a customer."""
    spots = [f"{at.name}:{at.lineno}" for at in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {' > '.join(spots[-6:])}"


def _id(field: str, text: str) -> str:
    if len(text) > MAX_ID:
        raise CallRefused(
            "INVALID_ARGUMENT", f"{field} has at most {MAX_ID} characters", field=field
        )
    return text


def _decision_id(text: str) -> str:
    try:
        return decision_id(text)
    except UnknownDecision as error:
        raise CallRefused("INVALID_ARGUMENT", str(error), field="decision_id") from None


def _not_negative(field: str, value: int) -> None:
    if value < 0:
        raise CallRefused("INVALID_ARGUMENT", f"{field} is not negative", field=field)
