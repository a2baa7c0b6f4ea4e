"""What the server keeps of one subject, and the row that devices get of it.

A subject's state is its own: its imprint sums, the latest word on each consent,
and the latest word on each link. A row is a person's: subjects that are linked
are one person, whose genome is the sum of theirs that count for personalisation
(see `consents`). So a link and a consent are undone by forgetting them; nothing
has to be taken apart.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from edge_sdk.dna.genome import Row, block_from_rows, rows_from_block
from edge_sdk.dna.imprint import GenomeState, profile_strengths
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.errors import FormatError
from genome_edge.v1 import dna_pb2
from genome_server.errors import Refused
from genome_server.genomes.bulk import encode_rows
from genome_server.genomes.consents import counting, homes, tells_home
from genome_server.genomes.events import ConsentSaid, LinkSaid
from genome_server.store.rows import CONSENT_PERSONALISATION, CustomerRow, GenomeRecord

if TYPE_CHECKING:
    from genome_server.derived import Insights
    from genome_server.store.protocol import Store

GENOMES: Final = "genomes"
"""The consumer whose offset says how far the log is in the genomes of an epoch."""
ONCE: Final = "genomes-once"
"""The consumer whose offset (epoch 0) says how far ids and consents were taken from the log."""

BUILT_KEY: Final = "genomes_schema"
LOG_KEY: Final = "genomes_log"
"""The log that offsets and seen ids speak of: where it was lost or restored, they say nothing."""

# Different profiles that are remembered as strengths.
_MOST_PROFILES: Final = 50_000
_HEAD: Final = struct.Struct("<III")
_CONSENT: Final = struct.Struct("<BqB")
_LINK: Final = struct.Struct("<16sqB")

_K = TypeVar("_K")
# (time in ms, careful): the greater word counts. Careful is withdrawn, or not linked.
_Word = tuple[int, bool]


def seen_scope(log: str) -> str:
    """Where the ids are kept that the genomes have counted from a log."""
    return f"genomes:{log}"


@dataclass(slots=True)
class SubjectState:
    """Everything that the log says about one subject's genome."""

    imprints: GenomeState = field(default_factory=GenomeState)
    consents: dict[int, _Word] = field(default_factory=dict)
    links: dict[bytes, _Word] = field(default_factory=dict)

    def hear_consent(self, said: ConsentSaid) -> bool:
        """Take in what was said; whether it is the latest word on that purpose."""
        return _hear(self.consents, said.purpose, (said.time_ms, not said.granted))

    def hear_link(self, other: bytes, said: LinkSaid) -> bool:
        """Take in what was said; whether it is the latest word on that link."""
        return _hear(self.links, other, (said.time_ms, not said.linked))

    @property
    def linked(self) -> list[bytes]:
        """The subjects that are the same person, as far as this one knows."""
        return sorted(other for other, (_, apart) in self.links.items() if not apart)

    def to_bytes(self) -> bytes:
        """Canonical: equal states give equal bytes."""
        imprints = self.imprints.to_bytes()
        consents = [_CONSENT.pack(k, at, no) for k, (at, no) in sorted(self.consents.items())]
        links = [_LINK.pack(k, at, no) for k, (at, no) in sorted(self.links.items())]
        head = _HEAD.pack(len(imprints), len(consents), len(links))
        return b"".join((head, imprints, *consents, *links))

    @classmethod
    def from_bytes(cls, data: bytes) -> SubjectState:
        """Read what `to_bytes` wrote. Raises FormatError."""
        if len(data) < _HEAD.size:
            raise FormatError("a genome's state is cut")
        size, consents, links = _HEAD.unpack_from(data)
        at = _HEAD.size + size
        if len(data) != at + consents * _CONSENT.size + links * _LINK.size:
            raise FormatError("a genome's state is cut")
        state = cls(GenomeState.from_bytes(data[_HEAD.size : at]))
        for _ in range(consents):
            purpose, time_ms, careful = _CONSENT.unpack_from(data, at)
            state.consents[purpose] = (time_ms, bool(careful))
            at += _CONSENT.size
        for _ in range(links):
            other, time_ms, careful = _LINK.unpack_from(data, at)
            state.links[other] = (time_ms, bool(careful))
            at += _LINK.size
        return state


def links_of(state: bytes) -> list[bytes]:
    """The subjects that are the same person as one whose `SubjectState` these bytes are."""
    # Most have none, and what they imprinted is not looked at.
    *_, links = _HEAD.unpack_from(state)
    return SubjectState.from_bytes(state).linked if links else []


def _hear(words: dict[_K, _Word], key: _K, word: _Word) -> bool:
    known = words.get(key)
    if known is not None and known >= word:
        return False
    words[key] = word
    return True


def person_of(subject: bytes, linked: Callable[[bytes], Iterable[bytes]]) -> list[bytes]:
    """All subjects that are one person with this one, itself included, in order.

    `linked` gives the subjects that one is linked to directly.
    """
    found, waiting = {subject}, [subject]
    while waiting:
        new = set(linked(waiting.pop())) - found
        found |= new
        waiting.extend(new)
    return sorted(found)


Facts = tuple[tuple[str, int], ...]
"""Facts of a profile: markers with their salience in 1/256."""

Person = tuple[Mapping[bytes, SubjectState], Mapping[bytes, CustomerRow]]
"""The subjects that are one person, at least one, and those of them that are known as customers."""


class Profiles:
    """What the facts of profiles come to. Many customers have the same ones, which are kept.

    Without `homes` what says where somebody lives is left out.
    """

    def __init__(self, schema: DnaSchema, vocabulary: Vocabulary, *, homes: bool) -> None:
        self._schema = schema
        self._vocabulary = vocabulary
        self._homes = homes
        self._known: dict[Facts, dict[int, int]] = {}

    def strengths(self, facts: Facts) -> dict[int, int]:
        """Strength (q24) by index. What is returned is not to be changed."""
        found = self._known.get(facts)
        if found is None:
            told = [fact for fact in facts if self._homes or not tells_home(fact[0])]
            found = profile_strengths(self._schema, self._vocabulary, told)
            if len(self._known) < _MOST_PROFILES:
                self._known[facts] = found
        return found


class RowEncoder:
    """Encodes persons under one schema and vocabulary; `insights` adds what builds derive."""

    def __init__(
        self, schema: DnaSchema, vocabulary: Vocabulary, insights: Insights | None = None
    ) -> None:
        self._insights = insights
        self._schema = schema
        self._vocabulary = vocabulary
        self._lineage = schema.lineage(vocabulary)
        # A row means the same under a vocabulary that has grown: its bytes must not change with it.
        self._lineage.vocabulary_size = 0
        self._homes = homes(vocabulary)
        self._profiles = Profiles(schema, vocabulary, homes=False)

    def people(self, people: Sequence[Person]) -> Iterator[GenomeRecord]:
        """A record for each subject of these persons: its own state, its person's markers.

        Each keeps its own consents: to agree on one device is not to agree on another. The markers
        are those that it may have where it agreed to personalisation.
        """
        imprints: list[GenomeState] = []
        profiles: list[dict[int, int]] = []
        places: list[int] = []
        for states, customers in people:
            made: dict[tuple[bytes, ...], int] = {}
            for subject in states:
                counted: tuple[bytes, ...] = (subject,)
                if len(states) > 1:
                    counted = tuple(
                        counting(states, customers, CONSENT_PERSONALISATION, asker=subject)
                    )
                if counted not in made:
                    made[counted] = len(imprints)
                    imprints.append(self._imprints([states[one] for one in counted]))
                    known = [customers[one] for one in counted if one in customers]
                    profiles.append(self._profile(known))
                places.append(made[counted])
        rows = encode_rows(imprints, profiles, self._schema, self._vocabulary)
        everybody = (
            (subject, state, customers.get(subject))
            for states, customers in people
            for subject, state in states.items()
        )
        for place, (subject, state, customer) in zip(places, everybody, strict=True):
            row, consents = rows[place], customer.consents or 0 if customer is not None else 0
            own = Row(subject, consents, row.as_of_hour, row.indices, row.codes)
            yield GenomeRecord(
                subject=subject,
                epoch=self._schema.epoch,
                state=state.to_bytes(),
                newest_hour=state.imprints.newest_hour or 0,
                row=block_from_rows(self._lineage, [own]).SerializeToString(),
                consents=consents,
            )

    def _imprints(self, states: Sequence[SubjectState]) -> GenomeState:
        """What some subjects of one person sum up to, without where they live."""
        total = _summed(states)
        if not self._homes or self._homes.isdisjoint(total.values):
            return total
        kept = {i: value for i, value in total.values.items() if i not in self._homes}
        return GenomeState(kept, total.newest_hour)

    def _profile(self, customers: Sequence[CustomerRow]) -> dict[int, int]:
        facts = tuple(fact for customer in customers for fact in customer.markers)
        if self._insights is not None:
            facts += self._insights.facts(customers)
        return self._profiles.strengths(facts)


def _summed(states: Collection[SubjectState]) -> GenomeState:
    """What a person's subjects sum up to."""
    if len(states) == 1:
        return next(iter(states)).imprints
    total = GenomeState()
    for state in states:
        total.merge(state.imprints)
    return total


def row_of(record: GenomeRecord) -> Row:
    """The row that a record holds. Raises FormatError."""
    return rows_from_block(dna_pb2.GenomeBlock.FromString(record.row))[0]


def built_schema(store: Store) -> DnaSchema | None:
    """The schema under which the genomes in the store were built; None before the first build."""
    text = store.meta(BUILT_KEY)
    return None if text is None else _parse_schema(text)


@lru_cache(maxsize=8)
def _parse_schema(text: str) -> DnaSchema:
    # One object for one text: what it has worked out about a vocabulary is kept with it.
    return DnaSchema.from_proto(dna_pb2.DnaSchema.FromString(bytes.fromhex(text)))


def needed_schema(store: Store) -> DnaSchema:
    """The schema of the genomes. Raises Refused before the first build."""
    schema = built_schema(store)
    if schema is None:
        raise Refused("there are no genomes yet; run: genome-server build")
    return schema


def set_built_schema(store: Store, schema: DnaSchema) -> None:
    """Remember under which schema the genomes in the store are."""
    store.set_meta(BUILT_KEY, schema.to_proto().SerializeToString(deterministic=True).hex())
