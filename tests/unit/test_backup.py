"""Backups of a served tenant, and a restored server that gets back what it lost."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from edge_sdk import Config, EdgeClient
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.enrolment import enrol
from genome_edge.v1 import event_pb2
from genome_server.backup import AHEAD, check_backup, make_backup, open_backup, restore
from genome_server.errors import Refused
from genome_server.genomes.rows import LOG_KEY
from genome_server.home import Home, Tenant
from genome_server.log import Committer, LogReader, verify_log
from genome_server.log.erase import ERASURES, erase_from_log, erasures, remember_erasures
from genome_server.log.framing import TOMBSTONE
from genome_server.log.marks import MARKS, BackupMarks
from tests.serving import add_code, frames, interaction, make_home, publish_release, serving, until

EPOCH = b"e" * 16
QUICK = Config(reconnect_min_s=0.02, reconnect_max_s=0.2, group_commit_s=0.002)


def append(log: Committer, first: int, *subjects: bytes, device: str = "d") -> tuple[int, int]:
    events = [
        interaction(s, "view", "soap", f"{device}-{first + i}") for i, s in enumerate(subjects)
    ]
    data, last = frames(first, *events), first + len(events) - 1
    digest = hashlib.sha256(data).digest()
    return log.append_batch(device, EPOCH, 0, first, last, data, digest)


def names(path: Path) -> Counter[str]:
    """How often each interaction stands in a log."""
    with LogReader(path) as log:
        return Counter(
            event_pb2.Event.FromString(frame.body).interaction.interaction_id
            for frame in log.frames(kinds={FrameKind.INTERACTION})
        )


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    tenant = make_home(tmp_path / "home").tenant("default")
    with Committer(tenant.log_path) as log:
        append(log, 1, b"a" * 16, b"b" * 16, b"a" * 16)
    return tenant


def test_a_backup_is_whole_and_has_no_keys_unless_asked(tenant: Tenant, tmp_path: Path) -> None:
    made = make_backup(tenant, tmp_path / "one")
    check_backup(made)
    assert made.events == 3
    assert not made.keys
    assert not any(name.startswith("keys/") for name in made.files)
    assert verify_log(made.path / "log.sqlite").whole
    kept = make_backup(tenant, tmp_path / "two", with_keys=True)
    assert (kept.path / "keys/release.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused, match="there already"):
        make_backup(tenant, tmp_path / "two")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_before_anything_happened_there_is_something_to_back_up(tmp_path: Path) -> None:
    tenant = make_home(tmp_path / "home").tenant("default")
    assert not tenant.log_path.exists()
    made = make_backup(tenant, tmp_path / "one")
    assert made.events == 0
    assert restore(tenant, made.path, replace=True).events == 0
    with closing(tenant.open_store()) as store:
        store.set_meta(LOG_KEY, "it had a log")
    tenant.log_path.unlink()
    with pytest.raises(Refused, match="is gone"):
        make_backup(tenant, tmp_path / "two")
    for inside in (tenant.parts_dir / "three", tenant.dir.parent / "three"):
        with pytest.raises(Refused, match="elsewhere"):
            make_backup(tenant, inside)


def test_a_backup_of_another_tenant_or_of_nothing_is_refused(
    tenant: Tenant, tmp_path: Path
) -> None:
    made = make_backup(tenant, tmp_path / "one")
    with pytest.raises(Refused, match="--tenant default"):
        restore(Home(tmp_path / "home").tenant("other"), made.path)
    index = json.loads((made.path / "backup.json").read_text())
    for files, why in (([], "cannot be read"), ({}, r"names no tenant\.sqlite")):
        (made.path / "backup.json").write_text(json.dumps(index | {"files": files}))
        with pytest.raises(Refused, match=why):
            restore(tenant, made.path, replace=True)


def test_what_is_damaged_is_not_restored(tenant: Tenant, tmp_path: Path) -> None:
    made = make_backup(tenant, tmp_path / "one")
    copy = made.path / "log.sqlite"
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    with pytest.raises(Refused, match=r"log\.sqlite is not what was backed up"):
        restore(tenant, made.path, replace=True)
    assert tenant.log_path.exists()
    with pytest.raises(Refused, match="is no backup"):
        open_backup(tmp_path)


def test_a_damaged_log_is_not_backed_up(tenant: Tenant, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tenant.log_path)) as log, log:
        log.execute("UPDATE lanes SET through = 7")
    with pytest.raises(Refused, match="the log is damaged"):
        make_backup(tenant, tmp_path / "one", wait=True)
    assert not (tenant.dir / MARKS).exists()
    assert not (tmp_path / "one").exists()


def test_devices_may_forget_what_a_backup_has(tenant: Tenant, tmp_path: Path) -> None:
    def marks(incarnation: bytes) -> BackupMarks:
        return BackupMarks(tenant.dir, incarnation)

    with Committer(tenant.log_path, replica=marks) as log:
        assert append(log, 4, b"c" * 16) == (4, 4), "nobody waits for backups yet"
        make_backup(tenant, tmp_path / "one", wait=True)
        assert append(log, 5, b"c" * 16) == (5, 4)
        assert append(log, 1, b"c" * 16, device="new") == (1, 0)
        make_backup(tenant, tmp_path / "two")
        assert append(log, 6, b"c" * 16) == (6, 5)
        make_backup(tenant, tmp_path / "three", wait=False)
        assert append(log, 7, b"c" * 16) == (7, 7)


def test_copies_are_made_while_others_write(tenant: Tenant, tmp_path: Path) -> None:
    """The store's copy never knows of events that the log's copy lacks."""
    from genome_server.genomes.live import LiveConsumer
    from genome_server.genomes.rows import GENOMES, built_schema

    stop = threading.Event()

    def write() -> None:
        rng = random.Random(1)
        consumer = LiveConsumer(tenant)
        with Committer(tenant.log_path) as log:
            first = 4
            while not stop.is_set():
                append(log, first, *[rng.randbytes(16) for _ in range(5)])
                first += 5
                consumer.catch_up()
        consumer.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            made = make_backup(tenant, tmp_path / f"backup-{number}")
            with closing(Tenant("default", made.path).open_store()) as store:
                schema = built_schema(store)
                at = store.consumer_offset(GENOMES, schema.epoch) if schema else 0
            assert at <= made.events
    finally:
        stop.set()
        writer.join()


def test_erasures_since_are_applied_before_it_opens(tenant: Tenant, tmp_path: Path) -> None:
    with closing(tenant.open_store()) as store:
        ann = store.subject_of("app", "ann")
        assert ann is not None
    made = make_backup(tenant, tmp_path / "one")
    remember_erasures(tenant.dir, [b"a" * 16, ann], 5)
    assert erase_from_log(tenant.log_path, [b"a" * 16, ann]) == 2
    assert verify_log(tenant.log_path).whole
    assert erase_from_log(tenant.log_path, [b"a" * 16, ann]) == 0
    shutil.copy(tenant.dir / ERASURES, tmp_path / "kept.jsonl")
    done = restore(tenant, made.path, replace=True)
    assert (done.erased, done.customers_erased) == (2, 1)
    assert set(erasures(tenant.dir / ERASURES)) == {b"a" * 16, ann}
    check = verify_log(tenant.log_path)
    assert (check.whole, check.events, check.erased) == (True, 3, 2)
    content = tenant.log_path.read_bytes()
    assert b"a" * 16 not in content
    assert b"b" * 16 in content
    with LogReader(tenant.log_path) as log:
        assert [f.kind for f in log.frames()] == [TOMBSTONE, FrameKind.INTERACTION, TOMBSTONE]
    with closing(tenant.open_store()) as store:
        assert store.subject_of("app", "ann") is None
    # A list that was kept elsewhere does the same for a machine that has none.
    other = Tenant("default", tmp_path / "elsewhere/tenants/default")
    again = restore(other, made.path, lists=(tmp_path / "kept.jsonl",))
    assert (again.erased, again.customers_erased) == (2, 1)
    assert "credential.pem" in again.missing_keys
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(Refused, match="line 1"):
        erasures(tmp_path / "bad.jsonl")


def test_a_restored_tenant_goes_on_above_what_devices_have_seen(
    tenant: Tenant, tmp_path: Path
) -> None:
    version = publish_release(tenant)
    made = make_backup(tenant, tmp_path / "one", wait=True)
    with LogReader(tenant.log_path) as log:
        before = log.incarnation
    with pytest.raises(Refused, match="--replace"):
        restore(tenant, made.path)
    done = restore(tenant, made.path, replace=True)
    assert done.incarnation != before
    assert done.aside is not None
    assert done.aside.is_dir()
    assert not done.missing_keys or done.missing_keys == ("timestamp.pem",)
    assert Home(tenant.dir.parent.parent).tenants() == [tenant]
    assert publish_release(tenant) > version + AHEAD["release"]
    marks = json.loads((tenant.dir / MARKS).read_bytes())
    assert marks["incarnation"] == done.incarnation.hex()


def test_a_restored_server_gets_back_what_it_lost(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    tenant = home.tenant("default")
    publish_release(tenant)
    store = DeviceStore.open(tmp_path / "till")
    said: list[str] = []

    def say(edge: EdgeClient, count: int) -> None:
        for _ in range(count):
            said.append(f"i-{len(said)}")
            edge.imprint("ann", "view", product="soap", interaction_id=said[-1])
        until(lambda: edge.flush(1.0) == 0, "reported")

    with serving(home) as house:
        enrol(house.address, add_code(tenant), store, "till", QUICK)
        store.close()
        listen = house.address
        with EdgeClient(tmp_path / "till", listen, config=QUICK) as edge:
            until(lambda: edge.status.genomes, "genomes")
            say(edge, 20)
            make_backup(tenant, tmp_path / "backup", with_keys=True, wait=True)
            say(edge, 20)
    shutil.rmtree(tenant.dir)
    restore(tenant, tmp_path / "backup")
    assert len(names(tenant.log_path)) == 20
    publish_release(tenant)
    with (
        serving(home, listen=listen),
        EdgeClient(tmp_path / "till", listen, config=QUICK) as edge,
    ):
        say(edge, 5)
        until(lambda: len(names(tenant.log_path)) == len(said), "everything is there again")
        until(lambda: edge.flush(1.0) == 0, "reported")
    assert names(tenant.log_path) == Counter(said)
    assert verify_log(tenant.log_path).whole
