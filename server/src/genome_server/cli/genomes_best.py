"""`genome-server genomes best`: what the most valuable customers have and the others do not."""

from __future__ import annotations

import csv
import math
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.cli.whose import agreed_to_be_shown, source_option, subject_named
from genome_server.errors import Refused
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from edge_sdk.dna.markers import Vocabulary
    from genome_server.compare.best import Best
    from genome_server.compare.best_made import Valued
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

_SHOWN = 12


@click.command("best")
@click.option("--region", metavar="CELL", help="The best of those at home in this H3 cell.")
@click.option("--by-region", is_flag=True, help="The best of every region with people enough.")
@click.option(
    "--by", "basis", type=click.Choice(["profit", "spend"]),
    help="What makes a customer valuable.  [default: profit where cost is known, else spend]",
)  # fmt: skip
@click.option(
    "--top", type=click.FloatRange(0.01, 0.5), default=0.1, show_default=True,
    help="Share of customers that are the top; they are never fewer than 20.",
)  # fmt: skip
@click.option(
    "--days", type=click.IntRange(1, 36_600), default=365, show_default=True,
    help="How far back it counts where somebody was seen, whose home is not known.",
)  # fmt: skip
@click.option("--of", "customer", help="How close this customer is, and what would bring closer.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="Write how close everybody is to this CSV file.",
)  # fmt: skip
@source_option
@common_options
def command(
    console: Console,
    region: str | None,
    by_region: bool,
    basis: str | None,
    top: float,
    days: int,
    customer: str | None,
    out: Path | None,
    source: str,
) -> None:
    """Show the best customer genome: the markers of the top customers by profit, else by spend.

    The top are set beside all who agreed to learning; what everybody has is not in it. Profit
    counts where products say their `cost` or `margin` for four fifths of the money.
    """
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        valued, vocabulary = _valued(console, tenant, store, basis, days)
        best, name = _chosen(valued, region, top)
        facts: dict[str, Any] = {
            "basis": valued.worth.basis,
            "currency": valued.worth.currency,
            "cost_known": round(valued.worth.cost_known, 6),
            "left_out": valued.worth.left_out,
            "region": region,
            **_facts(best, vocabulary, top),
        }
        if by_region:
            facts["regions"] = {
                cell: _facts(one, vocabulary, top)
                for cell, one in valued.by_region(share=top).items()
            }
        if customer is not None:
            subject = subject_named(store, source, customer)
            agreed_to_be_shown(store, subject)
            facts["customer"] = _closer(valued, best, vocabulary, subject, customer)
        if out is not None:
            facts["written"] = _write(store, valued, best, vocabulary, out)

    def render() -> None:
        _print(console, facts, name)
        if out is not None:
            console.note(f"{out}: {facts['written']:,} customers")

    console.result(facts, render)


def _valued(
    console: Console, tenant: Tenant, store: Store, basis: str | None, days: int
) -> tuple[Valued, Vocabulary]:
    from genome_server.compare.best_made import Valued
    from genome_server.compare.reading import read_genomes
    from genome_server.compare.spending import read_worth
    from genome_server.genomes.rows import needed_schema
    from genome_server.log.reader import LogReader

    with console.progress("reading genomes") as advance:
        genomes = read_genomes(store, advance=advance)
    vocabulary, schema = store.vocabulary(), needed_schema(store)
    log = LogReader(tenant.log_path) if tenant.log_path.exists() else None
    try:
        with console.progress("reading the log") as advance:
            worth = read_worth(
                *(store, log, schema, genomes),
                basis=basis,
                since_ms=time.time_ns() // 1_000_000 - days * DAY_MS,
                advance=advance,
            )
    finally:
        if log is not None:
            log.close()
    return Valued.of(genomes, worth, len(vocabulary)), vocabulary


def _chosen(valued: Valued, region: str | None, top: float) -> tuple[Best, str]:
    import numpy as np

    from edge_sdk.engine.cells import parse_cell
    from genome_server.compare.segments import LEAST_PEOPLE
    from genome_server.compare.spending import regions_of
    from genome_server.regions.places import lies_in

    if region is None:
        best = valued.best(share=top)
        if best is None:
            raise Refused(
                f"fewer than {LEAST_PEOPLE} top customers agreed to learning and bought something, "
                "or they have nothing that the others lack; choose a larger --top"
            )
        return best, "all customers"
    cell = parse_cell(region)
    inside = [
        rows for home, rows in regions_of(valued.worth.regions).items() if lies_in(home, cell)
    ]
    if not inside:
        raise Refused(f"nobody who agreed to location is at home in {region}; see: --by-region")
    best = valued.best(np.concatenate(inside), share=top)
    if best is None:
        raise Refused(
            f"fewer than {LEAST_PEOPLE} top customers of {region} agreed to learning, or they have "
            "nothing that the others lack; choose a larger --top"
        )
    return best, region


def _roughly(worth: float) -> float:
    """To two digits, downwards: the worth of the least of the top is that of one person."""
    if worth <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(worth)) - 1)
    return round(math.floor(worth / step) * step, 2)


def _facts(best: Best, vocabulary: Vocabulary, asked: float) -> dict[str, Any]:
    from genome_server.compare.segments import LEAST_PEOPLE
    from genome_server.compare.telling import roughly

    columns = (best.markers, best.weights, best.share_of_top, best.share_of_all)
    return {
        "people": roughly(best.people),
        "top": roughly(len(best.top)),
        "more_than_asked": int(best.people * asked) < LEAST_PEOPLE,
        "least_worth": _roughly(best.least_worth),
        "markers": [
            {
                "marker": vocabulary.name(marker),
                "weight": round(weight, 6),
                "share_of_top": round(top, 6),
                "share_of_all": round(everybody, 6),
            }
            for marker, weight, top, everybody in zip(*(c.tolist() for c in columns), strict=True)
        ],
    }


def _closer(
    valued: Valued, best: Best, vocabulary: Vocabulary, subject: bytes, customer: str
) -> dict[str, Any]:
    from genome_server.compare.best import steps_closer

    row = valued.genomes.row_of(subject)
    if row is None:
        raise Refused("this customer has no genome yet; run: genome-server build")
    steps = steps_closer(*valued.raw_row(row), best)
    return {
        "customer": customer,
        "closeness": round(float(valued.closeness(best)[row]), 6),
        "closer": [
            {
                "marker": vocabulary.name(step.marker),
                "gain": round(step.gain, 6),
                "has_some": step.there,
            }
            for step in steps
        ],
    }


def _write(store: Store, valued: Valued, best: Best, vocabulary: Vocabulary, out: Path) -> int:
    """One line for each id of those who agreed to personalisation, the closest first."""
    import numpy as np

    from genome_server.compare.best import steps_closer
    from genome_server.store.rows import CONSENT_PERSONALISATION

    if out.exists():
        raise Refused(f"{out} is there already; name a file that is not")
    near = valued.closeness(best)
    rows = valued.genomes.agreed(CONSENT_PERSONALISATION)
    rows = rows[np.lexsort((rows, -near[rows]))]
    names: dict[bytes, list[tuple[str, str]]] = {}
    for subject, source, name in store.external_ids():
        names.setdefault(subject, []).append((source, name))
    count = 0
    with out.open("x", encoding="utf-8", newline="") as file:
        out.chmod(0o600)
        writer = csv.writer(file)
        writer.writerow(("source", "customer", "closeness", "closer"))
        for row in rows.tolist():
            steps = steps_closer(*valued.raw_row(row), best)
            closer = "|".join(vocabulary.name(step.marker) for step in steps)
            for source, name in sorted(names.get(bytes(valued.genomes.subjects[row]), [])):
                writer.writerow((source, name, f"{near[row]:.6f}", closer))
                count += 1
    return count


def _print(console: Console, facts: dict[str, Any], name: str) -> None:
    console.print(_headline(facts, name))
    _table(console, facts)
    for cell, region in facts.get("regions", {}).items():
        console.print(f"\n{_headline({**facts, **region}, cell)}")
        _table(console, region)
    if facts["basis"] == "spend":
        console.note(
            f"by spend: products say their cost for {facts['cost_known']:.0%} of the money only"
        )
    if facts["left_out"]:
        console.note(f"{facts['left_out']:,} purchases in other currencies are left out")
    if "customer" in facts:
        told = facts["customer"]
        console.print(f"\n{told['customer']} is {told['closeness']:.2f} close; closer would bring")
        for step in told["closer"]:
            more = "more of " if step["has_some"] else ""
            console.print(f"  +{step['gain']:.3f}  {more}{step['marker']}")


def _headline(facts: dict[str, Any], name: str) -> str:
    fewest = " (the fewest there can be, more than --top asks for)"
    return (
        f"{name}: the top {facts['top']:,}{fewest * facts['more_than_asked']} of about "
        f"{facts['people']:,} by {facts['basis']}, from about {facts['least_worth']:,.2f} "
        f"{facts['currency']}".rstrip()
    )


def _table(console: Console, facts: dict[str, Any]) -> None:
    console.table(
        ("marker", "weight", "of the top", "of all"),
        [
            (
                one["marker"],
                f"{one['weight']:.3f}",
                f"{one['share_of_top']:.0%}",
                f"{one['share_of_all']:.0%}",
            )
            for one in facts["markers"][:_SHOWN]
        ],
    )
