"""The command line `genome-server`.

Each command lives in a module of its own (see `lazy`); the table below says where it is and what
it is for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from genome_server.cli.lazy import Entry, LazyGroup
from genome_server.cli.output import (
    EXIT_REFUSED,
    HOME_KEY,
    JSON_KEY,
    TENANT_KEY,
    fail,
    fail_usage,
    place_options,
)

#: In the order in which a newcomer meets them.
COMMANDS: dict[str, Entry] = {
    "init": Entry("init", "Make a home and a tenant: store, keys, DNA schema."),
    "schema": Entry("schema", "Print the JSON Schema or an example of an import format."),
    "import": Entry(
        "import_", "Import products, places, placements, offers, customers, interactions."
    ),
    "offers": Entry("offers", "Check, preview, show and stop offers."),
    "dna": Entry("dna", "Explain the DNA of things; learn which markers are rare."),
    "audiences": Entry("audiences", "Say whose genomes a device may hold."),
    "build": Entry("build", "Build all genomes from the log."),
    "genomes": Entry("genomes", "Look at genomes: show, compare, group, foresee."),
    "uplift": Entry("uplift", "Say whom showing helps, by who is held out."),
    "train": Entry("train", "Train the offer model from the log."),
    "models": Entry("models", "Check, list, compare, take in and roll back models."),
    "lift": Entry("lift", "Say what a campaign brings, against who is held out."),
    "publish": Entry("publish", "Sign and publish a release."),
    "decide": Entry("decide", "Decide for a list: an e-mail run, receipts, a segment."),
    "releases": Entry("releases", "List and compare releases, promote, roll back."),
    "keys": Entry("keys", "List and replace the keys that devices go by."),
    "serve": Entry("serve", "Serve devices and thin clients over gRPC."),
    "devices": Entry("devices", "Enrol, list, show and revoke devices."),
    "customers": Entry("customers", "Show a customer, and make presence tokens."),
    "log": Entry("log", "Verify the log, rebuild from it, export events."),
    "backup": Entry("backup", "Back a tenant up while it is served."),
    "restore": Entry("restore", "Make a tenant what a backup says."),
    "status": Entry("status", "Say what there is and what to do next."),
    "doctor": Entry("doctor", "Check keys, signatures, log, store, disk and devices."),
}


_JSON_SAID = "genome_server.json_said"


class _TopGroup(LazyGroup):
    """The commands of the server, and how each of them ends."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note whether JSON is wanted: wrong usage is told before an option is understood."""
        ctx.meta[_JSON_SAID] = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if ctx.meta[_JSON_SAID]:
                fail_usage(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error ends it with a sentence and its exit code."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            if ctx.meta[_JSON_SAID]:
                fail_usage(error)
            raise
        except BrokenPipeError:
            # Whoever read what is printed has enough of it; what is left has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(EXIT_REFUSED) from None
        except Exception as error:  # noqa: BLE001 - a person gets a sentence, not a traceback
            fail(ctx, error)


@click.group(
    cls=_TopGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="genome-edge-server", prog_name="genome-server")
@place_options
def cli(home: str | None, tenant: str | None, as_json: bool) -> None:
    """Customer genomes: ingest, build, learn, release, sync.

    The three options below may stand before or after the name of a command. A
    command ends with 0 (done), 1 (refused, or done in part), 2 (wrong usage) or
    3 (something does not answer).
    """
    click.get_current_context().meta.update({HOME_KEY: home, TENANT_KEY: tenant, JSON_KEY: as_json})


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with its exit code."""
    cli.main(args=None if args is None else list(args), prog_name="genome-server")
    raise SystemExit(0)
