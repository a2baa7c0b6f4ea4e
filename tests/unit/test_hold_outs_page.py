"""The page about hold-outs: its command says what the page shows, and that is right."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_sdk.sync.trust import FEATURES
from genome_server.cli import cli
from genome_server.genomes.build import build
from genome_server.home import Tenant
from genome_server.store import DeviceRow
from genome_server.store.rows import CONSENT_LEARNING, CustomerRow
from tests.serving import make_home
from tests.unit import hold_out_log
from tests.unit.hold_out_log import BEGIN_MS, DAY_MS, DAYS, LOBBY, OLD_SCREEN, PLACEMENT

PAGE = (Path(__file__).parents[2] / "docs" / "hold-outs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
(COMMAND,) = (text for language, text in BLOCKS if language == "console")
(OUTPUT,) = (text for language, text in BLOCKS if not language)


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Tenant:
    """The made-up log, its devices, and guests who agreed to learning."""
    tenant = make_home(tmp_path_factory.mktemp("hold-outs") / "home").tenant("default")
    hold_out_log.write(tenant.log_path)
    dna = tenant.dna_path.read_text().replace("buy: {weight: 2,", "buy: {weight: 2, money: 0.25,")
    assert "money" in dna
    tenant.dna_path.write_text(dna)
    with closing(tenant.open_store()) as store:
        for name in ("screen", "till", OLD_SCREEN):
            features = ["offer-model-1"] if name == OLD_SCREEN else list(FEATURES)
            store.put_device(DeviceRow(name, "", "all", b"k" * 32))
            store.touch_devices({name: (BEGIN_MS, {"features": features})})
        placement = {**LOBBY, "holdout": 0.2, "holdout_seed": "2026"}
        store.put_documents("placement", [(PLACEMENT, placement)])
        guests = {one.subject for one in hold_out_log.happened()} - {bytes(16)}
        store.put_customers(CustomerRow(one, (), CONSENT_LEARNING) for one in guests)
        build(store, None, tenant.dna_path)
    return tenant


def run(tenant: Tenant, *arguments: str, code: int = 0) -> str:
    home = str(tenant.dir.parent.parent)
    done = CliRunner().invoke(cli, [*arguments, "--home", home])
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_command_of_the_page_says_what_the_page_shows(tenant: Tenant) -> None:
    (line,) = re.findall(r"^\$ genome-server (.*)$", COMMAND, re.MULTILINE)
    assert run(tenant, *line.split()) == OUTPUT


def test_the_figures_are_those_that_a_plain_count_gives(tenant: Tenant) -> None:
    """One event after the other, from what happened and not from the log."""
    end = BEGIN_MS + 30 * DAY_MS
    first: dict[bytes, tuple[int, bool]] = {}
    bought: dict[bytes, list[tuple[int, float]]] = {}
    for one in hold_out_log.happened():
        record, said = one.event.decision, one.event.interaction
        if said.kind == "buy":
            bought.setdefault(one.subject, []).append((one.ms, said.amount_micros / 1e6))
        if not one.event.HasField("decision") or one.device == OLD_SCREEN or not any(one.subject):
            continue
        chosen = record.instead if record.held_out else record.slots
        if any(slot.reason in ("CHOSEN", "EXPLORED") for slot in chosen):
            entered = (one.ms, record.held_out)
            first[one.subject] = min(first.get(one.subject, entered), entered)
    told = json.loads(run(tenant, "lift", PLACEMENT, "--kind", "buy", "--json"))
    assert told["first_ms"] == min(at for at, _ in first.values())
    assert told["as_of_ms"] == end
    for name, group in (("shown", False), ("held_out", True)):
        amounts = [
            [much for at, much in bought.get(who, ()) if entered <= at < entered + DAYS * DAY_MS]
            for who, (entered, held) in first.items()
            if held == group and entered + DAYS * DAY_MS <= end
        ]
        found: dict[str, Any] = told[name]
        assert found["persons"] == len(amounts)
        assert found["did"] == sum(map(bool, amounts))
        assert found["times"] == sum(map(len, amounts))
        assert found["amount"] == pytest.approx(sum(map(sum, amounts)))
    assert told["shown"]["persons"] + told["held_out"]["persons"] == hold_out_log.GUESTS
    assert told["under_way"] == 50
    assert told["left_out"]["decisions_of_older_devices"] == 70


def test_without_the_list_of_devices_older_ones_show_up(tenant: Tenant) -> None:
    """Their customers make the groups unlike, and it says so."""
    with closing(tenant.open_store()) as store:
        store.touch_devices({OLD_SCREEN: (BEGIN_MS, {"features": list(FEATURES)})})
        try:
            text = run(tenant, "lift", PLACEMENT, "--kind", "buy", code=1)
        finally:
            store.touch_devices({OLD_SCREEN: (BEGIN_MS, {"features": ["offer-model-1"]})})
    assert "DO NOT BELIEVE THIS" in text
    assert "in another group than the placement's document draws" in text
    assert "DO NOT" not in OUTPUT


def test_what_the_page_shows_of_the_log_is_what_it_holds(tenant: Tenant, tmp_path: Path) -> None:
    (shown,) = (text for language, text in BLOCKS if language == "json")
    decision, interaction = (json.loads(text) for text in re.split(r"\n(?=\{)", shown.strip()))
    run(tenant, "log", "export", str(tmp_path), "--format", "jsonl")
    part = next(tmp_path.glob("events-*.jsonl"))
    for said in (decision, interaction):
        for row in map(json.loads, part.read_text().splitlines()):
            inner = row["event"].get(said["kind"])
            fields = said["event"][said["kind"]]
            if inner and fields.keys() <= inner.keys():
                break
        else:
            raise AssertionError(f"no {said['kind']} has all of {sorted(fields)}")
        assert row.keys() > said.keys()
        assert all(type(inner[name]) is type(value) for name, value in fields.items())
