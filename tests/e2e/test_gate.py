"""A worse model, a leaking one, a miscalibrated one, a slow one: none of them gets to a device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_sdk import EdgeClient
from genome_server.cli import cli
from tests.e2e.house import House, until
from tests.gate_town import TRUTH, Likes, copy_town, take

WRONG = {
    "off-policy: it is worse than what is in force": Likes(base=-0.9, match=0.0),
    "leak: 'answer' tells the answer": replace(TRUTH, more={"answer:yes": 6.0, "answer:no": -6.0}),
    "calibration: what it says is off by": replace(TRUTH, base=0.2),
    "latency: 1,000 offers take": replace(TRUTH, dimension=4_000),
}


@pytest.fixture
def house(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path)
    copy_town(made.home, tmp_path_factory)
    yield made
    made.kill()


def test_four_that_are_wrong_are_stopped_and_a_better_one_passes(house: House) -> None:
    from genome_server.home import Home

    tenant = Home(house.home).tenant()
    house.start()
    with EdgeClient(house.enrol("lobby", audience="all"), house.address) as edge:
        assert edge.wait_ready(20)
        assert edge.status.release == 1
        for reason, likes in WRONG.items():
            model = take(tenant, likes)
            done = called(house, "publish")
            assert done.exit_code == 1, done.output
            assert f"model {model} does not pass the gate" in done.output
            assert reason in done.output
            gate = said_by(house, "models", "show", model)["gate"]
            stopped = {name for name, word in gate[-1]["checks"].items() if word == "stop"}
            assert reason.partition(":")[0] in stopped
        assert said_by(house, "releases", "list")["releases"][0]["version"] == 1
        assert edge.status.release == 1, "devices never heard of them"

        told = called(house, "models", "gate", "--json")
        assert told.exit_code == 1
        slow = json.loads(told.stdout)
        assert (slow["outcome"], slow["opens"]) == ("stopped", False)
        assert "is stopped" in Path(slow["page"]).read_text()
        good = take(tenant, TRUTH)
        assert "It passes the gate" in called(house, "models", "gate").output
        said = said_by(house, "publish")
        assert (said["version"], said["model"], said["gate"]) == (2, good, "passed")
        until(lambda: edge.status.release == 2, what="the better one is there")
        assert edge.status.cause is None


def called(house: House, *command: str) -> Result:
    """What a command says; in this process, so that it starts at once."""
    return CliRunner().invoke(cli, ["--home", str(house.home), *command])


def said_by(house: House, *command: str) -> Any:
    done = called(house, "--json", *command)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)
