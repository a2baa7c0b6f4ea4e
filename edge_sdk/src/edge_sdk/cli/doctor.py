"""`genome-edge doctor`: check everything that a device needs; say what to do about the rest."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from edge_sdk.cli import checks
from edge_sdk.cli.checks import Check, Patient
from edge_sdk.cli.common import existing_store, settings
from edge_sdk.cli.decide import where
from edge_sdk.cli.output import DONE, REFUSED, Output
from edge_sdk.context import Context


def run(options: Namespace, output: Output) -> int:
    """Check; the exit code is 1 where anything failed."""
    config = settings()
    cell = Context(**where(options)).cell
    with existing_store(options) as store:
        patient = Patient(store, config, cell)
        rounds: list[Callable[[Patient], list[Check]]] = [
            checks.store,
            checks.credential,
            checks.release,
            checks.in_force,
            checks.genomes,
            checks.offers,
            checks.outbox,
        ]
        if not options.offline:
            rounds.append(checks.network)
        rounds.append(checks.clock)
        found = [check for one in rounds for check in checks.guarded(one, patient)]
    failed = sum(check.level == checks.FAIL for check in found)
    warned = sum(check.level == checks.WARN for check in found)
    output.result(
        {
            "checks": [
                {"name": c.name, "level": c.level, "found": c.found, "todo": c.todo} for c in found
            ],
            "failed": failed,
            "warned": warned,
        },
        [
            *(line for check in found for line in check.lines()),
            f"{len(found) - failed - warned} ok, {warned} warnings, {failed} failed",
        ],
    )
    return REFUSED if failed else DONE
