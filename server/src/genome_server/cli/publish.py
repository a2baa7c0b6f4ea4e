"""`genome-server publish`: what the store holds becomes a signed release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.channel import Channel
from genome_server.cli.output import Console, common_options
from genome_server.cli.share import Share, percent

if TYPE_CHECKING:
    from genome_server.releases.bundle import BundleFile
    from genome_server.releases.publish import Published


@click.command()
@click.option(
    "--to",
    "--channel",
    "channel",
    type=Channel(),
    default="stable",
    show_default=True,
    help="Which channel's devices shall get it.",
)
@click.option(
    "--share", type=Share(), default="100%", show_default=True,
    help="How many of them: 5% or 0.05, promoted later.",
)  # fmt: skip
@click.option(
    "--watch",
    is_flag=True,
    help="With a share: promote it or roll it back by what its devices report, while the server "
    "runs.",
)
@click.option(
    "--margin", type=Share(), default="10%", show_default=True,
    help="With --watch: how much of what decisions earn (where all offers are worth the same, of "
    "the success rate) may be lost and it is still promoted.",
)  # fmt: skip
@click.option(
    "--least-hours",
    type=click.FloatRange(min=0, max=24 * 365),
    default=24,
    show_default=True,
    help="With --watch: not promoted before.",
)
@click.option(
    "--first-look",
    type=click.FloatRange(min=0.05, max=60 * 24 * 7),
    default=15,
    show_default=True,
    metavar="MINUTES",
    help="With --watch: when it is looked at first, and then after twice the time each; successes "
    "within a quarter of the time count.",
)
@click.option(
    "--expires-days",
    type=click.FloatRange(min=0, min_open=True, max=3650),
    default=30,
    show_default=True,
    help="When devices begin to treat it as stale.",
)
@click.option("--untrained", is_flag=True, help="Value every offer the same; no model needed.")
@click.option(
    "--keep-model",
    is_flag=True,
    help="Publish all that changed but the model: devices keep the one that all of them have.",
)
@click.option("--dry-run", is_flag=True, help="Say what would change and publish nothing.")
@click.option(
    "--leave-out",
    is_flag=True,
    help="Publish without the offers that it would refuse to publish.",
)
@click.option(
    "--despite-gate",
    metavar="REASON",
    default="",
    help="Publish a model that does not pass the gate, and keep why (see `models gate`).",
)
@click.option(
    "--bundle",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the release as one file, for devices without a network.",
)
@click.option(
    "--bundle-audience", metavar="NAME", help="Put this audience's genomes into the bundle."
)
@common_options
def command(
    console: Console,
    channel: str,
    share: float,
    watch: bool,
    margin: float,
    least_hours: float,
    first_look: float,
    expires_days: float,
    untrained: bool,
    keep_model: bool,
    dry_run: bool,
    leave_out: bool,
    despite_gate: str,
    bundle: Path | None,
    bundle_audience: str | None,
) -> None:
    """Sign offers, placements, products, places, DNA schema and model as one release.

    Devices that are connected get it at once. Nothing is signed that a device would
    refuse, and no offer that can never be shown or is worth more than a score
    holds. A model that devices do not have yet goes out only through the gate
    (genome-server models gate). Where nothing changed the release in force stays. Says
    which devices lack a feature that the release or one of its offers needs, and which
    decide without something that the release asks for. genome-server releases canary
    shows how one that is watched does.
    """
    from genome_server.canary.rules import Bounds
    from genome_server.releases.bundle import write_bundle
    from genome_server.releases.publish import publish

    if keep_model and (untrained or watch or share < 1 or despite_gate):
        raise click.UsageError(
            "--keep-model publishes to all devices the model that they have: leave out "
            "--untrained, --share, --watch and --despite-gate"
        )
    if bundle_audience is not None and bundle is None:
        raise click.UsageError("--bundle-audience needs --bundle FILE")
    if watch and share >= 1:
        raise click.UsageError("--watch compares devices that get it with others: give a --share")
    if bundle is not None and dry_run:
        raise click.UsageError("--bundle writes a file; leave it out of a --dry-run")
    if bundle is not None and not bundle.absolute().parent.is_dir():
        raise click.UsageError(f"--bundle: there is no folder {bundle.parent}")
    bounds = Bounds(
        margin=margin, least_hours=least_hours, first_look_ms=round(first_look * 60_000)
    )
    tenant = console.tenant()
    with console.progress("publish") as advance:
        done = publish(
            tenant,
            channel=channel,
            share=share,
            expires_days=expires_days,
            untrained=untrained,
            keep_model=keep_model,
            dry_run=dry_run,
            leave_out=leave_out,
            watch=bounds if watch else None,
            despite_gate=despite_gate,
            progress=advance,
            gate_progress=console.progress,
        )
    written = None
    if bundle is not None:
        written = write_bundle(
            tenant, bundle, version=done.release.version, audience=bundle_audience
        )
    console.result(
        _json(done, written, dry_run=dry_run),
        lambda: _print(console, done, written, dry_run=dry_run),
    )


def _json(done: Published, written: BundleFile | None, *, dry_run: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "version": done.release.version,
        "channel": done.release.channel,
        "share": done.release.share,
        "published": not (done.unchanged or dry_run),
        "unchanged": done.unchanged,
        "bytes": done.size,
        "parts": {part.name: part.size for part in done.manifest.parts},
        "changed": list(done.changed),
        "created_ms": done.release.created_ms,
        "expires_ms": done.release.expires_ms,
        "schema_epoch": done.release.schema_epoch,
        "model": done.model,
        "gate": done.gate.value if done.gate is not None else None,
        "notes": list(done.notes),
        "lacking": done.lacking.as_json(),
    }
    if written is not None:
        data["bundle"] = {
            "path": str(written.path),
            "bytes": written.size,
            "genomes": written.genomes,
        }
    return data


def _print(console: Console, done: Published, written: BundleFile | None, *, dry_run: bool) -> None:
    for note in (*done.notes, *done.lacking.sentences()):
        console.note(f"note: {note}")
    if done.unchanged:
        console.print(f"Nothing changed: release {done.release.version} stays.")
    else:
        title = "Would publish" if dry_run else f"Release {done.release.version} is published"
        share = "" if done.release.share >= 1 else f" for {percent(done.release.share)} of it"
        console.print(f"{title} on channel {done.release.channel}{share}, {_kb(done.size)} in all:")
        rows = [
            [f"  {part.name}", _kb(part.size), "new" if part.name in done.changed else ""]
            for part in done.manifest.parts
            if not part.asset
        ]
        files = [part for part in done.manifest.parts if part.asset]
        if files:
            new = sum(part.name in done.changed for part in files)
            size = _kb(sum(part.size for part in files))
            rows.append([f"  {len(files)} files", size, f"{new} new" if new else ""])
        console.table(["  part", "size", ""], rows)
        console.print(f"Model: {done.model}.")
    if written is not None:
        with_genomes = f" with {written.genomes:,} genomes" if written.genomes else ""
        console.print(f"Bundle: {written.path}, {_kb(written.size)}{with_genomes}.")


def _kb(size: int) -> str:
    return f"{size / 1024:,.1f} KB"
