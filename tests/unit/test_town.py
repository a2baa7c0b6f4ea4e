"""The town that is made up, the hotel in it, and what is shown of a day there."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from edge_sdk.engine import cells, offers
from examples import datasets
from examples.adapters import coupon, hotel, places_nyc, town
from tests.unit.adapted import UNTIL, jsonl, real, table

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
    contents = jsonl(tmp_path / "contents.jsonl")
    things = {
        "offer": known,
        "product": shelf,
        "content": {row["id"] for row in contents},
        "place": {row["id"] for row in jsonl(tmp_path / "places.jsonl") if "attributes" in row},
    }
    assert {name for row in contents for name in row["products"]} <= shelf
    interactions = jsonl(tmp_path / "interactions.jsonl")
    assert written.files["interactions.jsonl"] == len({r["interaction_id"] for r in interactions})
    for row in interactions:
        assert row["customer"] in people
        (what,) = things.keys() & row.keys()
        assert row[what] in things[what]
        assert datetime.fromisoformat(row["time"]) < UNTIL
    for what in ("content", "place"):
        assert {row[what] for row in interactions if what in row} == things[what]
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


def test_the_town_tells_flights_from_other_moments(tmp_path: Path) -> None:
    """Enough refuse rides elsewhere for a model to know that rides are for flights."""
    town.write(tmp_path, until=UNTIL)
    rides = [
        row
        for row in jsonl(tmp_path / "interactions.jsonl")
        if row.get("offer") in (hotel.TAXI, hotel.TRAIN)
    ]
    flights = [row for row in rides if row["context"]["activity"] == "flight-search"]
    elsewhere = [row for row in rides if row["context"]["activity"] != "flight-search"]
    assert len(elsewhere) > 300
    assert len(flights) > 800
    assert sum(row["kind"] == "redeem" for row in elsewhere) < 0.1 * len(elsewhere)
    assert len({row["customer"] for row in rides}) >= 170


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
