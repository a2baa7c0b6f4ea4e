"""`genome-server models import`: a model that was made elsewhere."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import click

from genome_server.cli.models_check import (
    budget_option,
    check_file,
    file_argument,
    findings_json,
    read,
    read_beside,
    say_checked,
)
from genome_server.cli.output import EXIT_REFUSED, Console, common_options


@click.command("import")
@file_argument
@budget_option
@common_options
def command(console: Console, file: Path, max_bytes: int | None) -> None:
    """Take in the model in FILE, where nothing bad is found in it (see `models check`).

    It is kept beside those that were trained here, with a report that says where it is from and
    what was found, and with the golden vectors beside FILE, which the gate plays again. The next
    release takes it only after `genome-server models promote ID`.
    """
    from genome_server.models.shelf import keep_golden, keep_model, model_id

    tenant = console.tenant()
    content, beside = read(file), read_beside(file)
    with closing(tenant.open_store()) as store:
        checked = check_file(console, tenant, store, content, beside, max_bytes)
        name = model_id(content)
        known = (tenant.models_dir / name / "model.onnx").is_file()
        if checked.fit and not known:
            report = {
                "origin": "imported",
                "made_ms": time.time_ns() // 1_000_000,
                "name": file.name,
                "sha256": checked.sha256,
                "bytes": checked.bytes,
                "facts": dict(checked.facts),
                "latency_us": checked.latency_us,
                "golden": checked.golden,
                "findings": findings_json(checked),
            }
            keep_model(tenant.models_dir, content, report)
        if checked.fit and beside is not None:
            keep_golden(tenant.models_dir, name, beside)
    data = {"model": name, "imported": checked.fit and not known, "known": known}

    def render() -> None:
        say_checked(console, file, checked)
        if not checked.fit:
            console.print("It was not taken in.")
        elif known:
            console.print(f"Model {name} is here already.")
        else:
            console.print(
                f"Model {name} is kept; to publish it: genome-server models promote {name}"
            )

    console.result({**data, **checked.to_json()}, render)
    if not checked.fit:
        raise click.exceptions.Exit(EXIT_REFUSED)
