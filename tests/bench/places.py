"""How well a place layer made of what was seen earlier tells where somebody is later.

Check-ins in New York in order of time. The venues of the first three fifths become places, in every
shape: the cell of each venue and `ring` rings around it at a resolution, or a disk around it in
metres. On the fourth fifth every shape of every kind is judged; what `examples.adapters.places_nyc`
does was chosen from that table. It makes its places of the venues of four fifths, and the last
fifth says what they are worth. A later check-in counts as caught where its cell is in a place of
its kind; precision is over all check-ins, also those at homes, offices and streets.

Coordinates here are the venues' own, and no phone knows them like that: each check-in is moved by
a normal error of 20 m to the north and to the east before it becomes a cell, as a fix between
houses is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import h3.api.basic_int as h3
import numpy as np
import numpy.typing as npt

from edge_sdk import Context
from edge_sdk.engine.cells import DEFAULT_RESOLUTION, parent, resolution
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.moments import moment_of
from edge_sdk.engine.places import PlaceLayer
from examples.adapters import places_nyc
from examples.datasets import DataSetMissing, find
from genome_edge.v1 import release_pb2
from genome_server.ingest.areas import disk
from tests.bench.figures import Figures

SEED: Final = 7
FIX_M: Final = 20.0
_DEGREE_M: Final = 111_195.0
_RINGS: Final = tuple((r, ring) for r in (11, 10, 9, 8) for ring in (0, 1, 2))
_RADII: Final = (25, 50, 75, 100, 150)
# Wide places: a disk of some hundred metres around every venue of them.
_WIDE: Final = {"airport": (250, 500, 1000), "park": (250, 500), "station": (250,)}
_COMMON: Final = 10

Cells = npt.NDArray[np.uint64]


class Shape(NamedTuple):
    """What a venue becomes: its cell at a resolution with so many rings around it, or a disk."""

    resolution: int = 0
    ring: int = 0
    radius_m: int = 0

    def __str__(self) -> str:
        if self.radius_m:
            return f"{self.radius_m} m"
        return f"r{self.resolution} k{self.ring}"


class Checkins(NamedTuple):
    """Check-ins in order of time: the kind (None: none of ours) and the cell of the fix."""

    table: Any
    kinds: npt.NDArray[np.object_]
    cells: Cells

    def part(self, first: float, last: float) -> Checkins:
        """Those from one share of them to another."""
        begin, end = (round(len(self.cells) * share) for share in (first, last))
        return Checkins(
            self.table.slice(begin, end - begin), self.kinds[begin:end], self.cells[begin:end]
        )


class Score(NamedTuple):
    """How well one kind is told."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def __str__(self) -> str:
        return f"{self.precision:.2f}/{self.recall:.2f}"


def read() -> Checkins:
    """Read the data set. Raises DataSetMissing where it is not on this machine."""
    table = places_nyc.read_checkins(find("foursquare_nyc")).sort_by("utc_date_time")
    rng = np.random.default_rng(SEED)
    north, east = rng.normal(0.0, FIX_M / _DEGREE_M, (2, table.num_rows))
    lat = table["lat"].to_numpy() + north
    lng = table["lon"].to_numpy() + east / np.cos(np.radians(lat))
    cells = [
        h3.latlng_to_cell(*point, DEFAULT_RESOLUTION)
        for point in zip(lat.tolist(), lng.tolist(), strict=True)
    ]
    known = {name: places_nyc.kind_of(name) for name in set(table["category_name"].to_pylist())}
    kinds = [known[name] for name in table["category_name"].to_pylist()]
    return Checkins(table, np.array(kinds, object), np.array(cells, np.uint64))


def kinds_asked(checkins: Checkins) -> list[str]:
    """Hotel, airport and the ten most common kinds."""
    found, counts = np.unique([kind for kind in checkins.kinds if kind], return_counts=True)
    common = [str(found[at]) for at in np.argsort(-counts)]
    special = ["hotel", "airport"]
    return special + [kind for kind in common if kind not in special][:_COMMON]


def layer_cells(venues: Iterable[places_nyc.Venue], kind: str, shape: Shape) -> dict[int, Cells]:
    """The cells of a kind by resolution, made of the venues that were seen often enough."""
    least = places_nyc.least_checkins(kind)
    found: dict[int, set[int]] = {}
    for venue in venues:
        if places_nyc.kind_of(venue.category) != kind or venue.checkins < least:
            continue
        if shape.radius_m:
            for cell, _ in disk(venue.lat, venue.lng, shape.radius_m, 1.0):
                found.setdefault(resolution(cell), set()).add(cell)
        else:
            middle = h3.latlng_to_cell(venue.lat, venue.lng, shape.resolution)
            found.setdefault(shape.resolution, set()).update(h3.grid_disk(middle, shape.ring))
    return {res: np.array(sorted(cells), np.uint64) for res, cells in found.items()}


def inside(cells: Cells, layer: Mapping[int, Cells]) -> npt.NDArray[np.bool_]:
    """Which of some cells of the finest resolution lie in a layer."""
    hits = np.zeros(len(cells), bool)
    for res, there in layer.items():
        at = np.array([parent(cell, res) for cell in cells.tolist()], np.uint64)
        hits |= np.isin(at, there)
    return hits


def judged(later: Checkins, kind: str, layer: Mapping[int, Cells]) -> Score:
    """Precision and recall of a kind on later check-ins."""
    told, truly = inside(later.cells, layer), later.kinds == kind
    right = float(np.count_nonzero(told & truly))
    return Score(right / max(1, told.sum()), right / max(1, truly.sum()))


def shapes_of(kind: str) -> list[Shape]:
    """What is tried for a kind."""
    radii = (*_RADII, *_WIDE.get(kind, ()))
    return [Shape(*one) for one in _RINGS] + [Shape(radius_m=radius) for radius in radii]


def table_of(checkins: Checkins, kinds: Sequence[str]) -> dict[str, dict[Shape, Score]]:
    """Every shape of every kind: of the first three fifths, judged on the fourth."""
    venues = places_nyc.venues_of(checkins.part(0.0, 0.6).table)
    later = checkins.part(0.6, 0.8)
    return {
        kind: {
            shape: judged(later, kind, layer_cells(venues, kind, shape))
            for shape in shapes_of(kind)
        }
        for kind in kinds
    }


def best_of(tried: Mapping[Shape, Score]) -> Shape:
    """The shape with the best F1; of equal ones the finest."""
    return max(tried, key=lambda shape: tried[shape].f1)


def declared_wins(later: Checkins, layer: release_pb2.PlaceTable) -> float:
    """The share of check-ins at which a declared place is the only one of the moment."""
    release = release_from_documents([{"id": "any", "all_of": ["tag:any"]}])
    resolver, right = PlaceLayer.from_proto(layer), 0
    known = np.flatnonzero(later.kinds != None)[:2_000]  # noqa: E711 an array is compared
    for at in known.tolist():
        kind = str(later.kinds[at])
        context = Context(cell=int(later.cells[at]), place=kind)
        moment = moment_of(release, context, context.local_time(0), "", resolver)
        right += moment.places == {f"place:{kind}"}
    return right / len(known)


def layers_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, Cells]]:
    """The cells by kind and resolution of places as they are imported."""
    found: dict[str, dict[int, set[int]]] = {}
    for row in rows:
        for text in row["cells"]:
            cell = int(text, 16)
            found.setdefault(row["kind"], {}).setdefault(resolution(cell), set()).add(cell)
    return {
        kind: {res: np.array(sorted(cells), np.uint64) for res, cells in layer.items()}
        for kind, layer in found.items()
    }


def place_table(layers: Mapping[str, Mapping[int, Cells]]) -> release_pb2.PlaceTable:
    """The part of a release that holds these layers."""
    rows = sorted(
        (int(cell), number)
        for number, layer in enumerate(layers.values())
        for cells in layer.values()
        for cell in cells
    )
    table = release_pb2.PlaceTable(markers=[f"place:{kind}" for kind in layers])
    table.cells.extend(cell for cell, _ in rows)
    table.kinds.extend(number for _, number in rows)
    table.saliences_q8.extend([256] * len(rows))
    table.resolutions.extend(sorted({res for layer in layers.values() for res in layer}))
    return table


def show(tables: Mapping[str, Mapping[Shape, Score]]) -> None:
    """Print the tables as docs/moments.md has them: precision/recall."""
    for title, wanted in (
        ("rings", [Shape(*one) for one in _RINGS]),
        ("disks", [Shape(radius_m=radius) for radius in (*_RADII, 250, 500, 1000)]),
    ):
        print(f"\n| {title} | " + " | ".join(map(str, wanted)) + " |")
        print("|---" * (len(wanted) + 1) + "|")
        for kind, tried in tables.items():
            best = best_of(tried)
            cells = [
                "" if s not in tried else f"**{tried[s]}**" if s == best else str(tried[s])
                for s in wanted
            ]
            print(f"| {kind} | " + " | ".join(cells) + " |")
    print()


def run(figures: Figures) -> None:
    """Precision and recall of hotel, airport and the ten most common kinds."""
    try:
        checkins, airports = read(), find("openflights")
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    kinds = kinds_asked(checkins)
    show(table_of(checkins, kinds))
    seen = places_nyc.venues_of(checkins.part(0.0, 0.8).table)
    rows = places_nyc.airport_places(airports, seen) + places_nyc.venue_places(seen)
    layers, later = layers_of(rows), checkins.part(0.8, 1.0)
    for kind in kinds:
        score = judged(later, kind, layers[kind])
        figures.add(f"places.{kind}.precision", score.precision, "share")
        figures.add(f"places.{kind}.recall", score.recall, "share")
    figures.add("places.declared.wins", declared_wins(later, place_table(layers)), "share")
