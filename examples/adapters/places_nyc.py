"""Foursquare New York + OpenFlights → places with areas. All of it is real.

A check-in says that somebody was at a venue of some category. A place here is the
venue's kind and the cells around it: those within 50 m of a venue. An airport gets
the cells around every spot of it at which people check in (two rings), since nobody
checks in at the point that a map gives. Which shape tells best where people are
later was tried; the table is in docs/moments.md (`make bench ONLY=places`).
How strongly a cell says "hotel" is how much of what goes on in these cells is at
hotels (its salience, from 0.25 to 1).

Only cells are written: no coordinates. Left out: homes, offices, clinics, places of
worship and everything else that is nobody's business, and venues seen too seldom.

    python -m examples.adapters.places_nyc OUT_DIR
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h3

from examples.adapters.writing import Row, Written, adapter_main, write_jsonl
from examples.datasets import find

VENUE_RESOLUTION = 11
VENUE_KM = 0.05
AIRPORT_RINGS = 2
LEAST_CHECKINS = {"hotel": 2, "bar": 8, "restaurant": 8}
_OTHERWISE_LEAST = 5
_NEAR_AIRPORT_KM = 4.0
_SMALL_AIRPORT_KM = 0.3
_SMALL_AIRPORT_RESOLUTION = 9
_LARGE_AIRPORT_CHECKINS = 20
# New York as the check-ins have it, in degrees, with a margin for Newark's runways.
_SOUTH, _NORTH, _WEST, _EAST = 40.5, 41.0, -74.3, -73.65

_KINDS = {
    "Hotel": "hotel", "Airport": "airport", "Coffee Shop": "cafe", "Café": "cafe",
    "Bar": "bar", "Beer Garden": "bar", "Gastropub": "bar", "Pizza Place": "restaurant",
    "Diner": "restaurant", "Burger Joint": "restaurant", "BBQ Joint": "restaurant",
    "Steakhouse": "restaurant", "Deli / Bodega": "deli", "Bakery": "bakery",
    "Gym / Fitness Center": "gym", "Subway": "subway", "Train Station": "station",
    "Bus Station": "bus-station", "Ferry": "ferry", "Park": "park", "Movie Theater": "cinema",
    "Theater": "theater", "Music Venue": "music-venue", "Stadium": "stadium",
    "Clothing Store": "shop", "Department Store": "shop", "Mall": "shop",
    "Electronics Store": "shop", "Bookstore": "bookshop", "Food & Drink Shop": "grocery",
    "Drugstore / Pharmacy": "drugstore", "University": "campus",
    "College Academic Building": "campus", "Convention Center": "convention-center",
    "Art Museum": "museum", "History Museum": "museum", "Science Museum": "museum",
}  # fmt: skip


def kind_of(category: str) -> str | None:
    """The place kind of a venue category; None for what is left out."""
    if category.endswith("Restaurant"):
        return "restaurant"
    return _KINDS.get(category)


def least_checkins(kind: str) -> int:
    """How often a venue of this kind must have been seen to be a place."""
    return LEAST_CHECKINS.get(kind, _OTHERWISE_LEAST)


@dataclass(frozen=True)
class Venue:
    """One venue with what the check-ins say of it; degrees stay in memory."""

    id: str
    category: str
    checkins: int
    people: int
    lat: float
    lng: float


def read_checkins(folder: Path) -> Any:
    """All check-ins in their order as an Arrow table, in the columns of `checkins.parquet`."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    ours = folder / "checkins.parquet"
    if ours.is_file():
        return pq.read_table(ours)
    columns = ["user", "venue_id", "category_id", "category_name", "lat", "lon",
               "utc_offset_min", "utc"]  # fmt: skip
    table = pacsv.read_csv(
        folder / "dataset_TSMC2014_NYC.txt",
        read_options=pacsv.ReadOptions(column_names=columns, encoding="latin-1"),
        parse_options=pacsv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pacsv.ConvertOptions(column_types={"utc": pa.string()}),
    )
    time = pc.strptime(table["utc"], format="%a %b %d %H:%M:%S +0000 %Y", unit="us")
    return table.drop_columns(["utc"]).append_column("utc_date_time", time)


def venues(folder: Path) -> list[Venue]:
    """The venues of the check-ins that have a kind, most visited first."""
    return venues_of(read_checkins(folder))


def venues_of(checkins: Any) -> list[Venue]:
    """The venues of an Arrow table of check-ins that have a kind, most visited first."""
    grouped = checkins.group_by(["venue_id", "category_name"]).aggregate(
        [("user", "count"), ("user", "count_distinct"), ("lat", "mean"), ("lon", "mean")]
    )
    found = [
        Venue(
            row["venue_id"], row["category_name"], row["user_count"],
            row["user_count_distinct"], row["lat_mean"], row["lon_mean"],
        )
        for row in grouped.to_pylist()
        if kind_of(row["category_name"])
    ]  # fmt: skip
    return sorted(found, key=lambda venue: (-venue.people, -venue.checkins, venue.id))


def _airports(folder: Path) -> Iterable[tuple[str, str, float, float]]:
    """(code, name, lat, lng) of the airports and heliports in New York."""
    ours = folder / "airports.csv"
    published = ["", "name", "city", "country", "iata", "icao", "lat", "lon"]
    with (ours if ours.is_file() else folder / "airports.dat").open(encoding="utf-8") as lines:
        reader = csv.DictReader(lines, fieldnames=None if ours.is_file() else published)
        for row in reader:
            lat, lng = float(row["lat"]), float(row["lon"])
            code = row["iata"].replace("\\N", "")
            if code and _SOUTH < lat < _NORTH and _WEST < lng < _EAST:
                yield code, row["name"], lat, lng


def _km(lat: float, lng: float, other_lat: float, other_lng: float) -> float:
    north = (lat - other_lat) * 111.2
    east = (lng - other_lng) * 111.2 * math.cos(math.radians(lat))
    return math.hypot(north, east)


def _within(lat: float, lng: float, km: float, resolution: int) -> list[str]:
    """The cells with their middle within `km` of a point; the cell of the point is one of them."""
    edge_km: float = h3.average_hexagon_edge_length(resolution, unit="km")
    middle = h3.latlng_to_cell(lat, lng, resolution)
    cells = {
        cell
        for cell in h3.grid_disk(middle, math.ceil((km + edge_km) / edge_km))
        if _km(lat, lng, *h3.cell_to_latlng(cell)) <= km
    }
    return sorted(cells | {middle})


def airport_places(folder: Path, seen: Sequence[Venue]) -> list[Row]:
    """Airports as wide as their check-ins; those with few get a small disk."""
    rows: list[Row] = []
    for code, name, lat, lng in _airports(folder):
        near = [
            venue
            for venue in seen
            if kind_of(venue.category) == "airport"
            and _km(lat, lng, venue.lat, venue.lng) <= _NEAR_AIRPORT_KM
        ]
        cells: set[str] = set()
        if sum(venue.checkins for venue in near) >= _LARGE_AIRPORT_CHECKINS:
            for venue in near:
                if venue.checkins >= least_checkins("airport"):
                    spot = h3.latlng_to_cell(venue.lat, venue.lng, VENUE_RESOLUTION)
                    cells.update(h3.grid_disk(spot, AIRPORT_RINGS))
        if not cells:
            cells.update(_within(lat, lng, _SMALL_AIRPORT_KM, _SMALL_AIRPORT_RESOLUTION))
        rows.append(
            {
                "id": f"airport-{code.lower()}",
                "kind": "airport",
                "name": name,
                "cells": sorted(h3.compact_cells(cells)),
            }
        )
    return rows


def venue_places(seen: Sequence[Venue]) -> list[Row]:
    """One place per venue that was seen often enough, airports left out."""
    here: dict[str, Counter[str]] = {}
    for venue in seen:
        cell = h3.latlng_to_cell(venue.lat, venue.lng, VENUE_RESOLUTION)
        here.setdefault(cell, Counter())[kind_of(venue.category) or ""] += venue.checkins
    rows: list[Row] = []
    taken: set[tuple[str, str]] = set()
    for venue in seen:
        kind = kind_of(venue.category) or ""
        least = least_checkins(kind)
        # A venue that changed its category may be there twice, with one kind.
        if kind == "airport" or venue.checkins < least or (kind, venue.id) in taken:
            continue
        taken.add((kind, venue.id))
        cells = _within(venue.lat, venue.lng, VENUE_KM, VENUE_RESOLUTION)
        around = sum((here.get(cell, Counter()) for cell in cells), Counter[str]())
        share = around[kind] / max(1, around.total())
        rows.append(
            {
                "id": f"{kind}-{venue.id}",
                "kind": kind,
                "cells": cells,
                "salience": round(max(0.25, share), 2),
            }
        )
    return rows


def read_places(path: Path) -> list[tuple[str, list[str]]]:
    """(kind, cells) of each row of a `places.jsonl`."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [(str(row["kind"]), list(row["cells"])) for row in rows]


def busiest(seen: Sequence[Venue], kind: str) -> str:
    """The cell of the place of this kind that most people were seen at."""
    venue = next(each for each in seen if kind_of(each.category) == kind)
    return str(h3.latlng_to_cell(venue.lat, venue.lng, VENUE_RESOLUTION))


def write(out: Path, folders: Mapping[str, Path] | None = None) -> Written:
    """Write `places.jsonl` into `out`.

    Raises `DataSetMissing` where `folders` is not given and a set is not at hand.
    """
    folders = folders or {name: find(name) for name in ("foursquare_nyc", "openflights")}
    out.mkdir(parents=True, exist_ok=True)
    seen = venues(folders["foursquare_nyc"])
    rows = airport_places(folders["openflights"], seen) + venue_places(seen)
    return Written(
        out,
        f"{len(seen):,} venues seen (real)",
        {"places.jsonl": write_jsonl(out / "places.jsonl", rows)},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when written, 1 when a data set is not at hand."""
    return adapter_main(
        "places_nyc",
        "Turn Foursquare New York and OpenFlights (real) into a place layer.",
        write,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
