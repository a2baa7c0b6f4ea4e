"""Every kept conversation of sync is understood today: the same bytes, heard by this device."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest

from edge_sdk import Config
from edge_sdk.clock import Clocks
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore, Identity
from edge_sdk.sync import holding
from edge_sdk.sync.trust import FEATURES
from edge_sdk.sync.updater import Updater
from genome_edge.v1 import sync_pb2
from tests.unit.device_town import until
from tests.versions.conversation import NAME, Heard, Kept, converse, held
from tests.versions.released import HERE

KEPT = sorted(HERE.glob(f"*/{NAME}"))


class Line:
    """A link that says what was once said, each message at its time, as soon as the device has
    answered the transaction before it."""

    address = SimpleNamespace(text="kept")

    def __init__(self, stream: list[Heard]) -> None:
        self.ms = stream[0].at_ms
        self._server = [one for one in stream if one.who == "server"]
        self.said: list[sync_pb2.SyncRequest] = []
        self._listening = threading.Thread()

    def open_sync(self, requests: Iterator[sync_pb2.SyncRequest]) -> Line:
        """The one stream that was kept."""

        def hear() -> None:
            for request in requests:
                self.said.append(request)

        self._listening = threading.Thread(target=hear)
        self._listening.start()
        return self

    def __iter__(self) -> Iterator[sync_pb2.SyncResponse]:
        due = 0
        for heard in self._server:
            message = sync_pb2.SyncResponse.FromString(heard.said)
            self._wait_for(due)
            self.ms = heard.at_ms
            yield message
            due = message.commit.nonce
        self._wait_for(due)

    def _wait_for(self, nonce: int) -> None:
        until(lambda: not nonce or nonce in (said for said, _ in answers(self.said)))

    def cancel(self) -> None:
        """There is nothing to end."""

    def all_said(self) -> list[sync_pb2.SyncRequest]:
        """What the device said until it hung up."""
        self._listening.join(10)
        return self.said


def device_said(stream: list[Heard]) -> list[sync_pb2.SyncRequest]:
    return [sync_pb2.SyncRequest.FromString(one.said) for one in stream if one.who == "device"]


def answers(said: list[sync_pb2.SyncRequest]) -> list[tuple[int, str]]:
    """Nonce and reason of each answer; the words of a Nack are for people."""
    acks = [(one.ack.nonce, "") for one in said if one.HasField("ack")]
    return [*acks, *((one.nack.nonce, one.nack.reason) for one in said if one.HasField("nack"))]


def listen(store: DeviceStore, stream: list[Heard]) -> list[sync_pb2.SyncRequest]:
    """Let a device hear a stream; what it says."""
    line = Line(stream)
    boot, began = bytes(range(16)), line.ms
    store.clocks = Clocks(lambda: line.ms, lambda: 1 + line.ms - began, boot)
    hello = device_said(stream)[0].hello
    with mock.patch.object(holding, "secrets", SimpleNamespace(token_bytes=lambda _: hello.nonce)):
        updater = Updater(store, Outbox(store, Config()), Config(), lambda: None)
        updater._sync_until(cast("Any", line), time.monotonic() + 60)
    return line.all_said()


def test_this_version_is_kept() -> None:
    from importlib.metadata import version

    assert HERE / version("genome-edge-sdk") / NAME in KEPT
    assert all(path.stat().st_size < 40_000 for path in KEPT)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.parent.name)
def test_no_field_is_forgotten(path: Path) -> None:
    for heard in itertools.chain(*Kept.read(path).streams):
        kind = sync_pb2.SyncRequest if heard.who == "device" else sync_pb2.SyncResponse
        message = kind.FromString(heard.said)
        assert message.WhichOneof("message"), "a message of a kind that is not known any more"
        message.DiscardUnknownFields()
        assert message.ByteSize() == len(heard.said), message


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.parent.name)
def test_a_device_takes_what_was_kept(path: Path, tmp_path: Path) -> None:
    kept = Kept.read(path)
    with closing(DeviceStore.open(tmp_path / "store")) as store:
        store.set_identity(Identity("http://kept", "default", "kept", "all", b"", kept.root))
        for stream, after in zip(kept.streams, kept.held, strict=True):
            said, then = listen(store, stream), device_said(stream)
            assert answers(said) == answers(then)
            assert held(store) == after
            hello, before = said[0].hello, then[0].hello
            assert set(before.features) <= set(FEATURES), "a feature was taken back"
            for one in (hello, before):
                for changing in ("sdk_version", "features", "epoch"):
                    one.ClearField(changing)
            assert hello == before


def test_a_conversation_of_today_has_the_same_shape(tmp_path: Path) -> None:
    """What is kept is what is said now, but for what differs from talk to talk."""
    today, kept = converse(tmp_path), Kept.read(KEPT[-1])
    for stream, then in zip(today.streams, kept.streams, strict=True):
        assert answers(device_said(stream)) == answers(device_said(then))
        assert _kinds(stream) == _kinds(then)


def _kinds(stream: list[Heard]) -> list[str]:
    said = [sync_pb2.SyncResponse.FromString(one.said) for one in stream if one.who == "server"]
    return [kind for one in said if (kind := str(one.WhichOneof("message"))) != "heartbeat"]
