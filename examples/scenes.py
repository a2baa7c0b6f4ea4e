"""The two scenes that examples play in: New York where the data sets are at hand, else a town.

A scene is a folder of import files and what a person must know about it: which
parts are real, which are made up, and who and where the story is about.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from examples.adapters import coupon, hotel, places_nyc, street, town
from examples.adapters.writing import write_jsonl
from examples.datasets import DataSetMissing, find

# (kind, file), in the order in which a fresh server takes them.
Files = Sequence[tuple[str, Path]]


@dataclass(frozen=True)
class Scene:
    """Where a story plays. `real` is empty where everything is made up.

    `measured` are the files with real rows, `invented` the others;
    `guest` is a customer who agreed to personalisation and has never been at the
    hotel, which stands at `hotel_cell` (an H3 cell as a hex string).
    """

    name: str
    real: tuple[str, ...]
    made_up: tuple[str, ...]
    measured: Files
    invented: Files
    guest: str
    hotel_cell: str
    # Why this is not New York; empty where it is, or was not asked for.
    instead: str = ""

    @property
    def files(self) -> Files:
        """All files."""
        return [*self.measured, *self.invented]

    @property
    def places(self) -> Path:
        """The file of the place layer."""
        return next(file for kind, file in self.files if kind == "places")


def new_york(out: Path) -> Scene:
    """Real places, people and answers; made-up hotel moments. Raises `DataSetMissing`."""
    survey, checkins = find("uci_coupon"), find("foursquare_nyc")
    airports = find("openflights")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    answers = coupon.write(out / "survey", survey, first_day=today - timedelta(days=120))
    places = places_nyc.write(out / "places", {"foursquare_nyc": checkins, "openflights": airports})
    given = Counter(row["person"] for row in coupon.read(survey))
    # One person is left out of everything made up, to be the guest of the story.
    guest = min(person for person, count in given.items() if count >= 20)
    others = sorted(set(given) - {guest})
    guests = sorted(random.Random("guests").sample(others, len(others) * 6 // 10))
    scene = out / "scene"
    scene.mkdir(parents=True, exist_ok=True)
    moments = hotel.moments(guests, today, seed=7)
    write_jsonl(scene / "placements.jsonl", (*hotel.PLACEMENTS, *street.PLACEMENTS))
    write_jsonl(scene / "offers.jsonl", (*hotel.OFFERS, *street.OFFERS))
    write_jsonl(scene / "interactions.jsonl", moments)
    return Scene(
        name="New York",
        real=(
            f"{answers.files['interactions.csv']:,} answers of {len(given)} people to a coupon"
            " survey (UCI 603)",
            f"{places.files['places.jsonl']:,} hotels, airports, cafés ... of New York"
            " (Foursquare, OpenFlights)",
        ),
        made_up=(
            "the offers of the hotel (the taxi among them) and along the streets, and the screens",
            f"{len(moments):,} moments in which {len(guests)} of these people, as hotel guests,"
            " take or refuse them",
            "the days of the answers, and that everybody agreed to personalisation",
        ),
        measured=[*places.in_import_order(), *answers.in_import_order()],
        invented=[
            ("placements", scene / "placements.jsonl"),
            ("offers", scene / "offers.jsonl"),
            ("interactions", scene / "interactions.jsonl"),
        ],
        guest=guest,
        hotel_cell=places_nyc.busiest(places_nyc.venues(checkins), "hotel"),
    )


def small_town(out: Path, seed: int = 7) -> Scene:
    """The synthetic town: nothing in it is real."""
    written = town.write(out / "town", seed=seed)
    return Scene(
        name="a small synthetic town",
        real=(),
        made_up=(
            "everything: the town is synthetic; its places, its people and what they do come"
            " from a seed",
        ),
        measured=[],
        invented=written.in_import_order(),
        guest="customer-001",
        hotel_cell=town.cell_at("hotel"),
    )


def best_scene(out: Path) -> Scene:
    """New York where its data sets are at hand, else the town, with the reason in `instead`."""
    try:
        return new_york(out)
    except DataSetMissing as error:
        return replace(small_town(out), instead=str(error))
