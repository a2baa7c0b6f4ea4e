"""The build: all genomes from the log, by one aggregation.

Theory. A build must not hold up the server, which goes on applying increments
to the same genomes. So the log is read and aggregated while nothing is locked;
then, in one transaction, what came meanwhile is added to the same gathering,
the subjects that it speaks of are aggregated again, and genomes, offset, marks
and seen ids are written together. The increments go on from that offset as if
they had done all of it themselves: the sums are the same integers.

Only genomes that differ from what is stored are written, and only rows that
differ are stamped for devices.

A build also settles the schema: a changed dna.yaml takes effect here, and the
landmark moves on when four fifths of its doublings are used up. Either gives a
new epoch, under which everything is built anew.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final

from edge_sdk.dna.imprint import GenomeState
from edge_sdk.dna.markers import BUILTIN_MARKERS
from edge_sdk.dna.schema import HOUR_MS, MAX_DOUBLINGS, DnaSchema
from genome_server.derived.renew import insights_of, renew
from genome_server.dna_file import load_schema, move_landmark, read_derived
from genome_server.errors import Refused
from genome_server.genomes.aggregation import Engine
from genome_server.genomes.consents import told
from genome_server.genomes.gather import Gathering
from genome_server.genomes.rows import (
    GENOMES,
    LOG_KEY,
    ONCE,
    RowEncoder,
    SubjectState,
    built_schema,
    seen_scope,
    set_built_schema,
)
from genome_server.genomes.workplace import failing_as_refused, work_folder
from genome_server.log.reader import LogReader
from genome_server.store.connection import chunked
from genome_server.store.protocol import CustomerRow, GenomeRecord, Store
from genome_server.store.words import Word

# A new landmark lies so far back that what is recent still counts finely.
_DOUBLINGS_BACK: Final = 5
_DOUBLINGS_USED: Final = MAX_DOUBLINGS * 4 // 5

_PEOPLE_AT_ONCE: Final = 2_000

Progress = Callable[[int], None]


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    `events` were read; `imprints` of them counted, `repeated` carried an id seen
    before, `skipped` were passed over, by reason. `genomes` is how many there
    are, `changed` how many were written, `markers` the size of the vocabulary.
    """

    epoch: int
    landmark_hour: int
    landmark_moved: bool
    events: int
    imprints: int
    repeated: int
    skipped: dict[str, int] = field(default_factory=dict)
    genomes: int = 0
    changed: int = 0
    markers: int = 0
    seconds: float = 0.0


def build(
    store: Store,
    log: LogReader | None,
    dna_path: Path,
    *,
    now_ms: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> BuildReport:
    """Build every genome from the log (None: there is none yet) and the profiles.

    `engine` sums what everybody did (None: this machine does). Raises SchemaFileError where
    dna.yaml is wrong, Refused where a newer epoch was built meanwhile, StoreError, and what the
    engine does.
    """
    started = time.monotonic()
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    schema, moved = settle_schema(store, dna_path, now_ms)
    store.extend_vocabulary(BUILTIN_MARKERS)
    insights = renew(store, log, schema, read_derived(dna_path))
    with (
        work_folder(dna_path.parent) as folder,
        failing_as_refused(),
        Gathering(store, schema, folder, engine) as gathering,
    ):
        if log is not None:
            gathering.read(log, log.end(), progress)
        name = log.incarnation.hex() if log is not None else ""
        encoder = RowEncoder(schema, store.vocabulary(), insights)
        linked: dict[bytes, CustomerRow | None] = {}
        people = _people(store, gathering, name, linked)
        records = {r.subject: r for r in _differing(people, encoder)}
        with store.transaction():
            touched = set()
            if log is not None:
                before = gathering.end
                gathering.read(log, log.end(), progress)
                touched = gathering.touched(before)
            touched |= _otherwise(store, gathering, name, linked)
            records |= _again(store, gathering, schema, touched, name)
            _settle(store, gathering, schema, records.values(), name)
        repeated = gathering.repeated()
        return BuildReport(
            epoch=schema.epoch,
            landmark_hour=schema.landmark_hour,
            landmark_moved=moved,
            events=gathering.end,
            imprints=gathering.imprints - repeated,
            repeated=repeated,
            skipped=dict(sorted(gathering.skipped.items())),
            genomes=store.genome_count(),
            changed=len(records),
            markers=len(store.vocabulary()),
            seconds=time.monotonic() - started,
        )


def settle_schema(store: Store, dna_path: Path, now_ms: int) -> tuple[DnaSchema, bool]:
    """The schema to build under, and whether its landmark had to move.

    Raises SchemaFileError.
    """
    schema = load_schema(dna_path, store)
    shortest = schema.shortest_half_life_hours
    now_hour = now_ms // HOUR_MS
    if not shortest or now_hour - schema.landmark_hour <= _DOUBLINGS_USED * shortest:
        return schema, False
    move_landmark(store, now_hour - _DOUBLINGS_BACK * shortest)
    return load_schema(dna_path, store), True


def _differing(people: Iterator[list[_Known]], encoder: RowEncoder) -> Iterator[GenomeRecord]:
    """The records of all subjects of some persons that differ from what is stored."""
    for some in chunked(people, _PEOPLE_AT_ONCE):
        yield from _changes(encoder, some)


def _people(
    store: Store, gathering: Gathering, log: str, linked: dict[bytes, CustomerRow | None]
) -> Iterator[list[_Known]]:
    """Every person: the subjects that are one, with all that is known of each.

    Those that have links are noted in `linked`, as customers.
    """
    joined: dict[bytes, _Known] = {}
    words = _pending(store, gathering, log)
    for known in _everybody(store, gathering):
        known.customer = told(known.customer, known.subject, words.get(known.subject, {}))
        if known.state.links:
            joined[known.subject] = known
            linked[known.subject] = known.customer
        else:
            yield [known]
    seen: set[bytes] = set()
    for subject in joined:
        if subject not in seen:
            person = gathering.person(subject)
            seen.update(person)
            yield [joined[one] for one in person]


def _taken(store: Store, log: str) -> int:
    """How far ids and consents were taken from the log of this name."""
    return store.consumer_offset(ONCE, 0) if store.meta(LOG_KEY) == log else 0


def _pending(store: Store, gathering: Gathering, log: str) -> dict[bytes, dict[int, Word]]:
    """What the log says on consents that the store does not know yet, by subject and purpose."""
    return gathering.said(_taken(store, log))


def _otherwise(
    store: Store, gathering: Gathering, log: str, linked: dict[bytes, CustomerRow | None]
) -> set[bytes]:
    """Those of these subjects whose consents are others than when they were read.

    What they agreed to decides what others have of theirs, and an import may change it meanwhile.
    """
    words = _pending(store, gathering, log)
    known = {row.subject: row for row in store.customers(sorted(linked))}
    return {
        one
        for one, then in linked.items()
        if _word(told(known.get(one), one, words.get(one, {}))) != _word(then)
    }


def _word(customer: CustomerRow | None) -> tuple[int, bool]:
    """What somebody agreed to, and whether they never said anything."""
    return (0, True) if customer is None else (customer.consents or 0, customer.silent)


_Said = GenomeState | SubjectState | CustomerRow | GenomeRecord


@dataclass(slots=True)
class _Known:
    """Everything that is known of one subject."""

    subject: bytes
    state: SubjectState
    customer: CustomerRow | None = None
    stored: GenomeRecord | None = None


def _everybody(store: Store, gathering: Gathering) -> Iterator[_Known]:
    """Every subject of the log, of the customers and of the stored genomes, by subject."""
    streams: list[Iterable[tuple[bytes, _Said]]] = [
        gathering.states(),
        ((row.subject, row) for row in store.customers()),
        ((record.subject, record) for record in store.genomes()),
        sorted(gathering.words.items(), key=lambda item: item[0]),
    ]
    merged = heapq.merge(*streams, key=lambda item: item[0])
    for subject, items in groupby(merged, key=lambda item: item[0]):
        known = _Known(subject, SubjectState())
        for _, item in items:
            if isinstance(item, CustomerRow):
                known.customer = item
            elif isinstance(item, GenomeRecord):
                known.stored = item
            elif isinstance(item, SubjectState):
                known.state.consents, known.state.links = item.consents, item.links
            else:
                known.state.imprints = item
        yield known


def _changes(encoder: RowEncoder, people: list[list[_Known]]) -> Iterator[GenomeRecord]:
    persons = [
        (
            {known.subject: known.state for known in person},
            {known.subject: known.customer for known in person if known.customer},
        )
        for person in people
    ]
    everybody = (known for person in people for known in person)
    for known, record in zip(everybody, encoder.people(persons), strict=True):
        old = known.stored
        if (
            old is None
            or (old.epoch, old.state, old.row) != (record.epoch, record.state, record.row)
            or old.consents != record.consents
        ):
            yield record


def _again(
    store: Store, gathering: Gathering, schema: DnaSchema, touched: set[bytes], log: str
) -> dict[bytes, GenomeRecord]:
    """The records of the subjects that were spoken of meanwhile, aggregated again."""
    persons = {tuple(gathering.person(subject)) for subject in touched}
    subjects = {one for person in persons for one in person}
    if not subjects:
        return {}
    imprints = dict(gathering.states(subjects))
    encoder = RowEncoder(schema, store.vocabulary(), insights_of(store))
    pending = _pending(store, gathering, log)
    known = {row.subject: row for row in store.customers(sorted(subjects))}
    customers = {
        one: row for one in subjects if (row := told(known.get(one), one, pending.get(one, {})))
    }
    people = []
    for person in sorted(persons):
        states = {}
        for one in person:
            states[one] = state = SubjectState()
            words = gathering.words.get(one)
            if words is not None:
                state.consents, state.links = words.consents, words.links
            state.imprints = imprints.get(one, state.imprints)
        people.append((states, {one: customers[one] for one in person if one in customers}))
    return {r.subject: r for r in encoder.people(people)}


def _settle(
    store: Store,
    gathering: Gathering,
    schema: DnaSchema,
    records: Iterable[GenomeRecord],
    log: str,
) -> None:
    """Write what the build found in the log of this name; part of a transaction.

    Raises Refused where another build has settled a newer epoch meanwhile: what it wrote stays.
    """
    built = built_schema(store)
    if built is not None and built.epoch > schema.epoch:
        raise Refused(
            f"another build finished meanwhile, of schema epoch {built.epoch}, and this one was of "
            f"{schema.epoch}. The genomes are as the other one left them"
        )
    taken = _taken(store, log)
    store.set_meta(LOG_KEY, log)
    store.add_interactions(gathering.ids_from(taken), seen_scope(log))
    for (subject, purpose), (granted, at_ms, offset) in sorted(gathering.consents.items()):
        if offset >= taken:
            store.hear_consents(subject, {purpose: (at_ms, granted)})
    store.put_genomes(records, schema.epoch)
    store.set_applied_marks((*key, last) for key, last in gathering.marks.items())
    store.set_consumer_offset(GENOMES, schema.epoch, gathering.end)
    store.set_consumer_offset(ONCE, 0, max(taken, gathering.end))
    set_built_schema(store, schema)
