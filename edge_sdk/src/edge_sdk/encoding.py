"""Decision records as bytes, for little: the writer encodes one for every decision.

Most of a record is the list of candidates and their scores. Decisions near each other in time have
the same candidates, so these are encoded once for each set of rows; scores are encoded by numpy.
Both are put behind the rest: in protobuf the fields of a message may stand in any order.
"""

from __future__ import annotations

import weakref
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.record import Record, coarse
from edge_sdk.release import Release
from genome_edge.v1 import event_pb2

_LENGTH_DELIMITED: Final = 2
_KEPT: Final = 64
_known: weakref.WeakKeyDictionary[Release, dict[bytes, bytes]] = weakref.WeakKeyDictionary()


def encode_decision(
    record: Record, time: event_pb2.EventTime, *, private: bool
) -> tuple[bytes, bytes]:
    """A decision as an Event in the form that is reported, and in full.

    `private`: the genome of a visit is in memory only, so it is left out, and what the genome's
    markers were can then not be read from the full form either.
    """
    candidates, scores = _candidates(record), _scores(record)
    full = record._replace(rows=None, scores=None).to_proto()
    if private:
        del full.genome_indices[:]
        del full.genome_weights[:]
    head = event_pb2.Event(time=time).SerializeToString()
    return (
        _event(head, coarse(full).SerializeToString() + candidates),
        _event(head, full.SerializeToString() + candidates + scores),
    )


def _event(head: bytes, decision: bytes) -> bytes:
    return head + _DECISION + _varint(len(decision)) + decision


def _candidates(record: Record) -> bytes:
    """The encoded field `candidates`."""
    if record.release is None or record.rows is None:
        return b""
    known = _known.setdefault(record.release, {})
    key = record.rows.tobytes()
    encoded = known.get(key)
    if encoded is None:
        ids = record.release.catalogue.ids
        encoded = event_pb2.DecisionRecord(
            candidates=[ids[row] for row in record.rows.tolist()]
        ).SerializeToString()
        if len(known) >= _KEPT:
            known.clear()
        known[key] = encoded
    return encoded


def _scores(record: Record) -> bytes:
    """The encoded field `scores`: packed zig-zag varints of 1 to 5 bytes."""
    if record.scores is None or not len(record.scores):
        return b""
    signed = record.scores
    zigzag: npt.NDArray[Any] = ((signed << 1) ^ (signed >> 31)).view(np.uint32)
    width = max(1, -(-int(zigzag.max()).bit_length() // 7))
    encoded = np.empty((len(zigzag), width), dtype=np.uint8)
    needed = np.empty(encoded.shape, dtype=np.bool_)
    needed[:, 0] = True
    for column in range(width):
        rest = zigzag >> 7
        encoded[:, column] = zigzag & 0x7F | (rest > 0).astype(np.uint8) << 7
        if column + 1 < width:
            needed[:, column + 1] = rest > 0
        zigzag = rest
    body = encoded[needed].tobytes()
    return _SCORES + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _tag(message: str, name: str) -> bytes:
    field = event_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name[name]
    return _varint(field.number << 3 | _LENGTH_DELIMITED)


_DECISION: Final = _tag("Event", "decision")
_SCORES: Final = _tag("DecisionRecord", "scores")
