"""What happened, as events: built where it happened, encoded in the writer's thread.

Nothing here writes. Each function gives an `Entry`: the event as it is reported, and with it what
the device itself has to remember in the same transaction.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from edge_sdk.arguments import shown
from edge_sdk.clock import Stamp
from edge_sdk.context import Context
from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.markers import nearest_name
from edge_sdk.engine.caps import CapRow
from edge_sdk.errors import UsageError
from edge_sdk.lazy import later
from edge_sdk.messages import dna_pb2, event_pb2
from edge_sdk.outbox.entries import ORDINARY, URGENT, Entry
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.runtime.live import Visitor
from edge_sdk.store.state import StoredImprint

if TYPE_CHECKING:
    from edge_sdk.engine import documents
    from edge_sdk.engine.record import Record
    from edge_sdk.outbox import encoding
else:
    documents = later("edge_sdk.engine.documents")
    encoding = later("edge_sdk.outbox.encoding")

MAX_ID: Final = 200
_MAX_TEXT: Final = 128
# With the longest of names they fit into one event.
_MAX_MARKERS: Final = 1_000
_MICROS: Final = 1_000_000
_MILLI: Final = 1_000
_MAX_AMOUNT: Final = 1e12
_FACTS: Final = ("offer", "amount", "currency", "quantity", "tender", "dwell_ms", "context")


def decision(record: Record, visitor: Visitor, stamp: Stamp, caps: tuple[CapRow, ...]) -> Entry:
    """A decision was made: reported coarsely, kept in full."""
    return Entry(
        FrameKind.DECISION,
        visitor.subject,
        stamp.server_ms,
        partial(_bodies, record, stamp, visitor.private),
        decision_id=record.inputs.decision_id,
        caps=caps,
    )


def _bodies(record: Record, stamp: Stamp, private: bool) -> tuple[bytes, bytes]:
    return encoding.bodies(record, stamp, private)


class Outcome(NamedTuple):
    """What followed a decision. `value_micros` in millionths of the tenant's currency unit."""

    decision_id: bytes
    slot: int
    kind: str
    event_id: str
    offer: str = ""
    placement: str = ""
    value_micros: int = 0


def outcome(
    said: Outcome,
    subject: bytes,
    stamp: Stamp,
    caps: tuple[CapRow, ...],
    *,
    urgent: bool = False,
    once: bool = False,
) -> Entry:
    """Something followed a decision. `once`: the app named the event, it may come again."""
    event = event_pb2.Event(
        time=stamp.to_proto(),
        outcome=event_pb2.Outcome(
            decision_id=said.decision_id,
            slot=said.slot,
            kind=said.kind,
            offer=said.offer,
            value_micros=said.value_micros,
            event_id=said.event_id,
            placement=said.placement,
        ),
    )
    key = f"outcome\0{said.kind}\0{said.event_id}"
    imprint = None
    if subject != NOBODY and said.offer:
        imprinted = event_pb2.Interaction(
            kind=said.kind, offer=said.offer, amount_micros=said.value_micros
        )
        imprint = (key, imprinted.SerializeToString())
    return Entry(
        FrameKind.OUTCOME,
        subject,
        stamp.server_ms,
        _encoded(event),
        priority=URGENT if urgent else ORDINARY,
        event_id=_digest(key) if once else b"",
        caps=caps,
        imprint=imprint,
    )


def interaction(said: event_pb2.Interaction, subject: bytes, stamp: Stamp, *, once: bool) -> Entry:
    """A customer did something. `once`: the app named the interaction, it may come again."""
    event = event_pb2.Event(time=stamp.to_proto(), interaction=said)
    return Entry(
        FrameKind.INTERACTION,
        subject,
        stamp.server_ms,
        _encoded(event),
        event_id=_digest(said.interaction_id) if once else b"",
        imprint=(said.interaction_id, said.SerializeToString()) if subject != NOBODY else None,
    )


def consent(purpose: int, granted: bool, subject: bytes, stamp: Stamp) -> Entry:
    """A customer agreed, or withdrew."""
    name = dna_pb2.ConsentPurpose.Name(purpose)
    said = event_pb2.ConsentChange(purpose=name, granted=granted)
    event = event_pb2.Event(time=stamp.to_proto(), consent=said)
    return Entry(
        FrameKind.CONSENT, subject, stamp.server_ms, _encoded(event), consent=(purpose, granted)
    )


def link(subject: bytes, other: bytes, stamp: Stamp) -> Entry:
    """Two subjects turned out to be one person."""
    said = event_pb2.SubjectLink(other_subject=other, linked=True)
    event = event_pb2.Event(time=stamp.to_proto(), link=said)
    return Entry(FrameKind.LINK, subject, stamp.server_ms, _encoded(event))


def stored(entry: Entry) -> StoredImprint | None:
    """The imprint that an entry leaves, as the device remembers it; None: it leaves none."""
    if entry.imprint is None:
        return None
    id_, body = entry.imprint
    said = event_pb2.Interaction.FromString(body)
    return StoredImprint(id_, entry.subject, entry.time_ms, said)


def read_interaction(
    kind: str,
    interaction_id: str,
    *,
    product: str | None,
    dna: Mapping[str, float] | Sequence[str] | None,
    facts: Mapping[str, Any],
    now_ms: int,
) -> event_pb2.Interaction:
    """The interaction that an app described. Raises UsageError that names what is wrong."""
    for name in facts:
        if name not in _FACTS:
            near = nearest_name(name, _FACTS)
            hint = f"; did you mean {near!r}?" if near else f"; known: {', '.join(_FACTS)}"
            raise UsageError(f"imprint knows no fact {name!r}{hint}")
    offer = _text("offer", facts.get("offer"), _MAX_TEXT)
    product = _text("product", product, _MAX_TEXT)
    try:
        markers = documents.dna_from_document(dna, "dna") if dna is not None else []
    except UsageError:
        raise
    except Exception as error:  # a number that no float can hold, an array, no repr
        raise UsageError("dna is not allowed: markers, or saliences by marker") from error
    if bool(offer) + bool(product) + (dna is not None) != 1:
        raise UsageError("imprint is about one thing: give a product, an offer or dna")
    if dna is not None and not markers:
        raise UsageError("dna holds no marker")
    if len(markers) > _MAX_MARKERS:
        raise UsageError(f"dna holds {len(markers)} markers; at most {_MAX_MARKERS}")
    said = event_pb2.Interaction(
        interaction_id=interaction_id,
        kind=kind,
        product=product,
        offer=offer,
        dna=markers,
        amount_micros=scaled("amount", facts.get("amount"), _MICROS),
        currency=_text("currency", facts.get("currency"), 8),
        quantity_milli=scaled("quantity", facts.get("quantity"), _MILLI),
        tender=_text("tender", facts.get("tender"), _MAX_TEXT),
        dwell_ms=scaled("dwell_ms", facts.get("dwell_ms"), 1),
    )
    context = facts.get("context")
    if context is not None:
        if not isinstance(context, Context):
            raise UsageError(f"context must be a Context, not {type(context).__name__}")
        said.context_markers.extend(name for name, _ in context.markers(now_ms))
        said.region = context.region
    return said


def event_name(name: str, value: object) -> str:
    """An id that an app gave. Raises UsageError."""
    text = _text(name, value, MAX_ID)
    if not text:
        raise UsageError(f"{name} must not be empty")
    return text


def scaled(name: str, value: object, unit: int) -> int:
    """A number that an app gave, in whole `1 / unit`; None is 0. Raises UsageError."""
    if value is None:
        return 0
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever can be a number: Decimal too
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool | str) or not abs(number) <= _MAX_AMOUNT:
        raise UsageError(f"{name}={shown(value)} is not allowed: a number")
    return round(number * unit)


def _text(name: str, value: object, longest: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        allowed = f"text of at most {longest} characters"
        raise UsageError(f"{name}={shown(value)} is not allowed: {allowed}")
    return value


def _encoded(event: event_pb2.Event) -> Callable[[], tuple[bytes, bytes]]:
    body = event.SerializeToString()
    return lambda: (body, b"")


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
