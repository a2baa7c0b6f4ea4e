"""`genome-server releases`: who has which, what differs, promote, roll back."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.channel import Channel
from genome_server.cli.output import Console, common_options
from genome_server.cli.share import Share, percent
from genome_server.errors import Refused

if TYPE_CHECKING:
    from genome_server.releases.manage import Moved

_MOST_SHOWN = 72


@click.group("releases")
def command() -> None:
    """List and compare releases, watch canaries, promote, roll back."""


@command.command("list")
@common_options
def list_(console: Console) -> None:
    """List all releases, newest first, with their share and how many devices have them."""
    from genome_server.releases.manage import list_releases

    with closing(console.tenant().open_store()) as store:
        found = list_releases(store)

    def render() -> None:
        if not found:
            console.print("No releases yet. Make one with: genome-server publish")
            return
        rows = [
            (
                one.row.version,
                one.row.channel,
                percent(one.row.share),
                one.state,
                one.devices,
                _when(one.row.created_ms),
                _when(one.row.expires_ms),
                f"content of {one.manifest.content_of}" if one.manifest.content_of else "",
            )
            for one in found
        ]
        headings = ("version", "channel", "share", "state", "devices", "created", "expires")
        console.table((*headings, "origin"), rows)

    console.result({"releases": [one.as_json() for one in found]}, render)


@command.command("show")
@click.argument("version", type=int)
@common_options
def show(console: Console, version: int) -> None:
    """Show one release: its parts, what it needs, who signed it, who has it."""
    from genome_edge.v1 import release_pb2
    from genome_server.releases.manage import find, list_releases

    with closing(console.tenant().open_store()) as store:
        row = find(store, version)
        listed = next(one for one in list_releases(store) if one.row.version == version)
    signed = release_pb2.SignedManifest.FromString(row.manifest)
    data = {
        **listed.as_json(),
        "required_features": list(listed.manifest.required_features),
        "signed_by": [one.key_id for one in signed.signatures],
        "parts": [
            {"name": part.name, "bytes": part.size, "sha256": part.sha256.hex()}
            for part in listed.manifest.parts
        ],
    }

    def render() -> None:
        console.print(
            f"Release {version} on channel {row.channel}, {percent(row.share)}: {listed.state}, "
            f"on {listed.devices:,} {'device' if listed.devices == 1 else 'devices'}."
        )
        console.print(f"created {_when(row.created_ms)}, expires {_when(row.expires_ms)}")
        if listed.manifest.content_of:
            console.print(f"content of release {listed.manifest.content_of}")
        console.print(f"needs {', '.join(listed.manifest.required_features) or 'nothing'}")
        console.print(f"signed by {', '.join(data['signed_by'])}")
        console.table(
            ("part", "bytes", "SHA-256"),
            [(part.name, f"{part.size:,}", part.sha256.hex()) for part in listed.manifest.parts],
        )

    console.result(data, render)


@command.command("diff")
@click.argument("old", type=int)
@click.argument("new", type=int)
@common_options
def diff(console: Console, old: int, new: int) -> None:
    """Say what differs from release OLD to release NEW, field by field."""
    from genome_server.releases.manage import diff as compare

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        found = compare(tenant, store, old, new)

    def render() -> None:
        if not found["parts"]:
            console.print(f"Releases {old} and {new} have the same content.")
        for name, sizes in found["parts"].items():
            console.print(f"part {name}: {sizes['before']:,} → {sizes['after']:,} bytes")
        for what in ("offers", "placements"):
            for how, names in found[what].items():
                for name in names:
                    console.print(f"{what[:-1]} {name}: {how}")
                    for one in found["fields"][what].get(name, ()):
                        change = f"{_short(one['before'])} → {_short(one['after'])}"
                        console.print(f"  {one['field']}: {change}")
        for how in ("added", "dropped"):
            if names := found[f"features_{how}"]:
                console.print(f"needed features {how}: {', '.join(names)}")
        if found["markers_added"]:
            console.print(f"{found['markers_added']:,} markers added")
        if found["schema_epochs"][0] != found["schema_epochs"][1]:
            console.print("the DNA schema is another one: genomes are sent anew")
        console.print(f"A device with {old} fetches {found['bytes_to_send']:,} bytes for {new}.")

    console.result(found, render)


@command.command("canary")
@click.argument("version", type=int, required=False)
@common_options
def canary(console: Console, version: int | None) -> None:
    """Show how release VERSION does that is watched (publish --share 5% --watch).

    Without VERSION: the newest one. What it would say now is shown beside what was
    said at the looks that counted; looking changes nothing.
    """
    import time

    from genome_server.canary.kept import canaries
    from genome_server.canary.rules import figures
    from genome_server.canary.watch import as_it_stands, look_now

    tenant, now_ms = console.tenant(), time.time_ns() // 1_000_000
    with closing(tenant.open_store()) as store:
        known = {one.version: one for one in canaries(store)}
        if version is None and not known:
            raise Refused("no release was watched; publish one with --share 5% --watch")
        found = known.get(max(known) if version is None else version)
        if found is None:
            raise Refused(
                f"release {version} was not watched; those that were: "
                f"{', '.join(map(str, sorted(known))) or 'none'}"
            )
        now, found = None, as_it_stands(store, found, now_ms)
        if found.state == "watched":
            now = look_now(tenant, store, found, now_ms)
    data = found.to_json()
    if now is not None:
        seen, verdict = now
        data["now"] = {**figures(seen), "action": verdict.action.value, "why": verdict.why}

    def render() -> None:
        console.print(
            f"Release {found.version} of channel {found.channel}, out since "
            f"{_when(found.since_ms)}: {found.state}."
        )
        if found.looks:
            console.table(
                ("look", "at", "to do", "why"),
                [(one.number, _when(one.at_ms), one.action, one.why) for one in found.looks],
            )
        if now is not None:
            sides = data["now"]["canary"], data["now"]["others"]
            headings = ("now", "devices", "decisions", "successes", "earned", "shown")
            console.table(
                (*headings, "model failed", "by decision"),
                [
                    (name, *(_figure(value) for value in one.values()))
                    for name, one in zip(("canary", "others"), sides, strict=True)
                ],
            )
            if left_out := data["now"]["left_out"]:
                console.print(
                    f"{left_out:,} decisions name offers that their releases do not have."
                )
            by = {"value": "what a decision earns", "successes": "how many decisions succeed"}
            console.print(f"Judged by {by[data['now']['judged_by']]}.")
            console.print(f"If this were a look: {now[1].action.value}, because {now[1].why}.")

    console.result(data, render)


@command.command("promote")
@click.argument("version", type=int)
@click.option("--to", "channel", type=Channel(), help="Another channel.  [default: its own]")
@click.option("--share", type=Share(), default="100%", show_default=True, help="How many devices.")
@common_options
def promote(console: Console, version: int, channel: str | None, share: float) -> None:
    """Give release VERSION to more devices of its channel, or to another channel.

    In its own channel it keeps its version; another channel gets the same content
    under a new one.
    """
    from genome_server.releases.manage import promote as run

    moved = run(console.tenant(), version, channel=channel, share=share)
    _say(console, moved)


@command.command("rollback")
@click.option("--to", type=int, metavar="VERSION", help="Whose content.  [default: the one before]")
@click.option("--channel", type=Channel(), default="stable", show_default=True, help="Which.")
@common_options
def rollback(console: Console, to: int | None, channel: str) -> None:
    """Bring an earlier content back, under a new version, to a whole channel.

    What is newer is withdrawn. Devices never go back to a lower version; the parts
    that they still hold are not sent again.
    """
    from genome_server.releases.manage import rollback as run

    _say(console, run(console.tenant(), to=to, channel=channel))


def _say(console: Console, moved: Moved) -> None:
    row = moved.row
    data: dict[str, Any] = {
        "version": row.version,
        "channel": row.channel,
        "share": row.share,
        "renewed": moved.renewed,
        "content_of": moved.content_of or None,
        "withdrawn": list(moved.withdrawn),
        "expires_ms": row.expires_ms,
        "notes": list(moved.notes),
    }

    def render() -> None:
        for note in moved.notes:
            console.note(f"note: {note}")
        what = f", with the content of {moved.content_of}," if moved.content_of else ""
        console.print(
            f"Release {row.version}{what} is out for {percent(row.share)} of channel {row.channel}."
        )
        if moved.withdrawn:
            versions = ", ".join(map(str, moved.withdrawn))
            console.print(f"Withdrawn: {versions}.")

    console.result(data, render)


def _short(value: Any) -> str:
    """A value of a document as JSON, up to a length; `--json` has all of it."""
    text = json.dumps(value, ensure_ascii=False) if value is not None else "–"
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"


def _figure(value: float | None) -> str:
    """A figure of a canary; none where nothing was decided."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"


def _when(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000).astimezone().isoformat(" ", "minutes")
