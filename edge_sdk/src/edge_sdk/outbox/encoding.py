"""Decisions as bytes, for the writer's thread: what is reported, and the full form that stays.

Protobuf joins messages that stand one after the other, so the full form is the bytes of the coarse
one with those of the other fields behind them, and nothing is encoded twice. What comes again and
again (a moment, the candidates of a block) is encoded once and then found by which object it is.
Long columns of numbers are in memory as they are on the wire.

What few decisions have (caps that keep offers away, something withheld, a hold-out) is left to
`Record.to_proto`, which says what all of this must amount to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Generic, TypeVar

import numpy as np

from edge_sdk.clock import Stamp
from edge_sdk.context import region_of
from edge_sdk.engine.moments import Moment
from edge_sdk.engine.policy import ONE
from edge_sdk.engine.record import Record, coarse
from edge_sdk.engine.runs import Rows, runs_of
from edge_sdk.engine.scored_by import scored_by
from edge_sdk.errors import EdgeError
from edge_sdk.messages import event_pb2

_KEPT: Final = 256
_LITTLE: Final = sys.byteorder == "little"
_EVENT: Final = event_pb2.Event.DESCRIPTOR.fields_by_name
_RECORD: Final = event_pb2.DecisionRecord.DESCRIPTOR.fields_by_name
_TIME: Final = _EVENT["time"].number
_DECISION: Final = _EVENT["decision"].number
_GENOME_WEIGHTS: Final = _RECORD["genome_weights"].number
_SCORES: Final = _RECORD["scores"].number

T = TypeVar("T")
V = TypeVar("V")


def bodies(record: Record, stamp: Stamp, private: bool) -> tuple[bytes, bytes]:
    """A decision as an encoded Event: the form that is reported, and the full one.

    `private`: the genome of a visit is in memory only, so it is left out, and what the genome's
    markers were can then not be read from the full form either.
    """
    time = _held(_TIME, stamp.to_proto().SerializeToString())
    reported, full = _common(record, private) or _any(record, private)
    return time + _held(_DECISION, reported), time + _held(_DECISION, full)


def _any(record: Record, private: bool) -> tuple[bytes, bytes]:
    full = record.to_proto()
    if private:
        del full.genome_indices[:]
        del full.genome_weights[:]
    return coarse(full).SerializeToString(), full.SerializeToString()


def _common(record: Record, private: bool) -> tuple[bytes, bytes] | None:
    """Both forms of a decision that has only what most of them have; None for one of the others."""
    given, release, scores = record.inputs, record.release, record.scores
    if (
        release is None
        or scores is None
        or record.rows is None
        or record.capped is not None
        or record.instead
        or given.withheld.proto
        or not _LITTLE
    ):
        return None
    try:
        by = scored_by(release.scorer)
    except EdgeError:
        return None
    moment, where, explorer = given.moment, given.where, record.explorer
    said, kept = _moments.get(moment)
    reported = event_pb2.DecisionRecord(
        decision_id=given.decision_id,
        placement=given.placement,
        release_version=release.version,
        seed=given.seed,
        region=_region(given.cell),
        slots=[
            event_pb2.SlotRecord(
                offer=slot.offer.id if slot.offer is not None else "",
                reason=slot.reason.value,
                score=round(slot.score * ONE),
                propensity=slot.propensity,
            )
            for slot in record.slots
        ],
        genome_used=given.genome_used,
        explorer=explorer.name,
        gamma=explorer.gamma,
        floor=explorer.floor,
        tier=given.tier.value,
        stop_list_version=given.withheld.stop_list_version,
        experiment=given.experiment,
    )
    extra = event_pb2.DecisionRecord(
        regions=given.parents,
        local_weekday=where.weekday,
        local_hour=where.hour,
        decided_ms=where.ms,
        genome_indices=() if private else given.genome_indices.tolist(),
        consents=given.consents,
        channel=where.channel,
        scored_by=by,
        rooms=record.rooms(),
    )
    weights = b"" if private else given.genome_weights.astype(np.float32, copy=False).tobytes()
    head = b"".join((reported.SerializeToString(), said, _runs.get(record.rows)))
    columns = _held(_GENOME_WEIGHTS, weights), _held(_SCORES, scores.tobytes())
    return head, b"".join((head, extra.SerializeToString(), kept, *columns))


class _Known(Generic[T, V]):
    """What came of the newest objects, found by which object it is."""

    def __init__(self, encode: Callable[[T], V]) -> None:
        self._encode = encode
        # The object is kept, too: nothing else can have its number meanwhile.
        self._found: dict[int, tuple[T, V]] = {}

    def get(self, one: T) -> V:
        """The bytes of an object that never changes."""
        known = self._found.get(id(one))
        if known is None:
            if len(self._found) >= _KEPT:
                self._found = {}
            known = self._found[id(one)] = (one, self._encode(one))
        return known[1]


def _moment(moment: Moment) -> tuple[bytes, bytes]:
    """What is reported of a moment, and what is kept."""
    said = event_pb2.DecisionRecord(
        context_markers=moment.names, context_saliences_q8=moment.saliences_q8
    )
    kept = event_pb2.DecisionRecord(
        context_indices=moment.indices.tolist(), context_weights=moment.weights.tolist()
    )
    return said.SerializeToString(), kept.SerializeToString()


def _candidates(rows: Rows) -> bytes:
    return event_pb2.DecisionRecord(candidate_runs=runs_of(rows)).SerializeToString()


_moments: Final = _Known(_moment)
_runs: Final = _Known(_candidates)
_region: Final = lru_cache(maxsize=_KEPT)(region_of)


def _held(field: int, value: bytes) -> bytes:
    """A field of bytes, or of a message; nothing where it is empty."""
    size = len(value)
    if not size:
        return b""
    head = bytearray(_key(field))
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + value


@lru_cache(maxsize=16)
def _key(field: int) -> bytes:
    """The key of a field whose length follows."""
    key = field << 3 | 2
    return bytes((key,)) if key < 0x80 else bytes((key & 0x7F | 0x80, key >> 7))
