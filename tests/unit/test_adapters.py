"""Adapters: what goes in comes out, in the import formats, with cells and no coordinates."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h3
import pytest

from edge_sdk.dna import markers
from edge_sdk.engine import cells, offers
from examples import datasets
from examples.adapters import coupon, hotel, places_nyc, town

UNTIL = datetime(2026, 6, 1, tzinfo=UTC)
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


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


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


def real(name: str) -> Path:
    try:
        return datasets.find(name)
    except datasets.DataSetMissing as error:
        pytest.skip(str(error).splitlines()[0])


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


# the town


def test_the_same_seed_gives_the_same_town(tmp_path: Path) -> None:
    once = town.write(tmp_path / "a", seed=3, until=UNTIL)
    town.write(tmp_path / "b", seed=3, until=UNTIL)
    town.write(tmp_path / "c", seed=4, until=UNTIL)
    for name in once.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    a, c = ((tmp_path / x / "interactions.jsonl").read_bytes() for x in "ac")
    assert a != c
    assert "synthetic" in str(once)


def test_the_town_fits_together(tmp_path: Path) -> None:
    written = town.write(tmp_path, until=UNTIL)
    customers = jsonl(tmp_path / "customers.jsonl")
    people = {row["id"] for row in customers}
    known = {row["id"] for row in jsonl(tmp_path / "offers.jsonl")}
    shelf = {row["id"] for row in table(tmp_path / "products.csv")}
    placements = {row["id"] for row in jsonl(tmp_path / "placements.jsonl")}
    interactions = jsonl(tmp_path / "interactions.jsonl")
    assert written.files["interactions.jsonl"] == len({r["interaction_id"] for r in interactions})
    for row in interactions:
        assert row["customer"] in people
        assert row.get("offer") in known or row.get("product") in shelf
        assert datetime.fromisoformat(row["time"]) < UNTIL
    for offer in jsonl(tmp_path / "offers.jsonl"):
        assert set(offer["placements"]) <= placements
    consents = Counter(tuple(row["consent"]) for row in customers)
    assert consents[()] > 5, "somebody agreed to nothing"
    assert customers[0]["consent"] == ["personalisation", "learning"]
    order = [kind for kind, _ in written.in_import_order()]
    assert order.index("offers") < order.index("interactions")
    assert order.index("placements") < order.index("offers")


def test_the_first_customers_have_never_been_to_the_hotel(tmp_path: Path) -> None:
    town.write(tmp_path, until=UNTIL)
    scene = {row["id"] for row in hotel.OFFERS}
    guests = {
        r["customer"] for r in jsonl(tmp_path / "interactions.jsonl") if r.get("offer") in scene
    }
    first = {f"customer-{number:03d}" for number in range(1, town.NEVER_AT_THE_HOTEL + 1)}
    assert guests
    assert not guests & first


def test_offers_and_placements_are_documents_that_the_sdk_reads() -> None:
    for offer in (*hotel.OFFERS, *town.OFFERS, *coupon.offers()):
        assert offers.offer_from_document(offer).id == offer["id"]
    for placement in (*town.PLACEMENTS, *coupon.placements()):
        assert offers.placement_from_document(placement).id == placement["id"]


def test_the_towns_places_do_not_touch() -> None:
    every = [cell for row in town.places() for cell in row["cells"]]
    assert len(every) == len(set(every))


def test_the_town_has_a_hotel_where_it_says() -> None:
    row = next(row for row in town.places() if row["kind"] == "hotel")
    assert town.cell_at("hotel") in row["cells"]


# the hotel scene


def test_guests_were_shown_offers_at_random_and_follow_the_rule() -> None:
    rows = hotel.moments([f"g{n}" for n in range(400)], UNTIL, seed=1)
    assert rows == sorted(rows, key=lambda row: str(row["time"]))
    taken: dict[tuple[bool, str], list[bool]] = {}
    waved: set[str] = set()
    for row in rows:
        guest, offer, yes = row["customer"], row["offer"], row["kind"] == "redeem"
        if row["context"]["activity"] == "flight-search":
            taken.setdefault((guest in waved, offer), []).append(yes)
        if offer == hotel.TAXI and not yes:
            waved.add(guest)

    def share(was_waved: bool, offer: str) -> float:
        seen = taken[was_waved, offer]
        assert len(seen) > 100
        return sum(seen) / len(seen)

    assert share(False, hotel.TAXI) > 0.85 > share(False, hotel.TRAIN)
    assert share(True, hotel.TRAIN) > 0.85
    assert share(True, hotel.TAXI) < 0.2


# scenes


def test_without_data_sets_the_town_serves_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.scenes import best_scene

    monkeypatch.setattr(datasets, "search_path", lambda: [tmp_path / "nowhere"])
    scene = best_scene(tmp_path)
    assert scene.real == ()
    assert "synthetic" in scene.made_up[0]
    assert "UCI" in scene.instead
    assert all(file.is_file() for _, file in scene.files)
    assert scene.places.name == "places.jsonl"


@pytest.mark.dataset
def test_new_york_says_what_is_made_up(tmp_path: Path) -> None:
    from examples.scenes import new_york

    for name in ("uci_coupon", "foursquare_nyc", "openflights"):
        real(name)
    scene = new_york(tmp_path)
    assert "UCI" in scene.real[0]
    assert "Foursquare" in scene.real[1]
    assert any("taxi" in line for line in scene.made_up)
    moments = next(file for kind, file in scene.invented if kind == "interactions")
    assert scene.guest not in {row["customer"] for row in jsonl(moments)}, "never at the hotel"
    hotels = [cells for kind, cells in places_nyc.read_places(scene.places) if kind == "hotel"]
    assert any(scene.hotel_cell in each for each in hotels)


# what the server's import says


@pytest.mark.parametrize("adapter", ["town", "survey", "city"])
def test_every_row_is_what_the_import_takes(
    adapter: str, tmp_path: Path, survey: Path, city: dict[str, Path]
) -> None:
    from genome_server.ingest.check import check
    from genome_server.ingest.kinds import KINDS
    from genome_server.ingest.readers import read_rows

    out = tmp_path / "out"
    writers = {
        "town": lambda: town.write(out, until=UNTIL, customers=60),
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


# the page of the field walk


def test_the_page_is_whole_and_tells_nothing_private() -> None:
    from examples.walk_page import Shown, Stop, page

    lat, lng = 40.758896, -73.985130
    here, home = (f"{cells.cell_from_latlng(lat + d, lng):x}" for d in (0.0, 0.05))
    stops = [
        Stop("08:00", "cafe", here, [Shown("A <flat> white", 0.5, "chosen")], "near a café"),
        Stop("23:00", "", home, [Shown("secret", 0.5, "chosen")], "not drawn"),
    ]
    text = page("A day", "lead", stops, [("hotel", [here]), ("airport", [here])])
    assert "A &lt;flat&gt; white" in text
    assert "secret" not in text
    assert text.count('class="pin"') == 1, "private stops are not on the map"
    assert "http" not in text.replace("http-equiv", "")
    assert "src=" not in text
    for needle in (here, home, "40.75", "73.98"):
        assert needle not in text
    with pytest.raises(ValueError, match="may be drawn"):
        page("A day", "lead", stops[1:])
