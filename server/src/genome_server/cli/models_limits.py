"""`genome-server models limits`: what a model may take and lose."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace

import click

from genome_server.cli.output import Console, common_options
from genome_server.cli.share import Share, percent


@click.command("limits")
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1, max=64 << 20),
    help="The largest file: every device fetches and keeps it.",
)
@click.option(
    "--latency-us",
    type=click.FloatRange(min=1),
    help="Microseconds in which 1,000 offers are valued, measured on this machine.",
)
@click.option(
    "--calibration",
    type=click.FloatRange(min=0, max=1),
    help="By how much what it says may be off what comes true.",
)
@click.option(
    "--margin",
    type=Share(),
    help="How much of the value in force could be lost unseen, where no loss is shown.",
)
@common_options
def command(
    console: Console,
    max_bytes: int | None,
    latency_us: float | None,
    calibration: float | None,
    margin: float | None,
) -> None:
    """Show what a model may take and lose before it is published, and change what is given.

    `models check`, `models import` and the gate (`models gate`, `publish`) go by it.
    """
    from genome_server.gate.kept import limits, set_limits

    given = {
        "max_bytes": max_bytes,
        "latency_us": latency_us,
        "calibration": calibration,
        "margin": margin,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        found = replace(limits(store), **wanted)  # type: ignore[arg-type]
        if wanted:
            set_limits(store, found)

    def render() -> None:
        console.table(
            ("limit", "", ""),
            [
                ("max-bytes", f"{found.max_bytes:,}", "the largest file"),
                ("latency-us", f"{found.latency_us:g}", "to value 1,000 offers"),
                ("calibration", f"{found.calibration:g}", "what it says less what comes true"),
                ("margin", percent(found.margin), "of the value in force, unseen"),
            ],
        )

    console.result(asdict(found), render)
