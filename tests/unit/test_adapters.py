"""Published data sets in the import formats: what goes in comes out, in cells, no coordinates."""

from __future__ import annotations

import csv
import re
from collections import Counter
from datetime import datetime
from pathlib import Path

import h3
import pytest

from edge_sdk.dna import markers
from edge_sdk.engine import cells
from examples.adapters import club, coupon, places_nyc, town
from tests.unit.adapted import UNTIL, jsonl, real, table

ANSWERS = {
    "gender": "Male", "age": "26", "maritalStatus": "Single", "has_children": "0",
    "education": "Bachelors degree", "occupation": "Arts Design Entertainment Sports & Media",
    "income": "$25000 - $37499", "car": "", "Bar": "1~3", "CoffeeHouse": "never",
    "CarryAway": "gt8", "RestaurantLessThan20": "", "Restaurant20To50": "less1",
    "destination": "No Urgent Place", "passanger": "Friend(s)", "weather": "Sunny",
    "temperature": "80", "time": "10AM", "coupon": "Bar", "expiration": "1d",
    "toCoupon_GEQ5min": "1", "toCoupon_GEQ15min": "1", "toCoupon_GEQ25min": "0",
    "direction_same": "0", "direction_opp": "1", "Y": "1",
}  # fmt: skip


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """The survey in its published layout: two people, three answers, no `person`."""
    folder = tmp_path / "uci_coupon"
    folder.mkdir()
    rows = [
        ANSWERS,
        ANSWERS | {"coupon": "Restaurant(<20)", "time": "6PM", "Y": "0"},
        ANSWERS | {"age": "50plus", "income": "$100000 or More", "toCoupon_GEQ15min": "0"},
    ]
    with (folder / "in-vehicle-coupon-recommendation.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(ANSWERS))
        writer.writeheader()
        writer.writerows(rows)
    return folder


# UCI coupon


def test_survey_rows_in_are_interactions_out(survey: Path, tmp_path: Path) -> None:
    written = coupon.write(tmp_path / "out", survey)
    assert dict(written.files) == {
        "customers.csv": 2, "offers.jsonl": 5, "placements.jsonl": 1, "interactions.csv": 3,
    }  # fmt: skip
    rows = table(tmp_path / "out" / "interactions.csv")
    assert [row["kind"] for row in rows] == ["redeem", "dismiss", "redeem"]
    assert rows[0]["offer"] == "coupon-bar"
    assert rows[1]["offer"] == "coupon-restaurant-under-20"
    assert rows[0]["customer"] == rows[1]["customer"] != rows[2]["customer"]
    assert rows[0]["context.minutes-away"] == "15"
    assert rows[2]["context.minutes-away"] == "5"
    assert rows[0]["context.company"] == "friend-s"


def test_survey_order_and_hours_stay_in_the_times(survey: Path, tmp_path: Path) -> None:
    coupon.write(tmp_path, survey)
    rows = table(tmp_path / "interactions.csv")
    first, second, other = (datetime.fromisoformat(row["time"]) for row in rows)
    assert first < second
    assert (first.hour, second.hour, other.hour) == (10, 18, 10)


def test_ordered_answers_become_steps(survey: Path, tmp_path: Path) -> None:
    coupon.write(tmp_path, survey)
    young, old = table(tmp_path / "customers.csv")
    steps = young["markers"].split("|")
    assert young["attributes.age"] == "26"
    assert [s for s in steps if s.startswith("age-")] == ["age-at-least:21", "age-at-least:26"]
    assert "income-at-least:25000" in steps
    assert "income-at-least:37500" not in steps
    assert "bar-visits-at-least:1" in steps
    assert "bar-visits-at-least:4" not in steps
    assert "carry-out-visits-at-least:9" in steps
    assert not any(step.startswith(("coffee-", "cheap-")) for step in steps), "never, and no answer"
    assert young["attributes.cheap-restaurant-visits"] == ""
    assert "age-at-least:50" in old["markers"].split("|")
    assert "income-at-least:100000" in old["markers"].split("|")
    for marker in steps:
        namespace, value = markers.split(marker)
        assert markers.marker(namespace, value) == marker


def test_a_survey_without_a_column_says_which(survey: Path, tmp_path: Path) -> None:
    path = survey / "in-vehicle-coupon-recommendation.csv"
    path.write_text(path.read_text().replace("weather", "wether", 1))
    with pytest.raises(ValueError, match="weather"):
        coupon.write(tmp_path, survey)


@pytest.mark.dataset
def test_the_whole_survey(tmp_path: Path) -> None:
    folder = real("uci_coupon")
    with (folder / "coupons.csv").open(encoding="utf-8", newline="") as lines:
        source = list(csv.DictReader(lines))
    written = coupon.write(tmp_path, folder)
    rows = table(tmp_path / "interactions.csv")
    assert written.files["interactions.csv"] == len(rows) == len(source)
    assert written.files["customers.csv"] == len({row["person"] for row in source})
    assert Counter(row["kind"] for row in rows) == Counter(
        "redeem" if row["Y"] == "1" else "dismiss" for row in source
    )
    assert len({row["interaction_id"] for row in rows}) == len(rows)
    latest: dict[str, str] = {}
    for row in rows:  # the order of each person's answers is the order of their times
        assert row["time"] > latest.get(row["customer"], "")
        latest[row["customer"]] = row["time"]


@pytest.mark.dataset
def test_persons_are_the_ones_that_the_published_file_implies() -> None:
    rows = list(coupon.read(real("uci_coupon")))
    import hashlib

    for row in rows[:200]:
        said = "|".join(row[column] for column in coupon.PROFILE)
        assert row["person"] == hashlib.sha256(said.encode()).hexdigest()[:12]


# New York


@pytest.fixture
def city(tmp_path: Path) -> dict[str, Path]:
    """A hotel, a bar beside it, a home and an airport terminal, in the published layouts."""
    checkins, airports = tmp_path / "foursquare_nyc", tmp_path / "openflights"
    checkins.mkdir()
    airports.mkdir()
    seen = [
        *[(user, "hotel1", "c", "Hotel", 40.7566, -73.9738) for user in range(6)],
        *[(user, "bar1", "c", "Bar", 40.7566, -73.9738) for user in range(18)],
        *[(user, "home1", "c", "Home (private)", 40.7300, -73.9900) for user in range(30)],
        *[(user, "once", "c", "Gym / Fitness Center", 40.7400, -73.9800) for user in range(1)],
        *[(user, "gate", "c", "Airport", 40.6450, -73.7850) for user in range(25)],
        *[(user, "far", "c", "Airport", 40.6300, -73.7600) for user in range(25)],
    ]
    (checkins / "dataset_TSMC2014_NYC.txt").write_text(
        "".join(
            f"{u}\t{v}\t{c}\t{name}\t{lat}\t{lng}\t-240\tTue Apr 03 18:00:09 +0000 2012\n"
            for u, v, c, name, lat, lng in seen
        ),
        encoding="latin-1",
    )
    (airports / "airports.dat").write_text(
        '1,"Kennedy","New York","United States","JFK","KJFK",40.6398,-73.7789,13,-5,"A","x"\n'
        '2,"Goroka","Goroka","Papua New Guinea","GKA","AYGA",-6.0817,145.392,5282,10,"U","x"\n'
        '3,"Small Field","New York","United States","SML","KSML",40.9,-74.2,13,-5,"A","x"\n'
    )
    return {"foursquare_nyc": checkins, "openflights": airports}


def test_places_are_areas_of_cells(city: dict[str, Path], tmp_path: Path) -> None:
    places_nyc.write(tmp_path, city)
    rows = {row["id"]: row for row in jsonl(tmp_path / "places.jsonl")}
    assert set(rows) == {"airport-jfk", "airport-sml", "hotel-hotel1", "bar-bar1"}
    there = rows["hotel-hotel1"]["cells"]
    middle = h3.latlng_to_cell(40.7566, -73.9738, 11)
    assert 2 <= len(there) <= 7
    assert set(there) <= set(h3.grid_disk(middle, 1)), "50 m around"
    assert h3.latlng_to_cell(40.7566, -73.9738, 11) in rows["hotel-hotel1"]["cells"]
    # A quarter of what happens there is at the hotel, the rest at the bar.
    assert rows["hotel-hotel1"]["salience"] == 0.25
    assert rows["bar-bar1"]["salience"] == 0.75
    for row in rows.values():
        for cell in row["cells"]:
            assert cells.format_cell(cells.parse_cell(cell)) == cell


def test_an_airport_is_as_wide_as_its_checkins(city: dict[str, Path], tmp_path: Path) -> None:
    places_nyc.write(tmp_path, city)
    rows = {row["id"]: row for row in jsonl(tmp_path / "places.jsonl")}

    def inside(airport: str, lat: float, lng: float) -> bool:
        here = cells.ancestors(cells.cell_from_latlng(lat, lng))
        return any(cells.format_cell(cell) in rows[airport]["cells"] for cell in here)

    assert inside("airport-jfk", 40.6450, -73.7850)
    assert inside("airport-jfk", 40.6300, -73.7600)
    assert not inside("airport-jfk", 40.6800, -73.7800)
    assert inside("airport-sml", 40.9, -74.2)
    assert len(rows["airport-sml"]["cells"]) < 10


def test_no_coordinate_is_written(city: dict[str, Path], tmp_path: Path) -> None:
    places_nyc.write(tmp_path, city)
    text = (tmp_path / "places.jsonl").read_text()
    assert not re.search(r"-?\d{1,3}\.\d{3,}", text)
    assert '"lat' not in text


@pytest.mark.parametrize("category", ["Home (private)", "Medical Center", "Church", "Office"])
def test_what_is_nobodys_business_has_no_kind(category: str) -> None:
    assert places_nyc.kind_of(category) is None


@pytest.mark.dataset
def test_new_york(tmp_path: Path) -> None:
    folders = {name: real(name) for name in ("foursquare_nyc", "openflights")}
    places_nyc.write(tmp_path, folders)
    rows = jsonl(tmp_path / "places.jsonl")
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["hotel"] > 100
    assert kinds["cafe"] > 100
    wide = {row["id"]: len(row["cells"]) for row in rows if row["kind"] == "airport"}
    assert min(wide["airport-jfk"], wide["airport-lga"], wide["airport-ewr"]) > 20
    assert sum(len(row["cells"]) for row in rows) < 40_000, "a place layer that a device can hold"
    hotels = {cell for row in rows if row["kind"] == "hotel" for cell in row["cells"]}
    assert places_nyc.busiest(places_nyc.venues(folders["foursquare_nyc"]), "hotel") in hotels


# what the server's import says


@pytest.mark.parametrize("adapter", ["town", "club", "survey", "city"])
def test_every_row_is_what_the_import_takes(
    adapter: str, tmp_path: Path, survey: Path, city: dict[str, Path]
) -> None:
    from genome_server.ingest.check import check
    from genome_server.ingest.kinds import KINDS
    from genome_server.ingest.readers import read_rows

    out = tmp_path / "out"
    writers = {
        "town": lambda: town.write(out, until=UNTIL, customers=60),
        "club": lambda: club.write(out, until=UNTIL),
        "survey": lambda: coupon.write(out, survey),
        "city": lambda: places_nyc.write(out, city),
    }
    written = writers[adapter]()
    assert dict(written.files), "something was written"
    for kind, file in written.in_import_order():
        count = 0
        for row in read_rows(file, KINDS[kind]):
            assert row.error is None, row.error
            check(KINDS[kind], row.values)
            count += 1
        assert count == written.files[file.name]
