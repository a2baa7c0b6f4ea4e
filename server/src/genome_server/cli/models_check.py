"""`genome-server models check`: all that is wrong with a model file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.errors import Refused
from genome_server.models.findings import BAD, Budgets

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.models.findings import Checked
    from genome_server.store.protocol import Store

file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
budget_option = click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    help="The largest file that is fit for devices (left out: that of `models limits`).",
)


@click.command("check")
@file_argument
@budget_option
@common_options
def command(console: Console, file: Path, max_bytes: int | None) -> None:
    """Say all that is wrong with the model in FILE, and what to do about each.

    It is read, opened and asked as a device would do it, with random queries and with this
    tenant's own genomes and offers, in a process of its own. Golden vectors in it or beside it
    (FILE.golden.json: questions and the answers that are expected) have to hold to 1e-5. What is
    bad keeps it from devices (exit code 1); a warning does not. The time for 1,000 offers is
    measured, not judged.
    """
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        checked = check_file(console, tenant, store, read(file), read_beside(file), max_bytes)
    console.result(
        {"file": str(file), **checked.to_json()}, lambda: say_checked(console, file, checked)
    )
    if not checked.fit:
        raise click.exceptions.Exit(EXIT_REFUSED)


def read(file: Path) -> bytes:
    """The bytes of a model file. Raises Refused for one that no device would read."""
    from edge_sdk.engine.onnx_file import MAX_BYTES as MOST

    size = file.stat().st_size
    if size > MOST:
        raise Refused(f"{file} has {size:,} bytes; devices read models of up to {MOST:,}")
    return file.read_bytes()


def read_beside(file: Path) -> str | None:
    """The golden vectors beside a model file, None without any. Raises Refused for what cannot be
    read."""
    from genome_server.models.golden_file import SUFFIX, read_text

    return read_text(file.with_name(file.name + SUFFIX))


def check_file(
    console: Console,
    tenant: Tenant,
    store: Store,
    content: bytes,
    beside: str | None,
    max_bytes: int | None,
) -> Checked:
    """What is wrong with a file for this tenant, golden vectors `beside` it included; `max_bytes`
    None: what the tenant allows."""
    from genome_server.gate.kept import limits
    from genome_server.models.samples import samples_of
    from genome_server.models.trial import check_apart

    with console.progress("Checking the model", 2) as advance:
        samples = samples_of(tenant, store)
        advance()
        budgets = Budgets(max_bytes or limits(store).max_bytes)
        checked = check_apart(content, store.vocabulary(), samples, budgets, beside=beside)
        advance()
    return checked


def say_checked(console: Console, file: Path, checked: Checked) -> None:
    """Print what was found, what is bad first."""
    for one in sorted(checked.findings, key=lambda one: one.severity != BAD):
        console.print(f"{one.severity:<8}{one.name}: {one.cause}")
        console.print(f"{'':<8}→ {one.advice}")
    console.print(verdict(file, checked))


def verdict(file: Path, checked: Checked) -> str:
    """One sentence on a file that was checked."""
    bad = sum(one.severity == BAD for one in checked.findings)
    warnings = len(checked.findings) - bad
    size = f"{checked.bytes:,} bytes"
    took = f", 1,000 offers in {checked.latency_us:,.1f} µs" if checked.latency_us else ""
    if bad:
        return (
            f"{file.name} is not fit for devices: {bad} bad, {_warnings(warnings)} ({size}{took})."
        )
    held = f", {checked.golden:,} golden vectors hold" if checked.golden else ""
    return f"{file.name} keeps the contract, {_warnings(warnings)}{held} ({size}{took})."


def findings_json(checked: Checked) -> list[dict[str, Any]]:
    """The findings as plain data."""
    found: list[dict[str, Any]] = checked.to_json()["findings"]
    return found


def _warnings(number: int) -> str:
    return f"{number or 'no'} {'warning' if number == 1 else 'warnings'}"
