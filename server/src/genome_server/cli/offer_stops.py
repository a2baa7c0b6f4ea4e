"""`genome-server offers pause|resume|stops`: what must not be shown, within seconds."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING

import click

from genome_server.cli.output import Console, common_options

if TYPE_CHECKING:
    from genome_server.releases.stops import Stops


@click.command("pause")
@click.argument("offers", nargs=-1, required=True, metavar="ID...")
@click.option("--reason", default="", help="Why, for people.")
@click.option("--force", is_flag=True, help="Also ids that are in no import and no release.")
@common_options
def pause(console: Console, offers: tuple[str, ...], reason: str, force: bool) -> None:
    """Stop offers on every device, without a release.

    Connected devices know within seconds, others as soon as they connect; see
    `offers stops` for how many do. An offer with max_offline_age_hours is not shown
    for longer than that by a device that cannot be told.
    """
    from genome_server.releases.stops import pause as run

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        _say(console, run(tenant, store, offers, reason=reason, force=force))


@click.command("resume")
@click.argument("offers", nargs=-1, required=True, metavar="ID...")
@common_options
def resume(console: Console, offers: tuple[str, ...]) -> None:
    """Let stopped offers be shown again."""
    from genome_server.releases.stops import resume as run

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        _say(console, run(tenant, store, offers))


@click.command("stops")
@common_options
def stops(console: Console) -> None:
    """List the offers that are stopped, and how many devices know."""
    from genome_server.releases.stops import stops as read

    with closing(console.tenant().open_store()) as store:
        _say(console, read(store))


def _say(console: Console, found: Stops) -> None:
    def render() -> None:
        if not found.version:
            console.print("No offer was ever stopped.")
            return
        rows = []
        for name in found.offers:
            why = found.why.get(name, {})
            rows.append((name, _when(why.get("since_ms", 0)), why.get("reason", "")))
        if rows:
            console.table(("stopped", "since", "reason"), rows)
        else:
            console.print("No offer is stopped.")
        console.print(
            f"Stop list {found.version} is on {found.informed:,} of {found.devices:,} devices."
        )

    console.result(found.as_json(), render)


def _when(ms: int) -> str:
    if not ms:
        return ""
    return dt.datetime.fromtimestamp(ms / 1000).astimezone().isoformat(" ", "minutes")
