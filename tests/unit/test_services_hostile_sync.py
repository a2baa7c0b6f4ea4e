"""Devices that do not keep to the contract of sync: they hurt nobody but themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from genome_edge.v1 import sync_pb2
from genome_server.home import Home, Tenant
from genome_server.services import shipping
from genome_server.services.desk import CONTENTS
from genome_server.services.serve import House
from tests.serving import make_home, publish_release, serving
from tests.unit.syncing import NEW, Copy, enrolled


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path / "home")
    publish_release(home.tenant("default"))
    return home


@pytest.fixture
def tenant(home: Home) -> Tenant:
    return home.tenant("default")


@pytest.fixture
def house(home: Home) -> Iterator[House]:
    with serving(home) as house:
        yield house


@pytest.fixture
def channel(house: House) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(house.address) as channel:
        yield channel


@pytest.mark.parametrize("kind", ["ack", "nack"])
def test_an_answer_to_nothing_is_nobodys(kind: str, channel: grpc.Channel, tenant: Tenant) -> None:
    opened = Copy().hello(enrolled(channel, tenant), features=NEW)
    message = opened.skip_beats()
    while message is not None and not message.HasField("commit"):
        message = opened.skip_beats()
    assert message is not None
    for nonce in (message.commit.nonce + 7, message.commit.nonce - 1, 2**64 - 1):
        if kind == "ack":
            opened.say(ack=sync_pb2.Ack(nonce=nonce))
        else:
            opened.say(nack=sync_pb2.Nack(nonce=nonce, reason="DIGEST"))
    assert opened.quiet(0.3)
    other, copy = enrolled(channel, tenant), Copy()
    others = copy.hello(other, features=NEW)
    assert copy.take(others.transaction()) == "release", "everybody else is served"
    opened.say(ack=sync_pb2.Ack(nonce=message.commit.nonce))
    assert opened.transaction()[0].begin.kind == sync_pb2.Begin.KIND_GENOMES
    opened.close()
    others.close()


def test_what_a_hello_says_of_no_size_is_not_kept(
    house: House, channel: grpc.Channel, tenant: Tenant
) -> None:
    device = enrolled(channel, tenant)
    with pytest.raises(grpc.RpcError) as caught:
        Copy().hello(device, nonce=b"n" * 1_000_000).next()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for root_version in (5, 2**33, 2**64 - 1):
        copy = Copy()
        opened = copy.hello(
            device,
            features=[*NEW, "x" * 100_000],
            held_parts=[b"", b"p" * 100_000],
            partials=[sync_pb2.Partial(sha256=b"q" * 100_000, size=2**64 - 1)],
            genome_cursor=b"c" * 100_000,
            root_version=root_version,
        )
        assert copy.take(opened.transaction()) == "release"
        assert copy.take(opened.transaction()) == "full"
        assert len(opened.trust) == 1
        opened.close()
    assert house._sync is not None
    _, shipping = house._sync._desks["default"]
    assert len(shipping._trust[1]) == 1, "one answer for all who are ahead"
    assert not any(len(word) > 256 for words in shipping._sets for word in words)


def test_a_content_that_is_swept_while_it_is_sent_ends_with_a_goodbye(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swept(path: Path, start: int) -> bytes:
        if path.parent.name == CONTENTS:
            path.unlink()
        return path.read_bytes()[start:]

    monkeypatch.setattr(shipping, "_read", swept)
    device, copy = enrolled(channel, tenant), Copy()
    opened = copy.hello(device, features=NEW)
    assert copy.take(opened.transaction()) == "release"
    message = opened.skip_beats()
    assert message is not None
    assert message.begin.HasField("content")
    message = opened.skip_beats()
    assert message is not None
    assert message.goodbye.retry_after_ms > 0
    assert opened.next() is None
