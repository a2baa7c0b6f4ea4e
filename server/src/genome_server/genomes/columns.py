"""The log in columns: what its events did to things, as the aggregation takes it.

What a kind imprints of a product or an offer is one thing with a number, whatever was paid; what
an event imprints by itself (explicit DNA) is a thing of its own, with its votes as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from edge_sdk.dna.genome import SUBJECT_BYTES
from edge_sdk.dna.schema import DnaSchema
from genome_server.genomes import aggregate, tables
from genome_server.genomes.bodies import OUTCOME, Fields
from genome_server.genomes.events import (
    MOST_GIVEN,
    ConsentSaid,
    EventReader,
    Exploded,
    Imprint,
    LinkSaid,
    MarkerVote,
    Skip,
)
from genome_server.genomes.reading import BodyReader, skipped
from genome_server.log.reader import LogBatch

_Ints = npt.NDArray[np.int64]

_REASONS: Final = {skipped(reason): reason for reason in Skip}


class ThingDna(NamedTuple):
    """One marker of a thing: a row of `aggregate.DNA` with the marker's name for its index."""

    thing: int
    marker: str
    half_life: int
    salience: int


class InColumns(NamedTuple):
    """What some events do: tables of `aggregate.INTERACTIONS` and `aggregate.ONCE`.

    `words` are consents and links with their offsets, `skips` what was passed over.
    """

    interactions: pa.Table
    once: pa.Table
    words: list[tuple[int, ConsentSaid | LinkSaid]]
    skips: Counter[Skip]


class ColumnReader(BodyReader):
    """Turns batches of the log into columns. Good for one schema and one set of documents."""

    def __init__(self, schema: DnaSchema, reader: EventReader) -> None:
        super().__init__(reader)
        self._landmark = schema.landmark_hour
        self._kinds = {kind.name: i for i, kind in enumerate(schema.kinds)}
        self._kind_of: list[int] = []  # by the number of a thing
        self._people: dict[bytes, int] = {}
        self._by_themselves: dict[tuple[MarkerVote, ...], int] = {}
        self._fresh: list[ThingDna] = []

    def read(self, batches: Sequence[LogBatch]) -> InColumns:
        """What the events of these batches do. Raises LandmarkExhausted, LogFormatError."""
        found = self._find(batches)
        codes, counts = np.unique(found.given[found.given < 0], return_counts=True)
        skips = Counter(
            {
                _REASONS[code]: count
                for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
                if code in _REASONS
            }
        )
        kept = np.flatnonzero(found.given >= 0)
        given = found.given[kept]
        events = found.offsets[kept]
        interactions = [
            self._numbers_of(found.subjects[kept]),
            given.astype(np.int32),
            np.array(self._kind_of, np.int32)[given],
            (found.hours[kept] - self._landmark).astype(np.int32),
            tables.units(found.amounts[kept]),
            events,
        ]
        ids = [found.once[i] for i in kept.tolist()]
        has_id = np.array([one is not None for one in ids], bool)
        known = np.frombuffer(b"".join(one for one in ids if one is not None), "V16")
        return InColumns(
            pa.table(interactions, schema=aggregate.INTERACTIONS),
            pa.table([*tables.halves(known), events[has_id]], schema=aggregate.ONCE),
            found.words,
            skips,
        )

    @property
    def people(self) -> Mapping[bytes, int]:
        """The numbers of the subjects that were met, from 0 on, in their order."""
        return self._people

    def fresh_dna(self) -> list[ThingDna]:
        """The DNA of the things that were met since this was asked last."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def _numbers_of(self, subjects: npt.NDArray[np.void]) -> npt.NDArray[np.int32]:
        data, people = subjects.tobytes(), self._people
        numbers = [
            people.setdefault(data[i : i + SUBJECT_BYTES], len(people))
            for i in range(0, len(data), SUBJECT_BYTES)
        ]
        return np.array(numbers, np.int32)

    def _part_ends(self, fields: Fields) -> _Ints:
        return fields.high

    def _give(
        self, payload: int, kind: str, product: str, offer: str, amount_micros: int, more: Exploded
    ) -> int | Skip:
        del amount_micros  # it is a column of its own
        outcome = payload == OUTCOME
        exploded = self._reader.thing(kind, product, offer, outcome=outcome, more=more)
        if isinstance(exploded, Skip):
            return exploded
        return self._thing(self._kinds[kind], exploded)

    def _give_once(self, effect: Imprint) -> int:
        number = self._by_themselves.get(effect.votes)
        if number is None:
            if len(self._by_themselves) >= MOST_GIVEN:
                self._by_themselves.clear()
            votes = ((name, vote, half_life) for name, half_life, vote in effect.votes)
            number = self._by_themselves[effect.votes] = self._thing(tables.AS_IT_IS, votes)
        return number

    def _thing(self, kind: int, dna: Iterable[tuple[str, int, int]]) -> int:
        number = len(self._kind_of)
        self._kind_of.append(kind)
        self._fresh.extend(
            ThingDna(number, marker, half_life, salience) for marker, salience, half_life in dna
        )
        return number
