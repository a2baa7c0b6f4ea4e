"""`genome-server backup`: a copy of a tenant, made while it is served."""

from __future__ import annotations

from pathlib import Path

import click

from genome_server.cli.output import Console, common_options


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--with-keys", is_flag=True, help="Private keys, too: who has the backup can sign releases."
)
@click.option(
    "--wait/--no-wait",
    default=None,
    help="From now on devices keep what they reported until a backup has it; or no longer.",
)
@common_options
def command(console: Console, folder: Path, with_keys: bool, wait: bool | None) -> None:
    """Back a tenant up into the new folder FOLDER. The server may run meanwhile.

    The folder appears when all of it is on disk and the log in it was read and found whole. Keep
    it on another disk, and keep the keys apart: without --with-keys they are not in it.
    """
    from genome_server.backup import make_backup

    with console.progress("Copying") as advance:
        made = make_backup(
            console.tenant(), folder.absolute(), with_keys=with_keys, wait=wait, progress=advance
        )

    def render() -> None:
        size = made.bytes / 1e6
        keys = "with" if made.keys else "without"
        console.print(
            f"{made.path}: {made.events:,} events, {len(made.files):,} files, {size:,.1f} MB, "
            f"{keys} private keys"
        )
        if made.waits:
            console.print("  devices may now forget what this backup has; make the next one soon")

    console.result(
        {
            "folder": str(made.path),
            "tenant": made.tenant,
            "events": made.events,
            "files": len(made.files),
            "bytes": made.bytes,
            "keys": made.keys,
            "waits": made.waits,
        },
        render,
    )
    if made.keys:
        console.note(
            f"warning: {folder} holds the tenant's private keys. Who reads it can sign releases "
            "that every device believes: encrypt it, and let nobody near it"
        )
