"""Reading the log into columns: the first half of a build.

Interactions go into a DuckDB file that lives as long as the build and may be
larger than memory; the few words on consent and links stay in memory. What is
read twice in parts (first most of the log, then what came meanwhile) is one
gathering.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, Self

import numpy as np
import pyarrow as pa

from edge_sdk.dna.imprint import GenomeState
from edge_sdk.dna.schema import DnaSchema
from genome_server.genomes import aggregate, tables
from genome_server.genomes.aggregation import Aggregation, Engine
from genome_server.genomes.columns import ColumnReader, ThingDna
from genome_server.genomes.distinct import Counted
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.events import READ, ConsentSaid, EventReader, LinkSaid
from genome_server.genomes.rows import SubjectState, person_of
from genome_server.log.reader import LogBatch, LogReader
from genome_server.store.protocol import Store
from genome_server.store.words import Word

# Events that are read at once: one step in columns costs the same for few as for many.
_EVENTS_AT_ONCE: Final = 50_000


class Gathering:
    """Everything that the log says about genomes, up to an offset. Use it as a context.

    An `engine` sums what everybody did; what a few did is summed here.
    """

    def __init__(
        self, store: Store, schema: DnaSchema, folder: Path, engine: Engine | None = None
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self.imprints = 0
        self.end = 0
        self.marks: dict[tuple[str, bytes, int], int] = {}
        self.words: dict[bytes, SubjectState] = {}
        self.consents: dict[tuple[bytes, int], tuple[bool, int, int]] = {}
        """The latest word on each (subject, purpose): granted, Unix ms, offset in the log."""
        self._heard: dict[bytes, int] = {}  # the offset of the last word on a subject
        self._store = store
        self._schema = schema
        self._folder = folder
        self._engine = engine
        dna = StoreDna(store, schema)
        self._reader = ColumnReader(schema, EventReader(schema, dna.product, dna.offer))
        self._sums = Aggregation(folder / "build.duckdb", schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sums.__exit__(*exc)

    def read(
        self, log: LogReader, stop: int, progress: Callable[[int], None] | None = None
    ) -> None:
        """Read the log on, up to `stop`. Raises LandmarkExhausted."""
        waiting: list[LogBatch] = []
        count = 0
        for batch in log.batches(self.end, stop=stop, kinds=READ):
            waiting.append(batch)
            count += batch.count
            self.marks[batch.device, batch.epoch, batch.lane] = batch.last
            self.end = batch.next_offset
            if progress is not None:
                progress(batch.count)
            if count >= _EVENTS_AT_ONCE:
                self._take(waiting)
                waiting, count = [], 0
        if waiting:
            self._take(waiting)

    def _take(self, batches: list[LogBatch]) -> None:
        told = self._reader.read(batches)
        self._name(self._reader.fresh_dna())
        self._sums.add(told.interactions)
        if len(told.once):
            self._sums.add_once(told.once)
        self.imprints += len(told.interactions)
        self.skipped.update(told.skips)
        for offset, said in told.words:
            self._hear(said, offset)

    def _name(self, fresh: list[ThingDna]) -> None:
        """Take in the DNA of things that were not met before."""
        if fresh:
            vocabulary = self._store.extend_vocabulary(row.marker for row in fresh)
            things, names, half_lives, saliences = zip(*fresh, strict=True)
            markers = [vocabulary.index(name) for name in names]
            columns = [things, markers, half_lives, saliences]
            self._sums.add_dna(pa.table(columns, schema=aggregate.DNA))

    def _hear(self, said: ConsentSaid | LinkSaid, offset: int) -> None:
        if isinstance(said, LinkSaid):
            self._said(said.subject, offset).hear_link(said.other, said)
            self._said(said.other, offset).hear_link(said.subject, said)
        elif self._said(said.subject, offset).hear_consent(said):
            word = (said.granted, said.time_ms, offset)
            self.consents[said.subject, said.purpose] = word

    def _said(self, subject: bytes, offset: int) -> SubjectState:
        self._heard[subject] = offset
        return self.words.setdefault(subject, SubjectState())

    # -- what was read

    def touched(self, offset: int) -> set[bytes]:
        """The subjects of which events at or after `offset` speak."""
        there = self._sums.interactions
        found = self._sums.run(there.filter(there.event >= offset).select("who").distinct())
        people = list(self._reader.people)
        did = {people[number] for number in found["who"].to_pylist()}
        return did.union(one for one, last in self._heard.items() if last >= offset)

    def states(
        self, subjects: Collection[bytes] | None = None
    ) -> Iterator[tuple[bytes, GenomeState]]:
        """The imprints of every subject that has some (or of these), by subject.

        Raises LandmarkExhausted, and what the engine does.
        """
        landmark = self._schema.landmark_hour
        known, chosen = self._reader.people, None
        if subjects is not None:
            chosen = [known[one] for one in subjects if one in known]
        people = list(known)
        ranks = tables.ranks(people, chosen)
        by_rank = ranks["who"].to_pylist()
        engine = self._engine if subjects is None else None
        parts = (
            self._sums.summed(ranks)
            if engine is None
            else engine.summed(self._sums, ranks, self._folder)
        )
        for part in parts:
            bounds = part.starts.tolist()
            markers, values, whose = (
                column.tolist() for column in (part.markers, part.states, part.who)
            )
            for i, newest in enumerate(part.newest.tolist()):
                begin, end = bounds[i], bounds[i + 1]
                sums = dict(zip(markers[begin:end], values[begin:end], strict=True))
                yield people[by_rank[whose[i]]], GenomeState(sums, newest + landmark)

    def carrying(self, subjects: Collection[bytes]) -> Counted:
        """What these subjects did, and how much of it imprints each marker."""
        known = self._reader.people
        ranks = tables.ranks(list(known), [known[one] for one in subjects if one in known])
        count, people, found = self._sums.carrying(ranks)
        markers = np.zeros(len(self._store.vocabulary()), np.int64)
        markers[found["marker"].to_numpy()] = found["times"].to_numpy()
        return Counted(count, people, markers)

    def said(self, after: int = 0) -> dict[bytes, dict[int, Word]]:
        """The latest word on consents, at or after an offset, by subject and purpose."""
        found: dict[bytes, dict[int, Word]] = {}
        for (subject, purpose), (granted, at_ms, offset) in self.consents.items():
            if offset >= after:
                found.setdefault(subject, {})[purpose] = (at_ms, granted)
        return found

    def repeated(self) -> int:
        """How many imprints were not counted, because an earlier event has their id."""
        once = self._sums.once
        different = once.select("id_high", "id_low").distinct()
        all_, one_each = (
            self._sums.run(some.aggregate(n=some.count()))["n"][0].as_py()
            for some in (once, different)
        )
        return int(all_ - one_each)

    def ids_from(self, offset: int) -> Iterator[bytes]:
        """The ids that events at or after `offset` carry."""
        once = self._sums.once
        found = self._sums.run(once.filter(once.event >= offset).select("id_high", "id_low"))
        yield from _keys(found)

    def person(self, subject: bytes) -> list[bytes]:
        """All subjects that are one person with this one, itself included."""
        return person_of(subject, lambda one: self.words[one].linked if one in self.words else ())


def _keys(found: pa.Table) -> Iterator[bytes]:
    """The keys of 16 bytes whose halves are the columns of a table."""
    data = tables.keys(*(column.to_numpy() for column in found.columns)).tobytes()
    return (data[i : i + 16] for i in range(0, len(data), 16))
