"""Offers, compiled so that a decision costs what is near and not what is on offer.

Rules
-----
An offer is eligible where all of this holds; what is left out asks for nothing:
- area: the cell, or a cell that holds it, is one of `cells`; without a cell only offers without
  an area are near;
- place: one of `near_places` is among the place markers of the moment;
- time, channel, placement and size pass its gate; see `edge_sdk.engine.gates`;
- every `all_of`, at least one `any_of` and no `none_of` is among the markers of the moment or of
  the genome (without a genome: of the moment);
- the customer agreed to `purpose`; this SDK has every one of `required_features`;
- in the restricted tier: it has an end of validity of its own, which vouches for it where the
  release no longer does.

Theory of operation
-------------------
Areas lead to offers by way of regions; see `edge_sdk.engine.areas`. Offers that hang on a place and
not on an area are found by place marker, the rest is everywhere.

What is near depends on little: the regions, the places, the hour of the week (as far as any offer
cares, by the moment's clock and in each zone that offers name), channel and placement. A `Block`
holds the offers that pass everything which only depends on these, and the time from which and until
which that is so; blocks are cached under these and not under the cell. What is left are conditions
on markers and consents, which the block settles; see `edge_sdk.engine.blocks`.

Caches hold what can be computed again and are emptied when they have grown too large; they are
replaced or extended in single steps, so that any number of threads may decide at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.areas import AreaIndex
from edge_sdk.engine.arms import bases
from edge_sdk.engine.blocks import Block, Predicate, Rows
from edge_sdk.engine.cap_rules import CapRule, rules_of
from edge_sdk.engine.gates import Gate, Periods, ZoneHours
from edge_sdk.engine.policy import ONE
from edge_sdk.engine.zones import FOREVER_MS, zones_of
from edge_sdk.errors import FormatError
from edge_sdk.messages import release_pb2
from edge_sdk.slices import rest
from edge_sdk.sorted_sets import distinct, numbered
from edge_sdk.sync.trust import FEATURES

__all__ = ["FOREVER_MS", "Catalogue", "Where"]

_HOUR_MS: Final = 3_600_000
_MAX_BLOCKS: Final = 1024
# Rows in cached outcomes: some tens of megabytes.
_MAX_ROWS_KNOWN: Final = 1 << 20
_MAX_SELECTIONS: Final = 256
_NO_SIZES: Final[frozenset[str]] = frozenset()
_NO_CONDITIONS: Final[frozenset[int]] = frozenset()
_NOWHERE: Final[tuple[tuple[int, ...], tuple[int, ...]]] = ((), ())


class Where(NamedTuple):
    """What decides which offers are near. `regions` from `Catalogue.regions`; `weekday` is ISO."""

    regions: tuple[int, ...]
    places: frozenset[str]
    ms: int
    weekday: int
    hour: int
    channel: str
    placement: str
    restricted: bool = False


class Catalogue:
    """The offers of a release. Immutable but for its caches; thread-safe.

    A row is an offer's position in the part; `ids[row]` names it. `zones` and `placements` are
    those of the release. Raises FormatError where an offer cannot be read, or is of a zone that is
    not among `zones`, and where arms of placements cannot be.
    """

    def __init__(
        self,
        offers: Sequence[release_pb2.OfferSpec],
        vocabulary: Vocabulary,
        features: Collection[str] = FEATURES,
        *,
        zones: Iterable[release_pb2.TimeZone] = (),
        placements: Iterable[release_pb2.PlacementSpec] = (),
    ) -> None:
        number = len(offers)
        self.offers = offers
        self.ids = [""] * number
        self.row_of: dict[str, int] = {}
        self.zones = zones_of(zones)
        #: By placement: the sizes that fit; those that name none are not here.
        placed = list(placements)
        self.sizes = {one.id: frozenset(one.sizes) for one in placed if one.sizes}
        #: By arm the placement that it is one of.
        self.bases = bases(placed)
        self.groups = np.zeros(number, np.int32)
        self.categories = np.zeros(number, np.int32)
        self.caps: dict[str, CapRule] = rules_of(self.offers, self.zones)
        # By limit in milliseconds: the rows that may not be shown after so long without the server.
        self.offline_limits: dict[int, list[int]] = {}
        # By row: the files that an offer needs.
        self.assets: dict[int, Sequence[release_pb2.OfferAsset]] = {}
        self._vocabulary = vocabulary
        self._extra: dict[str, int] = {}
        # By row: when an offer is valid, where that is more than one time.
        self._periods: dict[int, Periods] = {}
        self._compile(features)
        self._blocks: dict[tuple[Any, ...], Block] = {}
        self._rows_known = 0
        self._selections: dict[frozenset[str], Rows] = {}

    @classmethod
    def compile(
        cls,
        part: release_pb2.OfferCatalogue,
        vocabulary: Vocabulary,
        placements: Iterable[release_pb2.PlacementSpec] = (),
    ) -> Catalogue:
        """The catalogue of a release's part. Raises like the constructor."""
        return cls(part.offers, vocabulary, zones=part.zones, placements=placements)

    def __len__(self) -> int:
        return len(self.ids)

    # Asking -------------------------------------------------------------------------------------

    def condition(self, marker: str) -> int | None:
        """The condition id of a marker: its index, or below 0; None where no condition names it."""
        index = self._vocabulary.index(marker)
        return self._extra.get(marker) if index is None else index

    def located(self, cell: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The cells that stand for `cell` at the resolutions that areas have, and the regions that
        it is in, ascending."""
        return _NOWHERE if cell is None else self._areas.located(cell)

    def parents(self, cell: int | None) -> tuple[int, ...]:
        """The cells that stand for `cell` at the resolutions that areas have."""
        return self.located(cell)[0]

    def regions(self, cell: int | None) -> tuple[int, ...]:
        """The regions that a cell is in, ascending."""
        return self.located(cell)[1]

    def regions_of(self, parents: Sequence[int]) -> tuple[int, ...]:
        """The same for what `parents` gave: a record holds these instead of the cell."""
        return self._areas.regions_of(parents)

    def near(self, where: Where) -> Block:
        """The block of a moment: built once, then found."""
        key = (
            where.regions,
            where.places & self._near_markers,
            self._hours.own[(where.weekday - 1) * 24 + where.hour],
            self._hours.classes(where.ms),
            where.channel if where.channel in self._channels else "",
            self._placements.get(where.placement),
            where.restricted,
        )
        block = self._blocks.get(key)
        if block is None or not block.from_ms <= where.ms < block.until_ms:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks = {}
            block = self._blocks[key] = self._build(where)
        return block

    def presentable(self, row: int, ms: int) -> bool:
        """Whether an offer may be shown at all at this time: within its validity, by this SDK."""
        supported = self._gates[self._gate_ids[row]].supported
        periods = self._periods.get(row)
        begins, ends = periods.edges(ms) if periods else (self._from[row], self._until[row])
        return supported and bool(begins <= ms < ends)

    def rows_of(self, ids: frozenset[str]) -> Rows:
        """The rows of the offers among `ids` that are in the catalogue, ascending.

        Remembered, as what caps keep away from somebody is the same set for a while.
        """
        known = self._selections.get(ids)
        if known is None:
            found = [row for row in map(self.row_of.get, ids) if row is not None]
            if len(self._selections) >= _MAX_SELECTIONS:
                self._selections = {}
            known = self._selections[ids] = np.array(sorted(found), np.int32)
        return known

    def remember(self, rows: int) -> None:
        """Count what a block is about to remember, and empty the caches when it is much."""
        self._rows_known += rows
        if self._rows_known > _MAX_ROWS_KNOWN:
            self._rows_known = rows
            self._blocks = {}

    # Building -----------------------------------------------------------------------------------

    def _build(self, where: Where) -> Block:
        found = [self._everywhere, *(self._areas.rows(r) for r in where.regions)]
        found += [self._place_rows[p] for p in where.places if p in self._place_rows]
        rows = distinct(np.concatenate(found)).astype(np.int32)
        near = len(rows)
        bits = self._hours.bits(where)
        fitting = self.sizes.get(where.placement, _NO_SIZES)
        gates, local = numbered(self._gate_ids[rows])
        passing = [self._gates[gate].open(where, bits, fitting) for gate in gates.tolist()]
        rows = rows[np.array(passing, bool)[local]]
        begins, ends = self._from[rows], self._until[rows]
        for at, row in enumerate(rows.tolist()) if self._periods else ():
            if row in self._periods:
                begins[at], ends[at] = self._periods[row].edges(where.ms)
        edges = np.concatenate((begins, ends))
        from_ms = int(edges[edges <= where.ms].max(initial=-FOREVER_MS))
        until_ms = int(edges[edges > where.ms].min(initial=FOREVER_MS))
        valid = (begins <= where.ms) & (where.ms < ends)
        if where.restricted:
            valid &= ends != FOREVER_MS
        return Block(self, rows[valid], near, from_ms, until_ms)

    def _compile(self, features: Collection[str]) -> None:
        gates: dict[Gate, int] = {}
        predicates: dict[Predicate, int] = {}
        groups: dict[str, int] = {}
        categories: dict[str, int] = {}
        areas: dict[frozenset[int], list[int]] = {}
        places: dict[str, list[int]] = {}
        everywhere: list[int] = []
        worth, priorities, bounds = [], [], []
        gate_ids, predicate_ids = [], []
        for row, offer in enumerate(self.offers):
            rest()
            name = self.ids[row] = offer.id
            if self.row_of.setdefault(name, row) != row:
                raise FormatError(f"offer {name!r} stands twice in the catalogue")
            worth.append(offer.value_micros - offer.cost_micros)
            priorities.append(offer.priority)
            targeting = offer.targeting
            if targeting.zone and targeting.zone not in self.zones:
                raise FormatError(f"offer {name!r} is of a zone without a table: {targeting.zone}")
            gate = Gate.of(offer, features)
            arms = [arm for arm, base in self.bases.items() if base in gate.placements]
            if arms:
                gate = gate._replace(placements=gate.placements.union(arms))
            gate_ids.append(gates.setdefault(gate, len(gates)))
            predicate = self._predicate(targeting, offer.purpose)
            predicate_ids.append(predicates.setdefault(predicate, len(predicates)))
            bounds.append(self._bounds(row, targeting))
            if offer.exclusivity_group:
                self.groups[row] = groups.setdefault(offer.exclusivity_group, len(groups) + 1)
            if offer.category:
                self.categories[row] = categories.setdefault(offer.category, len(categories) + 1)
            if offer.max_offline_age_hours:
                limit = offer.max_offline_age_hours * _HOUR_MS
                self.offline_limits.setdefault(limit, []).append(row)
            if offer.assets:
                self.assets[row] = offer.assets
            if targeting.cells:
                areas.setdefault(_area(offer), []).append(row)
            elif gate.places:
                for place in gate.places:
                    places.setdefault(place, []).append(row)
            else:
                everywhere.append(row)
        self.worth = np.array(worth, np.float64) / 1_000_000 * ONE
        self.priorities = np.array(priorities, np.int32)
        self._gates, self._gate_ids = list(gates), np.array(gate_ids, np.int32)
        self.predicates, self.predicate_ids = list(predicates), np.array(predicate_ids, np.int32)
        self._from, self._until = np.array(bounds, np.int64).reshape(-1, 2).T.copy()
        self._areas = AreaIndex(areas)
        self._everywhere = np.array(everywhere, np.int32)
        self._place_rows = {place: np.array(rows, np.int32) for place, rows in places.items()}
        self._near_markers = frozenset(place for gate in gates for place in gate.places)
        self._channels = frozenset(channel for gate in gates for channel in gate.channels)
        self._hours = ZoneHours(gates, self.zones)
        # By placement: what of it offers can tell apart, its name or its sizes.
        self._placements: dict[str, Any] = dict(self.sizes) if any(g.sizes for g in gates) else {}
        self._placements |= {name: name for gate in gates for name in gate.placements}

    def _bounds(self, row: int, targeting: release_pb2.Targeting) -> tuple[int, int]:
        """From when until when an offer is valid; of more than one time their hull."""
        if not targeting.windows:
            return targeting.valid_from_ms, targeting.valid_until_ms or FOREVER_MS
        try:
            periods = self._periods[row] = Periods.of(targeting)
        except FormatError as error:
            raise FormatError(f"offer {self.ids[row]!r}: {error}") from error
        return periods.starts[0], periods.ends[-1]

    def _predicate(self, targeting: release_pb2.Targeting, purpose: int) -> Predicate:
        return Predicate(
            self._conditions(targeting.all_of),
            self._conditions(targeting.any_of),
            self._conditions(targeting.none_of),
            purpose,
        )

    def _conditions(self, markers: Sequence[str]) -> frozenset[int]:
        return frozenset(map(self._condition_made, markers)) if markers else _NO_CONDITIONS

    def _condition_made(self, marker: str) -> int:
        known = self.condition(marker)
        if known is None:
            known = self._extra[marker] = -1 - len(self._extra)
        return known


def _area(offer: release_pb2.OfferSpec) -> frozenset[int]:
    try:
        return frozenset(int(cell, 16) for cell in offer.targeting.cells)
    except ValueError as error:
        raise FormatError(f"offer {offer.id!r} has an area with a cell that is none") from error
