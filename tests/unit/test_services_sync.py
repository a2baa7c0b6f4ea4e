"""Sync over real sockets: only what differs, consistent marks, news within moments."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from genome_edge.v1 import release_pb2, sync_pb2
from genome_server.home import Home, Tenant
from genome_server.services import stream, sync
from genome_server.services.serve import House
from genome_server.store.protocol import AudienceRow
from tests.serving import (
    AGREED,
    RawDevice,
    RawStream,
    add_audience,
    add_code,
    frames,
    info,
    interaction,
    make_home,
    offer,
    publish_release,
    serving,
    until,
)

FEATURES = ["offer-model-1", "quantiser-1", "squarecb"]
LOOKUP_KEY = bytes(range(32))


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


def enrolled(channel: grpc.Channel, tenant: Tenant, audience: str = "all") -> RawDevice:
    device = RawDevice(channel)
    device.enrol(add_code(tenant, audience))
    return device


def subject_of(tenant: Tenant, name: str) -> bytes:
    with closing(tenant.open_store()) as store:
        subject = store.subject_of("app", name)
    assert subject is not None
    return subject


def lookup_hash(name: str, key: bytes = LOOKUP_KEY) -> bytes:
    return hmac.digest(key, name.encode(), "sha256")[:16]


class Copy:
    """What a device that follows the stream to the letter holds."""

    def __init__(self) -> None:
        self.release = 0
        self.parts: dict[bytes, bytes] = {}
        self.rows: dict[bytes, bytes] = {}
        self.lookups: dict[bytes, bytes] = {}
        self.cursor = b""
        self.marks: dict[tuple[bytes, int], int] = {}
        self.manifest = release_pb2.Manifest()

    def hello(self, device: RawDevice, **more: object) -> RawStream:
        hello: dict[str, object] = {
            "wants_genomes": True,
            "features": FEATURES,
            "active_release": self.release,
            "highest_release": self.release,
            "held_parts": list(self.parts),
            "genome_cursor": self.cursor,
            "lineage": self.manifest.lineage,
            **more,
        }
        return device.sync(**hello)

    def take(self, messages: list[sync_pb2.SyncResponse]) -> str:
        """Apply a transaction; what it was."""
        begin, commit = messages[0].begin, messages[-1].commit
        if begin.kind == sync_pb2.Begin.KIND_RELEASE:
            self._take_release(messages)
            return "release"
        if begin.full:
            self.rows.clear()
            self.lookups.clear()
        puts = [m.put for m in messages if m.HasField("put")]
        assert begin.rows == sum(len(put.block.counts) for put in puts)
        for put in puts:
            self._take_put(put)
        for message in messages:
            if message.HasField("delete"):
                self.rows.pop(message.delete.subject, None)
        assert commit.total_rows == len(self.rows)
        self.cursor = commit.genome_cursor
        self.marks = {(mark.epoch, mark.lane): mark.sequence for mark in commit.included}
        return "full" if begin.full else "patch"

    def _take_release(self, messages: list[sync_pb2.SyncResponse]) -> None:
        self.manifest = release_pb2.Manifest.FromString(messages[0].begin.manifest.manifest)
        arriving: dict[bytes, bytes] = {}
        for message in messages[1:-1]:
            chunk = message.chunk
            assert len(arriving.setdefault(chunk.sha256, b"")) == chunk.offset
            arriving[chunk.sha256] += chunk.data
        assert not arriving.keys() & self.parts.keys(), "sent though it was held"
        self.parts |= arriving
        self.parts[hashlib.sha256().digest()] = b""  # no chunk carries an empty part
        for part in self.manifest.parts:
            assert hashlib.sha256(self.parts[part.sha256]).digest() == part.sha256
            assert len(self.parts[part.sha256]) == part.size
        self.release = self.manifest.version

    def _take_put(self, put: sync_pb2.Put) -> None:
        start = 0
        subjects = [put.block.subjects[i : i + 16] for i in range(0, len(put.block.subjects), 16)]
        assert subjects == sorted(set(subjects))
        for subject, count in zip(subjects, put.block.counts, strict=True):
            self.rows[subject] = put.block.strengths[start : start + count]
            start += count
        for i in range(0, len(put.lookup_hashes), 16):
            self.lookups[put.lookup_hashes[i : i + 16]] = put.lookup_subjects[i : i + 16]


def current(channel: grpc.Channel, tenant: Tenant, audience: str = "all") -> tuple[
    RawDevice, RawStream, Copy
]:  # fmt: skip
    """A device that has everything."""
    device = enrolled(channel, tenant, audience)
    copy = Copy()
    opened = copy.hello(device)
    assert copy.take(opened.transaction()) == "release"
    assert copy.take(opened.transaction()) == "full"
    return device, opened, copy


def buy(device: RawDevice, tenant: Tenant, name: str, sequence: int) -> None:
    event = interaction(subject_of(tenant, name), "buy", "soap", f"{device.id}-{sequence}")
    device.report(sequence, frames(sequence, event), sequence)


def test_a_new_device_gets_the_release_and_its_genomes(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device = enrolled(channel, tenant)
    copy = Copy()
    opened = copy.hello(device)
    first = opened.next()
    assert first is not None
    assert abs(first.heartbeat.server_time_ms - time.time() * 1000) < 5_000, "time comes first"
    release = opened.transaction()
    assert not release[0].begin.HasField("root"), "roots come signed, with Trust"
    assert copy.take(release) == "release"
    genomes = opened.transaction()
    assert genomes[0].begin.lineage == copy.manifest.lineage
    assert copy.take(genomes) == "full"
    assert copy.rows.keys() == {subject_of(tenant, name) for name in ("ann", "bob", "eve")}
    assert copy.lookups[lookup_hash("ann")] == subject_of(tenant, "ann")
    assert genomes[0].begin.lookup_key == LOOKUP_KEY
    idle = opened.next()
    assert idle is not None
    assert idle.HasField("heartbeat"), "nothing more for now"
    with closing(tenant.open_store()) as store:
        row = store.device(device.id)
    assert row is not None
    assert row.seen_ms > 0
    opened.close()


def test_nothing_is_sent_again(channel: grpc.Channel, tenant: Tenant) -> None:
    device, opened, copy = current(channel, tenant)
    opened.close()
    opened = copy.hello(device)
    assert opened.quiet(0.4)
    opened.close()


def test_a_kiosk_gets_no_genomes(channel: grpc.Channel, tenant: Tenant) -> None:
    copy = Copy()
    opened = copy.hello(enrolled(channel, tenant), wants_genomes=False)
    assert copy.take(opened.transaction()) == "release"
    assert opened.quiet(0.4)
    opened.close()


def test_what_one_device_sold_reaches_another_within_moments(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    till, till_stream, till_copy = current(channel, tenant)
    _, kiosk_stream, kiosk_copy = current(channel, tenant)
    started = time.monotonic()
    buy(till, tenant, "ann", 1)
    patch = kiosk_stream.transaction()
    assert time.monotonic() - started < 1.0  # 20 ms on an idle machine
    before = dict(kiosk_copy.rows)
    assert kiosk_copy.take(patch) == "patch"
    ann = subject_of(tenant, "ann")
    assert {s for s in before if before[s] != kiosk_copy.rows[s]} == {ann}
    assert not [m for m in patch if m.HasField("put") and m.put.lookup_hashes]
    assert kiosk_copy.marks == {}
    assert till_copy.take(till_stream.transaction()) == "patch"
    assert till_copy.marks == {(till.epoch, 0): 1}
    assert till_copy.rows == kiosk_copy.rows
    for opened in (till_stream, kiosk_stream):
        opened.close()


def test_marks_come_along_when_no_row_changes(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "MARKS_S", 0.05)
    device, opened, copy = current(channel, tenant)
    device.report(1, frames(1, (bytes(16), 2, b"unreadable")), 1)
    messages = opened.transaction()
    assert [m.WhichOneof("message") for m in messages] == ["begin", "commit"]
    assert copy.take(messages) == "patch"
    assert copy.marks == {(device.epoch, 0): 1}
    assert opened.quiet(0.3)
    opened.close()


def test_a_device_that_was_away_gets_only_what_changed(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device, opened, copy = current(channel, tenant)
    other, other_stream, _ = current(channel, tenant)
    opened.close()
    buy(other, tenant, "bob", 1)
    other_stream.transaction()
    other_stream.close()
    opened = copy.hello(device)
    messages = opened.transaction()
    assert messages[0].begin.rows == 1
    assert copy.take(messages) == "patch"
    opened.close()


@pytest.mark.parametrize("cursor", [b"", b"junk", bytes(33)])
def test_a_cursor_that_means_nothing_gets_everything(
    channel: grpc.Channel, tenant: Tenant, cursor: bytes
) -> None:
    device, opened, copy = current(channel, tenant)
    opened.close()
    copy.cursor = cursor
    opened = copy.hello(device)
    assert copy.take(opened.transaction()) == "full"
    opened.close()


def test_a_cursor_from_the_future_gets_everything(channel: grpc.Channel, tenant: Tenant) -> None:
    """As after the store was restored from a backup."""
    device, opened, copy = current(channel, tenant)
    opened.close()
    stamp = int.from_bytes(copy.cursor[17:25], "little")
    copy.cursor = copy.cursor[:17] + (stamp + 9).to_bytes(8, "little") + copy.cursor[25:]
    opened = copy.hello(device)
    assert copy.take(opened.transaction()) == "full"
    opened.close()


def test_a_release_published_by_another_process_arrives(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    _, opened, copy = current(channel, tenant)
    held = dict(copy.parts)
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [offer("tour", "service:tour")])
    assert publish_release(tenant) == 2
    messages = opened.transaction()
    assert copy.take(messages) == "release"
    assert copy.release == 2
    sent = {m.chunk.sha256 for m in messages if m.HasField("chunk")}
    names = {part.name for part in copy.manifest.parts if part.sha256 in sent}
    assert "offers" in names
    assert "placements" not in names
    assert not sent & held.keys()
    opened.close()


def test_a_refused_release_is_not_offered_again_and_genomes_still_come(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device, opened, copy = current(channel, tenant)
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [offer("tour", "service:tour")])
    publish_release(tenant)
    assert opened.transaction(nack="GOLDEN")[0].begin.kind == sync_pb2.Begin.KIND_RELEASE
    assert opened.quiet(0.4)
    buy(device, tenant, "ann", 1)
    assert copy.take(opened.transaction()) == "patch"

    def nacked() -> bool:
        with closing(tenant.open_store()) as store:
            row = store.device(device.id)
        return row is not None and row.status.get("held_back") == "release 2: refused, GOLDEN"

    until(nacked, "the refusal is where people look for it")
    opened.close()


def test_refused_genomes_come_again_as_a_whole_after_a_while(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "RETRY_S", 0.3)
    device, opened, copy = current(channel, tenant)
    buy(device, tenant, "ann", 1)
    assert not opened.transaction(nack="ROWS")[0].begin.full
    refused_at = time.monotonic()
    assert copy.take(opened.transaction()) == "full"
    assert time.monotonic() - refused_at > 0.25
    opened.close()


def test_a_device_gets_its_audience_only(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "MARKS_S", 0.05)
    add_audience(tenant, "left", ["ann"])
    add_audience(tenant, "right", ["bob"])
    one, one_stream, one_copy = current(channel, tenant, "left")
    _, two_stream, two_copy = current(channel, tenant, "right")
    assert one_copy.rows.keys() == {subject_of(tenant, "ann")}
    assert two_copy.rows.keys() == {subject_of(tenant, "bob")}
    assert one_copy.lookups == {lookup_hash("ann", bytes(32)): subject_of(tenant, "ann")}
    buy(one, tenant, "bob", 1)
    assert two_copy.take(two_stream.transaction()) == "patch"
    messages = one_stream.transaction()
    assert one_copy.take(messages) == "patch"
    assert not [m for m in messages if m.HasField("put")], "marks, and nothing of bob"
    for opened in (one_stream, two_stream):
        opened.close()


def test_leaving_joining_consent_and_erasure(channel: grpc.Channel, tenant: Tenant) -> None:
    add_audience(tenant, "club", ["ann", "bob", "eve"])
    _, opened, copy = current(channel, tenant, "club")
    ann, bob, eve = (subject_of(tenant, name) for name in ("ann", "bob", "eve"))

    def deleted() -> dict[bytes, int]:
        messages = opened.transaction()
        copy.take(messages)
        return {m.delete.subject: m.delete.reason for m in messages if m.HasField("delete")}

    with closing(tenant.open_store()) as store:
        store.set_members("club", [bob, eve])
        assert deleted() == {ann: sync_pb2.Delete.REASON_LEFT_AUDIENCE}
        store.set_consents(bob, 0)
        assert deleted() == {bob: sync_pb2.Delete.REASON_CONSENT_WITHDRAWN}
        store.set_consents(bob, AGREED)
        assert deleted() == {}
        assert bob in copy.rows
        store.erase_subject(eve)
        assert deleted() == {eve: sync_pb2.Delete.REASON_ERASED}
        store.set_members("club", [ann, bob])
        messages = opened.transaction()
        copy.take(messages)
        joined = b"".join(m.put.lookup_subjects for m in messages if m.HasField("put"))
        assert joined == ann, "only who joined is looked up anew"
    assert copy.rows.keys() == {ann, bob}
    opened.close()


def test_whoever_never_agreed_can_be_looked_up_and_has_no_row(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    _, opened, copy = current(channel, tenant)
    with closing(tenant.open_store()) as store:
        silent = store.subject_of("app", "silent", create=True)
        assert silent is not None
        members = [*store.members("all"), silent]
        store.set_members("all", members)
    copy.take(opened.transaction())
    assert copy.lookups[lookup_hash("silent")] == silent
    assert silent not in copy.rows
    opened.close()


def test_another_lookup_key_means_everything_again(channel: grpc.Channel, tenant: Tenant) -> None:
    device, opened, copy = current(channel, tenant)
    opened.close()
    with closing(tenant.open_store()) as store:
        store.put_audience(AudienceRow("all", {"all": True}, lookup=True, lookup_key=b"k" * 32))
    opened = copy.hello(device)
    assert copy.take(opened.transaction()) == "full"
    assert lookup_hash("ann", b"k" * 32) in copy.lookups
    opened.close()


def test_a_revoked_device_gets_nothing_more(channel: grpc.Channel, tenant: Tenant) -> None:
    device, opened, _ = current(channel, tenant)
    other, other_stream, _ = current(channel, tenant)
    with closing(tenant.open_store()) as store:
        store.revoke_device(device.id)
    buy(other, tenant, "ann", 1)
    with pytest.raises(grpc.RpcError) as caught:
        opened.skip_beats()
    assert info(caught.value).reason == "CREDENTIAL_REVOKED"
    other_stream.close()


def test_features_that_a_device_lacks_keep_a_release_from_it(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device = enrolled(channel, tenant)
    opened = Copy().hello(device, features=[])
    assert opened.quiet(0.4)
    opened.close()

    def why() -> str:
        with closing(tenant.open_store()) as store:
            row = store.device(device.id)
        return "" if row is None else str(row.status.get("held_back", ""))

    assert "it needs" in until(why)


def test_a_stream_begins_with_hello(channel: grpc.Channel, tenant: Tenant) -> None:
    device = enrolled(channel, tenant)
    opened = RawStream.__new__(RawStream)
    RawStream.__init__(opened, device, sync_pb2.Hello(epoch=b"short"))
    with pytest.raises(grpc.RpcError) as caught:
        opened.next()
    assert info(caught.value).metadata["field"] == "epoch"


def test_heartbeats_go_both_ways(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.1)
    device, opened, _ = current(channel, tenant)
    beats = [opened.next() for _ in range(4)]
    assert all(beat is not None and beat.HasField("heartbeat") for beat in beats)
    beat = sync_pb2.DeviceHeartbeat(
        active_release=1, tier="fresh", outbox_events=7, reasons={"CHOSEN": 3}
    )
    opened.say(heartbeat=beat)

    def status() -> dict[str, object]:
        with closing(tenant.open_store()) as store:
            row = store.device(device.id)
        assert row is not None
        return dict(row.status)

    found = until(lambda: status() if status().get("outbox") else None)
    assert found["tier"] == "fresh"
    assert found["reasons"] == {"CHOSEN": 3}
    opened.close()


def test_a_silent_device_is_let_go(
    channel: grpc.Channel, tenant: Tenant, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(stream, "SILENCE_S", 0.5)
    _, opened, _ = current(channel, tenant)
    assert opened.skip_beats() is None


def test_drain_says_goodbye_and_come_back(home: Home, tenant: Tenant) -> None:
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        device, opened, _ = current(channel, tenant)
        assert house._sync is not None
        assert house._guard is not None
        house._guard.draining = True
        asyncio.run_coroutine_threadsafe(house._sync.drain(2.0), house._server._loop).result(5)
        message = opened.skip_beats()
        assert message is not None
        assert 500 <= message.goodbye.retry_after_ms <= 3_000
        assert opened.next() is None
        with pytest.raises(grpc.RpcError) as caught:
            buy(device, tenant, "ann", 1)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        found = info(caught.value)
        assert found.reason == "DRAINING"
        assert int(found.metadata["retry_after_ms"]) >= 500


def test_an_import_by_another_process_becomes_genomes(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    from genome_server.log import Committer

    _, opened, copy = current(channel, tenant)
    data = frames(1, interaction(subject_of(tenant, "eve"), "buy", "bread", "imported-1"))
    with Committer(tenant.log_path) as log:
        log.append_batch("import", bytes(16), 0, 1, 1, data, hashlib.sha256(data).digest())
    before = copy.rows[subject_of(tenant, "eve")]
    assert copy.take(opened.transaction()) == "patch"
    assert copy.rows[subject_of(tenant, "eve")] != before
    opened.close()


def test_before_the_first_release_there_is_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path / "new")
    tenant = home.tenant("default")
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        copy = Copy()
        opened = copy.hello(enrolled(channel, tenant))
        assert opened.quiet(0.3)
        publish_release(tenant)
        assert copy.take(opened.transaction()) == "release"
        assert copy.take(opened.transaction()) == "full"
        opened.close()
