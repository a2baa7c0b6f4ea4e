"""What follows a decision of the server's own: outcomes, redemptions, consents, imprints.

Each is read and checked here, off the loop, and logged by `decision`. Blocks (SQLite).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from edge_sdk.dna.markers import nearest_name, split
from edge_sdk.engine.caps import REDEEM
from edge_sdk.errors import InvalidMarker, UsageError
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.outbox.redeeming import RedemptionReason
from edge_sdk.runtime.claiming import claim_of
from genome_edge.v1 import decision_pb2, dna_pb2, event_pb2
from genome_server.counting.happened import counts
from genome_server.genomes.dna import known_thing
from genome_server.log import Kept
from genome_server.services.auth import Caller
from genome_server.services.deciding import REMEMBERED_MS, Customer, Decider, Remembered
from genome_server.services.errors import CallRefusedError
from genome_server.services.prepared import (
    MAX_ID,
    Prepared,
    decision_key,
    invalid,
    own_event,
    read_decision_id,
)

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

_MAX_SALIENCE_Q8: Final = 4096
_MAX_DNA: Final = 64
_PURPOSES: Final = frozenset(dna_pb2.ConsentPurpose.values()) - {0}


def outcome(
    who: Caller, decider: Decider, request: decision_pb2.ReportOutcomeRequest
) -> Prepared[decision_pb2.ReportOutcomeResponse]:
    """Take what followed a decision. Raises CallRefusedError."""
    now_ms = time.time_ns() // 1_000_000
    decision_id = read_decision_id(request.decision_id)
    found = _remembered(who, decision_id, now_ms)
    if found is None:
        raise CallRefusedError("UNKNOWN_DECISION", "there is no such decision of this client")
    remembered, subject = found
    if request.slot >= len(remembered.offers) or not remembered.offers[request.slot]:
        raise invalid(f"slot {request.slot} of this decision showed nothing", field="slot")
    _check_kind(decider.release(), request.kind)
    if request.value_micros < 0:
        raise invalid("a value is not negative", field="value_micros")
    offer = remembered.offers[request.slot]
    event_id = request.event_id or secrets.token_hex(16)
    said = event_pb2.Outcome(
        decision_id=decision_id,
        slot=request.slot,
        kind=request.kind,
        offer=offer,
        value_micros=request.value_micros,
        event_id=event_id,
        placement=remembered.placement,
    )

    def durable() -> None:
        if counts(request.kind, remembered.shown_on_view):
            claim = claim_of(decision_id, request.slot)
            decider.count(subject, offer, request.kind, now_ms, claim)

    event = own_event(subject, FrameKind.OUTCOME, now_ms, outcome=said)
    answer = decision_pb2.ReportOutcomeResponse(event_id=event_id)
    return Prepared(answer, [event], durable=durable)


def redeem(
    who: Caller, decider: Decider, request: decision_pb2.RedeemRequest
) -> Prepared[decision_pb2.RedeemResponse]:
    """Redeem a slot of a decision, once. Raises CallRefusedError for what is no slot of it."""
    now_ms = time.time_ns() // 1_000_000
    decision_id = read_decision_id(request.decision_id)
    release = decider.release()
    found = _remembered(who, decision_id, now_ms)
    if found is None:
        return Prepared(_refused(RedemptionReason.UNKNOWN_DECISION))
    remembered, subject = found
    if request.slot >= len(remembered.offers):
        raise invalid(
            f"the decision has {len(remembered.offers)} slots; there is no slot {request.slot}",
            field="slot",
        )
    offer = remembered.offers[request.slot]
    if not offer:
        return Prepared(_refused(RedemptionReason.NOTHING_OFFERED))
    again = _refused(RedemptionReason.ALREADY_REDEEMED, offer)
    once = b"redeemed\0" + decision_id + request.slot.to_bytes(4, "big")
    if who.room.reader.kept(once, now_ms) is not None:
        return Prepared(again)
    if _has_ended(release, offer, now_ms):
        return Prepared(_refused(RedemptionReason.ENDED, offer))
    if not decider.may_redeem(release, subject, offer, decision_id, request.slot, now_ms):
        return Prepared(_refused(RedemptionReason.CAPPED, offer))
    event_id = f"redeem:{decision_id.hex()}:{request.slot}"
    said = event_pb2.Outcome(
        decision_id=decision_id,
        slot=request.slot,
        kind=REDEEM,
        offer=offer,
        event_id=event_id,
        placement=remembered.placement,
    )
    event = own_event(subject, FrameKind.OUTCOME, now_ms, outcome=said)
    # For as long as the decision may be remembered; one of which nothing is known is not redeemed.
    placement = release.placements.get(remembered.placement)
    window_ms = placement.outcome_window_hours * 3_600_000 if placement is not None else 0
    keep = Kept(once, b"", subject, now_ms + 2 * max(window_ms, REMEMBERED_MS))
    answer = decision_pb2.RedeemResponse(
        granted=True, reason=RedemptionReason.GRANTED.value, offer=offer, event_id=event_id
    )
    return Prepared(answer, [event], [keep], once=once, otherwise=again)


def consent(
    who: Caller, decider: Decider, request: decision_pb2.SetConsentRequest
) -> Prepared[decision_pb2.SetConsentResponse]:
    """Take what a customer agrees to, or no longer. Raises CallRefusedError."""
    if request.purpose not in _PURPOSES:
        names = ", ".join(sorted(map(dna_pb2.ConsentPurpose.Name, _PURPOSES)))
        raise invalid(f"a purpose is one of {names}", field="purpose")
    subject = _own(who, decider, request.customer).subject
    if not request.granted:  # in force at once, whatever becomes of the log
        decider.withdrawn(subject, request.purpose)
    said = event_pb2.ConsentChange(purpose=request.purpose, granted=request.granted)
    now_ms = time.time_ns() // 1_000_000
    event = own_event(subject, FrameKind.CONSENT, now_ms, consent=said)

    def durable() -> None:
        if request.granted:
            decider.agreed(subject, request.purpose)

    return Prepared(decision_pb2.SetConsentResponse(), [event], durable=durable)


def imprint(
    who: Caller, decider: Decider, request: decision_pb2.ImprintRequest
) -> Prepared[decision_pb2.ImprintResponse]:
    """Take what a customer did. Raises CallRefusedError."""
    release = decider.release()
    _check_kind(release, request.kind)
    if bool(request.product) == bool(request.dna):
        raise invalid("an imprint has a product, or DNA of its own", field="product")
    if request.product and not known_thing(who.room.store, request.product):
        near = nearest_name(request.product, release.products.ids)
        hint = f"; did you mean {near!r}?" if near else ""
        raise invalid(f"there is no product of this id{hint}", field="product")
    _check_dna(request.dna)
    if request.amount_micros < 0:
        raise invalid("an amount is not negative", field="amount_micros")
    customer = _own(who, decider, request.customer)
    interaction_id = request.interaction_id or secrets.token_hex(16)
    interaction = event_pb2.Interaction(
        interaction_id=interaction_id,
        kind=request.kind,
        product=request.product,
        dna=request.dna,
        amount_micros=request.amount_micros,
        currency=request.currency[:MAX_ID],
    )
    now_ms = time.time_ns() // 1_000_000
    event = own_event(customer.subject, FrameKind.INTERACTION, now_ms, interaction=interaction)
    answer = decision_pb2.ImprintResponse(interaction_id=interaction_id)
    return Prepared(answer, [event])


def _remembered(who: Caller, decision_id: bytes, now_ms: int) -> tuple[Remembered, bytes] | None:
    """What is remembered of a decision of this client's audience, and of whom it was."""
    kept = who.room.reader.kept(decision_key(decision_id), now_ms)
    if kept is None:
        return None
    remembered = Remembered.from_bytes(kept[0])
    return (remembered, kept[1]) if remembered.audience == who.audience else None


def _own(who: Caller, decider: Decider, name: str) -> Customer:
    """A customer for whom this client may speak. Raises NOT_IN_AUDIENCE."""
    customer = decider.customer(who.audience, name, decider.release())
    if customer is None:
        raise CallRefusedError("NOT_IN_AUDIENCE", "this client may not speak for this customer")
    return customer


def _refused(reason: RedemptionReason, offer: str = "") -> decision_pb2.RedeemResponse:
    return decision_pb2.RedeemResponse(granted=False, reason=reason.value, offer=offer)


def _has_ended(release: Release, offer: str, now_ms: int) -> bool:
    row = release.catalogue.row_of.get(offer)
    if row is None:
        return False  # withdrawn meanwhile; who was offered it may still have it
    until_ms = release.catalogue.offers[row].targeting.valid_until_ms
    return bool(until_ms) and now_ms >= until_ms


def _check_kind(release: Release, kind: str) -> None:
    try:
        release.schema.kind(kind)
    except UsageError as error:
        raise invalid(str(error), field="kind") from None


def _check_dna(dna: Sequence[Any]) -> None:
    if len(dna) > _MAX_DNA:
        raise invalid(f"at most {_MAX_DNA} markers", field="dna")
    for weighted in dna:
        try:
            split(weighted.marker)
        except InvalidMarker as error:
            raise invalid(str(error), field="dna") from None
        if not 1 <= weighted.salience_q8 <= _MAX_SALIENCE_Q8:
            raise invalid(f"a salience lies from 1 to {_MAX_SALIENCE_Q8}", field="dna")
