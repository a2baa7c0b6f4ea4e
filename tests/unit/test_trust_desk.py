"""The desk that signs roots, timestamps, stop lists and times; what devices make of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_sdk.sync import roles
from edge_sdk.sync.keys import DeviceKey
from genome_edge.v1 import release_pb2, sync_pb2
from genome_server.errors import Refused, UsageError
from genome_server.home import Tenant
from genome_server.releases.rotation import Wanted, rotate
from genome_server.releases.trust import TrustDesk
from genome_server.services.room import Room
from genome_server.store.protocol import DeviceRow, ReleaseRow, Store
from tests.serving import make_home

DAY_MS = 86_400_000
NOW = 1_800_000_000_000


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.ms = NOW

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return make_home(tmp_path / "home").tenant()


@pytest.fixture
def store(tenant: Tenant) -> Iterator[Store]:
    with closing(tenant.open_store()) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tenant: Tenant, store: Store, clock: Clock) -> TrustDesk:
    return TrustDesk(tenant, store, clock)


def message(desk: TrustDesk, root_version: int) -> sync_pb2.Trust:
    """What a server sends to a device with a root of this version."""
    return sync_pb2.Trust(
        roots=desk.roots_after(root_version),
        timestamp=desk.timestamp(),
        stop_list=desk.stop_list(),
    )


def follow(desk: TrustDesk, standing: roles.Standing, now_ms: int) -> roles.Standing:
    """What a device believes then; nothing may be refused."""
    taken = roles.take(standing, message(desk, standing.root.version), now_ms)
    assert taken.refused == ()
    return taken.standing


def put_release(store: Store, version: int, **fields: object) -> bytes:
    signed = release_pb2.SignedManifest(manifest=b"m%d" % version)
    store.put_release(
        ReleaseRow(version, "stable", 1, 1, signed.SerializeToString(), 1, **fields)  # type: ignore[arg-type]
    )
    return signed.manifest


def test_a_new_tenant_has_all_roles_from_the_first_root(tenant: Tenant, desk: TrustDesk) -> None:
    root = desk.root()
    assert root.version == 1
    assert (root.root_threshold, root.threshold, root.timestamp_threshold) == (1, 1, 1)
    for path, keys in (
        (tenant.root_key_path, root.root_keys),
        (tenant.release_key_path, root.release_keys),
        (tenant.timestamp_key_path, root.timestamp_keys),
    ):
        assert list(keys) == [DeviceKey.load(path).public]
        assert path.stat().st_mode & 0o777 == 0o600
    assert desk.roots_after(1) == []
    standing = follow(desk, roles.Standing(root), NOW)
    assert standing.timestamp is not None
    assert standing.timestamp.expires_ms == NOW + 7 * DAY_MS
    assert standing.stop_list is None


def test_a_tenant_of_the_first_kind_gets_roles_that_its_devices_follow(
    tenant: Tenant, store: Store, clock: Clock
) -> None:
    store.put_device(DeviceRow("d1", "lobby", "all", b"k" * 32))
    pinned = release_pb2.TrustRoot(
        tenant="default",
        version=1,
        release_keys=[DeviceKey.load(tenant.release_key_path).public],
        threshold=1,
    )
    desk = TrustDesk(tenant, store, clock)
    assert desk.root().version == 2
    assert [len(desk.roots_after(version)) for version in (0, 1, 2, 3)] == [2, 1, 0, 0]
    assert follow(desk, roles.Standing(pinned), NOW).root == desk.root()
    # Made once, by whoever comes first.
    assert TrustDesk(tenant, store, clock).root() == desk.root()


def test_a_release_key_that_is_gone_is_not_made_anew(tenant: Tenant, store: Store) -> None:
    store.put_device(DeviceRow("d1", "lobby", "all", b"k" * 32))
    tenant.release_key_path.unlink()
    with pytest.raises(Refused, match="restore it from your backup"):
        TrustDesk(tenant, store)
    assert not tenant.root_key_path.exists()


def test_a_timestamp_is_signed_anew_at_half_of_its_life(desk: TrustDesk, clock: Clock) -> None:
    first = desk.timestamp()
    clock.ms += 3 * DAY_MS
    desk.look()
    assert desk.timestamp() == first
    clock.ms += DAY_MS
    desk.look()
    second = desk.timestamp()
    assert first is not None
    assert second is not None
    seen = roles.verify_timestamp(first, desk.root(), NOW)
    stated = roles.verify_timestamp(second, desk.root(), clock.ms, seen)
    assert stated.expires_ms == clock.ms + 7 * DAY_MS
    # Also after the clock was years ahead for a while.
    clock.ms -= 4 * DAY_MS
    desk.look()
    third = desk.timestamp()
    assert third is not None
    assert roles.verify_timestamp(third, desk.root(), clock.ms, stated).created_ms == clock.ms


def test_a_timestamp_names_every_release_in_force(
    desk: TrustDesk, store: Store, clock: Clock
) -> None:
    for version in (1, 2):
        put_release(store, version)
    put_release(store, 3, share=0.1)
    desk.look()
    standing = follow(desk, roles.Standing(desk.root()), NOW)
    assert standing.timestamp is not None
    assert [one.version for one in standing.timestamp.releases] == [3, 2]
    digest = standing.timestamp.releases[0].manifest_sha256
    assert standing.fresh_until(3, digest, 5) == NOW + 7 * DAY_MS
    store.withdraw_release(3)
    desk.look()
    standing = follow(desk, standing, clock.ms)
    assert standing.fresh_until(3, digest, 5) == 5


def test_pause_and_resume_reach_another_process(
    tenant: Tenant, desk: TrustDesk, clock: Clock
) -> None:
    standing = follow(desk, roles.Standing(desk.root()), NOW)
    with closing(tenant.open_store()) as other:
        theirs = TrustDesk(tenant, other, clock)
        first = theirs.pause(["taxi", "spa"])
        assert theirs.pause(["spa"]) == first
        desk.look()
        standing = follow(desk, standing, clock.ms)
        assert standing.stopped == {"taxi", "spa"} == set(desk.stopped())
        assert standing.stop_list_version == first.version
        assert theirs.resume(["spa"]).version == first.version + 1
    desk.look()
    standing = follow(desk, standing, clock.ms)
    assert standing.stopped == {"taxi"}
    assert standing.timestamp is not None
    assert desk.versions == (1, standing.timestamp.version, standing.stop_list_version)


def test_a_list_that_devices_would_not_take_is_refused(desk: TrustDesk) -> None:
    before = desk.pause(["taxi"])
    with pytest.raises(Refused, match="more than devices take"):
        desk.pause(f"offer-{number:0100d}" for number in range(11_000))
    desk.look()
    assert desk.resume([]) == before


def test_a_store_from_a_backup_goes_on_above_what_devices_have(
    tenant: Tenant, desk: TrustDesk, store: Store, clock: Clock
) -> None:
    ahead = roles.Standing(
        desk.root(),
        release_pb2.Timestamp(
            tenant="default", version=NOW // 1000 + 40, stop_list_version=NOW // 1000 + 30
        ),
    )
    desk.pause(["taxi"])
    # What no server can have given is not believed.
    versions = desk.versions
    desk.heard(2**40, 2**40)
    assert desk.versions == versions
    desk.heard(NOW // 1000 + 40, NOW // 1000 + 30)
    assert follow(desk, ahead, clock.ms).stopped == {"taxi"}
    versions = desk.versions
    desk.heard(*versions[1:])
    assert desk.versions == versions
    # One device cannot keep us busy.
    desk.heard(versions[1] + 1, versions[2] + 1)
    assert desk.versions == versions


def test_what_was_signed_while_the_clock_was_ahead_is_told_once(
    desk: TrustDesk, caplog: pytest.LogCaptureFixture
) -> None:
    versions = desk.versions
    for _ in range(2):
        desk.heard(versions[1] + 366 * 86_400, 0)
    assert desk.versions == versions
    assert caplog.text.count("keys rotate timestamp") == 1


def test_without_the_timestamp_key_the_rest_goes_on(
    tenant: Tenant, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    held = TrustDesk(tenant, store, clock).timestamp()
    tenant.timestamp_key_path.rename(tenant.dir / "elsewhere")
    desk = TrustDesk(tenant, store, clock)
    clock.ms += 6 * DAY_MS
    desk.look()
    assert desk.timestamp() == held
    assert desk.sign_time(b"n" * 16, NOW) is None
    assert "genome-server keys rotate timestamp" in caplog.text
    with pytest.raises(Refused, match="keys rotate timestamp"):
        desk.pause(["taxi"])


def test_an_expired_root_can_be_replaced_and_the_rest_goes_on(
    tenant: Tenant, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rotate(tenant, store, Wanted("release", new=False, expires_days=1))
    later = time.time_ns() + 6 * DAY_MS * 1_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)
    with closing(Room(tenant)) as room:  # devices report, and hear what time it is
        assert room.trust.sign_time(b"n" * 16, later // 1_000_000) is not None
        assert "keys rotate root --no-new --expires-days" in caplog.text
        version = room.trust.versions[1]
        room.trust.heard(version + 1, 0)
        room.trust.set_life(24)
        with pytest.raises(Refused, match="has expired"):
            room.trust.pause(["taxi"])
        assert room.trust.versions[1] == version
        with pytest.raises(UsageError, match="--expires-days"):
            rotate(tenant, store, Wanted("root", new=False))
        assert not rotate(tenant, store, Wanted("root", new=False, expires_days=9)).lacking
        assert room.look().all
        assert room.trust.versions[1] > version
        assert list(room.trust.pause(["taxi"]).offers) == ["taxi"]


def test_signed_time(desk: TrustDesk) -> None:
    beat = sync_pb2.ServerHeartbeat(server_time_ms=NOW, signature=desk.sign_time(b"n" * 16, NOW))
    assert roles.verify_time(beat, desk.root(), b"n" * 16) == NOW


def test_the_life_of_timestamps_is_a_setting(desk: TrustDesk) -> None:
    desk.set_life(24)
    standing = follow(desk, roles.Standing(desk.root()), NOW)
    assert standing.timestamp is not None
    assert standing.timestamp.expires_ms == NOW + DAY_MS
    with pytest.raises(UsageError):
        desk.set_life(0)


def test_many_threads_and_two_desks_make_one_line_of_versions(
    tenant: Tenant, desk: TrustDesk, clock: Clock
) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with closing(tenant.open_store()) as mine:
                own = TrustDesk(tenant, mine, clock)
                for turn in range(5):
                    (desk if turn % 2 else own).pause([f"offer-{number}-{turn}"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    desk.look()
    assert len(desk.stopped()) == 20
    assert follow(desk, roles.Standing(desk.root()), NOW).stopped == set(desk.stopped())
