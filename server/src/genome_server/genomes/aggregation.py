"""What interactions in columns sum up to: the aggregation of `aggregate`, run on DuckDB.

Whoever has interactions and the DNA of their things, from the log or from files, gets genomes of
them here, in parts of about equal size by ranges of subjects: in bounded memory, and in time that
grows with the number of interactions and no faster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ibis.expr.types import Table

from edge_sdk.dna.imprint import STATE_MAX
from edge_sdk.dna.schema import MAX_DOUBLINGS, DnaSchema
from edge_sdk.errors import LandmarkExhausted
from genome_server.genomes import aggregate, tables
from genome_server.genomes.database import Database, Hand, compiled

_Ints = npt.NDArray[np.int64]
_Numbers = npt.NDArray[np.integer[Any]]

INTERACTIONS_AT_ONCE: Final = 400_000
"""About as many interactions are aggregated at once: what they sum up to lies in the caches."""
# The DNA of all things is looked at for each part; so parts are not smaller than this many of it.
_DNA_AT_ONCE: Final = 2

_KEY_BITS: Final = 63
_DONE: Final = "done"
_PART: Final = "part"
_AGED: Final = "aged"


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
    are; without them they are put in by `add`. `at_once` says about how many are aggregated at once
    (0: what is fastest, hundreds of thousands).
    """

    def __init__(
        self,
        path: Path,
        schema: DnaSchema,
        *,
        interactions: Collection[Path] = (),
        memory: str = "",
        at_once: int = 0,
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
        self._there = {
            name: self._db.create(name, columns)
            for name, columns in {
                "met": aggregate.MET,
                "half_lives": aggregate.HALF_LIVES,
                "growths": aggregate.GROWTHS,
                "ranks": aggregate.RANKS,
            }.items()
        }
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
        return self._db.rows(expression)

    def write(self, folder: Path) -> dict[str, Path]:
        """Write interactions, DNA and once as Parquet files into a folder: each table's file."""
        return {
            name: self._db.write(name, folder / f"{name}.parquet")
            for name in ("interactions", "dna", "once")
        }

    def carrying(self, ranks: pa.Table) -> tuple[int, int, pa.Table]:
        """How many interactions there are of how many subjects that have a rank, as
        `aggregate.RANKS` says, and how many imprint each marker: (marker, times)."""
        self._db.replace("ranks", ranks)
        chosen = aggregate.chosen(
            aggregate.first_only(self.interactions, self.once), self._there["ranks"]
        )
        ((count, people),) = zip(
            *self.run(aggregate.many(chosen)).to_pydict().values(), strict=True
        )
        return count, people, self.run(aggregate.carrying(chosen, self._dna))

    def summed(self, ranks: pa.Table | None = None) -> Iterator[Summed]:
        """The genomes of every subject that did something, in order, part by part.

        With `ranks`, as `aggregate.RANKS` says, they are those of the subjects that have one, which
        is their number then. Raises LandmarkExhausted.
        """
        counted = aggregate.first_only(self.interactions, self.once)
        done = aggregate.weighed(counted, self._kinds)
        if ranks is not None:
            self._db.replace("ranks", ranks)
            done = aggregate.arranged(done, self._there["ranks"])
        # Those of one subject lie together: a part is read at one stretch, and its groups are few.
        done = self._db.keep(_DONE, aggregate.in_order(done))
        found = settle(self._db.rows, self._db.replace, done, self._dna)
        aged = self._db.keep(_AGED, aggregate.aged(self._dna, self._there["half_lives"]))
        growths = self._there["growths"]
        (loudest,) = self.run(aggregate.loudest(self._there["met"], aged, growths))["state"]
        yield from self._parts(found, loudest.as_py() or 0)

    def _parts(self, found: Settled, loudest: int) -> Iterator[Summed]:
        done, growths = aggregate.table(_PART, aggregate.DONE), self._there["growths"]
        votes = aggregate.votes(done, aggregate.table(_AGED, aggregate.AGED))
        newest = compiled(aggregate.in_order(aggregate.newest(done)))
        whole, halves = (
            compiled(aggregate.states(votes, growths, bounded=bounded)) for bounded in (True, False)
        )

        def part(hand: Hand, bounds: tuple[int, int]) -> Summed:
            hand.look(_PART, _DONE, "who", *bounds)
            people, newest_hours, times = columns_of(hand.run(newest))
            # The loudest was stopped at the most that there is: then it says nothing of its parts.
            bounded = loudest < STATE_MAX and int(times.max(initial=0)) * loudest <= STATE_MAX
            who, markers, values = columns_of(hand.run(whole if bounded else halves))
            return together(people, newest_hours, (who, markers, values))

        parts = tables.ranges(found.people, found.parts(self._at_once))
        yield from self._db.spread(part, parts)


class Engine(Protocol):
    """Another place than its own database where what an aggregation holds is summed."""

    def summed(self, held: Aggregation, ranks: pa.Table, folder: Path) -> Iterator[Summed]:
        """As `held.summed(ranks)`; `folder` is there to work in, for as long as sums come.

        Raises LandmarkExhausted, Refused, Unreachable.
        """
        ...


class Settled(NamedTuple):
    """How many people did something, how often, and the rows of DNA that there are."""

    people: int
    interactions: int
    dna: int

    def parts(self, at_once: int = 0) -> int:
        """In how many parts they are taken, of about `at_once` interactions (0: what is best)."""
        at_once = at_once or max(INTERACTIONS_AT_ONCE, _DNA_AT_ONCE * self.dna)
        return self.interactions // at_once + 1


def settle(
    rows: Callable[[Table], pa.Table],
    put: Callable[[str, pa.Table], None],
    done: Table,
    dna: Table,
) -> Settled:
    """Look at what was done, on whatever engine gives the rows of expressions.

    It puts the tables "met", "half_lives" and "growths". Raises LandmarkExhausted, and ValueError
    for a thing without DNA and a kind that is not known.
    """
    every = rows(aggregate.met(done))
    put("met", every)
    met = aggregate.table("met", aggregate.MET)
    for bare in rows(aggregate.bare(met, dna).limit(1)).to_pylist():
        raise ValueError(f"interactions with thing {bare['thing']}, which has no DNA")
    for found in rows(aggregate.exhausted(met, dna).limit(1)).to_pylist():
        raise LandmarkExhausted(
            f"an event lies {found['hours']} hours after the landmark, more than "
            f"{MAX_DOUBLINGS} half-lives of {found['half_life']} hours "
            f"(marker {found['marker']})"
        )
    first, last, least, last_who, times = (
        every[name].to_numpy() for name in ("first", "last", "least", "last_who", "times")
    )
    if least.min(initial=0) < 0:
        raise ValueError("interactions of a kind that is not known")
    hours = (int(first.min()), int(last.max())) if len(first) else (0, 0)
    lives = rows(dna.group_by("half_life").agg(n=dna.count()))
    half_lives, growths = tables.growths(lives["half_life"].to_pylist(), *hours)
    put("half_lives", half_lives)
    put("growths", growths)
    return Settled(
        int(last_who.max(initial=-1)) + 1, int(times.sum()), int(lives["n"].to_numpy().sum())
    )


def together(people: _Ints, newest: _Ints, sums: tuple[_Ints, _Ints, _Ints]) -> Summed:
    """The genomes of `people`, in order, of their sums: who, marker and state, in any order.

    Each of them has at least one, and no pair of who and marker stands twice.
    """
    who, markers, values = sums
    order = ordered(who - (people[0] if len(people) else 0), markers)
    starts = np.flatnonzero(np.diff(who[order], prepend=-1))
    return Summed(people, newest, np.append(starts, len(who)), markers[order], values[order])


def ordered(first: _Numbers, then: _Numbers) -> _Ints:
    """The order of rows by two columns of numbers from 0 on, of which no pair stands twice."""
    place = max(len(first) - 1, 0).bit_length()
    width = int(then.max(initial=0)).bit_length()
    if int(first.max(initial=0)).bit_length() + width + place > _KEY_BITS:
        return np.lexsort((then, first))
    # One number for all three sorts several times faster than anything by its order.
    keys = first.astype(np.int64) << (width + place)
    keys |= then.astype(np.int64) << place
    keys |= np.arange(len(keys))
    keys.sort()
    keys &= (1 << place) - 1
    return keys


def columns_of(found: pa.Table) -> list[_Ints]:
    """The columns of a table of integers."""
    return [column.to_numpy() for column in found.columns]
