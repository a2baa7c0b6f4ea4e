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

INTERACTIONS_AT_ONCE: Final = 2_000_000
"""About as many interactions are aggregated at once."""


class Summed(NamedTuple):
    """The genomes of n subjects, in order: i has the markers from `starts[i]` on, in order."""

    subjects: npt.NDArray[np.void]  # V16[n]
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
        self._wanted = self._db.create("wanted", aggregate.SUBJECTS)
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

    def summed(self, subjects: Collection[bytes] | None = None) -> Iterator[Summed]:
        """The genomes of every subject that did something (or of these), in order, part by part.

        Raises LandmarkExhausted, with the index of the marker that lies too far after it.
        """
        chosen = aggregate.first_only(self.interactions, self.once)
        if subjects is not None:
            self._db.replace("wanted", tables.subjects(sorted(subjects)))
            chosen = chosen.semi_join(self._wanted, ["subject_high", "subject_low"])
        aged = settle(self._db.run, self.interactions, self._dna)
        self._db.replace("half_lives", aged.half_lives)
        self._db.replace("growths", aged.growths)
        for low, high in tables.ranges(aged.interactions // self._at_once + 1):
            yield self._part(aggregate.within(chosen, low, high))

    def _part(self, interactions: Table) -> Summed:
        votes = aggregate.votes(interactions, self._kinds, self._dna, self._half_lives)
        states = aggregate.states(votes, self._growths)
        found = columns_of(self._db.run(aggregate.in_order(states)))
        newest = columns_of(self._db.run(aggregate.in_order(aggregate.newest(interactions))))
        high, low, markers, values = found
        starts = np.flatnonzero(_differs(high) | _differs(low))
        if not (np.array_equal(high[starts], newest[0]) and np.array_equal(low[starts], newest[1])):
            raise ValueError("interactions with a thing that has no DNA, or of no known kind")
        return Summed(
            tables.keys(newest[0], newest[1]),
            newest[2],
            np.append(starts, len(high)),
            markers,
            values,
        )


class Aged(NamedTuple):
    """The tables of growth for some interactions, and how many of them there are."""

    half_lives: pa.Table
    growths: pa.Table
    interactions: int


def settle(run: Callable[[Table], pa.Table], interactions: Table, dna: Table) -> Aged:
    """Make the tables of growth on whatever engine runs expressions. Raises LandmarkExhausted."""
    for found in run(aggregate.exhausted(interactions, dna).limit(1)).to_pylist():
        raise LandmarkExhausted(
            f"an event lies {found['hours']} hours after the landmark, more than "
            f"{MAX_DOUBLINGS} half-lives of {found['half_life']} hours "
            f"(marker {found['marker']})"
        )
    (extent,) = run(aggregate.extent(interactions)).to_pylist()
    half_lives = run(dna.select("half_life").distinct())["half_life"].to_pylist()
    first, last = extent["first"] or 0, extent["last"] or 0
    return Aged(*tables.growths(half_lives, first, last), int(extent["interactions"]))


def columns_of(found: pa.Table) -> list[_Ints]:
    """The columns of a table of integers."""
    return [column.to_numpy() for column in found.columns]


def _differs(ordered: _Ints) -> npt.NDArray[np.bool_]:
    """Where a value differs from the one before it."""
    differs = np.ones(len(ordered), bool)
    differs[1:] = ordered[1:] != ordered[:-1]
    return differs
