"""Increments: what is new in the log goes into the genomes that it speaks of.

The same rules as a build, on the subjects concerned; the same integers come out,
whatever the order and however the log is cut. Events are read and added up in
columns: what many of them give to one marker is one number by the time that a
state is touched. Genomes, offset, marks and seen ids change in one transaction,
so that a consumer that dies half-way has done nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from edge_sdk.dna.schema import DnaSchema
from edge_sdk.errors import LandmarkExhausted
from genome_server.derived.renew import insights_of
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.events import READ, ConsentSaid, EventReader, LinkSaid
from genome_server.genomes.gains import Gains, gains
from genome_server.genomes.reading import BulkReader, Told
from genome_server.genomes.rows import (
    GENOMES,
    LOG_KEY,
    ONCE,
    Person,
    RowEncoder,
    SubjectState,
    built_schema,
    person_of,
    seen_scope,
)
from genome_server.home import Tenant
from genome_server.log.reader import LogBatch, LogReader
from genome_server.store.protocol import Store
from genome_server.store.words import Word
from genome_server.things.kept import outdated

_MAX_EVENTS = 20_000


class LiveConsumer:
    """Keeps the genomes of one tenant current. Use it from one thread at a time.

    Raises NotInitialised, StoreError, or FileNotFoundError where there is no log yet.
    """

    def __init__(
        self, tenant: Tenant, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._store = tenant.open_store()
        self._log = LogReader(tenant.log_path)
        self._dna_path = tenant.dna_path
        self._now_ms = now_ms
        self._reader: tuple[tuple[object, int], BulkReader] | None = None

    def close(self) -> None:
        """Close the store and the log."""
        self._log.close()
        self._store.close()

    def catch_up(self, max_events: int = _MAX_EVENTS) -> int:
        """Apply at most about `max_events` events; returns how many there were, 0 at the end.

        Genomes that were never built, or by another version's rules over text, and a
        landmark that is used up, are a case for a build, which is then done here.
        """
        schema = built_schema(self._store)
        if schema is None or self._another_log() or outdated(self._store, schema.epoch):
            return self._build()
        if self._log.end() <= self._store.consumer_offset(GENOMES, schema.epoch):
            return 0
        try:
            with self._store.transaction():
                return self._apply(max_events)
        except LandmarkExhausted:
            return self._build()

    def _build(self) -> int:
        from genome_server.genomes.build import build  # brings DuckDB, which is rarely needed here

        before = None if self._another_log() else built_schema(self._store)
        offset = self._store.consumer_offset(GENOMES, before.epoch) if before else 0
        report = build(self._store, self._log, self._dna_path, now_ms=self._now_ms())
        return max(report.events - offset, 0)

    def _another_log(self) -> bool:
        """Whether the genomes were built from a log that was lost or restored since."""
        return self._store.meta(LOG_KEY) != self._log.incarnation.hex()

    def _apply(self, max_events: int) -> int:
        store = self._store
        # Read again inside the transaction: a build may have moved them on.
        schema = built_schema(store)
        if schema is None:
            return 0
        start = store.consumer_offset(GENOMES, schema.epoch)
        batches = list(self._log.batches(start, max_events=max_events, kinds=READ))
        if not batches:
            return 0
        scope = seen_scope(self._log.incarnation.hex())
        Increment(store, schema, batches, scope, self._event_reader(schema)).apply()
        end = batches[-1].next_offset
        marks = {(b.device, b.epoch, b.lane): b.last for b in batches}
        store.set_applied_marks((*lane, last) for lane, last in marks.items())
        store.set_consumer_offset(GENOMES, schema.epoch, end)
        store.set_consumer_offset(ONCE, 0, max(end, store.consumer_offset(ONCE, 0)))
        return end - start

    def _event_reader(self, schema: DnaSchema) -> BulkReader:
        """One that knows what it read before, as long as products and offers are what they were."""
        key = (schema, self._store.documents_version())
        if self._reader is None or self._reader[0] != key:
            dna = StoreDna(self._store, schema)
            self._reader = (key, BulkReader(EventReader(schema, dna.product, dna.offer)))
        return self._reader[1]


class Increment:
    """Some batches on their way into the genomes; part of a transaction."""

    def __init__(
        self,
        store: Store,
        schema: DnaSchema,
        batches: Sequence[LogBatch],
        scope: str,
        reader: BulkReader,
    ) -> None:
        self._store = store
        self._reader = reader
        self._scope = scope
        self._schema = schema
        self._batches = batches
        self._states = _States(store)

    def apply(self) -> None:
        """Apply all of it. Raises LandmarkExhausted."""
        told = self._reader.read(self._batches)
        found = self._gains(told)
        heard = {one for said in told.words for one in _spoken_of(said)}
        subjects = sorted(heard.union(found.subjects))
        if not subjects:
            return
        self._states.load(subjects)
        for subject, hour, contributions in found:
            self._states.known[subject].imprints.gain(contributions, hour)
        self._hear(told.words)
        encoder = RowEncoder(self._schema, self._store.vocabulary(), insights_of(self._store))
        people = self._states.people(subjects)
        self._store.put_genomes(encoder.people(people), self._schema.epoch)

    def _gains(self, told: Told) -> Gains:
        """What the imprints come to, without those whose id was seen before."""
        ids = [one for one in told.once if one is not None]
        new = self._store.add_interactions(ids, self._scope)
        counted = None
        if len(new) < len(ids):
            counted = np.ones(len(told.once), bool)
            for i, one in enumerate(told.once):
                if one is not None:
                    counted[i] = one in new
                    new.discard(one)
        names = dict.fromkeys(vote.marker for votes, _ in told.doses for vote in votes)
        vocabulary = self._store.extend_vocabulary(names)
        return gains(told, counted, vocabulary, self._schema.landmark_hour)

    def _hear(self, words: Sequence[ConsentSaid | LinkSaid]) -> None:
        consents: dict[bytes, dict[int, Word]] = {}
        for said in words:
            state = self._states.known[said.subject]
            if isinstance(said, LinkSaid):
                state.hear_link(said.other, said)
                self._states.known[said.other].hear_link(said.subject, said)
            elif state.hear_consent(said):
                consents.setdefault(said.subject, {})[said.purpose] = (said.time_ms, said.granted)
        for subject, purposes in sorted(consents.items()):
            self._store.hear_consents(subject, purposes)


class _States:
    """States of subjects, and of those that they are linked to, read when first asked for."""

    def __init__(self, store: Store) -> None:
        self.known: dict[bytes, SubjectState] = {}
        self._store = store

    def load(self, subjects: Iterable[bytes]) -> None:
        """Read those of these subjects that were not asked for before."""
        missing = [one for one in subjects if one not in self.known]
        for subject, state in self._store.genome_states(missing):
            self.known[subject] = SubjectState.from_bytes(state)
        for subject in missing:
            if subject not in self.known:
                self.known[subject] = SubjectState()

    def _linked(self, subject: bytes) -> list[bytes]:
        self.load([subject])
        return self.known[subject].linked

    def people(self, touched: Iterable[bytes]) -> list[Person]:
        """The persons that these subjects, which were loaded, are."""
        states = self.known
        subjects = list(touched)
        alone = {(subject,) for subject in subjects if not states[subject].links}
        linked = {tuple(person_of(s, self._linked)) for s in subjects if states[s].links}
        persons = sorted(alone | linked)
        everybody = [one for person in persons for one in person]
        known = {row.subject: row for row in self._store.customers(everybody)}
        return [
            (
                {one: states[one] for one in person},
                {one: known[one] for one in person if one in known},
            )
            for person in persons
        ]


def follow_consents(store: Store, subjects: Iterable[bytes]) -> None:
    """Let the rows of linked ids follow what some subjects said on consents; in a transaction.

    For consents that are not in the log: those that are, a build and increments follow.
    """
    schema = built_schema(store)
    if schema is None:
        return
    states = _States(store)
    heard = sorted(set(subjects))
    states.load(heard)
    linked = [one for one in heard if states.known[one].links]
    if linked:
        encoder = RowEncoder(schema, store.vocabulary(), insights_of(store))
        store.put_genomes(encoder.people(states.people(linked)), schema.epoch)


def _spoken_of(said: ConsentSaid | LinkSaid) -> tuple[bytes, ...]:
    return (said.subject, said.other) if isinstance(said, LinkSaid) else (said.subject,)
