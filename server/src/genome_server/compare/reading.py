"""Genomes out of the store, page by page, as the columns that are compared.

What is held is what comes out: at most 64 markers for each person. A person is all the subjects
that are linked; the sums of those that count for a use (see `genomes.consents`) are added up before
the strongest are chosen. Where other subjects count for being shown than for being learnt from, the
person has a row for each. The smallest subject that agreed stands for a row. Whoever agreed to
neither is not read, and the home of nobody who did not agree to location.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.genome import SUBJECT_BYTES
from edge_sdk.dna.imprint import GenomeState
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema
from genome_server.compare.matrix import (
    SUBJECT,
    Genomes,
    Ints,
    chosen,
    entries,
    pack,
    strengths_at,
)
from genome_server.derived import Insights
from genome_server.derived.renew import insights_of
from genome_server.genomes.consents import counting, homes, tells_home
from genome_server.genomes.quotas import quotas_of
from genome_server.genomes.rows import (
    GENOMES,
    LOG_KEY,
    Facts,
    Profiles,
    SubjectState,
    built_schema,
    needed_schema,
    person_of,
)
from genome_server.store.rows import (
    CONSENT_LEARNING,
    CONSENT_LOCATION,
    CONSENT_PERSONALISATION,
    CustomerRow,
)

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

_PAGE: Final = 4_096
_READ_FOR: Final = CONSENT_PERSONALISATION | CONSENT_LEARNING

Advance = Callable[..., None]


def genomes_version(store: Store) -> str:
    """A text that is another one after anything that `read_genomes` would show."""
    schema = built_schema(store)
    epoch = schema.epoch if schema is not None else 0
    parts = (
        store.meta(LOG_KEY) or "",
        epoch,
        store.consumer_offset(GENOMES, epoch),
        store.newest_stamp(),
        store.genome_count(),
    )
    return ":".join(map(str, parts))


def read_genomes(
    store: Store, *, hour: int | None = None, advance: Advance | None = None
) -> Genomes:
    """The genomes of everybody who agreed to something, as of `hour` since the Unix epoch.

    Without `hour`, as of the newest imprint of all. `advance(steps, total=…)` is told of genomes
    read. Raises Refused before the first build, StoreError.
    """
    with store.snapshot():
        schema, vocabulary = needed_schema(store), store.vocabulary()
        if hour is None:
            hour = max((record.newest_hour for record in store.genomes()), default=0)
        reading = _Reading(schema, vocabulary, hour, insights_of(store))
        total = store.genome_count()
        for subject, state, customer in _everybody(store):
            reading.take(subject, state, customer)
            if advance is not None:
                advance(1, total=total)
        return reading.done()


def read_some(
    store: Store, subjects: Iterable[bytes], *, hour: int | None = None, whole: bool = False
) -> Genomes:
    """The genomes of the persons that these subjects are, as `read_genomes` has them.

    Without `hour`, as of the newest imprint among them. `whole`: with all their markers, also those
    for which a row has no place.
    """
    with store.snapshot():
        schema, vocabulary = needed_schema(store), store.vocabulary()
        states: dict[bytes, SubjectState] = {}
        waiting = set(subjects)
        while waiting:
            found = {s: SubjectState.from_bytes(raw) for s, raw in store.genome_states(waiting)}
            states |= found
            waiting = {other for one in found.values() for other in one.linked} - states.keys()
            waiting -= {one for one in waiting if store.genome(one) is None}
        if hour is None:
            newest = (state.imprints.newest_hour or 0 for state in states.values())
            hour = max(newest, default=0)
        customers = {row.subject: row for row in store.customers(sorted(states))}
        reading = _Reading(schema, vocabulary, hour, insights_of(store), whole=whole)
        for subject in sorted(states):
            reading.take(subject, states[subject], customers.get(subject))
        return reading.done()


def _everybody(store: Store) -> Iterator[tuple[bytes, SubjectState, CustomerRow | None]]:
    """Every genome with its customer; both come by subject."""
    customers = store.customers()
    customer = next(customers, None)
    for record in store.genomes():
        subject = bytes(record.subject)
        while customer is not None and customer.subject < subject:
            customer = next(customers, None)
        known = customer if customer is not None and customer.subject == subject else None
        yield subject, SubjectState.from_bytes(record.state), known


class _Reading:
    """Takes subjects one by one and gives persons in columns."""

    def __init__(
        self,
        schema: DnaSchema,
        vocabulary: Vocabulary,
        hour: int,
        insights: Insights | None,
        whole: bool = False,
    ) -> None:
        self._whole = whole
        self._insights = insights
        self._schema = schema
        self._vocabulary = vocabulary
        self._hour = hour
        self._home_markers = homes(vocabulary)
        self._homes = np.zeros(len(vocabulary), bool)
        self._homes[list(self._home_markers)] = True
        self._profiles = Profiles(schema, vocabulary, homes=True)
        self._states: dict[bytes, SubjectState] = {}
        self._customers: dict[bytes, CustomerRow] = {}
        self._others: dict[bytes, int] = {}
        self._learnt: dict[bytes, int] = {}
        self._unlocated: set[bytes] = set()
        self._taken = self._persons = 0
        self._subjects: list[bytes] = []
        self._consents: list[int] = []
        self._waiting: list[tuple[dict[int, int], dict[int, int]]] = []
        self._pages: list[tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.float32]]] = []

    def take(self, subject: bytes, state: SubjectState, customer: CustomerRow | None) -> None:
        """Take one subject, with what is known of it as a customer."""
        self._taken += 1
        if state.links:
            self._states[subject] = state
            if customer is not None:
                self._customers[subject] = customer
            return
        self._persons += 1
        if customer is not None and (customer.consents or 0) & _READ_FOR:
            facts = customer.markers + self._derived([customer])
            self._put(subject, customer.consents or 0, state.imprints, facts)

    def done(self) -> Genomes:
        """What was taken, by subject."""
        for person in self._joined():
            self._persons += 1
            self._put_person(person)
        self._flush()
        starts = np.concatenate([[0], *(page[0] for page in self._pages)]).astype(np.int64)
        starts = np.cumsum(starts)
        markers = np.concatenate([np.empty(0, np.int32), *(page[1] for page in self._pages)])
        strengths = np.concatenate([np.empty(0, np.float32), *(page[2] for page in self._pages)])
        order = sorted(range(len(self._subjects)), key=self._subjects.__getitem__)
        rows = {i: at for at, i in enumerate(order)}
        starts, kept = chosen(starts, np.array(order, np.int64))
        subjects = b"".join(self._subjects[i] for i in order)
        return Genomes(
            hour=self._hour,
            subjects=np.frombuffer(subjects, SUBJECT),
            consents=np.array(self._consents, np.int64)[order],
            starts=starts,
            markers=markers[kept],
            strengths=strengths[kept],
            others={other: rows[at] for other, at in self._others.items()},
            learnt={other: rows[at] for other, at in self._learnt.items()},
            unlocated=frozenset(self._unlocated),
            taken=self._taken,
            persons=self._persons,
        )

    def _joined(self) -> Iterator[dict[bytes, SubjectState]]:
        seen: set[bytes] = set()
        for subject in sorted(self._states):
            if subject not in seen:
                person = person_of(subject, self._links)
                seen.update(person)
                yield {one: self._states[one] for one in person if one in self._states}

    def _links(self, subject: bytes) -> list[bytes]:
        return self._states[subject].linked if subject in self._states else []

    def _put_person(self, states: dict[bytes, SubjectState]) -> None:
        shown, learnt, located = (
            counting(states, self._customers, purpose)
            for purpose in (CONSENT_PERSONALISATION, CONSENT_LEARNING, CONSENT_LOCATION)
        )
        self._unlocated.update(states.keys() - set(located))
        both = shown == learnt
        at = self._put_counted(
            shown, states, located, _READ_FOR if both else CONSENT_PERSONALISATION
        )
        self._others.update(dict.fromkeys(shown, at))
        if not both:
            at = self._put_counted(learnt, states, located, CONSENT_LEARNING)
            self._learnt.update(dict.fromkeys(learnt, at))
            self._others.update(dict.fromkeys((one for one in learnt if one not in shown), at))

    def _put_counted(
        self,
        counted: list[bytes],
        states: dict[bytes, SubjectState],
        located: Collection[bytes],
        used_for: int,
    ) -> int:
        """Put a row of those of a person's subjects that count for a use, if any; its number."""
        at = len(self._subjects)
        if not counted:
            return at
        total = GenomeState()
        facts: list[tuple[str, int]] = []
        known: list[CustomerRow] = []
        for subject in counted:
            own = states[subject].imprints
            customer = self._customers.get(subject)
            there = subject in located
            if not there and not self._home_markers.isdisjoint(own.values):
                kept = {i: v for i, v in own.values.items() if i not in self._home_markers}
                own = GenomeState(kept, own.newest_hour)
            total.merge(own)
            if customer is not None:
                facts += [one for one in customer.markers if there or not tells_home(one[0])]
                known.append(customer)
        # Of subjects that count there is one that agreed.
        one = min(one.subject for one in known if (one.consents or 0) & used_for)
        placed = CONSENT_LOCATION if not set(located).isdisjoint(counted) else 0
        self._put(one, used_for | placed, total, (*facts, *self._derived(known)))
        return at

    def _put(self, subject: bytes, consents: int, state: GenomeState, facts: Facts) -> None:
        self._subjects.append(subject)
        self._consents.append(consents)
        self._waiting.append((state.values, self._profiles.strengths(facts)))
        if len(self._waiting) == _PAGE:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        agreed = np.array(self._consents[-len(waiting) :], np.int64)
        located = (agreed & CONSENT_LOCATION) != 0
        half_lives = self._schema.half_lives(self._vocabulary)
        rows, markers, values = entries([state for state, _ in waiting])
        hours = self._hour - self._schema.landmark_hour
        strengths = strengths_at(values, half_lives[markers], hours)
        fact_rows, fact_markers, facts = entries([profile for _, profile in waiting])
        rows = np.concatenate((rows, fact_rows))
        markers = np.concatenate((markers, fact_markers))
        strengths = np.concatenate((strengths, facts / ONE_Q24))
        told = located[rows] | ~self._homes[markers]
        starts, kept, strong = pack(
            rows[told],
            markers[told],
            strengths[told],
            len(waiting),
            len(self._vocabulary) if self._whole else self._schema.max_markers,
            None if self._whole else quotas_of(self._schema, self._vocabulary),
        )
        self._pages.append((np.diff(starts), kept, strong))

    def _derived(self, customers: list[CustomerRow]) -> Facts:
        return self._insights.facts(customers) if self._insights is not None else ()


assert SUBJECT.itemsize == SUBJECT_BYTES
