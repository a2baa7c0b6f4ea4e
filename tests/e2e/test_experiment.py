"""A server publishes an experiment, devices draw alike without it, and lift compares the arms."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from edge_sdk import Context, EdgeClient
from edge_sdk.cli import main
from edge_sdk.config import Config
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.enrolment import enrol
from genome_server.cli import cli
from genome_server.home import Home
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_PERSONALISATION, CustomerRow
from tests.serving import add_code, make_home, offer, publish_release, serving, until

GUESTS = [f"c{n}" for n in range(160)]
WINDOW_S = 3.0
FILE = """
- id: screen
  experiment:
    seed: e2e
    arms: {screen-two: 0.4, screen-quiet: 0.2}
- {id: screen-two, slots: 2}
- {id: screen-quiet, least_worth: 1000}
"""


def said(home: Home, *arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(cli, [*arguments, "--home", str(home.root), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def has_genomes(device: EdgeClient) -> bool:
    return bool(device.status.genomes)


def a_home(folder: Path) -> Home:
    home = make_home(folder / "home", GUESTS)
    tenant = home.tenant("default")
    text = tenant.dna_path.read_text()
    tenant.dna_path.write_text(text.replace("buy: {", "buy: {money: 0.25, "))
    with closing(tenant.open_store()) as store:
        offers = [offer(name, f"service:{name}", placements=["screen"]) for name in ("a", "b")]
        store.put_documents("offer", offers)
        both = CONSENT_PERSONALISATION | CONSENT_LEARNING
        people = store.subjects_of("app", GUESTS).values()
        store.put_customers(CustomerRow(one, (), both) for one in people)
    file = folder / "placements.yaml"
    file.write_text(FILE.replace("screen-quiet, l", "screen-quite, l"))
    told = said(home, "import", "placements", str(file), code=1)
    (reject,) = told["files"][0]["rejects"]
    assert (reject["line"], reject["column"]) == (3, "experiment.arms.screen-quiet")
    assert "did you mean 'screen-quite'?" in reject["cause"]
    file.write_text(FILE)
    said(home, "import", "placements", str(file))
    publish_release(tenant)
    return home


def test_devices_draw_alike_offline_and_the_arms_are_compared(tmp_path: Path, capsys: Any) -> None:
    home = a_home(tmp_path)
    tenant = home.tenant("default")
    drawn: dict[str, str] = {}
    with ExitStack() as opened:
        with serving(home) as house:
            address = f"127.0.0.1:{house.port}"
            for name in ("lobby", "bar"):
                with closing(DeviceStore.open(tmp_path / name)) as store:
                    enrol(address, add_code(tenant), store, name, Config())
                with EdgeClient(tmp_path / name, address) as device:
                    assert device.wait_ready(20)
                    until(partial(has_genomes, device), "genomes")
        # There is no server any more.
        lobby, bar = (
            opened.enter_context(EdgeClient(tmp_path / name, address)) for name in ("lobby", "bar")
        )
        assert lobby.wait_ready(20)
        assert bar.wait_ready(20)
        for guest in GUESTS:
            decision = lobby.decide(Context(), "screen", slots=2, customer=guest)
            drawn[guest] = decision.placement
            assert decision.experiment == "screen"
            shown = sum(slot.offer is not None for slot in decision.slots)
            assert shown == {"screen": 1, "screen-two": 2, "screen-quiet": 0}[decision.placement]
            again = bar.decide(Context(), "screen", slots=2, customer=guest)
            assert again.placement == decision.placement, "alike on every device"
            if drawn[guest] == "screen-two" or guest.endswith("0"):
                lobby.imprint(guest, "buy", product="soap", amount=9.0, currency="EUR")
        assert set(drawn.values()) == {"screen", "screen-two", "screen-quiet"}
    assert main(["replay", "--all", "--store", str(tmp_path / "lobby")]) == 0, "by whom it was for"
    assert "160 of 160 decisions come out the same" in capsys.readouterr().out
    with serving(home) as house, ExitStack() as opened:
        address = f"127.0.0.1:{house.port}"
        devices = [
            opened.enter_context(EdgeClient(tmp_path / name, address)) for name in ("lobby", "bar")
        ]
        until(lambda: not any(one.flush(1.0) for one in devices), "everything is reported")
        time.sleep(WINDOW_S)
        devices[0].imprint(GUESTS[0], "view", product="soap")  # later than everybody's time
        until(lambda: devices[0].flush(1.0) == 0, "that, too")

    told = said(home, "lift", "screen", "--arms", "--kind", "buy", "--days", str(WINDOW_S / 86_400))
    groups = Counter(drawn.values())
    two, quiet = (one for one in sorted(told["arms"], key=lambda a: a["campaign"]["name"])[::-1])
    for one, name in ((two, "screen-two"), (quiet, "screen-quiet")):
        assert one["campaign"]["name"] == name
        assert one["arm"]["persons"] + one["under_way"] >= groups[name]
        assert one["fair"] is True
        assert (one["redrawn"], one["met_both"]) == (0, 0)
    assert two["arm"]["persons"] == two["arm"]["did"] == groups["screen-two"]
    assert two["arm"]["amount"] == 9.0 * groups["screen-two"]
    assert two["outcomes"]["share"]["sure"] is True
    assert two["base"]["persons"] == quiet["base"]["persons"] == groups["screen"]
    assert quiet["outcomes"]["share"]["sure"] is False
