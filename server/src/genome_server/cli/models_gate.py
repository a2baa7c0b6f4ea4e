"""`genome-server models gate`: whether a model may be published."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.channel import Channel
from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from genome_server.gate.kept import Said

_SPOKEN = {
    "passed": "It passes the gate",
    "stopped": "It is stopped",
    "cannot tell": "It cannot be told whether it may replace the model in force",
}


@click.command("gate")
@click.argument("model", metavar="[ID]", required=False)
@click.option(
    "--to",
    "--channel",
    "channel",
    type=Channel(),
    default="stable",
    show_default=True,
    help="Beside the model that all devices of this channel have.",
)
@common_options
def command(console: Console, model: str | None, channel: str) -> None:
    """Say whether the model ID (the one that the next release takes) may be published, and why not.

    It is looked at anew: what the file takes and whether all come to the same values, whether what
    it says comes true, whether it knows what it cannot know, whether an offer would starve or a
    part of the customers be worse off, and what the log says it would have earned. A page with
    plots is written beside the model. Exit code 1: `publish` would refuse it.
    """
    from genome_server.documents import placement_spec
    from genome_server.gate.ask import verdict_on, why_not_asked
    from genome_server.gate.kept import page_path
    from genome_server.models.shelf import current_model, find_model, load_model

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        if model is None:
            found = current_model(tenant.models_dir, store)
            if found is None:
                raise Refused(
                    "there is no model yet; run: genome-server train, or genome-server models "
                    "import FILE"
                )
        else:
            found = load_model(tenant.models_dir, find_model(tenant.models_dir, model))
        placements = [placement_spec(document) for _, document in store.documents("placement")]
        said = verdict_on(
            tenant, store, found, channel=channel, placements=placements,
            now_ms=time.time_ns() // 1_000_000, progress=console.progress, anew=True,
        )  # fmt: skip
        known = why_not_asked(store, found.id, channel)
    page = page_path(tenant.models_dir, found.id)
    opens = bool(known) or said.verdict.opens(watched=False)
    data = {**said.to_json()["verdict"], "opens": opens, "not_asked": known, "page": str(page)}

    def render() -> None:
        say(console, said, page)
        if known:
            console.print(f"But publish does not ask: {known}.")

    console.result(data, render)
    if not opens:
        raise click.exceptions.Exit(EXIT_REFUSED)


def say(console: Console, said: Said, page: Path) -> None:
    """Print what was said, a line for each check."""
    verdict = said.verdict
    beside = f" beside {verdict.against}, which is in force" if verdict.against else ""
    console.print(f"Model {verdict.model}{beside}:")
    console.table(
        ("check", "says", "because"),
        [(one.name, one.state.value, one.reason) for one in verdict.checks],
    )
    why = f": {verdict.why_open}" if verdict.why_open else ""
    console.print(f"{_SPOKEN[verdict.outcome.value]}{why}. The report: {page}")


def told(said: Said) -> dict[str, Any]:
    """A verdict as `models show` has it: what each check said, without its figures."""
    return {
        "outcome": said.verdict.outcome.value,
        "at_ms": said.verdict.at_ms,
        "against": said.verdict.against,
        "checks": {one.name: one.state.value for one in said.verdict.checks},
        "reasons": said.verdict.reasons() if said.verdict.outcome.value != "passed" else [],
        "despite": said.despite,
    }
