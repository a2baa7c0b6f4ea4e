"""`genome-server audiences`: whose genomes a device may hold."""

from __future__ import annotations

import re
import secrets
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.errors import ImportRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genome_server.store.protocol import Store
    from genome_server.store.rows import AudienceRow

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LOOKUP_KEY_BYTES = 32


@click.group("audiences")
def command() -> None:
    """Say whose genomes a device may hold."""


@command.command("add")
@click.argument("name")
@click.option("--all", "everybody", is_flag=True, help="All customers.")
@click.option(
    "--marker",
    "markers",
    multiple=True,
    help="Customers with this profile marker; several: with any of them.",
)
@click.option(
    "--customers",
    "file",
    type=click.Path(path_type=Path),
    help="The customers whose ids stand in this file, one per line.",
)
@click.option("--none", "nobody", is_flag=True, help="Nobody: for devices that hold no genomes.")
@click.option(
    "--identify",
    type=click.Choice(["members", "any", "none"]),
    help="For whom a device may fetch the genome of a customer who is present.  [default: members]",
)
@click.option(
    "--lookup/--no-lookup",
    default=None,
    help="Let devices find customers by your own ids, of which they get keyed hashes: for "
    "backends of apps.  [default: --no-lookup]",
)
@click.option("--source", help="Whose customer ids those of --customers and --lookup are.")
@common_options
def add(
    console: Console,
    name: str,
    everybody: bool,
    markers: tuple[str, ...],
    file: Path | None,
    nobody: bool,
    identify: str | None,
    lookup: bool | None,
    source: str | None,
) -> None:
    """Add the audience NAME, or change it; exactly one of --all, --marker, --customers, --none.

    A device gets the genomes of members who agreed to personalisation, and of
    nobody else. Members follow the rule with every import of customers.
    """
    from genome_server.ingest.audiences import refresh
    from genome_server.store.rows import AudienceRow

    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for an audience: lower-case letters, digits, - _")
    if sum((everybody, bool(markers), file is not None, nobody)) != 1:
        raise click.UsageError("give exactly one of --all, --marker, --customers and --none")
    with closing(console.tenant().open_store()) as store:
        rule = _rule(everybody, markers, file)
        old = store.audience(name) or AudienceRow(name, {}, lookup_key=_new_key())
        audience = AudienceRow(
            name,
            rule,
            identify or old.identify,
            old.lookup if lookup is None else lookup,
            # Devices have hashes under this key: it stays for as long as the audience.
            old.lookup_key or _new_key(),
            source or old.source,
        )
        with store.transaction():
            store.put_audience(audience)
            added, removed = refresh(store, [audience])
        notes = _notes(store, audience)
        facts = {**_facts(store, audience), "added": added, "removed": removed, "notes": notes}
    console.result(facts, lambda: _print_added(console, facts))


@command.command("list")
@common_options
def list_(console: Console) -> None:
    """List audiences with their rules and sizes."""
    with closing(console.tenant().open_store()) as store:
        rows = [_facts(store, audience) for audience in store.audiences()]

    def render() -> None:
        console.table(
            ("audience", "who", "members", "genomes", "identify", "lookup"),
            [
                (
                    row["name"],
                    _spoken(row["rule"]),
                    f"{row['members']:,}",
                    f"{row['genomes']:,}",
                    row["identify"],
                    row["source"] if row["lookup"] else "no",
                )
                for row in rows
            ],
        )

    console.result({"audiences": rows}, render)


def _new_key() -> bytes:
    return secrets.token_bytes(_LOOKUP_KEY_BYTES)


def _rule(everybody: bool, markers: tuple[str, ...], file: Path | None) -> dict[str, Any]:
    if everybody:
        return {"all": True}
    if markers:
        return {"any_of": [_marker(text) for text in markers]}
    if file is not None:
        return {"customers": _ids(file)}
    return {"none": True}


def _marker(text: str) -> str:
    from edge_sdk.dna.markers import marker

    namespace, _, value = text.partition(":")
    return marker(namespace, value)


def _ids(file: Path) -> list[str]:
    from genome_server.ingest.text import read_lines

    if not file.is_file():
        raise ImportRefused(f"{file}: there is no such file")
    ids: dict[str, None] = {}
    for line in read_lines(file):
        if line.bad:
            raise ImportRefused(f"{file}:{line.number}: {line.bad}")
        if line.text.strip():
            ids[line.text.strip()] = None
    return list(ids)


def _notes(store: Store, audience: AudienceRow) -> list[str]:
    """What may be a mistake, and may as well be a customer or marker that is still to come."""
    notes = []
    if "customers" in audience.rule:
        ids = list(audience.rule["customers"])
        known = store.subjects_of(audience.source, ids)
        missing = [name for name in ids if name not in known]
        if missing:
            notes.append(
                f"{len(missing):,} of {len(ids):,} ids are not known, {missing[0]!r} for one; "
                "they join when they are imported"
            )
    from genome_server.genomes.consents import hint_at

    vocabulary = store.vocabulary()
    for marker in audience.rule.get("any_of", ()):
        if vocabulary.index(marker) is None:
            hint = hint_at(vocabulary, marker)
            notes.append(f"nobody has the marker {marker!r} so far{hint}")
    return notes


def _facts(store: Store, audience: AudienceRow) -> dict[str, Any]:
    return {
        "name": audience.name,
        "rule": dict(audience.rule),
        "members": store.audience_size(audience.name),
        "genomes": store.audience_rows(audience.name),
        "identify": audience.identify,
        "lookup": audience.lookup,
        "source": audience.source,
    }


def _spoken(rule: Mapping[str, Any]) -> str:
    if rule.get("all"):
        return "all customers"
    if "any_of" in rule:
        return "any of " + ", ".join(rule["any_of"])
    if "customers" in rule:
        return f"{len(rule['customers']):,} ids"
    return "nobody"


def _print_added(console: Console, facts: Mapping[str, Any]) -> None:
    console.print(
        f"audience {facts['name']!r}: {_spoken(facts['rule'])}; {facts['members']:,} members "
        f"({facts['added']:,} joined, {facts['removed']:,} left)"
    )
    for note in facts["notes"]:
        console.note(f"note: {note}")
