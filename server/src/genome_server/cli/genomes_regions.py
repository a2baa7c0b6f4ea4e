"""`genome-server genomes regions`: where what is wanted, as a table and as a map."""

from __future__ import annotations

import csv
import datetime as dt
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from genome_server.cli.output import Console, common_options
from genome_server.errors import Refused, UsageError

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.regions.crowd import Crowd
    from genome_server.regions.demand import Demand
    from genome_server.regions.gather import Counted, Where
    from genome_server.regions.told import Told
    from genome_server.store.protocol import Store

_SHOWN: Final = 12
_MARKERS: Final = 12
_COLUMNS: Final = ("what", "cell", "rest", "people", "share", "against_average")


def crowd_options(function: Any) -> Any:
    """Add the options that say who is counted, and how finely."""
    for option in (
        click.option(
            "--where",
            type=click.Choice(["home", "seen"]),
            default="home",
            show_default=True,
            help="By where people live, else were seen; or only by where they were seen.",
        ),
        click.option(
            "--days",
            type=click.IntRange(1, 36_600),
            default=365,
            show_default=True,
            help="How far back it counts where somebody was seen.",
        ),
        click.option(
            "--least",
            type=click.IntRange(10),
            default=10,
            show_default=True,
            help="How many people a region must have to be shown.",
        ),
        click.option(
            "--resolution",
            type=click.IntRange(3, 8),
            default=5,
            show_default=True,
            help="H3 resolution of the regions; the log knows none finer than 5, homes may.",
        ),
    ):
        function = option(function)
    return function


def gathered(
    console: Console, tenant: Tenant, store: Store, days: int, where: Where
) -> tuple[Crowd, Counted]:
    """The crowd of a tenant, and who is in it. Raises Refused."""
    from genome_server.genomes.rows import needed_schema
    from genome_server.log import LogReader
    from genome_server.regions.gather import gather

    needed_schema(store)
    now_ms = time.time_ns() // 1_000_000
    log = LogReader(tenant.log_path) if tenant.log_path.exists() else None
    try:
        with console.progress("reading where people were", log.end() if log else 0) as advance:
            crowd, counted = gather(
                store, log, now_ms=now_ms, days=days, where=where, progress=advance
            )
    finally:
        if log is not None:
            log.close()
    if not crowd.where.people:
        raise Refused(_nobody(counted))
    return crowd, counted


def _nobody(counted: Counted) -> str:
    from genome_server.compare.telling import roughly

    return (
        f"of about {roughly(counted.genomes):,} genomes none has a place: "
        f"{roughly(counted.no_learning):,} people did not agree to learning, "
        f"{roughly(counted.no_location):,} not to location, and of {roughly(counted.no_place):,} "
        "no cell is known (interactions with a cell, decisions, or the profile marker home:CELL)"
    )


def about(counted: Counted, crowd: Crowd) -> dict[str, Any]:
    """How many were counted, for --json; told roughly, as all counts of people."""
    from genome_server.compare.telling import roughly

    return {
        "genomes": roughly(counted.genomes),
        "people": roughly(counted.people),
        "located": roughly(crowd.where.people),
        "by_home": roughly(counted.by_home),
        "by_log": roughly(counted.by_log),
        "no_learning": roughly(counted.no_learning),
        "no_location": roughly(counted.no_location),
        "no_place": roughly(counted.no_place),
        "by_finest_resolution": {str(k): roughly(n) for k, n in sorted(counted.coarse.items())},
    }


@click.command("regions")
@click.option("--product", "products", multiple=True, help="A product's id; may stand again.")
@click.option("--marker", "markers", multiple=True, help="A marker; may stand again.")
@crowd_options
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a map as one HTML file, for people.",
)
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all regions as CSV.",
)
@click.option(
    "--stores",
    "stores_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the stores of this file on the map.",
)
@common_options
def command(
    console: Console,
    products: tuple[str, ...],
    markers: tuple[str, ...],
    resolution: int,
    least: int,
    days: int,
    where: Where,
    page: Path | None,
    csv_path: Path | None,
    stores_path: Path | None,
) -> None:
    """Show where products or markers are wanted, by region.

    Counts the genomes of customers who agreed to learning and to location. A
    region with fewer than --least people who share a marker with the product is
    taken together with its neighbours, or withheld; what is withheld is said.
    Without --product and --marker, the markers that most people have.

    \b
    genome-server genomes regions --product p-espresso --html demand.html
    """
    from genome_server.regions.demand import Survey
    from genome_server.regions.files import read_shops
    from genome_server.regions.page import Facts, Layer
    from genome_server.regions.page import page as drawn

    if stores_path is not None and page is None:
        raise UsageError("--stores draws on the map: give --html too")
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        shops = read_shops(stores_path, store) if stores_path else []
        wanted = _dna_of(store, products, markers)
        crowd, counted = gathered(console, tenant, store, days, where)
    survey = Survey(crowd, resolution, least)
    wanted = wanted or _most_held(crowd, least)
    layers = [(name, survey.demand(dna)) for name, dna in wanted]
    if page is not None:
        facts = Facts(
            counted.people,
            crowd.where.people,
            resolution,
            least,
            dt.datetime.now(dt.UTC).date().isoformat(),
        )
        everybody = Layer("customers, whatever they want", survey.everybody())
        try:
            text = drawn(
                "Where genomes live", [*(Layer(*one) for one in layers), everybody], facts, shops
            )
        except ValueError as error:
            raise Refused(f"{error}: fewer than {least} people share a place") from error
        page.write_text(text, encoding="utf-8")
    if csv_path is not None:
        _write_csv(csv_path, layers)
    console.result(
        {
            "resolution": resolution,
            "least": least,
            **about(counted, crowd),
            "demand": {name: _as_json(found) for name, found in layers},
            "page": str(page) if page else None,
            "csv": str(csv_path) if csv_path else None,
        },
        lambda: _print(console, layers, counted, crowd, page, csv_path),
    )


def _dna_of(
    store: Store, products: tuple[str, ...], markers: tuple[str, ...]
) -> list[tuple[str, list[tuple[str, int]]]]:
    """What is asked for, by name. Raises Refused with the nearest name."""
    from genome_server.genomes.consents import hint_at, tells_home
    from genome_server.genomes.dna import StoreDna
    from genome_server.genomes.rows import built_schema
    from genome_server.ingest.dna import ONE_Q8
    from genome_server.ingest.nearest import KnownIds

    things = StoreDna(store, built_schema(store)).things
    wanted = []
    for product in products:
        document = store.document("product", product)
        if document is None:
            known = KnownIds("product", (name for name, _ in store.documents("product")))
            raise Refused(known.unknown(product))
        title = document.get("title")
        name = f"{product} ({title})" if title else product
        wanted.append((name, things.product(document)))
    vocabulary = store.vocabulary()
    for marker in markers:
        if tells_home(marker):  # whether anybody ever lived there is not to be found out here
            raise Refused(f"{marker!r} says where somebody lives: that is what regions go by")
        if marker not in vocabulary:
            hint = hint_at(vocabulary, marker)
            raise Refused(f"no genome has ever had the marker {marker!r}{hint}")
        wanted.append((marker, [(marker, ONE_Q8)]))
    return wanted


def _most_held(crowd: Crowd, least: int) -> list[tuple[str, list[tuple[str, int]]]]:
    """The markers that most people have."""
    held = sorted(crowd.names, key=lambda name: (-crowd.holders(name), name))
    return [(name, [(name, 256)]) for name in held[:_MARKERS] if crowd.holders(name) >= least]


def _rows(found: Demand, said: Told) -> list[dict[str, Any]]:
    """The regions of a demand as they are told, the greatest share first."""
    rows = []
    for row, cell in enumerate(found.cell.tolist()):
        parts = zip(found.weights, said.parts[row].tolist(), strict=True)
        against = float(said.against[row])
        rows.append(
            {
                "cell": f"{cell:x}",
                "rest": bool(found.partial[row]),
                "people": int(said.people[row]),
                "share": round(float(said.share[row]), 6),
                "against_average": round(against, 2) if against == against else None,
                # What too few people have is told of with the others only.
                "markers": {name: round(part, 6) for name, part in parts if part == part},
            }
        )
    return sorted(rows, key=lambda one: (-float(str(one["share"])), str(one["cell"])))


def _as_json(found: Demand) -> dict[str, Any]:
    from genome_server.regions.told import told

    said = told(found)
    return {
        "weights": dict(found.weights),
        "ignored": list(found.ignored),
        "regions": _rows(found, said),
        "withheld": {"share": round(said.withheld, 6), "people": said.withheld_people},
    }


def _write_csv(path: Path, layers: list[tuple[str, Demand]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for name, found in layers:
            said = _as_json(found)
            writer.writerows({"what": name, **row} for row in said["regions"])
            if found.withheld_people:
                writer.writerow({"what": name, **said["withheld"]})


def _print(
    console: Console,
    layers: list[tuple[str, Demand]],
    counted: Counted,
    crowd: Crowd,
    page: Path | None,
    csv_path: Path | None,
) -> None:
    told = about(counted, crowd)
    console.print(
        f"{told['located']:,} of about {told['people']:,} people have a place "
        f"({told['by_home']:,} by their home, {told['by_log']:,} by where they were seen)"
    )
    for name, found in layers:
        console.print()
        console.print(name)
        if not found.weights:
            console.print("  no genome that has a place shares a marker with it")
            continue
        said = _as_json(found)
        rows = said["regions"]
        console.table(
            ("region", "people", "share", "against the average", "drawn by"),
            [
                (
                    row["cell"] + (" (rest)" if row["rest"] else ""),
                    f"{row['people']:,}",
                    f"{100 * row['share']:.1f} %",
                    f"{row['against_average']:.2f} x" if row["against_average"] else "",
                    _drawn_by(row),
                )
                for row in rows[:_SHOWN]
            ],
        )
        if len(rows) > _SHOWN:
            console.print(f"and {len(rows) - _SHOWN:,} more; see --csv or --json")
        if found.withheld_people:
            console.print(
                f"withheld: {100 * said['withheld']['share']:.1f} %, of "
                f"{said['withheld']['people']:,} "
                "people in regions that are too small"
            )
    for path in (page, csv_path):
        if path is not None:
            console.print(f"wrote {path}")


def _drawn_by(row: dict[str, Any]) -> str:
    from genome_server.regions.told import drawn_by

    named = drawn_by(row["markers"].items(), row["share"])
    return ", ".join(f"{name} {100 * part:.0f} %" for name, part in named[:2])
