"""Proving that a log is whole.

Every row is read and checked against what the committer promises: the file's own
structure, offsets that join, frames that parse, digests that match (where nothing
was erased), lanes without a gap that no EVICTED frame declares, and marks that
say exactly what is there.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from genome_server.log import schema
from genome_server.log.framing import EVICTED, TOMBSTONE, BatchRefusedError, iter_marks, kind_bits
from genome_server.log.reader import LogBatch, LogReader


@dataclass(frozen=True, slots=True)
class LogFault:
    """One thing that is wrong; `offset` is the batch's, or None for the file or a lane."""

    offset: int | None
    message: str


@dataclass(frozen=True, slots=True)
class LogVerification:
    """What was found. `given_up` counts sequences that devices declared as evicted."""

    incarnation: bytes
    batches: int
    events: int
    lanes: int
    erased: int
    given_up: int
    faults: tuple[LogFault, ...]

    @property
    def whole(self) -> bool:
        """True where nothing is wrong."""
        return not self.faults


def verify_log(path: Path, progress: Callable[[int], object] | None = None) -> LogVerification:
    """Read the whole log at `path` and report every fault; `progress` is told of events read.

    Raises FileNotFoundError where there is none, LogFormatError where it is another format.
    """
    faults = [LogFault(None, problem) for problem in _structure(path)]
    with LogReader(path) as reader:
        tally = _Tally()
        try:
            for batch in reader.batches():
                faults += [LogFault(batch.offset, problem) for problem in tally.add(batch)]
                if progress is not None:
                    progress(batch.count)
        except (sqlite3.DatabaseError, schema.LogFormatError) as error:
            faults.append(LogFault(tally.end, f"nothing can be read from here on: {error}"))
        marks = {(device, epoch, lane): through for device, epoch, lane, through in reader.lanes()}
        for key in sorted(marks.keys() | tally.through.keys()):
            said, found = marks.get(key, 0), tally.through.get(key, 0)
            if said != found:
                name = f"{key[0]}/{key[1].hex()}/{key[2]}"
                faults.append(LogFault(None, f"lane {name}: mark {said}, rows end at {found}"))
        return LogVerification(
            reader.incarnation,
            tally.batches,
            tally.events,
            len(marks),
            tally.erased,
            tally.given_up,
            tuple(faults),
        )


def verify_end(path: Path, batches: int = 1_000) -> tuple[int, tuple[LogFault, ...]]:
    """Read the last batches only: how many events they hold, and every fault in them.

    Raises FileNotFoundError where there is no log, LogFormatError where it is another format.
    """
    faults: list[LogFault] = []
    with LogReader(path) as reader:
        tally = _Tally()
        try:
            tally.end = reader.start_of_last(batches)
            for batch in reader.batches(tally.end):
                # Where a lane came to before these batches is not known.
                key = (batch.device, batch.epoch, batch.lane)
                tally.through.setdefault(key, batch.first - 1)
                faults += [LogFault(batch.offset, problem) for problem in tally.add(batch)]
            marks = {
                (device, epoch, lane): through for device, epoch, lane, through in reader.lanes()
            }
            for key, found in tally.through.items():
                # Marks were read after the rows: a server that runs may have moved them on.
                if (said := marks.get(key, 0)) < found:
                    name = f"{key[0]}/{key[1].hex()}/{key[2]}"
                    faults.append(LogFault(None, f"lane {name}: mark {said}, rows end at {found}"))
        except (sqlite3.DatabaseError, schema.LogFormatError) as error:
            faults.append(LogFault(tally.end, f"nothing can be read from here on: {error}"))
    return tally.events, tuple(faults)


class _Tally:
    def __init__(self) -> None:
        self.through: dict[tuple[str, bytes, int], int] = {}
        self.batches = 0
        self.events = 0
        self.erased = 0
        self.given_up = 0
        self.end = 0

    def add(self, batch: LogBatch) -> Iterator[str]:
        """Count a batch and yield what is wrong with it."""
        self.batches += 1
        self.events += batch.count
        if batch.offset != self.end:
            yield f"offset {batch.offset} where {self.end} is due"
        self.end = batch.next_offset
        key = (batch.device, batch.epoch, batch.lane)
        due = self.through.get(key, 0) + 1
        if batch.first != due:
            yield f"starts at sequence {batch.first} where {due} is due"
        self.through[key] = batch.last
        yield from self._frames(batch)

    def _frames(self, batch: LogBatch) -> Iterator[str]:
        try:
            marks = list(iter_marks(batch.raw))
        except BatchRefusedError as refusal:
            yield str(refusal)
            return
        if kind_bits({mark.kind for mark in marks}) & ~batch.kinds:
            yield "it holds kinds of events that the row does not name"
        erased = sum(mark.kind == TOMBSTONE for mark in marks)
        self.erased += erased
        if len(marks) != batch.count:
            yield f"{len(marks)} frames, the row says {batch.count}"
        if not erased and hashlib.sha256(batch.raw).digest() != batch.digest:
            yield "the digest is not that of the frames"
        sequences = [mark.sequence for mark in marks]
        if sequences != sorted(set(sequences)) or not sequences or sequences[-1] != batch.last:
            yield f"the sequences do not rise to {batch.last}"
        missing = batch.last - batch.first + 1 - len(sequences)
        self.given_up += max(missing, 0)
        if missing and not any(mark.kind == EVICTED for mark in marks):
            yield f"{missing} sequences are neither here nor declared as given up"


def _structure(path: Path) -> Iterator[str]:
    connection = schema.open_for_reading(path)
    try:
        for (line,) in connection.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield str(line)
    finally:
        connection.close()
