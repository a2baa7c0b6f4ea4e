"""What interactions in columns sum up to: the aggregation of `aggregate`, run on DuckDB.

Whoever has interactions and the DNA of their things, from the log or from files, gets genomes of
them here, in parts of about equal size by ranges of subjects: in bounded memory, and in time that
grows with the number of interactions and no faster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ibis.expr.types import Table

from edge_sdk.dna.schema import MAX_DOUBLINGS, DnaSchema
from edge_sdk.errors import LandmarkExhausted
from genome_server.genomes import aggregate, tables
from genome_server.genomes.database import Database

_Ints = npt.NDArray[np.int64]

INTERACTIONS_AT_ONCE: Final = 4_000_000
"""About as many interactions are aggregated at once."""


class Summed(NamedTuple):
    """The genomes of n subjects, in order: i has the markers from `starts[i]` on, in order."""

    who: _Ints  # [n]
    newest: _Ints  # [n], hours since the landmark
    starts: _Ints  # [n + 1]
    markers: _Ints
    states: _Ints


class Aggregation:
    """Interactions and the DNA of their things, in a database of its own. Use it as a context.

    `interactions` are Parquet files with the columns of `aggregate.INTERACTIONS`, read where they
    are; without them they are put in by `add`.
    """

    def __init__(
        self,
        path: Path,
        schema: DnaSchema,
        *,
        interactions: Collection[Path] = (),
        memory: str = "",
        at_once: int = INTERACTIONS_AT_ONCE,
    ) -> None:
        self.schema = schema
        self._at_once = at_once
        self._db = Database(path, memory)
        if interactions:
            self.interactions = self._db.attach(
                "interactions", aggregate.INTERACTIONS, list(interactions)
            )
        else:
            self.interactions = self._db.create("interactions", aggregate.INTERACTIONS)
        self._dna = self._db.create("dna", aggregate.DNA)
        self.once = self._db.create("once", aggregate.ONCE)
        self._kinds = self._db.create("kinds", aggregate.KINDS)
        self._half_lives = self._db.create("half_lives", aggregate.HALF_LIVES)
        self._growths = self._db.create("growths", aggregate.GROWTHS)
        self._ranks = self._db.create("ranks", aggregate.RANKS)
        self._db.insert("kinds", tables.kinds(schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def add(self, interactions: pa.Table) -> None:
        """Add interactions, as `aggregate.INTERACTIONS` says."""
        self._db.insert("interactions", interactions)

    def add_dna(self, dna: pa.Table) -> None:
        """Add the DNA of things, as `aggregate.DNA` says: before `summed`, each thing once."""
        self._db.insert("dna", dna)

    def add_once(self, once: pa.Table) -> None:
        """Add ids that count once, as `aggregate.ONCE` says."""
        self._db.insert("once", once)

    def run(self, expression: Table) -> pa.Table:
        """The rows of an expression over `interactions` and `once`."""
        return self._db.run(expression)

    def summed(self, ranks: pa.Table | None = None) -> Iterator[Summed]:
        """The genomes of every subject that did something, in order, part by part.

        With `ranks`, as `aggregate.RANKS` says, they are those of the subjects that have one, which
        is their number then. Raises LandmarkExhausted.
        """
        counted = aggregate.first_only(self.interactions, self.once)
        if ranks is None:
            done = aggregate.in_order(counted.select(*aggregate.DONE.names))
        else:
            self._db.replace("ranks", ranks)
            done = aggregate.arranged(counted, self._ranks)
        # Those of one subject lie together: a part is read at one stretch, and its groups are few.
        done = self._db.keep("done", done)
        aged = settle(self._db.run, done, self._dna)
        self._db.replace("half_lives", aged.half_lives)
        self._db.replace("growths", aged.growths)
        for low, high in tables.ranges(aged.people, aged.interactions // self._at_once + 1):
            yield self._part(aggregate.within(done, low, high))

    def _part(self, done: Table) -> Summed:
        votes = aggregate.votes(done, self._kinds, self._dna, self._half_lives)
        states = aggregate.states(votes, self._growths)
        who, markers, values = columns_of(self._db.run(aggregate.in_order(states)))
        people, newest = columns_of(self._db.run(aggregate.in_order(aggregate.newest(done))))
        starts = np.flatnonzero(np.diff(who, prepend=-1))
        if not np.array_equal(who[starts], people):
            raise ValueError("interactions with a thing that has no DNA, or of no known kind")
        return Summed(people, newest, np.append(starts, len(who)), markers, values)


class Aged(NamedTuple):
    """The tables of growth for what was done, how many people did it, and how often."""

    half_lives: pa.Table
    growths: pa.Table
    people: int
    interactions: int


def settle(run: Callable[[Table], pa.Table], done: Table, dna: Table) -> Aged:
    """Make the tables of growth on whatever engine runs expressions. Raises LandmarkExhausted."""
    for found in run(aggregate.exhausted(done, dna).limit(1)).to_pylist():
        raise LandmarkExhausted(
            f"an event lies {found['hours']} hours after the landmark, more than "
            f"{MAX_DOUBLINGS} half-lives of {found['half_life']} hours "
            f"(marker {found['marker']})"
        )
    (extent,) = run(aggregate.extent(done)).to_pylist()
    half_lives = run(dna.select("half_life").distinct())["half_life"].to_pylist()
    lives, growths = tables.growths(half_lives, extent["first"] or 0, extent["last"] or 0)
    return Aged(lives, growths, extent["people"] or 0, extent["count"])


def columns_of(found: pa.Table) -> list[_Ints]:
    """The columns of a table of integers."""
    return [column.to_numpy() for column in found.columns]
