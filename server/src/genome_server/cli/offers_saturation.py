"""`genome-server offers saturation`: what showing the same again brings."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from genome_server.cli.output import Console, common_options

if TYPE_CHECKING:
    from genome_server.value.saturation import Row, Saturation


@click.command("saturation")
@click.argument("name")
@click.option(
    "--within-days",
    type=click.FloatRange(0, 366, min_open=True),
    default=30,
    show_default=True,
    help="Showings before count for so long.",
)
@common_options
def command(console: Console, name: str, within_days: float) -> None:
    """Say what showing NAME again brings: an offer, or the offers of a campaign.

    How often a showing succeeds by how often the same person was shown the same offer before, and
    by how long ago the last time was; and which pause is enough.
    """
    from genome_server.times import DAY_MS
    from genome_server.value.tiring import ask

    tenant = console.tenant()
    with closing(tenant.open_store()) as store, console.progress("Reading the log") as advance:
        now_ms = time.time_ns() // 1_000_000
        found = ask(tenant, store, name, round(within_days * DAY_MS), now_ms, advance)
    data = {"name": name, "within_days": within_days, **asdict(found)}
    console.result(data, lambda: _print(console, found))


def _print(console: Console, found: Saturation) -> None:
    _table(console, "shown before", found.times, "")
    console.note("who is shown it again is who did not take it: that alone makes chances fall")
    console.print()
    _table(console, "since the last time", found.pauses, " h")
    if found.pause_h is None:
        console.print("Whether a pause helps cannot be told: too few were shown it again.")
    elif not found.pause_h:
        console.print(
            "Showing it again at once is not surely worse than later: no pause is needed."
        )
    else:
        console.print(
            f"Showing it again sooner than after {found.pause_h} hours succeeds less: in the "
            f"offer, cool_down_hours: {found.pause_h}"
        )


def _table(console: Console, heading: str, rows: tuple[Row, ...], unit: str) -> None:
    told = []
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if after is None:
            name = f"{row.least}{unit} or more"
        elif after.least == row.least + 1 and not unit:
            name = f"{row.least}"
        else:
            name = f"{row.least} to {after.least - (0 if unit else 1)}{unit}"
        chance = "too few"
        if row.chance is not None:
            chance = "{:.1%} ({:.1%} to {:.1%})".format(*row.chance)
        told.append((name, f"{row.showings:,}", f"{row.persons:,}", chance))
    console.table((heading, "showings", "customers", "succeeds"), told)
