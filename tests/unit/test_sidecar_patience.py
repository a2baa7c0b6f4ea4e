"""How long callers of `genome-edge serve` may take, and who gives way: by the clock alone."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from edge_sdk.sidecar import http_server
from edge_sdk.sidecar.doors import Door
from edge_sdk.sidecar.http import HttpDoor, Rooms
from edge_sdk.sidecar.patience import GRACE_S, IDLE_S, REQUEST_S, Phase, Place, gives_way
from edge_sdk.sidecar.token import Gate

NOW = 1_000.0


def reading(since: float, allowed_s: float = REQUEST_S) -> Place:
    place = Place(allowed_s, since)
    place.heard(since)
    return place


def answering(since: float) -> Place:
    place = reading(since)
    place.answers()
    return place


def idle(since: float) -> Place:
    place = answering(since)
    place.waits(since)
    return place


def test_a_request_has_its_time_from_its_first_byte_on() -> None:
    place = Place(2.0, NOW)
    assert place.left_s(NOW + 10) == IDLE_S - 10
    place.heard(NOW + 10)
    assert (place.phase, place.left_s(NOW + 10)) == (Phase.READING, 2.0)
    place.heard(NOW + 11)
    assert place.left_s(NOW + 11.5) == 0.5, "each byte does not begin it anew"
    place.answers()
    place.reads_on()
    assert place.left_s(NOW + 12) == 0.0, "nor does the body"
    place.waits(NOW + 12)
    assert place.left_s(NOW + 12) == IDLE_S
    place.heard(NOW + 13)
    assert place.left_s(NOW + 13) == 2.0


def test_who_waits_between_two_calls_goes_first_and_who_is_answered_never() -> None:
    places = {
        "answering": answering(NOW - 100),
        "reading": reading(NOW - 4),
        "reading longer": reading(NOW - 4.5),
        "idle": idle(NOW - 1),
        "idle longer": idle(NOW - 2),
        "only just idle": idle(NOW),
        "new": Place(REQUEST_S, NOW),
        "silent": Place(REQUEST_S, NOW - 4.2),
    }
    went = []
    while (who := gives_way(places.items(), NOW)) is not None:
        assert places[who].gone
        went.append(who)
    assert went == [
        "idle longer", "idle", "only just idle", "reading longer", "silent", "reading",
    ]  # fmt: skip


def test_nobody_gives_way_who_has_only_just_come() -> None:
    assert gives_way([("a", reading(NOW)), ("b", Place(REQUEST_S, NOW))], NOW + GRACE_S / 2) is None
    assert gives_way([("a", reading(NOW))], NOW + GRACE_S) == "a"
    assert gives_way([], NOW) is None


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a door that takes two connections."""
    monkeypatch.setattr(http_server, "_CONNECTIONS", 2)
    rooms = Rooms({}, Gate("s" * 43), dict, lambda _: None)
    door = HttpDoor(rooms, (), lambda: False)
    yield door.open(Door("127.0.0.1", 0)).port
    door.close(1)


def test_a_place_is_free_when_its_connection_ends_and_busy_before(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()

    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=10)

    with contextlib.ExitStack() as lines:
        monkeypatch.setattr("edge_sdk.sidecar.patience.GRACE_S", 60.0)
        first, second = (lines.enter_context(connect()) for _ in range(2))
        first.sendall(health[:-2])
        with connect() as third:
            assert third.recv(100).startswith(b"HTTP/1.1 429 "), "nobody had their time yet"
        monkeypatch.setattr("edge_sdk.sidecar.patience.GRACE_S", 0.0)
        second.sendall(health)
        assert second.recv(1_000).startswith(b"HTTP/1.1 200 ")
        for goes, said in ((second, b""), (first, b"HTTP/1.1 408 ")):
            time.sleep(0.2)  # until it only waits
            one = lines.enter_context(connect())
            one.sendall(health + health[:20])
            assert one.recv(1_000).startswith(b"HTTP/1.1 200 ")
            assert goes.recv(1_000)[:13] == said
