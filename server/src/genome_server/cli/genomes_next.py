"""`genome-server genomes next`: what a customer does next, and when."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from genome_server.cli.output import Console, common_options
from genome_server.cli.whose import agreed_to_be_shown, source_option, subject_named
from genome_server.errors import Refused

if TYPE_CHECKING:
    from genome_server.foresee.job import Ahead

_SHOWN: Final = 5


class Zone(click.ParamType[tzinfo]):
    """A time zone by its name."""

    name = "zone"

    def convert(
        self, value: str | tzinfo, param: click.Parameter | None, ctx: click.Context | None
    ) -> tzinfo:
        """Read a name such as Europe/Berlin."""
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        if isinstance(value, tzinfo):
            return value
        try:
            return ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(f"{value!r} is no time zone; say UTC or Europe/Berlin", param, ctx)


@click.command("next")
@click.argument("customer")
@source_option
@click.option("--zone", type=Zone(), help="Time zone of hours and days.  [default: this machine's]")
@click.option(
    "--namespace",
    default="category",
    show_default=True,
    help="The markers that are foretold as categories.",
)
@click.option(
    "--until",
    metavar="KIND",
    help="Foretell when they do this next (buy, redeem …).  [default: when they come]",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page about it to this file, for people.",
)
@common_options
def command(
    console: Console,
    customer: str,
    source: str,
    zone: tzinfo | None,
    namespace: str,
    until: str | None,
    page: Path | None,
) -> None:
    """Foresee CUSTOMER: the likeliest action, category, channel, time and moment.

    Each with its chance, from the customer's own past, from what customers do who agreed
    to learning, and from the customer's genome. With it comes how well that would have
    foretold your own customers, beside what most do, their own habit and chance; it is
    measured once a week. It reads the log, which takes a while where it is long.
    """
    from genome_server.doings.reading import frames_of
    from genome_server.foresee.job import Foreseer
    from genome_server.foresee.reading import READ
    from genome_server.log import LogReader

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        subject = subject_named(store, source, customer)
        agreed_to_be_shown(store, subject)
        foreseer = Foreseer(store, subject, time.time_ns() // 1_000_000, zone, namespace, until)
        if not tenant.log_path.exists():
            raise Refused("nothing has happened yet; import interactions, or let devices report")
        log = LogReader(tenant.log_path)
        try:
            with console.progress("Reading the log", log.end()) as advance:
                frames = frames_of(log, READ, heard=advance)
                ahead = foreseer.ahead(frames, log.end())
        finally:
            log.close()
    data = {"customer": customer, "zone": str(zone) if zone else "local", **ahead.to_json()}
    if page is not None:
        from genome_server.foresee.page import page_of
        from genome_server.pages import write_private

        write_private(page, page_of(customer, ahead, zone))
        data["page"] = str(page)
    console.result(data, lambda: _print(console, ahead, zone, page))


def _print(console: Console, ahead: Ahead, zone: tzinfo | None, page: Path | None) -> None:
    from genome_server.compare.telling import roughly
    from genome_server.foresee.page import (
        MEASURED,
        coming,
        how_measured,
        measured,
        not_measured,
        sentence,
    )

    console.print(sentence(ahead))
    console.print(coming(ahead, zone))
    for heading, chances in (
        ("action", ahead.actions),
        ("category", ahead.categories),
        ("channel", ahead.channels),
        ("part of the day", ahead.dayparts),
        ("weekday", ahead.weekdays),
    ):
        if chances:
            console.print()
            rows = [(one.name, f"{one.chance:6.1%}") for one in chances[:_SHOWN]]
            console.table((heading, "chance"), rows)
    console.print()
    told = measured(ahead.accuracy)
    if told:
        console.table(MEASURED, told)
    for why in not_measured(ahead.accuracy):
        console.note(why)
    if told:
        console.note(how_measured(ahead.accuracy, zone))
    console.note(
        f"from {ahead.own_events:,} own events and {ahead.crowd_events:,} of "
        f"about {roughly(ahead.crowd_people):,} customers who agreed to learning"
    )
    if page is not None:
        console.note(f"page: {page}")
