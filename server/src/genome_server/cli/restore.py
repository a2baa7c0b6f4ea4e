"""`genome-server restore`: a tenant from a backup."""

from __future__ import annotations

from pathlib import Path

import click

from genome_server.cli.output import Console, common_options


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--replace", is_flag=True, help="Move a tenant that is there aside.")
@click.option(
    "--erasures",
    "lists",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="A further list of erased subjects (erasures.jsonl), newer than the backup.",
)
@common_options
def command(console: Console, folder: Path, replace: bool, lists: tuple[Path, ...]) -> None:
    """Make the tenant what the backup in FOLDER says. The server must not run.

    Every file is checked first. Customers that were erased since are taken out before anything
    opens. Then start the server and publish a release: devices send again what the backup lacks,
    and go on.
    """
    from genome_server.backup import AHEAD, restore

    with console.progress("Checking") as advance:
        done = restore(console.tenant(), folder, replace=replace, lists=lists, progress=advance)

    def render() -> None:
        console.print(f"tenant {done.tenant}: {done.events:,} events, log {done.incarnation.hex()}")
        if done.erased or done.customers_erased:
            console.print(
                f"  {done.erased:,} events and {done.customers_erased:,} customers were erased "
                "since, and are not in it"
            )
        if done.aside is not None:
            console.print(f"  what was there before is in {done.aside}")
        ahead = ", ".join(f"{name} + {by:,}" for name, by in AHEAD.items())
        console.note(
            f"counters go on above what devices may have seen ({ahead}). Next: genome-server "
            "build, publish a release, check the stopped offers (they are those of the backup), "
            "import again what was imported since"
        )
        for name in done.missing_keys:
            console.note(f"keys/{name} is not there: put it back from where you keep the keys")

    console.result(
        {
            "tenant": done.tenant,
            "incarnation": done.incarnation.hex(),
            "events": done.events,
            "erased": done.erased,
            "customers_erased": done.customers_erased,
            "missing_keys": list(done.missing_keys),
            "aside": str(done.aside) if done.aside else None,
            "ahead": dict(AHEAD),
        },
        render,
    )
