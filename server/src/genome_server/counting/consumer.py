"""Cap events are kept current: what is new in the log counts for the customers that it is about.

Beside the consumer of the genomes and never ahead of it: which subjects are one person is known by
then. What counts is what the releases in force ask for; what happened before anything asked was not
kept. Everything follows from the log and is read from its beginning where it is another one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final

from google.protobuf.message import DecodeError

from edge_sdk.dna.genome import NOBODY, SUBJECT_BYTES
from edge_sdk.engine.cap_rules import CONVERT, CapRow
from edge_sdk.errors import FormatError
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.counting.rules import MOST_EVENTS, Counting, outdated, rows_of
from genome_server.errors import Refused
from genome_server.genomes.events import time_of
from genome_server.genomes.rows import GENOMES, LOG_KEY, built_schema, links_of, person_of
from genome_server.home import Tenant
from genome_server.log.reader import LogBatch, LogReader
from genome_server.releases.publish import manifest_of, part_content
from genome_server.store.protocol import ReleaseRow, Store

COUNTERS: Final = "counters"
"""The consumer whose offset (epoch 0) says how far the log is in the cap events."""
COUNTERS_LOG_KEY: Final = "counters_log"
_MAX_EVENTS: Final = 20_000
_PARTS: Final = ("offers", "placements", "schema")
_SWEEP_S: Final = 3_600.0
_SUBJECTS_AT_ONCE: Final = 2_000
# The tag of Interaction.offer: a body without this byte names no offer.
_OFFER: Final = b"\x22"

log = logging.getLogger(__name__)


class Counters:
    """Keeps the cap events of one tenant current. Use it from one thread at a time.

    Raises NotInitialised, StoreError, or FileNotFoundError where there is no log yet.
    """

    def __init__(
        self, tenant: Tenant, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._tenant = tenant
        self._store: Store = tenant.open_store()
        self._log = LogReader(tenant.log_path)
        self._now_ms = now_ms
        self._countings: list[Counting] = []
        self._in_force: list[int] = []
        self._read: dict[int, Counting | None] = {}
        self._kinds: frozenset[int] = frozenset()
        self._swept = (b"", -_SWEEP_S)

    def close(self) -> None:
        """Close the store and the log."""
        self._log.close()
        self._store.close()

    def catch_up(self, max_events: int = _MAX_EVENTS) -> int:
        """Read at most about `max_events` events; returns how many there were, 0 at the end."""
        store, name = self._store, self._log.incarnation.hex()
        if store.meta(COUNTERS_LOG_KEY) != name:
            with store.transaction():
                store.clear_cap_events()
                store.set_consumer_offset(COUNTERS, 0, 0)
                store.set_meta(COUNTERS_LOG_KEY, name)
        start, stop = store.consumer_offset(COUNTERS, 0), self._stop(name)
        self._learn()
        batches = list(
            self._log.batches(start, stop=stop, max_events=max_events, kinds=self._kinds)
        )
        if not batches:
            self._sweep()
            return 0
        rows, linked = self._counted(batches)
        end = batches[-1].next_offset
        with store.transaction():
            rows += self._spread(linked, rows)
            store.add_cap_events(rows)
            self._crowded({row.subject for row in rows})
            store.set_consumer_offset(COUNTERS, 0, max(end, store.consumer_offset(COUNTERS, 0)))
        return end - start

    def _stop(self, name: str) -> int:
        """How far the genomes are."""
        schema = built_schema(self._store)
        if schema is None or self._store.meta(LOG_KEY) != name:
            return 0
        return self._store.consumer_offset(GENOMES, schema.epoch)

    # What counts --------------------------------------------------------------------------------

    def _learn(self) -> None:
        """Take over what the releases in force ask for."""
        rows = self._store.releases_in_force()
        versions = [row.version for row in rows]
        if versions == self._in_force:
            return
        self._read = {v: one for v, one in self._read.items() if v in versions}
        for row in rows:
            if row.version not in self._read:
                self._read[row.version] = self._read_release(row)
        found = (self._read[version] for version in versions)
        self._countings = [one for one in found if one is not None and one.asked]
        kinds = {kind for one in self._countings for _, kind in one.asked}
        wanted = {FrameKind.LINK}
        if kinds:
            wanted |= {FrameKind.DECISION, FrameKind.OUTCOME}
        if CONVERT in kinds:
            wanted.add(FrameKind.INTERACTION)
        self._kinds = frozenset(map(int, wanted))
        self._in_force = versions

    def _read_release(self, row: ReleaseRow) -> Counting | None:
        parts = {part.name: part for part in manifest_of(row).parts}
        try:
            return Counting.from_parts({n: part_content(self._tenant, parts[n]) for n in _PARTS})
        except (Refused, FormatError, KeyError) as error:
            # No device gets it either.
            log.error(
                "tenant %s: what release %d counts cannot be read: %s",
                self._tenant.name,
                row.version,
                error,
            )
            return None

    def _counted(self, batches: Iterable[LogBatch]) -> tuple[list[CapRow], set[bytes]]:
        """What the events of batches count as, and the subjects that were linked."""
        rows: list[CapRow] = []
        linked: set[bytes] = set()
        for frame in chain.from_iterable(batch.frames(self._kinds) for batch in batches):
            named = frame.kind != FrameKind.INTERACTION or _OFFER in frame.body
            if frame.subject == NOBODY or not named:
                continue
            try:
                event = event_pb2.Event.FromString(frame.body)
            except DecodeError:
                continue  # the genomes' consumer says so
            if event.HasField("link"):
                if event.link.linked and len(event.link.other_subject) == SUBJECT_BYTES:
                    linked |= {frame.subject, event.link.other_subject}
            else:
                rows += rows_of(self._countings, frame.subject, event, time_of(event, frame))
        return rows, linked - {NOBODY}

    # Persons ------------------------------------------------------------------------------------

    def _spread(self, linked: set[bytes], rows: Iterable[CapRow]) -> list[CapRow]:
        """What counts for the other subjects of the persons who did it, or who were linked.

        For those that anybody can ask for, only: somebody who identifies themselves at every visit
        is as many subjects as visits.
        """
        new: dict[bytes, list[CapRow]] = {}
        for row in rows:
            new.setdefault(row.subject, []).append(row)
        links: dict[bytes, list[bytes]] = {}
        found: list[CapRow] = []
        done: set[bytes] = set()
        self._load(links, sorted(linked.union(new)))
        for subject in sorted(linked.union(new)):
            if not links[subject] or subject in done:
                continue
            person = person_of(subject, lambda one: self._linked(links, one))
            done.update(person)
            said = [row for one in person for row in new.get(one, ())]
            if not linked.isdisjoint(person):
                said += self._store.cap_events_of(person)
            known = {(row.subject, row.kind, row.claim) for row in said}
            claims = {(row.kind, row.claim): row for row in said}
            for one in sorted(self._store.asked_for(person)):
                found += (
                    row._replace(subject=one)
                    for claim, row in claims.items()
                    if (one, *claim) not in known
                )
        return found

    def _linked(self, links: dict[bytes, list[bytes]], subject: bytes) -> list[bytes]:
        if subject not in links:
            self._load(links, [subject])
        return links[subject]

    def _load(self, links: dict[bytes, list[bytes]], subjects: list[bytes]) -> None:
        links.update((subject, []) for subject in subjects)
        for subject, state in self._store.genome_states(subjects):
            links[subject] = links_of(state)

    # Bounds -------------------------------------------------------------------------------------

    def _crowded(self, subjects: Iterable[bytes]) -> None:
        crowded = self._store.crowded_caps(sorted(subjects), MOST_EVENTS)
        self._prune(crowded)

    def _prune(self, subjects: Iterable[bytes]) -> None:
        by: dict[bytes, list[CapRow]] = {}
        for row in self._store.cap_events_of(subjects):
            by.setdefault(row.subject, []).append(row)
        now_ms = self._now_ms()
        for rows in by.values():
            gone = outdated(self._countings, rows, now_ms, MOST_EVENTS)
            self._store.drop_cap_events(gone)

    def _sweep(self) -> None:
        """Now and then look through everybody, some at a time, for what can matter no more."""
        after, done = self._swept
        if not after and time.monotonic() - done < _SWEEP_S:
            return
        some = self._store.cap_subjects(after, _SUBJECTS_AT_ONCE)
        if some:
            with self._store.transaction():
                self._prune(some)
        self._swept = (some[-1] if len(some) == _SUBJECTS_AT_ONCE else b"", time.monotonic())


def read_anew(store: Store) -> None:
    """Have the cap events read from the first event of the log on, by whoever does so next."""
    store.set_meta(COUNTERS_LOG_KEY, "")


def catch_up(tenant: Tenant) -> None:
    """Bring the cap events of a tenant up to its genomes. Raises as `Counters`."""
    counters = Counters(tenant)
    try:
        while counters.catch_up():
            pass
    finally:
        counters.close()
