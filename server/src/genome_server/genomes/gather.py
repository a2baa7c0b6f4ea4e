"""Reading the log into columns: the first half of a build.

Votes go into a DuckDB file that lives as long as the build and may be larger
than memory; the few words on consent and links stay in memory. What is read
twice in parts (first most of the log, then what came meanwhile) is one
gathering.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Self

import pyarrow as pa

from edge_sdk.dna.imprint import GenomeState
from edge_sdk.dna.schema import DnaSchema
from genome_server.genomes import aggregate
from genome_server.genomes.database import Database
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.events import (
    ConsentSaid,
    EventReader,
    Imprint,
    LinkSaid,
    Skip,
)
from genome_server.genomes.rows import SubjectState, person_of
from genome_server.log.reader import LogReader
from genome_server.store.protocol import Store

_FLUSH_VOTES: Final = 200_000
# Votes that one aggregation takes; more are taken by ranges of subjects, in bounded memory.
_VOTES_AT_ONCE: Final = 20_000_000


class Gathering:
    """Everything that the log says about genomes, up to an offset. Use it as a context."""

    def __init__(self, store: Store, schema: DnaSchema, folder: Path) -> None:
        self.skipped: Counter[str] = Counter()
        self.imprints = 0
        self.end = 0
        self.marks: dict[tuple[str, bytes, int], int] = {}
        self.words: dict[bytes, SubjectState] = {}
        self.consents: dict[tuple[bytes, int], tuple[bool, int, int]] = {}
        """The latest word on each (subject, purpose): granted, Unix ms, offset in the log."""
        self._store = store
        self._schema = schema
        dna = StoreDna(store, schema)
        self._reader = EventReader(schema, dna.product, dna.offer)
        self._vocabulary = store.vocabulary()
        self._votes: list[tuple[bytes, str, int, int, int, int]] = []
        self._once: list[tuple[bytes, int]] = []
        self._half_lives: set[int] = set()
        self._counted = 0
        self._db = Database(folder / "build.duckdb")
        self._tables = {
            name: self._db.create(name, schema)
            for name, schema in (
                ("votes", aggregate.VOTES),
                ("once", aggregate.ONCE),
                ("mantissas", aggregate.MANTISSAS),
                ("wanted", aggregate.SUBJECTS),
            )
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def read(
        self, log: LogReader, stop: int, progress: Callable[[int], None] | None = None
    ) -> set[bytes]:
        """Read the log on, up to `stop`; returns the subjects that were spoken of.

        Raises LandmarkExhausted.
        """
        touched: set[bytes] = set()
        for batch in log.batches(self.end, stop=stop):
            for frame in batch.frames():
                effect = self._reader.read(frame)
                if effect is None:
                    continue
                if isinstance(effect, Skip):
                    self.skipped[effect] += 1
                    continue
                self._take(effect, frame.offset)
                touched.add(effect.subject)
                if isinstance(effect, LinkSaid):
                    touched.add(effect.other)
            self.marks[batch.device, batch.epoch, batch.lane] = batch.last
            self.end = batch.next_offset
            if progress is not None:
                progress(batch.count)
            if len(self._votes) >= _FLUSH_VOTES:
                self._flush()
        self._flush()
        return touched

    def _take(self, effect: Imprint | ConsentSaid | LinkSaid, offset: int) -> None:
        if isinstance(effect, Imprint):
            self.imprints += 1
            hours = effect.hour - self._schema.landmark_hour
            self._votes.extend(
                (effect.subject, name, half_life, hours, vote, offset)
                for name, half_life, vote in effect.votes
            )
            if effect.once is not None:
                self._once.append((effect.once, offset))
        elif isinstance(effect, ConsentSaid):
            if self._said(effect.subject).hear_consent(effect):
                word = (effect.granted, effect.time_ms, offset)
                self.consents[effect.subject, effect.purpose] = word
        else:
            self._said(effect.subject).hear_link(effect.other, effect)
            self._said(effect.other).hear_link(effect.subject, effect)

    def _said(self, subject: bytes) -> SubjectState:
        return self.words.setdefault(subject, SubjectState())

    def _flush(self) -> None:
        if self._votes:
            subjects, names, half_lives, hours, votes, events = zip(*self._votes, strict=True)
            self._vocabulary = self._store.extend_vocabulary(names)
            markers = [self._vocabulary.index(name) for name in names]
            self._half_lives.update(half_lives)
            columns = [subjects, markers, half_lives, hours, votes, events]
            self._db.insert("votes", pa.table(columns, schema=aggregate.VOTES))
            self._counted += len(names)
            self._votes.clear()
        if self._once:
            ids, events = zip(*self._once, strict=True)
            self._db.insert("once", pa.table([ids, events], schema=aggregate.ONCE))
            self._once.clear()

    # -- what was read

    def states(
        self, subjects: Iterable[bytes] | None = None
    ) -> Iterator[tuple[bytes, GenomeState]]:
        """The imprints of every subject that has some (or of these), by subject."""
        tables = self._tables
        self._db.replace("mantissas", aggregate.mantissas(self._half_lives))
        votes = aggregate.first_only(tables["votes"], tables["once"])
        if subjects is not None:
            wanted = pa.table([sorted(subjects)], schema=aggregate.SUBJECTS)
            self._db.replace("wanted", wanted)
            votes = votes.semi_join(tables["wanted"], "subject")
        for low, high in _ranges(self._counted // _VOTES_AT_ONCE + 1):
            part = aggregate.within(votes, low, high)
            yield from self._grouped(self._db.run(aggregate.states(part, tables["mantissas"])))

    def _grouped(self, found: pa.Table) -> Iterator[tuple[bytes, GenomeState]]:
        """The rows of `states`, ordered by subject, as one state for each subject."""
        current, state = b"", GenomeState()
        for batch in found.to_batches():
            columns = (batch.column(i).to_pylist() for i in range(4))
            for subject, marker, value, newest in zip(*columns, strict=True):
                if subject != current:
                    if current:
                        yield current, state
                    current, state = subject, GenomeState()
                state.values[marker] = value
                state.touch(newest + self._schema.landmark_hour)
        if current:
            yield current, state

    def repeated(self) -> int:
        """How many imprints were not counted, because an earlier event has their id."""
        once = self._tables["once"]
        (counted,) = self._db.run(
            once.aggregate(all=once.count(), different=once.id.nunique())
        ).to_pylist()
        return int(counted["all"] - counted["different"])

    def ids_from(self, offset: int) -> Iterator[bytes]:
        """The ids that events at or after `offset` carry."""
        once = self._tables["once"]
        found = once.filter(once.event >= offset).select("id")
        for batch in self._db.run(found).to_batches():
            yield from batch.column(0).to_pylist()

    def person(self, subject: bytes) -> list[bytes]:
        """All subjects that are one person with this one, itself included."""
        return person_of(subject, lambda one: self.words[one].linked if one in self.words else ())


def _ranges(parts: int) -> list[tuple[bytes, bytes]]:
    """Ranges [low, high) that cut the subjects into about equal parts; b"" for high: to the end."""
    bounds = [(i << 32) // parts for i in range(parts)]
    lows = [bound.to_bytes(4, "big") for bound in bounds]
    return list(zip(lows, [*lows[1:], b""], strict=True))
