"""Devices that take contents, patches, assets and what is in force, over real sockets."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import numpy as np
import pytest

from edge_sdk.dna.columns import row_sum_of
from edge_sdk.dna.genome import Row
from edge_sdk.sync.roles import verify_stop_list, verify_time, verify_timestamp
from genome_edge.v1 import sync_pb2
from genome_server.genomes.rows import LOG_KEY, built_schema
from genome_server.home import Home, Tenant
from genome_server.log import Committer
from genome_server.releases.trust import TrustDesk
from genome_server.services import keeper, shipping, sync_plan
from genome_server.services.contents import Contents
from genome_server.services.desk import CONTENTS
from genome_server.services.serve import House
from genome_server.store.protocol import AudienceRow, CustomerRow, GenomeRecord
from tests.serving import AGREED, RawStream, make_home, offer, publish_release, serving, until
from tests.unit.syncing import NEW, Copy, buy, current, enrolled, subject_of

CUSTOMERS = [f"guest-{number}" for number in range(40)]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path / "home", CUSTOMERS)
    tenant = home.tenant("default")
    text = tenant.dna_path.read_text().replace("quantiser: 1", "")
    tenant.dna_path.write_text(f"{text}quantiser: 2\n")
    publish_release(tenant)
    with Committer(tenant.log_path) as log, closing(tenant.open_store()) as store:
        # As a build does: else the server takes them for the genomes of a log that was lost.
        store.set_meta(LOG_KEY, log.incarnation.hex())
    return home


def put_rows(tenant: Tenant, rows: dict[bytes, dict[int, int]]) -> None:
    """Put genomes into the store, as a build and live increments do."""
    from edge_sdk.dna.genome import block_from_rows

    with closing(tenant.open_store()) as store:
        schema = built_schema(store)
        assert schema is not None
        lineage = schema.lineage(store.vocabulary())
        lineage.vocabulary_size = 0
        records = []
        for subject, markers in rows.items():
            indices = np.array(sorted(markers), np.uint32)
            codes = np.array([markers[int(index)] for index in indices], np.uint8)
            row = Row(subject, AGREED, 0, indices, codes)
            block = block_from_rows(lineage, [row]).SerializeToString()
            records.append(GenomeRecord(subject, schema.epoch, b"", 0, block, AGREED))
        store.put_genomes(records, schema.epoch)


def many_members(tenant: Tenant, count: int, markers: int = 12) -> list[bytes]:
    """More members of the audience, with genomes; their subjects."""
    with closing(tenant.open_store()) as store:
        names = [f"member-{number}" for number in range(count)]
        subjects = list(store.subjects_of("app", names, create=True).values())
        store.put_customers(CustomerRow(subject, (), AGREED) for subject in subjects)
        store.set_members("all", [*store.members("all"), *subjects])
    put_rows(
        tenant,
        {
            s: {100 + k: 1 + int.from_bytes(os.urandom(1)) % 100 for k in range(markers)}
            for s in subjects
        },
    )
    return subjects


def test_all_rows_come_as_one_content_and_changes_as_patches(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device, opened, copy = current(channel, tenant, features=NEW)
    assert set(copy.rows) == {subject_of(tenant, name) for name in CUSTOMERS}
    assert len(copy.lookups) == len(CUSTOMERS)
    buy(device, tenant, "guest-3", 1)  # a new marker: of a row of one, the row is the patch
    assert copy.take(opened.transaction()) == "patch"
    copy.patched.clear()
    subjects = many_members(tenant, 9)
    while set(subjects) - copy.rows.keys():
        assert copy.take(opened.transaction()) == "patch"
    assert copy.patched == [], "rows that it did not have come whole"
    changed = dict(copy.rows[subjects[0]].markers)
    changed[100] += 1
    del changed[105]
    changed[70_000] = 7
    put_rows(tenant, {subjects[0]: changed})
    messages = opened.transaction()
    assert copy.take(messages) == "patch"
    assert copy.patched == [subjects[0]]
    assert copy.rows[subjects[0]].markers == changed
    opened.close()


def test_a_content_of_before_is_followed_by_what_has_changed_since(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    _, opened, _ = current(channel, tenant, features=NEW)
    guest = subject_of(tenant, "guest-3")
    put_rows(tenant, {guest: {100: 51, 101: 7}})
    opened.transaction()
    opened.close()
    _, opened, copy = current(channel, tenant, features=NEW)  # the content is that of the first one
    if copy.rows[guest].markers != {100: 51, 101: 7}:
        assert copy.take(opened.transaction()) == "patch"
    assert copy.rows[guest].markers == {100: 51, 101: 7}
    opened.close()


def test_a_device_of_before_is_sent_rows(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    publish_release(home.tenant("default"))
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        device, opened, copy = current(channel, home.tenant("default"))
        buy(device, home.tenant("default"), "ann", 1)
        messages = opened.transaction()
        assert copy.take(messages) == "patch"
        assert not opened.trust
        assert not [m for m in messages if m.HasField("put") and m.put.HasField("patch")]
        opened.close()


def test_twins_by_their_prefix_are_sent_whole(channel: grpc.Channel, tenant: Tenant) -> None:
    _, opened, copy = current(channel, tenant, features=NEW)
    twins = [b"12345678" + bytes([n]) * 8 for n in (1, 2)]
    with closing(tenant.open_store()) as store:
        store.put_customers(CustomerRow(subject, (), AGREED) for subject in twins)
        store.set_members("all", [*store.members("all"), *twins])
    rows = {subject: {100 + k: 50 for k in range(10)} for subject in twins}
    put_rows(tenant, rows)
    while set(twins) - copy.rows.keys():
        copy.take(opened.transaction())
    put_rows(tenant, {twins[0]: {**rows[twins[0]], 100: 51}})
    assert copy.take(opened.transaction()) == "patch"
    assert copy.patched == []
    assert copy.rows[twins[0]].markers[100] == 51
    opened.close()


def test_a_content_goes_on_where_the_line_broke(
    home: Home, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "CHUNK_BYTES", 1_000)
    many_members(tenant, 300)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        device, opened, copy = _released(channel, tenant)
        begin = opened.skip_beats()
        assert begin is not None
        part = begin.begin.content
        first = opened.skip_beats()
        assert first is not None
        opened.close()
        # The device keeps what came of the first chunk: the line broke inside of it.
        copy.partial[part.sha256] = first.chunk.data[:777]
        opened = copy.hello(device, features=NEW)
        messages = opened.transaction()
        assert messages[1].chunk.offset == 777
        assert copy.take(messages) == "full"
        opened.close()
    # A server that starts again goes on with the same content.
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        device.channel = channel
        copy.cursor = b""
        copy.partial[part.sha256] = first.chunk.data
        opened = copy.hello(device, features=NEW)
        messages = opened.transaction()
        assert messages[0].begin.content == part
        assert messages[1].chunk.offset == 1_000
        assert copy.take(messages) == "full"
        opened.close()


def _released(channel: grpc.Channel, tenant: Tenant) -> tuple:  # type: ignore[type-arg]
    """A device that has the release and is about to get genomes."""
    device = enrolled(channel, tenant)
    copy = Copy()
    opened = copy.hello(device, features=NEW)
    assert copy.take(opened.transaction()) == "release"
    return device, opened, copy


def test_a_content_that_somebody_left_is_not_handed_out(
    channel: grpc.Channel, tenant: Tenant, house: House
) -> None:
    _, opened, copy = current(channel, tenant, features=NEW)
    folder = tenant.dir / CONTENTS
    assert len(list(folder.glob("*.json"))) == 1
    gone = subject_of(tenant, "guest-1")
    with closing(tenant.open_store()) as store:
        store.erase_subject(gone)
    messages = opened.transaction()
    assert copy.take(messages) == "patch"
    opened.close()
    fresh = Copy()
    opened = fresh.hello(enrolled(channel, tenant), features=NEW)
    fresh.take(opened.transaction())
    messages = opened.transaction()
    assert [m.delete.subject for m in messages if m.HasField("delete")] == [gone]
    assert fresh.take(messages) == "full"
    assert gone not in fresh.rows
    opened.close()
    assert house._sync is not None
    desk, _ = house._sync._desks["default"]
    desk.contents.sweep()
    assert len(list(folder.glob("*.json"))) == 1, "and its file is removed"
    with closing(tenant.open_store()) as store:
        left = Contents(folder, store)
        assert len(left._kept) == 1


def test_audiences_with_the_same_rows_share_a_file(tmp_path: Path, tenant: Tenant) -> None:
    folder = tmp_path / "contents"
    with closing(tenant.open_store()) as store:
        subjects = list(store.subjects_of("app", CUSTOMERS[:9]).values())
        rows = [AudienceRow(f"kiosk{i}", {"all": True}) for i in range(6)]
        for row in rows:
            store.put_audience(row)
            store.set_members(row.name, subjects)
        contents = Contents(folder, store)
        with ThreadPoolExecutor(len(rows)) as pool:
            bases = [bytes([i]) * 16 for i in range(len(rows))]
            made = set(pool.map(lambda i: contents.make(rows[i], bases[i]).sha256, range(6)))
        (sha256,) = made
        assert hashlib.sha256(contents.path(sha256).read_bytes()).digest() == sha256
        assert all(contents.find(f"kiosk{i}", bases[i]) for i in range(6))
        for audience in ("kiosk1", "kiosk2"):
            store.set_members(audience, subjects[:1])  # somebody has to be forgotten
        contents.sweep()
        again = Contents(folder, store)
        for each in (contents, again):
            assert [bool(each.find(f"kiosk{i}", bases[i])) for i in range(4)] == [
                True,
                False,
                False,
                True,
            ]
        contents.path(sha256).write_bytes(b"x" * contents.path(sha256).stat().st_size)
        (folder / f".{sha256.hex()}.abc").write_bytes(b"a draft")
        (folder / f"{'0' * 64}.{'0' * 32}.json").write_text("[]")
        Contents(folder, store)
        assert list(folder.iterdir()) == [], "what is damaged is made anew"


def test_who_came_to_other_rows_gets_all_at_once(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "RETRY_S", 3.0)
    device, opened, copy = current(channel, tenant, features=NEW)
    buy(device, tenant, "guest-3", 1)
    opened.transaction(nack="DIGEST")
    started = time.monotonic()
    messages = opened.transaction(nack="DIGEST")
    assert messages[0].begin.full
    assert time.monotonic() - started < 1.5, "at once"
    started = time.monotonic()
    assert copy.take(opened.transaction()) == "full"
    assert time.monotonic() - started > 2.0, "but not for ever"
    opened.close()


def test_where_much_has_changed_all_rows_come(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_plan, "FEW", 50)
    device, opened, copy = current(channel, tenant, features=NEW)
    opened.close()
    many_members(tenant, 200)
    opened = copy.hello(device, features=NEW)
    messages = opened.transaction()
    assert messages[0].begin.HasField("content")
    assert copy.take(messages) == "full"
    opened.close()


def take_trust(stream: RawStream, count: int) -> sync_pb2.Trust:
    while len(stream.trust) < count:
        message = stream.next()
        assert message is not None
        if message.HasField("trust"):
            stream.trust.append(message.trust)
    return stream.trust[-1]


def test_what_is_in_force_comes_first_and_again_when_it_changes(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    copy = Copy()
    device = enrolled(channel, tenant)
    root = device.enrolled_root
    opened = copy.hello(device, features=NEW, root_version=root.version)
    first = opened.next()
    assert first is not None
    assert first.HasField("heartbeat")
    second = opened.next()
    assert second is not None
    assert second.HasField("trust"), "before anything else"
    assert list(second.trust.roots) == []
    timestamp = verify_timestamp(second.trust.timestamp, root, 0)
    assert [one.version for one in timestamp.releases] == [1]
    assert copy.take(opened.transaction()) == "release"
    assert copy.take(opened.transaction()) == "full"
    started = time.monotonic()
    with closing(tenant.open_store()) as store:
        TrustDesk(tenant, store).pause(["taxi"])
    said = take_trust(opened, 1)
    assert time.monotonic() - started < 1.5
    stops = verify_stop_list(said.stop_list, root, 0)
    assert list(stops.offers) == ["taxi"]
    opened.say(
        heartbeat=sync_pb2.DeviceHeartbeat(
            active_release=1, stop_list_version=stops.version, wall_ms=1, counters={"LOST": 2}
        )
    )

    def status() -> dict[str, object]:
        with closing(tenant.open_store()) as store:
            row = store.device(device.id)
        assert row is not None
        return dict(row.status)

    found = until(lambda: status() if status().get("stop_list_version") else None)
    assert found["stop_list_version"] == stops.version
    assert found["counters"] == {"LOST": 2}
    assert found["features"] == sorted(NEW)
    opened.close()


def test_the_time_is_signed_for_one_stream(channel: grpc.Channel, tenant: Tenant) -> None:
    device = enrolled(channel, tenant)
    opened = Copy().hello(device, features=NEW, nonce=b"n" * 16)
    beat = opened.next()
    assert beat is not None
    at = verify_time(beat.heartbeat, device.enrolled_root, b"n" * 16)
    assert at == beat.heartbeat.server_time_ms
    opened.close()


def test_files_of_offers_come_after_the_release(home: Home, tenant: Tenant) -> None:
    content = os.urandom(5_000)
    digest = hashlib.sha256(content).hexdigest()
    (tenant.parts_dir / digest).write_bytes(content)
    name = f"asset/{digest[:16]}.png"
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [offer("tour", "service:tour", assets={"image": name})])
    publish_release(tenant)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        device = enrolled(channel, tenant)
        copy = Copy()
        copy.partial[hashlib.sha256(content).digest()] = content[:1_234]
        opened = copy.hello(device, features=NEW)
        kinds = list(itertools.islice((copy.take(opened.transaction()) for _ in range(3)), 3))
        assert kinds == ["release", "assets", "full"]
        opened.close()
        opened = copy.hello(device, features=NEW)
        assert opened.quiet(0.3)
        opened.close()
    assert content[1_234:] == copy.parts[hashlib.sha256(content).digest()][1_234:]


def test_row_sums_are_those_of_the_contract(channel: grpc.Channel, tenant: Tenant) -> None:
    _, opened, copy = current(channel, tenant, features=NEW)
    total = 0
    for subject, row in copy.rows.items():
        indices = np.array(sorted(row.markers), np.uint32)
        codes = np.array([row.markers[int(index)] for index in indices], np.uint8)
        total += row_sum_of(Row(subject, row.consents, row.hour, indices, codes))
    with closing(tenant.open_store()) as store:
        assert store.tally("all") == (len(copy.rows), total % (1 << 64))
    opened.close()
