"""What stands behind an answer to a thin client before it is given: events, facts, what follows.

An answer is prepared off the loop, then logged, then given: `decision` does that. Here is what the
preparations of decisions and of what follows them have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from edge_sdk.dna.genome import NOBODY
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.log import Kept, OwnEvent
from genome_server.services.errors import CallRefusedError

MAX_ID = 128

Answer = TypeVar("Answer", bound=Message)


def nothing() -> None:
    """Nothing more to do."""


@dataclass
class Prepared(Generic[Answer]):
    """An answer, the events behind it, what to keep with them, what to do once they are durable.

    Where `once` is kept already nothing is logged and the answer is `otherwise`; without events
    there is nothing to log at all.
    """

    answer: Answer
    events: Sequence[OwnEvent] = ()
    keep: Sequence[Kept] = ()
    durable: Callable[[], None] = field(default=nothing)
    once: bytes | None = None
    otherwise: Answer | None = None


def own_event(subject: bytes, kind: FrameKind, at_ms: int, **payload: Any) -> OwnEvent:
    """An event of the server's own, by its own clock."""
    when = event_pb2.EventTime(wall_ms=at_ms, offset_known=True)
    event = event_pb2.Event(time=when, **payload)
    return OwnEvent(subject or NOBODY, int(kind), at_ms, event.SerializeToString())


def decision_key(decision_id: bytes) -> bytes:
    """Under which a decision is remembered."""
    return b"decision\0" + decision_id


def read_decision_id(text: str) -> bytes:
    """The 16 bytes of an id. Raises INVALID_ARGUMENT."""
    try:
        decision_id = bytes.fromhex(text)
    except ValueError:
        decision_id = b""
    if len(decision_id) != 16:
        raise invalid("a decision id is 32 hexadecimal characters", field="decision_id")
    return decision_id


def invalid(message: str, **facts: str) -> CallRefusedError:
    """A refusal for an argument that makes no sense."""
    return CallRefusedError("INVALID_ARGUMENT", message, **facts)
