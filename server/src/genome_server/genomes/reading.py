"""Many events at once: what `EventReader.read` says, in columns.

What `bodies` finds unusual is left to `EventReader.read`; so the effects are the same for every
input, and only their cost differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.schema import HOUR_MS
from genome_edge.v1 import event_pb2
from genome_server.genomes.bodies import (
    AMOUNT,
    ID,
    INTERACTION,
    KIND,
    KNOWN,
    NO_PAYLOAD,
    OFFER,
    OFFSET,
    OUTCOME,
    PADDING,
    PRODUCT,
    WALL,
    Fields,
    take_apart,
)
from genome_server.genomes.events import (
    FUTURE_MS,
    MOST_GIVEN,
    READ,
    ConsentSaid,
    Effect,
    EventReader,
    Exploded,
    Given,
    Imprint,
    LinkSaid,
    MarkerVote,
    Skip,
    outcome_key,
)
from genome_server.log.framing import FRAME_HEADER
from genome_server.log.reader import LogBatch

_Ints = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]

_HEADER: Final = np.dtype(
    [("length", "<u4"), ("sequence", "<u8"), ("subject", "V16"), ("kind", "<u2"), ("time", "<i8")]
)
_READ: Final = np.array(sorted(READ))
_NOBODY: Final = np.void(NOBODY)

# What is remembered of bodies, in bytes; then it begins anew. A part has a price of its own.
_MOST_HELD: Final = 16 << 20
_PART_BYTES: Final = 128

_HOUR_BITS: Final = 40
_HOUR_MASK: Final = (1 << _HOUR_BITS) - 1


Dose = tuple[tuple[MarkerVote, ...], int]
"""Votes and the hour, since the Unix epoch, at which they are given; many events share one."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What n imprints do, in the order of the log, and what else was said.

    Imprint i gives `doses[dose[i]]` to `subjects[i]` at `hours[i]` since the Unix epoch. `once[i]`
    is its 16-byte id, if any.
    """

    subjects: npt.NDArray[np.void]  # V16[n]
    hours: _Ints
    dose: _Ints
    doses: list[Dose]
    once: list[bytes | None]
    words: list[ConsentSaid | LinkSaid]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What n events of the log do, in its order.

    `given[i]` is the number of what event i gives, or `skipped(reason)` where it gives nothing;
    `amounts` is in micros. `words` are consents and links, with their offsets.
    """

    subjects: npt.NDArray[np.void]  # V16[n]
    hours: _Ints
    given: _Ints
    amounts: _Ints
    offsets: _Ints
    once: list[bytes | None]
    words: list[tuple[int, ConsentSaid | LinkSaid]]


_WORD: Final = -1
_SKIPS: Final = {reason: -2 - i for i, reason in enumerate(Skip)}


def skipped(reason: Skip) -> int:
    """What stands in `Found.given` for this reason."""
    return _SKIPS[reason]


def _nothing() -> Found:
    none = np.empty(0, np.int64)
    return Found(np.empty(0, "V16"), none, none, none, none, [], [])


class BodyReader(ABC):
    """Finds what events do. What an event gives has a number, which is that of its words."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        # By payload: what was done to what, as it lies in a body, and the number of that.
        self._numbers: dict[int, dict[bytes, int]] = {INTERACTION: {}, OUTCOME: {}}
        self._held = 0

    @abstractmethod
    def _part_ends(self, fields: Fields) -> _Ints:
        """Where those words end from which the number follows."""

    @abstractmethod
    def _give(
        self, payload: int, kind: str, product: str, offer: str, amount_micros: int, more: Exploded
    ) -> int | Skip:
        """The number of what an event gives."""

    @abstractmethod
    def _give_once(self, effect: Imprint) -> int:
        """The number of what an unusual event gives."""

    def _forget(self) -> None:
        """Begin anew."""
        self._numbers = {payload: {} for payload in self._numbers}
        self._held = 0

    def _find(self, batches: Sequence[LogBatch]) -> Found:
        """What the events of these batches do. Raises LandmarkExhausted, LogFormatError."""
        if self._held > _MOST_HELD:
            self._forget()
        batches = [batch for batch in batches if batch.holds(READ)]
        if not batches:
            return _nothing()
        raw = b"".join([*(batch.raw for batch in batches), PADDING])
        data = np.frombuffer(raw, np.uint8)
        starts, base = [], 0
        for batch in batches:
            starts.append(np.array(batch.places(), np.int64) + base)
            base += len(batch.raw)
        counts = [len(part) for part in starts]
        at = np.concatenate(starts)
        received = np.repeat([batch.received_ms for batch in batches], counts)
        offsets = np.repeat([b.offset for b in batches], counts)
        offsets += np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
        headers = np.lib.stride_tricks.sliding_window_view(data, FRAME_HEADER.size)[at]
        head = headers.reshape(-1).view(_HEADER)
        read = np.isin(head["kind"], _READ)
        if not read.all():
            at, received, offsets, head = at[read], received[read], offsets[read], head[read]
        return self._found(batches, raw, at + FRAME_HEADER.size, head, received, offsets)

    def _found(
        self,
        batches: Sequence[LogBatch],
        raw: bytes,
        begin: _Ints,
        head: npt.NDArray[np.void],
        received: _Ints,
        offsets: _Ints,
    ) -> Found:
        ends = begin + head["length"]
        fields = take_apart(np.frombuffer(raw, np.uint8), begin, ends, self._reader.counted)
        wall = fields.values[WALL] + np.where(fields.values[KNOWN] != 0, fields.values[OFFSET], 0)
        at_ms = np.minimum(np.where(fields.timed, wall, head["time"]), received + FUTURE_MS)
        hours = np.maximum(at_ms, 0) // HOUR_MS
        amounts = fields.values[AMOUNT]
        given = np.full(len(begin), _SKIPS[Skip.UNREADABLE], np.int64)
        once: list[bytes | None] = [None] * len(begin)
        usual = ~fields.unusual
        for payload in (INTERACTION, OUTCOME):
            rows = np.flatnonzero(usual & (fields.payload == payload))
            if len(rows):
                self._name(payload, raw, fields, rows, given)
                self._identify(payload, raw, fields, rows, given, once)
        nobody = usual & (head["subject"] == _NOBODY)
        told = fields.payload != NO_PAYLOAD
        given[nobody & ~(told & (given == _SKIPS[Skip.UNREADABLE]))] = _SKIPS[Skip.NOBODY]
        words = []
        for i, effect in self._one_by_one(batches, np.flatnonzero(fields.unusual), offsets):
            if isinstance(effect, Imprint):
                hours[i], once[i], amounts[i] = effect.hour, effect.once, 0
                given[i] = self._give_once(effect)
            elif isinstance(effect, Skip):
                given[i] = _SKIPS[effect]
            elif effect is not None:
                given[i] = _WORD
                words.append((int(offsets[i]), effect))
        return Found(head["subject"], hours, given, amounts, offsets, once, words)

    def _name(self, payload: int, raw: bytes, fields: Fields, rows: _Ints, given: _Ints) -> None:
        """Find what these events give."""
        known = self._numbers[payload]
        ends = self._part_ends(fields)[rows].tolist()
        parts = [raw[low:end] for low, end in zip(fields.low[rows].tolist(), ends, strict=True)]
        with_more = np.flatnonzero(fields.beside_high[rows])
        for place, row in zip(with_more.tolist(), rows[with_more].tolist(), strict=True):
            parts[place] += raw[fields.beside_low[row] : fields.beside_high[row]]
        for place, part in enumerate(parts):
            if part not in known:
                known[part] = self._number(payload, raw, fields, int(rows[place]))
                self._held += len(part) + _PART_BYTES
        given[rows] = [known[part] for part in parts]

    def _number(self, payload: int, raw: bytes, fields: Fields, row: int) -> int:
        """The number of what one event gives."""
        amount = int(fields.values[AMOUNT][row])
        try:
            kind, product, offer = (
                fields.text(raw, code, row).decode() for code in (KIND, PRODUCT, OFFER)
            )
        except UnicodeDecodeError:
            return _SKIPS[Skip.UNREADABLE]
        more: Exploded = ()
        if fields.beside_high[row] and self._reader.knows(kind):
            part = raw[fields.beside_low[row] : fields.beside_high[row]]
            try:
                said = event_pb2.Interaction.FromString(part)
            except DecodeError:  # a name among them is no text
                return _SKIPS[Skip.UNREADABLE]
            told = self._reader.beside(kind, said.tender, said.context_markers)
            if isinstance(told, Skip):
                return _SKIPS[told]
            more = told
        gives = self._give(payload, kind, product, offer, amount, more)
        return _SKIPS[gives] if isinstance(gives, Skip) else gives

    def _identify(
        self,
        payload: int,
        raw: bytes,
        fields: Fields,
        rows: _Ints,
        given: _Ints,
        once: list[bytes | None],
    ) -> None:
        """Find the ids of these events; one that is no text makes the event unreadable."""
        bounds = (fields.begin[ID][rows].tolist(), fields.end[ID][rows].tolist())
        for row, begin, end in zip(rows.tolist(), *bounds, strict=True):
            if begin == end:
                continue
            name = raw[begin:end]
            if not name.isascii() and not _is_text(name):
                given[row] = _SKIPS[Skip.UNREADABLE]
            elif payload == INTERACTION:
                once[row] = blake2b(name, digest_size=16).digest()
            elif given[row] >= 0:
                kind = fields.text(raw, KIND, row).decode()
                once[row] = outcome_key(kind, name.decode())

    def _one_by_one(
        self, batches: Sequence[LogBatch], rows: _Ints, offsets: _Ints
    ) -> Iterator[tuple[int, Effect | None]]:
        """The effects of unusual events, by their place."""
        wanted = dict(zip(offsets[rows].tolist(), rows.tolist(), strict=True))
        if not wanted:
            return
        ends = [batch.next_offset for batch in batches]
        for at in sorted({bisect_right(ends, offset) for offset in wanted}):
            for frame in batches[at].frames():
                if frame.offset in wanted:
                    yield wanted[frame.offset], self._reader.read(frame)


class BulkReader(BodyReader):
    """Turns batches of the log into effects. Good for one schema and one set of documents."""

    def __init__(self, reader: EventReader) -> None:
        super().__init__(reader)
        self._given: list[Given] = []
        self._brief = 0

    def read(self, batches: Sequence[LogBatch]) -> Told:
        """What the events of these batches do. Raises LandmarkExhausted, LogFormatError."""
        if len(self._given) > MOST_GIVEN:
            self._forget()
        self._brief = 0
        found = self._find(batches)
        kept = np.flatnonzero(found.given >= 0)
        hours, given, once = found.hours[kept], found.given[kept], found.once
        if len(kept) < len(once):
            once = [once[i] for i in kept.tolist()]
        pairs, dose = np.unique(given << _HOUR_BITS | hours, return_inverse=True)
        doses = []
        for key in pairs.tolist():
            number, hour = key >> _HOUR_BITS, key & _HOUR_MASK
            self._reader.check(self._given[number], hour)
            doses.append((self._given[number][1], hour))
        # What one event gives by itself is not asked for again.
        del self._given[len(self._given) - self._brief :]
        words = [said for _, said in found.words]
        return Told(found.subjects[kept], hours, dose, doses, once, words)

    def _part_ends(self, fields: Fields) -> _Ints:
        return fields.paid

    def _give(
        self, payload: int, kind: str, product: str, offer: str, amount_micros: int, more: Exploded
    ) -> int | Skip:
        if payload == INTERACTION:
            gives = self._reader.interaction(kind, product, offer, amount_micros, more)
        else:
            gives = self._reader.outcome(kind, offer, amount_micros)
        return gives if isinstance(gives, Skip) else self._new(gives)

    def _give_once(self, effect: Imprint) -> int:
        self._brief += 1
        return self._new((0, effect.votes))

    def _new(self, gives: Given) -> int:
        self._given.append(gives)
        return len(self._given) - 1

    def _forget(self) -> None:
        super()._forget()
        self._given = []


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
