"""The offers near one kind of moment, and which of them a customer's markers leave.

A block is what `Catalogue.near` finds: every offer that passes all that only depends on where and
when. Its offers' conditions on markers and consents are settled here. Equal conditions are one
predicate; a Python integer is a set of predicates, and one AND or OR settles all of them for one
marker. Outcomes are remembered under the markers and consents that the block looks at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.engine.stacks import take
from edge_sdk.sorted_sets import numbered

if TYPE_CHECKING:
    from edge_sdk.engine.catalogue import Catalogue

Rows = npt.NDArray[np.int32]
Vectors = npt.NDArray[np.float32]

# The block is valued as a whole where at least one in so many of its offers is eligible.
_MOST: Final = 2
_VECTOR_WEIGHT: Final = 16

_NOTHING_MET: Final[frozenset[int]] = frozenset()


class Predicate(NamedTuple):
    """What an offer asks of markers (as condition ids) and consents; equal ones are one."""

    all_of: frozenset[int]
    any_of: frozenset[int]
    none_of: frozenset[int]
    purpose: int


class Eligible:
    """Offers that are eligible, ascending rows, with what choosing among them needs.

    `worth` is float64[k], what a success is worth in 2^-16, net of its cost, and `half_worth` half
    of that, exactly, for models that give twice their values; `priorities` int32[k],
    `groups` and `categories` int32[k] (0: none) are None where they make no difference.

    Where most of the block is eligible, the whole block is valued and `positions` int64[k] picks
    the eligible: its vectors are the same for every customer and stay in the processor's cache,
    while a selection of them for each would not. `positions` is None where that picks all, and
    where the eligible have vectors of their own.
    """

    __slots__ = (
        "_block",
        "_shared",
        "_vectors",
        "categories",
        "groups",
        "half_worth",
        "positions",
        "priorities",
        "rows",
        "worth",
    )

    def __init__(self, block: Block, positions: npt.NDArray[np.int64]) -> None:
        self._block = block
        self._vectors: Vectors | None = None
        self.rows = block.rows[positions]
        self.worth = block.worth[positions]
        self.half_worth = self.worth / 2
        self.priorities = None if block.priorities is None else block.priorities[positions]
        self.groups = None if block.groups is None else block.groups[positions]
        self.categories = None if block.categories is None else block.categories[positions]
        self._shared = len(positions) * _MOST >= len(block.rows)
        some = self._shared and len(positions) < len(block.rows)
        self.positions = positions if some else None

    @property
    def size(self) -> int:
        """About how much memory this takes, in rows; vectors of its own weigh more."""
        return len(self.rows) * (1 if self._shared else _VECTOR_WEIGHT)

    def vectors(self, of_all: Vectors) -> Vectors:
        """The vectors to value, out of those of the whole catalogue, float32[offers, d]."""
        found = self._vectors
        if found is None:
            found = self._block.vectors(of_all) if self._shared else take(of_all, self.rows)
            self._vectors = found
        return found


class Block:
    """The offers that are near at one kind of moment, and how to settle their conditions."""

    def __init__(
        self, catalogue: Catalogue, rows: Rows, near: int, from_ms: int, until_ms: int
    ) -> None:
        self.rows = rows
        self.near = near
        self.from_ms = from_ms
        self.until_ms = until_ms
        self.worth = catalogue.worth[rows]
        priorities, groups = catalogue.priorities[rows], catalogue.groups[rows]
        self.priorities = priorities if len(set(priorities.tolist())) > 1 else None
        self.groups = groups if groups.any() else None
        categories = catalogue.categories[rows]
        self.categories = categories if categories.any() else None
        self._remember = catalogue.remember
        ids, self._local = numbered(catalogue.predicate_ids[rows])
        self._size = len(ids)
        self._all: dict[int, int] = {}
        self._none: dict[int, int] = {}
        self._any: dict[int, int] = {}
        self._purposes: dict[int, int] = {}
        self._with_any = 0
        for position, number in enumerate(ids.tolist()):
            predicate = catalogue.predicates[number]
            bit = 1 << position
            for markers, sets in (
                (predicate.all_of, self._all),
                (predicate.any_of, self._any),
                (predicate.none_of, self._none),
            ):
                for marker in markers:
                    sets[marker] = sets.get(marker, 0) | bit
            if predicate.any_of:
                self._with_any |= bit
            if predicate.purpose:
                known = self._purposes.get(predicate.purpose, 0)
                self._purposes[predicate.purpose] = known | bit
        self.conditions = frozenset(self._all) | frozenset(self._none) | frozenset(self._any)
        self._consents = sum(1 << purpose for purpose in self._purposes)
        self._known: dict[tuple[frozenset[int], int], Eligible] = {}
        self._vectors: Vectors | None = None

    def vectors(self, of_all: Vectors) -> Vectors:
        """The vectors of the block's offers, out of those of the catalogue; taken once."""
        if self._vectors is None:
            self._vectors = take(of_all, self.rows)
        return self._vectors

    def eligible(
        self, conditions: Iterable[int], genome: npt.NDArray[np.int64], consents: int
    ) -> Eligible:
        """The offers whose conditions hold.

        `conditions` are the ids of the moment's markers, `genome` the indices int64[n] of the
        customer's, `consents` the consent bits.
        """
        met = _NOTHING_MET
        if self.conditions:
            met = self.conditions.intersection(conditions)
            if len(genome):
                met |= self.conditions.intersection(genome.tolist())
        key = (met, consents & self._consents)
        known = self._known.get(key)
        if known is None:
            known = Eligible(self, self._settle(met, consents))
            self._remember(known.size)
            self._known[key] = known
        return known

    def _settle(self, met: frozenset[int], consents: int) -> npt.NDArray[np.int64]:
        """Positions in the block of the offers whose predicates hold, ascending."""
        failed = hit = 0
        for marker, needing in self._all.items():
            if marker not in met:
                failed |= needing
        for marker in met:
            failed |= self._none.get(marker, 0)
            hit |= self._any.get(marker, 0)
        failed |= self._with_any & ~hit
        for purpose, asking in self._purposes.items():
            if not consents >> purpose & 1:
                failed |= asking
        if not failed:
            return np.arange(len(self.rows))
        size = (self._size + 7) // 8
        packed = np.frombuffer(failed.to_bytes(size, "little"), np.uint8)
        passed = np.unpackbits(packed, bitorder="little", count=self._size) == 0
        return np.flatnonzero(passed[self._local])
