"""From frames of the log to doings. Free of I/O.

    for doing in doings(frames_of(log, DONE), customers.__contains__):
        doing.frame.subject, doing.at_ms, doing.said.kind, doing.said.amount_micros

Rules.
- A doing is an interaction, or an outcome, which is told as an interaction with its offer, its
  value as the amount, and the id of its event. A decision is one, too, where frames of that kind
  are read: nothing that somebody did, but it tells where they were.
- Of what nobody did, of whom is not asked about, and of what cannot be read there is none; builds
  count and report the last.
- The time is the one that imprints go by.
- An interaction id, and an outcome's event id under its kind, count once: the first in the log of
  those who are asked about. It takes about 90 bytes of memory for each id, which are told apart by
  64 bits of their hash: of ten million it is one in 370,000 that any two are taken for one.
- Whose doings count for what is the caller's to say, by `whose`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from edge_sdk.dna.genome import NOBODY
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.genomes.events import interaction_key, outcome_key, time_of
from genome_server.log.reader import LoggedFrame

if TYPE_CHECKING:
    from genome_server.log.reader import LogReader

DONE: Final = frozenset({FrameKind.INTERACTION, FrameKind.OUTCOME})
"""Kinds of frames that tell what somebody did."""
PLACED: Final = frozenset({FrameKind.INTERACTION, FrameKind.DECISION})
"""Kinds of frames that tell where somebody was."""


class Doing(NamedTuple):
    """One thing that a customer did: the frame that tells it, when (Unix ms), and what.

    `said.kind` is empty where it is a decision; `is_outcome` where it followed one.
    """

    frame: LoggedFrame
    at_ms: int
    said: event_pb2.Interaction
    is_outcome: bool = False


def frames_of(
    log: LogReader,
    kinds: Collection[int],
    *,
    stop: int | None = None,
    heard: Callable[[int], object] = lambda _: None,
) -> Iterator[LoggedFrame]:
    """The frames of some kinds, in order; `heard` is told how many events were passed by.

    Raises LogFormatError.
    """
    for batch in log.batches(stop=stop, kinds=kinds):
        yield from batch.frames(kinds)
        heard(batch.count)


def doings(
    frames: Iterable[LoggedFrame],
    whose: Callable[[bytes], Any],
    *,
    once: Callable[[str], bool] = lambda _: True,
) -> Iterator[Doing]:
    """What those did whom `whose` says yes to, in the order of the log.

    `once` says of a kind whether it matters that the same comes twice; where it does not, nothing
    is remembered of it.
    """
    met: set[int] = set()
    for frame in frames:
        subject = frame.subject
        if subject == NOBODY or not whose(subject):
            continue
        doing = _read(frame)
        if doing is None:
            continue
        if doing.said.interaction_id and once(doing.said.kind):
            id_ = _number(doing)
            if id_ in met:
                continue
            met.add(id_)
        yield doing


def _read(frame: LoggedFrame) -> Doing | None:
    """What a frame tells."""
    try:
        event = event_pb2.Event.FromString(frame.body)
    except DecodeError:
        return None
    payload = event.WhichOneof("payload")
    if payload == "interaction":
        return Doing(frame, time_of(event, frame), event.interaction)
    if payload == "outcome":
        outcome = event.outcome
        said = event_pb2.Interaction(
            kind=outcome.kind,
            offer=outcome.offer,
            amount_micros=outcome.value_micros,
            interaction_id=outcome.event_id,
        )
        return Doing(frame, time_of(event, frame), said, is_outcome=True)
    if payload == "decision":
        where = event_pb2.Interaction(region=event.decision.region)
        return Doing(frame, time_of(event, frame), where)
    return None


def _number(doing: Doing) -> int:
    """The number of the id under which a doing counts once."""
    name = doing.said.interaction_id
    key = outcome_key(doing.said.kind, name) if doing.is_outcome else interaction_key(name)
    return int.from_bytes(key[:8])
