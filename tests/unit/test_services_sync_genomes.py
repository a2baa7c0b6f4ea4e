"""Genomes over real sockets: only what differs, consistent marks, nothing of others."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing

import grpc
import pytest

from genome_edge.v1 import sync_pb2
from genome_server.home import Tenant
from genome_server.services import keeper
from genome_server.store.protocol import AudienceRow
from tests.serving import (
    AGREED,
    add_audience,
    frames,
    interaction,
)
from tests.unit.syncing import (
    buy,
    current,
    lookup_hash,
    subject_of,
)


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
    monkeypatch.setattr(keeper, "MARKS_S", 0.05)
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


def test_refused_genomes_come_again_as_a_whole_after_a_while(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "RETRY_S", 0.3)
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
    monkeypatch.setattr(keeper, "MARKS_S", 0.05)
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
