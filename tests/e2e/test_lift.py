"""Devices hold out and report over sockets, the till's file is imported, and lift is told of it."""

from __future__ import annotations

import csv
import json
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from edge_sdk import Context, EdgeClient
from edge_sdk.config import Config
from edge_sdk.decision import Reason
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.enrolment import enrol
from genome_server.cli import cli
from genome_server.home import Home
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_PERSONALISATION, CustomerRow
from tests.serving import add_code, make_home, now_ms, publish_release, serving, until

GUESTS = [f"c{n}" for n in range(160)]
WINDOW_S = 2.0


def tenant_with_a_hold_out(root: Path) -> Home:
    home = make_home(root, GUESTS)
    tenant = home.tenant("default")
    text = tenant.dna_path.read_text()
    tenant.dna_path.write_text(text.replace("buy: {", "buy: {money: 0.25, "))
    with closing(tenant.open_store()) as store:
        screen = {"id": "screen", "explorer": "greedy", "holdout": 0.4, "holdout_seed": "e2e"}
        store.put_documents("placement", [("screen", screen)])
        both = CONSENT_PERSONALISATION | CONSENT_LEARNING
        people = store.subjects_of("app", GUESTS).values()
        store.put_customers(CustomerRow(one, (), both) for one in people)
    return home


def said(home: Home, *arguments: str) -> Any:
    done = CliRunner().invoke(cli, [*arguments, "--home", str(home.root), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_what_devices_held_out_and_tills_sold_is_told(tmp_path: Path) -> None:
    home = tenant_with_a_hold_out(tmp_path / "home")
    publish_release(home.tenant("default"))
    groups: dict[str, bool] = {}
    bought: dict[str, int] = {}
    with serving(home) as house, ExitStack() as opened:
        address = f"127.0.0.1:{house.port}"
        devices = []
        for name in ("lobby", "bar"):
            with closing(DeviceStore.open(tmp_path / name)) as store:
                enrol(address, add_code(home.tenant("default")), store, name, Config())
            devices.append(opened.enter_context(EdgeClient(tmp_path / name, address)))
        for device in devices:
            assert device.wait_ready(20)
        until(lambda: all(device.status.genomes for device in devices), "genomes")
        for number, guest in enumerate(GUESTS):
            at_ms = now_ms()
            device = devices[number % 2]
            decision = device.decide(Context(), "screen", customer=guest)
            groups[guest] = decision.reason is Reason.HELD_OUT
            assert groups[guest] or decision.offer is not None
            again = devices[1 - number % 2].decide(Context(), "screen", customer=guest)
            assert (again.reason is Reason.HELD_OUT) == groups[guest], "alike on every device"
            if number % 10 < (2 if groups[guest] else 7):
                bought[guest] = at_ms + round(WINDOW_S * 500)
        # At the end one reports itself what it sold: later than everybody's time.
        time.sleep(WINDOW_S + 0.5)
        devices[0].imprint(GUESTS[0], "buy", product="soap", amount=99.0, currency="EUR")
        until(lambda: not any(device.flush(1.0) for device in devices), "everything is reported")
    till = tmp_path / "till.csv"
    with till.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ("interaction_id", "customer", "kind", "product", "time", "amount", "currency")
        )
        for guest, at_ms in bought.items():
            when = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
            rows.writerow((f"till-{guest}", guest, "buy", "bread", when, 4.5, "EUR"))
    assert said(home, "import", "interactions", str(till))["new"] == len(bought)

    told = said(home, "lift", "screen", "--kind", "buy", "--days", str(WINDOW_S / 86_400))
    for name, held in (("shown", False), ("held_out", True)):
        mine = {guest for guest, group in groups.items() if group == held}
        sold = len(mine & bought.keys())
        assert told[name]["persons"] == len(mine)
        assert told[name]["did"] == told[name]["times"] == sold
        assert told[name]["amount"] == 4.5 * sold
    assert 40 <= told["held_out"]["persons"] <= 90
    assert told["fair"] is True
    assert told["redrawn"] == told["under_way"] == 0
    share = told["outcomes"]["share"]
    assert share["planned"][0] > 0
    assert share["difference"] > 0.3
