"""A release in which offers ask for everything that one can ask for, as a signed bundle."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import h3.api.basic_int as h3

from edge_sdk import Context
from edge_sdk.dna.genome import block_from_rows
from edge_sdk.dna.schema import default_schema
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.towers import Shape, random_towers
from tests.bench.stage import HOUR_MS, MARKERS, rows, sign, subject, vocabulary
from tests.property.earth import SPOTS, ZONES, millis, table

OFFERS: Final = 80
CUSTOMERS: Final = 200
PLACEMENTS: Final = ("lobby", "feed", "till")
_BEGIN: Final = datetime(2026, 2, 27, tzinfo=UTC)
_DAYS: Final = 500
_PLACES: Final = ("place:hotel", "place:bar")
_SAID: Final = ("activity:browse", "activity:wait", "activity:pay", "weekday:monday", *_PLACES)


def write(path: Path, seed: int) -> Path:
    """Write the bundle. The same seed gives the same offers; the key is a fresh one."""
    rng = random.Random(f"market {seed}")
    offers = [_offer(rng, number) for number in range(OFFERS)]
    return write_bundle(path, seed, offers, _placements())


def write_bundle(
    path: Path,
    seed: int,
    offers: Sequence[release_pb2.OfferSpec],
    placements: Sequence[release_pb2.PlacementSpec],
) -> Path:
    """Write a bundle with these offers, a model, places and customers."""
    rng = random.Random(f"places {seed}")
    words = vocabulary()
    schema = default_schema(millis(_BEGIN) // HOUR_MS - 400)
    facts = ModelFacts(vocabulary_lineage=words.lineage, vocabulary_size=len(words))
    lineage = dna_pb2.Lineage(
        vocabulary_lineage=words.lineage,
        vocabulary_size=len(words),
        schema_epoch=schema.epoch,
        landmark_hour=schema.landmark_hour,
        quantiser=schema.quantiser,
    )
    parts = {
        "schema": schema.to_proto(),
        "vocabulary": words.to_proto(),
        "offers": release_pb2.OfferCatalogue(
            offers=offers, zones=[table(zone) for zone in sorted(ZONES)]
        ),
        "placements": release_pb2.PlacementList(placements=placements),
        "products": release_pb2.ProductTable(),
        "places": _places(rng),
    }
    raw = {name: part.SerializeToString() for name, part in parts.items()}
    raw["model"] = tower_model(random_towers(seed, len(words), Shape(members=2)), facts)
    bundle = sign(raw, lineage)
    bundle.genomes.append(block_from_rows(lineage, rows(CUSTOMERS, words)))
    path.write_bytes(bundle.SerializeToString())
    return path


def context(rng: random.Random) -> Context:
    """Some moment there."""
    at = _BEGIN + timedelta(days=rng.randrange(_DAYS), milliseconds=rng.randrange(86_400_000))
    return Context(
        cell=rng.choice([None, _cell(rng, 11), _cell(rng, 9)]),
        place=rng.choice([None, None, "hotel"]),
        activity=rng.choice([None, "browse", "wait", "pay"]),
        time=rng.choice([None, at]),
        channel=rng.choice([None, "screen", "app"]),
        language=rng.choice([None, "de"]),
        attributes=rng.choice([{}, {"weather": "sunny"}]),
    )


def customer(rng: random.Random) -> str | None:
    """Somebody, or nobody."""
    return rng.choice([None, subject(rng.randrange(CUSTOMERS)).hex()])


def _cell(rng: random.Random, resolution: int) -> int:
    cell: int = h3.latlng_to_cell(*rng.choice(SPOTS), resolution)
    return cell


def _offer(rng: random.Random, number: int) -> release_pb2.OfferSpec:
    spec = release_pb2.OfferSpec(
        id=f"offer-{number:02}",
        campaign=rng.choice(["", "spring", "autumn"]),
        content={"title": f"Offer {number}"},
        value_micros=rng.randrange(4_000_000),
        cost_micros=rng.choice([0, 0, 300_000]),
        priority=rng.choice([0] * 9 + [1]),
        exclusivity_group=rng.choice(["", "", "", "drinks", "rides"]),
        category=rng.choice(["", "food", "drink"]),
        purpose=dna_pb2.CONSENT_PURPOSE_PERSONALISATION if rng.random() < 0.2 else None,
        cool_down_hours=rng.choice([0, 0, 0, 1]),
        stop_after_redeem=rng.random() < 0.2,
        stop_after_dismiss=rng.random() < 0.2,
        stop_after_convert=rng.random() < 0.1,
        sizes=rng.choice([[], [], ["a4"], ["voice", "a4"]]),
        caps=[_cap(rng) for _ in range(rng.choice([0, 0, 0, 1, 2]))],
    )
    for marker in rng.sample(range(MARKERS // 20), 4):
        spec.dna.add(marker=f"m:{marker}", salience_q8=rng.choice([128, 256]))
    targeting = spec.targeting
    for ask in rng.sample(["area", "near", "time", "when", "if", "where"], rng.choice([0, 1, 2])):
        match ask:
            case "area":
                cells = {_cell(rng, rng.randrange(6)) for _ in range(6)}
                targeting.cells.extend(h3.int_to_str(cell) for cell in sorted(cells))
            case "near":
                targeting.near_places.append(rng.choice(_PLACES))
            case "time":
                targeting.hours.extend(rng.sample(range(24), 14))
                targeting.zone = rng.choice(["", *ZONES])
            case "when":
                _windows(rng, targeting)
            case "if":
                getattr(targeting, rng.choice(["any_of", "none_of"])).extend(rng.sample(_SAID, 2))
            case "where":
                targeting.placements.extend(rng.sample(PLACEMENTS, 2))
    return spec


def _windows(rng: random.Random, targeting: release_pb2.Targeting) -> None:
    edges = sorted(rng.sample(range(_DAYS), 6))
    times = [millis(_BEGIN + timedelta(days=day)) for day in edges]
    for begin, end in zip(times[::2], times[1::2], strict=True):
        targeting.windows.add(from_ms=begin, until_ms=end)
    targeting.valid_from_ms, targeting.valid_until_ms = times[0], times[-1]


def _cap(rng: random.Random) -> release_pb2.Cap:
    kind = release_pb2.Cap
    cap = kind(
        scope=rng.choice([kind.SCOPE_CUSTOMER, kind.SCOPE_DEVICE]),
        count=kind.COUNT_VIEW,
        limit=rng.choice([1, 3, 50]),
        over=rng.choice([kind.OVER_OFFER, kind.OVER_OFFER, kind.OVER_CAMPAIGN, kind.OVER_GROUP]),
    )
    if rng.random() < 0.5:
        cap.window_hours = rng.choice([0, 1, 24])
    else:
        cap.calendar = rng.choice([kind.CALENDAR_HOUR, kind.CALENDAR_DAY, kind.CALENDAR_MONTH])
        cap.paced = rng.random() < 0.3
    return cap


def _placements() -> list[release_pb2.PlacementSpec]:
    lobby, feed, till = PLACEMENTS
    kind = release_pb2.PlacementSpec
    return [
        kind(
            id=lobby, max_slots=1, channel="screen", shown=kind.SHOWN_ON_DECIDE,
            explorer="greedy", house_offer="offer-00", least_worth_micros=2_500_000,
        ),
        kind(
            id=feed, max_slots=4, shown=kind.SHOWN_ON_VIEW, explorer="squarecb", gamma=2.0,
            floor=0.1, holdout_ppm=100_000, holdout_seed="spring", most_per_category=1,
        ),
        kind(
            id=till, max_slots=2, channel="app", shown=kind.SHOWN_ON_DECIDE, explorer="squarecb",
            gamma=5.0, floor=0.05, sizes=["a4"],
        ),
    ]  # fmt: skip


def _places(rng: random.Random) -> release_pb2.PlaceTable:
    cells = sorted({_cell(rng, 9) for _ in range(8)})
    return release_pb2.PlaceTable(
        cells=cells,
        kinds=[number % len(_PLACES) for number in range(len(cells))],
        saliences_q8=[192] * len(cells),
        markers=_PLACES,
        resolutions=[9],
    )
