"""`genome-server log`: prove that the log is whole, rebuild from it, take events out as files."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.moment import Moment
from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.errors import Refused

if TYPE_CHECKING:
    from genome_server.genomes.build import BuildReport
    from genome_server.home import Tenant
    from genome_server.log.reader import LogReader

_SHOWN = 20
_KINDS = ("interaction", "decision", "outcome", "consent", "link", "evicted", "tombstone")


@click.group("log")
def command() -> None:
    """Verify the log, rebuild what is made of it, export events."""


@command.command("verify")
@common_options
def verify(console: Console) -> None:
    """Read all of the log and show everything that is wrong with it, and where.

    Looked at: the file's structure, offsets, frames, digests, gaps that no device declared,
    marks. Ends with 1 where something is wrong.
    """
    from genome_server.log.verify import verify_log

    tenant = _initialised(console)
    with _open(tenant) as log, console.progress("Reading the log", log.end()) as advance:
        found = verify_log(tenant.log_path, advance)
    faults = [asdict(fault) for fault in found.faults]

    def render() -> None:
        for fault in found.faults[:_SHOWN]:
            where = "file" if fault.offset is None else f"offset {fault.offset}"
            console.print(f"{where}: {fault.message}")
        if len(faults) > _SHOWN:
            console.print(f"… and {len(faults) - _SHOWN} more; see --json")
        verdict = "whole" if found.whole else f"damaged in {len(faults)} places"
        console.print(
            f"{found.events:,} events in {found.batches:,} batches of {found.lanes:,} lanes, "
            f"{found.given_up:,} given up by devices, {found.erased:,} erased: {verdict}"
        )
        if not found.whole:
            console.note("restore a backup; devices send again what it lacks and they still have")

    console.result(
        {
            "whole": found.whole,
            "incarnation": found.incarnation.hex(),
            "events": found.events,
            "batches": found.batches,
            "lanes": found.lanes,
            "given_up": found.given_up,
            "erased": found.erased,
            "faults": faults,
        },
        render,
    )
    if not found.whole:
        raise click.exceptions.Exit(EXIT_REFUSED)


@command.command("replay")
@click.option("--commit", is_flag=True, help="Keep what was rebuilt.  [default: only compare]")
@common_options
def replay(console: Console, commit: bool) -> None:
    """Rebuild all genomes from the first event on, and compare them with those in use.

    Ends with 1 where they differ and --commit was not said. Genomes differ, too, where dna.yaml,
    products or offers changed since they were built.
    """
    tenant = _initialised(console)
    with _open(tenant) as log, closing(tenant.open_store()) as store:
        from genome_server.genomes.rows import GENOMES, built_schema

        schema = built_schema(store)
        at = store.consumer_offset(GENOMES, schema.epoch) if schema else 0
        behind = max(log.end() - at, 0)
        with console.progress("Reading the log", log.end()) as advance:
            if commit:
                from genome_server.counting.consumer import read_anew
                from genome_server.genomes.build import build

                report = build(store, log, tenant.dna_path, progress=advance)
                read_anew(store)
            else:
                report = _rehearse(tenant, log, advance)
    same = report.changed == 0
    facts = {"same": same, "committed": commit, "waiting": behind, **asdict(report)}

    def render() -> None:
        console.print(
            f"{report.events:,} events, {report.genomes:,} genomes: "
            + ("all as they were" if same else f"{report.changed:,} differ")
        )
        if not same and not commit:
            console.note("say --commit to keep what was rebuilt")
            if behind:
                console.note(f"{behind:,} events had not been applied yet when this began")

    console.result(facts, render)
    if not same and not commit:
        raise click.exceptions.Exit(EXIT_REFUSED)


@command.command("export")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["parquet", "jsonl"]),
    default="parquet",
    show_default=True,
    help="What the files hold: tables, or one JSON object in each line.",
)
@click.option("--kind", "kinds", type=click.Choice(_KINDS), multiple=True, help="Only this kind.")
@click.option(
    "--since",
    metavar="TIME",
    type=Moment(),
    help="Events from this time on, for example 2026-05-01.",
)
@click.option("--until", metavar="TIME", type=Moment(), help="Events before this time.")
@common_options
def export_(
    console: Console,
    folder: Path,
    format_: str,
    kinds: tuple[str, ...],
    since: int | None,
    until: int | None,
) -> None:
    """Write events to FOLDER, in parts; an export that was cut goes on where it ended.

    Repeat it to add what has happened since. Events name subjects, which are random; the ids of
    customers are not in the log. Bytes are in hex.
    """
    from genome_server.log.export import KINDS, Choice, export

    chosen = frozenset(KINDS[name] for name in kinds) or None
    choice = Choice(chosen, since, until)
    tenant = _initialised(console)
    with _open(tenant) as log, console.progress("Exporting", log.end()) as advance:
        done = export(log, folder, choice, format_, advance)
    console.result(
        {"folder": str(folder), **asdict(done)},
        lambda: console.print(
            f"{done.written:,} of {done.read:,} events in {done.parts:,} new parts in {folder}"
        ),
    )


def _initialised(console: Console) -> Tenant:
    """The tenant, which must be there."""
    tenant = console.tenant()
    tenant.open_store().close()
    return tenant


def _open(tenant: Tenant) -> LogReader:
    from genome_server.log.reader import LogReader

    try:
        return LogReader(tenant.log_path)
    except FileNotFoundError:
        raise Refused("nothing has happened yet: there is no log") from None


def _rehearse(tenant: Tenant, log: LogReader, advance: Any) -> BuildReport:
    """Build in a copy of the store, beside it: it holds subjects."""
    from genome_server.backup import copy_database
    from genome_server.genomes.build import build
    from genome_server.genomes.workplace import work_folder
    from genome_server.home import Tenant as Copy

    with work_folder(tenant.dir) as folder:
        copy = Copy(tenant.name, folder)
        copy_database(tenant.db_path, copy.db_path)
        copy.dna_path.write_bytes(tenant.dna_path.read_bytes())
        with closing(copy.open_store()) as store:
            return build(store, log, copy.dna_path, progress=advance)
