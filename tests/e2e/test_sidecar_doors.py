"""Who may come in at a sidecar, what makes no sense to it, and how it listens and ends."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from genome_edge.v1 import decision_pb2
from tests.e2e.sidecar_client import Served, refusal, served
from tests.e2e.sidecar_town import ORIGIN, town
from tests.unit.device_town import subject, until

ANN, BEN = subject(1), subject(2)


# Who may come in --------------------------------------------------------------------------------


def test_the_token_is_asked_for_at_both_doors(device: Served) -> None:
    for given in (None, "Bearer ", f"Bearer {device.token}x", device.token, "Basic abc"):
        said = device.ask("POST", "/v1/decide", {"placement": "lobby"}, Authorization=given)
        assert (said.status, said.reason) == (401, "UNAUTHENTICATED"), given
        assert said.headers["WWW-Authenticate"] == "Bearer"
    assert device.ask("GET", "/v1/status", Authorization=None).status == 401
    assert device.ask("GET", "/healthz", Authorization=None).json == {"status": "serving"}
    with device.stubs() as (decisions, _):
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            with pytest.raises(grpc.RpcError) as caught:
                decisions.Decide(decision_pb2.DecideRequest(), metadata=metadata, timeout=10)
            assert refusal(caught.value)[:2] == ("UNAUTHENTICATED", "UNAUTHENTICATED")


def test_the_token_is_its_owners_alone(device: Served, tmp_path: Path) -> None:
    file = device.store / "serve" / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(device.token) >= 40
    mine = tmp_path / "token"
    mine.write_text("t" * 40)
    for mode, code in ((0o644, 2), (0o600, 0)):
        mine.chmod(mode)
        command = [sys.executable, "-m", "edge_sdk.cli", "serve", "--json", "--http", "none"]
        command += ["--grpc", f"unix:{tmp_path}/s", "--store", str(tmp_path / "d")]
        command += ["--bundle", str(device.store.parent / "town.bundle"), "--token-file", str(mine)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        if code == 0:
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) & 0o077 == 0
            process.terminate()
        else:
            assert "chmod 600" in said["error"]["message"]
        assert process.wait(20) == code
        process.stdout.close()
    assert not (tmp_path / "s").exists()


def test_a_new_token_shuts_the_old_one_out(tmp_path: Path) -> None:
    with served(tmp_path, town=town()) as one:
        old = one.token
        assert one.end() == 0
    with served(tmp_path, "--new-token") as one:
        assert one.token != old
        said = one.ask("POST", "/v1/decide", {}, Authorization=f"Bearer {old}")
        assert said.status == 401


def test_another_machines_name_is_refused(device: Served) -> None:
    for host in ("evil.example", f"evil.example:{device.port}", "127.0.0.1", "127.0.0.1:1", ""):
        said = device.ask("GET", "/v1/status", Host=host)
        assert (said.status, said.reason) == (403, "WRONG_HOST"), host
    for host in ("localhost", "LOCALHOST", "[::1]"):
        assert device.ask("GET", "/v1/status", Host=f"{host}:{device.port}").status == 200


def test_pages_of_other_origins_are_refused(device: Served) -> None:
    for origin in ("http://evil.example", "null", "http://localhost:3001", ""):
        said = device.ask("POST", "/v1/decide", {"placement": "lobby"}, Origin=origin)
        assert (said.status, said.reason) == (403, "WRONG_ORIGIN"), origin
        assert "Access-Control-Allow-Origin" not in said.headers
    said = device.ask("POST", "/v1/decide", {"placement": "lobby"}, Origin=ORIGIN)
    assert (said.status, said.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    asks = {
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Private_Network": "true",
        "Authorization": None,
    }
    said = device.ask("OPTIONS", "/v1/decide", Origin=ORIGIN, **asks)
    assert said.status == 204
    assert "authorization" in said.headers["Access-Control-Allow-Headers"]
    assert said.headers["Access-Control-Allow-Private-Network"] == "true"
    assert device.ask("OPTIONS", "/v1/decide", Origin="http://evil.example", **asks).status == 403


# What makes no sense ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "the body is no Decide"),
        (b"\xff\xfe", "the body is no Decide"),
        (b"[" * 50_000, "the body is no Decide"),
        (b"[]", "it is no JSON object"),
        (b" [ ]", "it is no JSON object"),
        (b"1", "the body is no Decide"),
        (b"null", "the body is no Decide"),
        (b'""', "the body is no Decide"),
        (b'{"placment": "lobby"}', "Decide: there is no placment; there are: 'placement', 'slots'"),
        ({"moment": {"lat": 1}}, "moment field: there is no lat; there are: 'cell', 'place'"),
        (b'{"slots": "many"}', "slots"),
        ({"placement": "lobby", "slots": 65}, "slots"),
        ({"placement": "lobby", "moment": {"cell": "40.7,-73.9"}}, "H3 cell"),
        ({"placement": "lobby", "moment": {"time": "2026-01-31T12:00:00"}}, "offset"),
        ({"placement": "lobby", "moment": {"recent": [{"agoS": 5}]}}, "activity=''"),
        ({"placement": "lobby", "moment": {"attributes": {"lat": "40.7"}}}, "lat"),
    ],
)
def test_a_body_that_makes_no_sense(device: Served, body: Any, says: str) -> None:
    said = device.ask("POST", "/v1/decide", body)
    assert (said.status, said.reason) == (400, "INVALID_ARGUMENT")
    assert says in said.json["error"]["message"]
    assert said.json["error"]["status"] == "INVALID_ARGUMENT"


def test_requests_that_make_no_sense(device: Served) -> None:
    def reason(verb: str, path: str, body: Any = None, **headers: Any) -> tuple[int, str]:
        said = device.ask(verb, path, body, **headers)
        return said.status, said.reason

    assert reason("POST", "/v1/dance", {}) == (404, "NOT_FOUND")
    assert reason("GET", "/v1/decide") == (405, "METHOD_NOT_ALLOWED")
    assert reason("POST", "/v1/status", {}) == (405, "METHOD_NOT_ALLOWED")
    assert reason("PUT", "/v1/decide", {}) == (405, "METHOD_NOT_ALLOWED")
    assert reason("POST", "/v1/decide", {}, Content_Type="text/plain") == (415, "NOT_JSON")
    assert reason("POST", "/v1/decide", b"", Content_Length="x" * 3)[0] == 413
    assert reason("POST", "/v1/decide", b"", Content_Length=str(1 << 40)) == (413, "TOO_LARGE")
    chunked = {"Transfer_Encoding": "chunked", "Content_Length": None}
    assert reason("POST", "/v1/decide", b"2\r\n{}\r\n0\r\n\r\n", **chunked)[0] == 411
    wrong = {"decisionId": "junk", "kind": "click"}
    said = device.ask("POST", "/v1/report-outcome", wrong).json["error"]["details"][0]
    assert said["metadata"] == {"field": "decision_id"}
    made = device.post("decide", placement="lobby")["decisionId"]
    for changed in ({"kind": "clck"}, {"slot": 9}, {"valueMicros": "-1"}, {"eventId": "x" * 999}):
        body = {"decisionId": made, "kind": "click", **changed}
        assert reason("POST", "/v1/report-outcome", body)[1] == "INVALID_ARGUMENT", changed
    assert reason("POST", "/v1/explain", {"decisionId": "ab" * 16}) == (404, "UNKNOWN_DECISION")
    buy = {"kind": "buy", "product": "poems", "customer": "a stranger"}
    assert reason("POST", "/v1/imprint", buy) == (403, "NOT_IN_AUDIENCE")
    assert reason("POST", "/v1/imprint", {"kind": "buy"})[1] == "INVALID_ARGUMENT"


def test_garbage_on_the_line_ends_that_line_only(device: Served) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"A" * 70_000,
    ):
        with socket.create_connection(("127.0.0.1", device.port), timeout=10) as line:
            line.sendall(garbage)
            line.shutdown(socket.SHUT_WR)
            while line.recv(65_536):
                pass
    assert device.ask("GET", "/healthz").status == 200


def test_lines_that_say_nothing_leave_room_for_others(device: Served) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(150):
            line = socket.create_connection(("127.0.0.1", device.port), timeout=10)
            held.enter_context(line)
        until(lambda: device.ask("GET", "/healthz").status == 200)


def test_a_connection_is_used_again(device: Served) -> None:
    connection = device.connection()
    for _ in range(3):
        connection.request("POST", "/v1/decide", b'{"placement": "lobby"}', device.headers)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        local = connection.sock.getsockname()
    connection.request("POST", "/v1/decide", b'{"placement": "lobby"}', device.headers)
    assert connection.sock.getsockname() == local
    connection.getresponse().read()
    connection.close()


# Where it listens, and how it ends --------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "says"),
    [
        ("0.0.0.0:0", "this machine only"),
        ("192.0.2.1:80", "this machine only"),
        ("example.com:80", "this machine only"),
        ("8080", "no address"),
        ("127.0.0.1", "no address"),
        ("unix:here", "unix:/PATH"),
    ],
)
def test_it_listens_on_this_machine_only(tmp_path: Path, door: str, says: str) -> None:
    for option in ("--http", "--grpc"):
        done = subprocess.run(
            [sys.executable, "-m", "edge_sdk.cli", "serve", "--store", str(tmp_path), option, door],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert says in done.stderr


def test_without_a_store_or_with_an_address_taken(device: Served, tmp_path: Path) -> None:
    def serve(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "edge_sdk.cli", "serve", *arguments],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert "there is no store" in serve("--store", str(tmp_path / "none"))
    store = ("--store", str(device.store))
    assert "cannot be listened on" in serve(*store, "--http", device.http, "--grpc", "none")
    assert "cannot be listened on" in serve(*store, "--grpc", device.grpc, "--http", "none")
    assert "nothing to serve" in serve(*store, "--grpc", "none", "--http", "none")
    assert "no origin" in serve(*store, "--allow-origin", "http://localhost:3000/page")


def test_sockets_serve_as_ports_do_and_a_dead_one_gives_way(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    for turn in range(2):
        with served(tmp_path, town=town(), port=f"unix:{path}") as one:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
            made = until(lambda: one.post("decide", placement="lobby")["slots"][0])
            assert made["assets"]["image"].startswith("file:///"), made
            if turn == 0:
                one.end(signal.SIGKILL)
                assert path.exists()


def test_it_ends_when_the_calls_that_run_have_ended(tmp_path: Path) -> None:
    with served(tmp_path, town=town()) as one:
        until(lambda: one.post("decide", placement="lobby")["slots"][0]["offer"])
        body = b'{"placement": "lobby"}'
        head = (
            f"POST /v1/decide HTTP/1.1\r\nHost: localhost:{one.port}\r\n"
            f"Authorization: Bearer {one.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        with socket.create_connection(("127.0.0.1", one.port), timeout=10) as line:
            line.sendall(head + body[:5])
            time.sleep(0.2)
            one.process.terminate()
            time.sleep(0.3)
            assert one.process.poll() is None, "it waits for the call that runs"
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", one.port), timeout=10).close()
            line.sendall(body[5:])
            answer = line.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert one.process.wait(20) == 0
        decided = [event for _, event in one.events() if event.HasField("decision")]
    assert decided[-1].decision.decision_id.hex() in answer.decode()
