"""`genome-server offers`: check before importing, preview before publishing, show, stop."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.offer_stops import pause, resume, stops
from genome_server.cli.offers_ladder import command as ladder
from genome_server.cli.offers_saturation import command as saturation
from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.errors import Refused

if TYPE_CHECKING:
    from genome_server.cli.preview import Preview

_SHOWN_CARRIERS = 10
_LEAST_DIFFERENCE = 0.00005


@click.group("offers")
def command() -> None:
    """Check, preview and show offers; stop them everywhere."""


command.add_command(pause)
command.add_command(resume)
command.add_command(stops)
command.add_command(ladder)
command.add_command(saturation)


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "jsonl", "yaml", "parquet"]),
    help="Format of the files.  [default: by extension]",
)
@common_options
def check(console: Console, files: tuple[Path, ...], format_: str | None) -> None:
    """Check offers in FILES without importing them.

    Says everything that import and publish would refuse: what breaks the format,
    ids that stand twice, and which offers can never be shown, whatever the moment
    and whoever the customer; and which are over. Where there is a tenant, also
    which placements they name in vain and which sizes fit nowhere, and it notes
    kinds of place that no place is of. Ends with 1 where anything is to be mended.
    """
    from genome_server.cli.offer_files import check_files

    checked = check_files(console.tenant(), files, format_)

    def render() -> None:
        for problem in checked.problems:
            console.note(str(problem))
        for refused in checked.refused:
            console.note(f"refused: {refused}")
        for note in checked.notes:
            console.note(f"note: {note}")
        console.print(f"{checked.rows:,} offers checked, {len(checked.problems):,} problems found")

    console.result(checked.as_json(), render)
    if checked.problems or checked.refused:
        raise click.exceptions.Exit(EXIT_REFUSED)


@command.command("show")
@click.argument("offer")
@common_options
def show(console: Console, offer: str) -> None:
    """Show one OFFER as it was imported, and what is wrong with it now."""
    import yaml

    from genome_server.cli.offer_files import known_names
    from genome_server.documents import offer_spec
    from genome_server.ingest.nearest import KnownIds
    from genome_server.releases.stops import stops as stopped_now
    from genome_server.value.pricing import losses, worth_of

    with closing(console.tenant().open_store()) as store:
        document = store.document("offer", offer)
        if document is None:
            known = KnownIds("offer", (name for name, _ in store.documents("offer")))
            raise Refused(known.unknown(offer))
        now_ms = time.time_ns() // 1_000_000
        spec = offer_spec(document, taken=True)
        names = known_names(store)
        problems = names.problems(spec, now_ms)
        notes = [*names.notes(spec), *losses(document)]
        worth = worth_of(document)
        stopped = offer in stopped_now(store).offers

    def render() -> None:
        console.print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip())
        console.print(f"# a success is worth {worth:,.6g}, less what it costs")
        for problem in problems:
            console.print(f"# cannot be shown: {problem}")
        for note in notes:
            console.print(f"# note: {note}")
        if stopped:
            console.print("# stopped; see: genome-server offers stops")

    console.result(
        {
            "offer": document,
            "worth": worth,
            "problems": problems,
            "notes": notes,
            "stopped": stopped,
        },
        render,
    )


@command.command("preview")
@click.option("--placement", help="Placement that asks.  [default: the only one there is]")
@click.option("--slots", type=int, default=1, show_default=True, help="How many offers to ask for.")
@click.option("--cell", help="H3 cell of the moment.")
@click.option("--place", help="Kind of place that the app declares, such as hotel.")
@click.option("--activity", help="What is going on, such as flight-search.")
@click.option("--time", "moment", help="Local time, ISO 8601 with offset.  [default: now]")
@click.option("--channel", help="Channel.  [default: that of the placement]")
@click.option("--language", help="In which language, such as de or pt-BR.")
@click.option("--stage", help="before, during or after a purchase.")
@click.option("--attr", "attributes", multiple=True, metavar="NAME=VALUE", help="Any attribute.")
@click.option("--customer", help="A customer's id; nobody if left out.")
@click.option("--source", default="app", show_default=True, help="Whose customer id it is.")
@common_options
def preview(console: Console, **options: Any) -> None:
    """Show which offers would be shown in a moment, and why the others would not.

    Decides with what is imported now, published or not, and with the engine that
    devices have; nothing is recorded. Caps are not looked at, since they are
    counted on devices.

    \b
    genome-server offers preview --placement lobby-screen --place hotel \\
        --activity flight-search --attr weather=rainy
    """
    from genome_server.cli.preview import preview as run

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        seen = run(tenant, store, **options)
    console.result(seen.as_json(), lambda: _print(console, seen))


def _print(console: Console, seen: Preview) -> None:
    console.print(f"placement {seen.placement}, {seen.moment}")
    if seen.model is None:
        console.print("no model is trained yet: all eligible offers score alike")
    for number, slot in enumerate(seen.slots):
        offer = slot["offer"] or "nothing"
        console.print(f"slot {number}: {offer} ({slot['reason']}, score {slot['score']:.4f})")
    for name, (score, reasons) in seen.losers.items():
        scored = f", score {score:.4f}" if score is not None else ""
        console.print(f"not {name}: {', '.join(reasons)}{scored}")
    moved = [carrier for carrier in seen.carriers if abs(carrier[2]) >= _LEAST_DIFFERENCE]
    if moved:
        console.print("what spoke for slot 0, and against it:")
    for marker, source, difference in moved[:_SHOWN_CARRIERS]:
        console.print(f"  {difference:+.4f}  {marker} ({source})")
    for unknown in seen.unknown:
        console.note(f"note: {unknown}")
