"""`genome-server models show`: one model, its report and its history."""

from __future__ import annotations

import json
from contextlib import closing

import click

from genome_server.cli.models_gate import told
from genome_server.cli.models_list import facts, origin, versions, when
from genome_server.cli.output import Console, common_options


@click.command("show")
@click.argument("model", metavar="ID")
@common_options
def command(console: Console, model: str) -> None:
    """Show the model ID: where it is from, its report, what the gate said, who carried it."""
    from genome_server.gate.kept import verdicts
    from genome_server.models.shelf import find_model, list_models, load_model, promotions

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        name = find_model(tenant.models_dir, model)
        _ = load_model(tenant.models_dir, name).golden  # refuses where either is damaged
        one = next(one for one in list_models(tenant.models_dir, store) if one.id == name)
        history = [
            entry for entry in promotions(store).to_json()["history"] if entry["model"] == name
        ]
    gate = [told(said) for said in verdicts(tenant.models_dir, name)]

    def render() -> None:
        state = {"current": "the next release takes it", "before": "a rollback goes back to it"}
        console.print(f"model     {one.id}, {one.bytes:,} bytes")
        console.print(f"from      {origin(one.report)} {when(one.report.get('made_ms'))}".rstrip())
        console.print(f"state     {state.get(one.state, 'kept')}")
        console.print(f"releases  {versions(one.releases) or 'none carried it'}")
        for entry in history:
            why = f": {entry['reason']}" if entry["reason"] else ""
            console.print(f"          {when(entry['at_ms'])} {entry['kind']}{why}".rstrip())
        for said in gate:
            why = f" ({'; '.join(said['reasons'])})" if said["reasons"] else ""
            all_the_same = f", published all the same: {said['despite']}" if said["despite"] else ""
            console.print(
                f"gate      {when(said['at_ms'])} {said['outcome']}{why}{all_the_same}".rstrip()
            )
        console.print("report")
        console.print(json.dumps(one.report, indent=2, ensure_ascii=False))

    console.result({**facts(one), "history": history, "gate": gate, "report": one.report}, render)
