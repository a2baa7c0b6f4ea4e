"""`genome-server serve` and `devices` as a person runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from genome_edge.v1 import decision_pb2, decision_pb2_grpc
from genome_server.cli import cli
from genome_server.home import Home
from genome_server.services.credentials import read_presence
from genome_server.services.serve import House
from tests.serving import (
    RawDevice,
    add_audience,
    add_code,
    filler,
    make_home,
    now_ms,
    publish_release,
    serving,
)

SERVER = Path(sys.executable).with_name("genome-server")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = make_home(tmp_path_factory.mktemp("home"))
    publish_release(home.tenant("default"))
    return home


@contextmanager
def process(home: Home, *options: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server as a process, and the line that it prints when it is ready."""
    command = [SERVER, "serve", "--home", home.root, *options]
    with (home.root / "server.log").open("w") as log:
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert started.stdout is not None
    try:
        yield started, started.stdout.readline()
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


def run(home: Home, *arguments: str, code: int = 0) -> dict[str, Any]:
    """One command with --json."""
    done = CliRunner().invoke(cli, [*arguments, "--home", str(home.root), "--json"])
    assert done.exit_code == code, done.output
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_ready_stop_and_ready_again(home: Home, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    with process(home, "--listen", "127.0.0.1:0", "--port-file", port_file, "--json") as (
        server,
        ready,
    ):
        facts = json.loads(ready)
        assert facts["tenants"] == ["default"]
        assert facts["tls"] is False
        assert port_file.read_text() == f"{facts['port']}\n"
        with grpc.insecure_channel(facts["address"]) as channel:
            device = RawDevice(channel)
            device.enrol(add_code(home.tenant("default")))
            device.report(1, filler(1, 1), 1)
            stream = device.sync(wants_genomes=False)
            assert stream.next() is not None
            server.send_signal(signal.SIGTERM)
            message = stream.skip_beats()
            assert message is not None
            assert message.HasField("goodbye")
            assert server.wait(15) == 0
    with process(home, "--listen", facts["address"]) as (_, line):
        assert line == (
            f"Serving default on {facts['address']} (no TLS, this machine only). Ctrl+C stops it.\n"
        )


def test_logs_are_structured_and_name_no_customer(home: Home) -> None:
    token = run(home, "devices", "thin", "--name", "log-reader", "--audience", "all")["token"]
    options = ("--listen", "127.0.0.1:0", "--json", "--log-level", "debug")
    with process(home, *options) as (server, ready):
        address = json.loads(ready)["address"]
        metadata = (("authorization", f"Bearer {token}"),)
        with grpc.insecure_channel(address) as channel:
            stub = decision_pb2_grpc.DecisionServiceStub(channel)
            moment = decision_pb2.Moment(cell="8a2a1072b59ffff")
            for placement in ("screen", "nowhere"):
                request = decision_pb2.DecideRequest(
                    placement=placement, customer="ann", moment=moment
                )
                try:
                    stub.Decide(request, metadata=metadata, timeout=10)
                except grpc.RpcError:
                    assert placement == "nowhere"
        server.send_signal(signal.SIGTERM)
        server.wait(15)
    text = (home.root / "server.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert any("UNKNOWN_PLACEMENT" in line["message"] for line in lines)
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert "8a2a1072b59ffff" not in text
    assert '"ann"' not in text
    assert " ann" not in text
    assert token not in text


def test_tls_with_a_certificate_of_our_own(home: Home) -> None:
    listen = ("--listen", "127.0.0.1:0", "--self-signed", "127.0.0.1", "--json")
    with process(home, *listen) as (_, ready):
        facts = json.loads(ready)
        assert facts["tls"] is True
        trusted = grpc.ssl_channel_credentials(Path(facts["ca_file"]).read_bytes())
        with grpc.secure_channel(facts["address"], trusted) as channel:
            assert RawDevice(channel).enrol(add_code(home.tenant("default"))).device_id
        with (
            grpc.insecure_channel(facts["address"]) as channel,
            pytest.raises(grpc.RpcError),
        ):
            RawDevice(channel).enrol("x")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--listen", "0.0.0.0:0"], 2, "--tls-cert"),
        (["--listen", "nonsense"], 2, "HOST:PORT"),
        (["--tls-cert", "x.pem"], 2, "belong together"),
        (["--tls-cert", "x.pem", "--tls-key", "x.key"], 2, "No such file"),
        (["--self-signed", "a/b"], 2, "host"),
    ],
)
def test_what_cannot_be_served_says_what_to_do(
    home: Home, options: list[str], code: int, says: str
) -> None:
    done = subprocess.run(
        [SERVER, "serve", "--home", home.root, *options],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert says in done.stderr


def test_one_server_for_a_home_and_an_address(home: Home, tmp_path: Path) -> None:
    with serving(home) as house:
        refused = subprocess.run(
            [SERVER, "serve", "--home", home.root, "--listen", "127.0.0.1:0"],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert refused.returncode == 1
        assert "another process serves" in refused.stderr
        other = make_home(tmp_path / "other")
        busy = subprocess.run(
            [SERVER, "serve", "--home", other.root, "--listen", house.address],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert busy.returncode == 1
        assert "in use" in busy.stderr


def test_no_home_says_init(tmp_path: Path) -> None:
    answer = run(Home(tmp_path / "none"), "serve", code=2)
    assert "genome-server init" in answer["error"]["message"]
    (tmp_path / "empty").mkdir()
    answer = run(Home(tmp_path / "empty"), "serve", code=2)
    assert "genome-server init" in answer["error"]["message"]


def test_a_socket_on_this_machine(home: Home, tmp_path: Path) -> None:
    with serving(home, f"unix:{tmp_path}/edge.sock") as house:
        assert house.port
        with grpc.insecure_channel(house.address) as channel:
            assert RawDevice(channel).enrol(add_code(home.tenant("default"))).device_id


def test_devices_from_enrolment_to_revocation(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    code = run(home, "devices", "enrol", "--name", "lobby")
    assert code["audience"] == "all", "the only one there is"
    assert code["expires_ms"] > now_ms() + 59 * 60_000
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        device = RawDevice(channel)
        device.enrol(code["code"], name="")
        device.report(1, filler(1, 1), 1)
    (listed,) = run(home, "devices", "list")["devices"]
    assert (listed["id"], listed["name"], listed["state"]) == (device.id, "lobby", "enrolled")
    assert run(home, "devices", "show", "lobby")["id"] == device.id
    assert run(home, "devices", "revoke", "lobby") == {"revoked": device.id}
    assert run(home, "devices", "show", device.id)["state"] == "revoked"
    assert "no device" in run(home, "devices", "show", "x", code=1)["error"]["message"]


def test_thin_clients(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    made = run(home, "devices", "enrol", "--thin", "--name", "web", "--audience", "all")
    assert made["token"].startswith("default.")
    again = run(home, "devices", "thin", "--name", "web", code=1)
    assert "already" in again["error"]["message"]
    assert run(home, "devices", "list")["thin"] == [
        {"name": "web", "audience": "all", "revoked": False}
    ]
    run(home, "devices", "revoke", "web")
    assert run(home, "devices", "list")["thin"][0]["revoked"] is True


def test_an_audience_must_be_chosen_where_there_are_several(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    add_audience(home.tenant("default"), "some", ["ann"])
    unsaid = run(home, "devices", "enrol", code=2)["error"]["message"]
    assert "all | some" in unsaid
    unknown = run(home, "devices", "enrol", "--audience", "sme", code=1)["error"]["message"]
    assert "did you mean 'some'" in unknown


@pytest.mark.parametrize("span", ["1", "x", "0h", "1y", "-1h"])
def test_a_span_of_time(home: Home, span: str) -> None:
    done = CliRunner().invoke(
        cli, ["devices", "enrol", "--home", str(home.root), "--expires", span]
    )
    assert done.exit_code == 2
    assert "say 30m, 1h or 7d" in done.output


def test_a_customer_and_a_presence_token(home: Home) -> None:
    shown = run(home, "customers", "show", "ann")
    assert shown["consents"] == ["personalisation"]
    assert shown["audiences"] == ["all"]
    assert isinstance(shown["genome"], dict)
    token = run(home, "customers", "token", "ann", "--ttl", "5m")
    tenant = home.tenant("default")
    key = tenant.presence_key_path.read_bytes()
    subject, until_ms = read_presence(key, token["token"], now_ms())
    assert subject.hex() == shown["subject"]
    assert until_ms == token["expires_ms"]
    with closing(tenant.open_store()) as store:
        assert subject == store.subject_of("app", "ann")
    missing = run(home, "customers", "show", "nobody", code=1)["error"]["message"]
    assert "nobody" not in missing


def test_what_a_thread_is_at_ends_before_the_store_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else SQLite ends the process."""
    house = House(make_home(tmp_path / "home"), "127.0.0.1:0", None)
    (room,) = house.rooms.values()
    at_work = house._pool.submit(time.sleep, 0.2)
    close, ended = room.close, []

    def closing_room() -> None:
        ended.append(at_work.done())
        close()

    monkeypatch.setattr(room, "close", closing_room)
    house.close()
    assert ended == [True]
