"""The small rooms of `genome-edge serve`: addresses, sockets, the token, refusals."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format

from edge_sdk.errors import InvalidContext, StoreError, UsageError
from edge_sdk.sidecar.doors import Door, parse_door, private_socket
from edge_sdk.sidecar.messages import context_of
from edge_sdk.sidecar.refusals import STATUSES, CallRefused
from edge_sdk.sidecar.rpc import RpcDoor
from edge_sdk.sidecar.token import Gate, keep_token, made_token, read_token
from genome_edge.v1 import decision_pb2, errors_pb2


@pytest.mark.parametrize(
    ("text", "door"),
    [
        ("127.0.0.1:80", Door("127.0.0.1", 80)),
        ("127.9.9.9:0", Door("127.9.9.9", 0)),
        ("localhost:8461", Door("127.0.0.1", 8461)),
        ("[::1]:1", Door("::1", 1)),
        ("unix:/run/edge.sock", Door(path=Path("/run/edge.sock"))),
    ],
)
def test_addresses(text: str, door: Door) -> None:
    assert parse_door(text) == door
    assert parse_door(door.text) == door


@pytest.mark.parametrize(
    "text",
    [
        "", ":80", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
        "0.0.0.0:80", "[::]:80", "10.0.0.1:80", "example.com:80", "localhost.example.com:80",
        "u@127.0.0.1:80", "127.0.0.1:80/x", "http://127.0.0.1:80", "unix:sock",
        "unix:/" + "x" * 200,
    ],
)  # fmt: skip
def test_what_is_no_address_of_this_machine(text: str) -> None:
    with pytest.raises(UsageError):
        parse_door(text)


def test_a_socket_gives_way_only_when_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "there" / "s"
    with socket.socket(socket.AF_UNIX) as first:
        with private_socket(path):
            first.bind(str(path))
        first.listen()
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with pytest.raises(UsageError, match="listens"), private_socket(path):
            pass
    with socket.socket(socket.AF_UNIX) as second, private_socket(path):
        second.bind(str(path))
    path.unlink()
    path.write_text("mine")
    with pytest.raises(UsageError, match="in the way"), private_socket(path):
        pass
    assert path.read_text() == "mine"


def test_a_socket_where_there_can_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    door = RpcDoor([], Gate("s" * 43), lambda: False)
    with pytest.raises(UsageError, match="cannot be listened on"):
        door.open(Door(path=tmp_path / "file" / "s"))
    door.close(0)


def test_the_token(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    token = read_token(path)
    assert read_token(path) == token
    assert len(token) > 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keep_token(path, made_token())
    assert read_token(path) != token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for junk in (b"", b"short\n", b"x" * 30 + b" y" * 10, b"\xff" * 40):
        path.write_bytes(junk)
        with pytest.raises(UsageError, match="no token"):
            read_token(path)
    path.write_text("t" * 40)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_token(path)
    with pytest.raises(StoreError):
        read_token(path / "below")


def test_the_gate() -> None:
    gate = Gate("s" * 43)
    assert gate.admits("Bearer " + "s" * 43)
    assert gate.admits("bearer  " + "s" * 43)
    secret = "s" * 43
    for scheme in ("", "Bearer", "Basic ", "Bearer \udcff", "Bearer é", f"Bearer {secret}"):
        assert not gate.admits(scheme + "x")
    for wrong in (None, "", "Bearer ", secret, secret[1:], f"Basic {secret}"):
        assert not gate.admits(wrong)
    assert gate.opens("a", gate.key_of("a"))
    assert not gate.opens("b", gate.key_of("a"))
    assert not Gate("t" * 43).opens("a", gate.key_of("a"))


@pytest.mark.parametrize("reason", STATUSES)
def test_a_refusal_says_the_same_on_both_ways(reason: str) -> None:
    refusal = CallRefused(reason, "no" * 500, field="x" * 999, expected=3)
    status = errors_pb2.RpcStatus.FromString(refusal.details())
    info = errors_pb2.ErrorInfo.FromString(status.details[0].value)
    said = refusal.as_json()["error"]
    assert said["status"] == next(c.name for c in grpc.StatusCode if c.value[0] == status.code)
    assert said["message"] == status.message
    assert said["details"][0]["@type"] == status.details[0].type_url
    assert (info.reason, dict(info.metadata)) == (reason, said["details"][0]["metadata"])
    assert len(refusal.details()) < 2_000
    assert 400 <= said["code"] < 600


def test_a_moment() -> None:
    moment = decision_pb2.Moment(
        cell="8928308280fffff",
        place="hotel",
        activity="flight-search",
        time="2026-03-28T18:30:00+01:00",
        channel="kiosk",
        basket=["a", "b"],
        stage="before",
        attributes={"weather": "sunny"},
        language="de-CH",
        recent=[decision_pb2.RecentActivity(activity="check-in", ago_s=300)],
    )
    context = context_of(moment)
    assert list(context.recent) == [("check-in", 300.0)]
    assert (context.place, context.stage, context.language) == ("hotel", "before", "de-ch")
    assert (context.basket, context.region) == (("a", "b"), "85283083fffffff")
    assert "weather:sunny" in context.declared
    assert context.time is not None
    assert context.time.isoformat() == "2026-03-28T18:30:00+01:00"
    assert context_of(decision_pb2.Moment()).declared == ()
    for wrong in ({"time": "noon"}, {"time": "2026-03-28T18:30:00"}, {"cell": "x"}, {"stage": "x"}):
        with pytest.raises(InvalidContext):
            context_of(json_format.ParseDict(wrong, decision_pb2.Moment()))
