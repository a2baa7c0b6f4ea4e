"""The command line, run as a person runs it: real stores, a real server, real exit codes."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import cli
from edge_sdk.cli.parser import make_parser
from edge_sdk.store.device import DeviceStore
from tests.unit.contract_server import CODE, ContractServer, until
from tests.unit.publisher import Publisher, certificate
from tests.unit.shells import Shell


@pytest.fixture
def house(contract_house: ContractServer) -> ContractServer:
    """The server of these tests."""
    return contract_house


def test_help_of_every_command_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--help"],
        *([name, "--help"] for name in ("enrol", "sync", "status", "doctor", "decide", "replay")),
        ["serve", "--help"],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert "exit codes: 0 done" in text
        assert all(len(line) <= 80 for line in text.splitlines()), text


def test_every_option_is_explained() -> None:
    (commands,) = [
        action.choices
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    plain = {"--placement", "--slots", "--lng", "--channel", "--stage", "--code"}
    for name, command in commands.items():
        for action in command._actions:
            assert action.help or plain.issuperset(action.option_strings), (name, action)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["enrol"],
        ["decide"],
        ["decide", "--placement", "x", "--attr", "novalue"],
        ["sync", "--once", "--timeout", "-1"],
        ["status", "--js"],
    ],
)
def test_what_is_no_command_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


# enrol, sync, status ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["--json"], ["nope", "--json"], ["decide", "--json"], ["status", "--json", "-x"]]
)
def test_what_is_no_command_is_one_object_too(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["kind"] == "UsageError"
    assert captured.err == ""


def test_enrol_then_sync_then_status(house: ContractServer, shell: Shell) -> None:
    said = shell.json("enrol", "--server", house.address, "--code", CODE)
    assert said == {
        "device": "dev-1",
        "tenant": "acme",
        "audience": "all",
        "server": house.address,
        "store": str(shell.store),
    }
    before = shell.json("status")
    assert (before["device"], before["release"], before["tier"]) == ("dev-1", 0, "empty")
    assert shell.json("sync", "--once") == {"release": 1, "genomes": 0, "reported": 0}
    last = house.streams[-1].wait_for(lambda message: message.heartbeat.active_release == 1)
    assert last is not None, "what it holds in the end is said, too"
    after = shell.json("status")
    assert (after["release"], after["tier"], after["highest_seen"]) == (1, "fresh", 1)
    assert after["last_contact_ms"] > 0
    text = shell.run("status")
    assert re.search(r"^release +1 \(fresh\), published ", text, re.MULTILINE)
    assert re.search(r"^last contact +\d+ seconds? ago", text, re.MULTILINE)


def test_errors_have_their_exit_codes(house: ContractServer, shell: Shell) -> None:
    for command in (
        ["status"],
        ["sync", "--once"],
        ["doctor"],
        ["replay", "00" * 16],
        ["decide", "--placement", "lobby"],
    ):
        assert "there is no store" in shell.json(*command, code=2)["error"]["message"]
        assert not shell.store.exists(), "looking makes nothing"
    enrol = ["enrol", "--server", house.address, "--code"]
    refused = shell.json(*enrol, "wrong", code=1)["error"]
    assert (refused["kind"], refused["reason"]) == ("RefusedError", "CODE_INVALID")
    shell.run(*enrol, "wrong", code=1)
    assert shell.err.startswith("error: ")
    assert "CODE_INVALID" in shell.err
    shell.run("enrol", "--server", "http://192.0.2.1:80", "--code", CODE, code=2)
    assert "in the clear" in shell.err
    assert "run genome-edge enrol" in shell.json("sync", "--once", code=2)["error"]["message"]
    shell.run(*enrol, CODE)
    shell.run(*enrol, CODE, code=2)
    house.stop()
    shell.run("sync", "--once", "--timeout", "2", code=3)
    assert shell.run("status"), "and everything else goes on"


def test_a_wrong_setting_is_a_usage_error(device: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENOME_EDGE_HEARTBEAT_S", "often")
    device.run("status", code=2)
    assert "GENOME_EDGE_HEARTBEAT_S" in device.err


def test_the_store_of_the_environment(
    house: ContractServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GENOME_EDGE_STORE", str(tmp_path / "here"))
    assert cli.main(["enrol", "--server", house.address, "--code", CODE]) == 0
    assert (tmp_path / "here" / "identity" / "device.pem").exists()
    capsys.readouterr()


def test_a_refused_release_is_said(house: ContractServer, device: Shell) -> None:
    house.release = house.publisher.release(2, key=Publisher().key)
    error = device.json("sync", "--once", code=1)["error"]
    assert error["reason"] == "SIGNATURE"
    assert device.json("status")["release"] == 1


def test_one_process_syncs_at_a_time(device: Shell) -> None:
    store = DeviceStore.open(device.store)
    lock = store.elect()
    assert lock is not None
    with lock:
        assert device.json("sync", "--once", code=1)["error"]["reason"] == "ALREADY_SYNCING"
    store.close()


def test_sync_runs_until_it_is_told_to_end(house: ContractServer, device: Shell) -> None:
    command = [sys.executable, "-m", "edge_sdk.cli", "sync", "--json", "--store", str(device.store)]
    environment = {**os.environ, "GENOME_EDGE_RECONNECT_MIN_S": "0.05"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        until(lambda: len(house.streams) > 1, "connected", 20)
        house.release = house.publisher.release(2)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(json.loads(line)["release"] == 2 for line in lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_tls_by_the_option(tmp_path: Path, shell: Shell) -> None:
    credentials, ca_file = certificate(tmp_path)
    house = ContractServer(credentials)
    try:
        enrol = ["enrol", "--server", house.address, "--code", CODE]
        shell.run(*enrol, code=3)
        shell.run(*enrol, "--ca", str(tmp_path / "missing.pem"), code=2)
        shell.run(*enrol, "--ca", str(ca_file))
        house.release = house.publisher.release(1)
        assert shell.json("sync", "--once")["release"] == 1
    finally:
        house.stop()


# doctor -------------------------------------------------------------------------------------------


def levels(report: Any) -> dict[str, str]:
    return {check["name"]: check["level"] for check in report["checks"]}


def test_a_healthy_device(house: ContractServer, device: Shell) -> None:
    device.run("sync", "--once")
    before = house.streams[-1].hello
    report = device.json("doctor", "--lat", "40.7", "--lng", "-74.0")
    # It says what this device holds: the server shows people what was said last.
    held = DeviceStore.open(device.store)
    asked = house.streams[-1].hello
    assert (asked.root_version, asked.active_release) == (held.standing().root.version, 1)
    assert asked.epoch == before.epoch
    held.close()
    found = levels(report)
    assert {"store", "credential", "release", "release age", "genomes", "offers", "outbox",
            "network", "clock"} <= set(found)  # fmt: skip
    assert set(found.values()) <= {"ok", "warn"}
    assert report["failed"] == 0
    text = device.run("doctor")
    assert re.search(r"^ok    network: .* answers", text, re.MULTILINE)
    assert text.splitlines()[-1].endswith("0 failed")


def test_an_ill_device_is_told_what_to_do(house: ContractServer, device: Shell) -> None:
    house.stop()
    report = device.json("doctor", code=1)
    (network,) = [check for check in report["checks"] if check["name"] == "network"]
    assert network["level"] == "fail"
    assert network["todo"]
    assert "network" not in levels(device.json("doctor", "--offline"))

    key = device.store / "identity" / "device.pem"
    key.chmod(0o644)
    assert levels(device.json("doctor", "--offline"))["credential"] == "warn"
    key.write_bytes(b"damaged")
    assert levels(device.json("doctor", "--offline", code=1))["credential"] == "fail"

    for part in (device.store / "parts").iterdir():
        if part.stat().st_size > 500:
            part.write_bytes(b"damaged")
    found = device.json("doctor", "--offline", code=1)
    assert levels(found)["release"] == "fail"
    text = device.run("doctor", "--offline", code=1)
    assert "-> " in text


def test_a_revoked_device_and_a_wrong_clock(house: ContractServer, device: Shell) -> None:
    house.revoked = True
    (network,) = [c for c in device.json("doctor", code=1)["checks"] if c["name"] == "network"]
    assert "CREDENTIAL_REVOKED" in network["found"]
    store = DeviceStore.open(device.store)
    store.heard_server(1_900_000_000_000)
    store.close()
    assert levels(device.json("doctor", "--offline", code=1))["clock"] == "warn"


def test_a_store_that_was_never_enrolled_or_synced(house: ContractServer, shell: Shell) -> None:
    DeviceStore.open(shell.store).close()
    found = levels(shell.json("doctor", code=1))
    assert (found["credential"], found["release"], found["clock"]) == ("warn", "fail", "warn")


def test_an_unexpected_error_says_how_to_see_more(
    device: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("edge_sdk.cli.status.run", broken)
    device.run("status", code=1)
    assert "GENOME_EDGE_TRACEBACK=1" in device.err
    monkeypatch.setenv("GENOME_EDGE_TRACEBACK", "1")
    device.run("status", code=1)
    assert "Traceback" in device.err


def test_every_command_is_in_the_readme_and_every_one_there_exists() -> None:
    readme = Path(__file__).resolve().parents[2] / "edge_sdk" / "README.md"
    listed = set(re.findall(r"^\| `genome-edge (\w+)", readme.read_text("utf-8"), re.MULTILINE))
    (commands,) = [action.choices for action in make_parser()._actions if action.choices]
    assert listed == set(commands)
