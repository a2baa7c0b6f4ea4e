"""`genome-server models list`: which models there are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import Console, common_options

if TYPE_CHECKING:
    from genome_server.models.shelf import Listed


@click.command("list")
@common_options
def command(console: Console) -> None:
    """List the models of the tenant, the newest first.

    Beside each: when it was made or taken in, where it is from, its size, the figures of its
    report (AUC by person, for strangers and with a history), whether the next release takes it
    ("current") or a rollback goes back to it ("before"), and which releases carried it.
    """
    from genome_server.models.shelf import list_models, promotions

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        listed = list_models(tenant.models_dir, store)
        record = promotions(store)
    data = {
        "models": [facts(one) for one in listed],
        "current": record.current,
        "before": record.before,
        "history": record.to_json()["history"],
    }

    def render() -> None:
        if not listed:
            console.print(
                "There is no model yet; run: genome-server train, or genome-server models "
                "import FILE"
            )
            return
        console.table(
            ("model", "when", "from", "bytes", "AUC strangers", "history", "", "releases"),
            [
                (
                    one.id,
                    when(one.report.get("made_ms")),
                    origin(one.report),
                    f"{one.bytes:,}",
                    *(auc(one.report, which) for which in ("cold", "history")),
                    one.state,
                    versions(one.releases),
                )
                for one in listed
            ],
        )

    console.result(data, render)


def facts(one: Listed) -> dict[str, Any]:
    """A model as an object."""
    by_person = one.report.get("auc_by_person")
    return {
        "id": one.id,
        "made_ms": one.report.get("made_ms"),
        "origin": one.report.get("origin", "trained"),
        "name": one.report.get("name"),
        "bytes": one.bytes,
        "auc_by_person": by_person,
        "latency_us": one.report.get("latency_us"),
        "state": one.state,
        "releases": list(one.releases),
    }


def origin(report: Mapping[str, Any]) -> str:
    """Where a model is from, in words."""
    return str(report.get("name", "elsewhere")) if report.get("origin") == "imported" else "train"


def auc(report: Mapping[str, Any], which: str) -> str:
    """A figure of a report; empty where it has none."""
    found = (report.get("auc_by_person") or {}).get(which)
    return "" if found is None else f"{found:.3f}"


def when(ms: int | None) -> str:
    """A time for people; empty where it is not known."""
    if not ms:
        return ""
    return dt.datetime.fromtimestamp(ms / 1000).astimezone().isoformat(" ", "minutes")


def versions(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1–3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
