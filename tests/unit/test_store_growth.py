"""What the server's store is asked for all the time costs the same however much has piled up.

Work is counted in steps of SQLite's machine, not in time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from genome_server.store import AudienceRow, DeviceRow, ReleaseRow
from genome_server.store.people import ERASED, LEFT, PRESENT, RETURNED, SILENT, WITHDRAWN
from genome_server.store.sqlite import SqliteStore

FEW, MANY = 40, 4_000


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Callable[[], SqliteStore]]:
    opened: list[SqliteStore] = []

    def new() -> SqliteStore:
        opened.append(SqliteStore.open(tmp_path / f"{len(opened)}.sqlite"))
        return opened[-1]

    yield new
    for store in opened:
        store.close()


def steps(store: SqliteStore, work: Callable[[], object]) -> int:
    """How many steps SQLite takes for it, once its statements are prepared."""
    work()
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection = store.db.conn
    connection.set_progress_handler(step, 1)
    try:
        work()
    finally:
        connection.set_progress_handler(None, 1)
    assert count, "something is asked"
    return count


# Devices ------------------------------------------------------------------------------------------


def device(name: str, channel: str = "stable", *, revoked: bool = False) -> DeviceRow:
    return DeviceRow(name, name, "all", b"k" * 32, channel=channel, revoked=revoked)


def enrol(store: SqliteStore, devices: int, channel: str) -> None:
    with store.transaction():
        for i in range(devices):
            store.put_device(device(f"{channel}-{i}", channel))


def test_unusual_devices_are_read_only_when_they_are_others(
    stores: Callable[[], SqliteStore],
) -> None:
    counts = []
    for devices in (FEW, MANY):
        store = stores()
        enrol(store, devices, "north")
        assert len(store.unusual_devices()) == devices
        counts.append(steps(store, store.unusual_devices))
        known = store.unusual_devices()
        enrol(store, FEW, "stable")
        store.touch_devices({"north-1": (9, {"tier": "fresh"}), "stable-1": (9, {})})
        assert store.unusual_devices() is known, "those of the usual channel change nothing"
    assert counts[0] == counts[1]


def test_what_makes_a_device_unusual_or_usual_is_seen_at_once(tmp_path: Path) -> None:
    seeing, other = (SqliteStore.open(tmp_path / "tenant.sqlite") for _ in range(2))
    north = device("a", "north")

    def again(store: SqliteStore, row: DeviceRow) -> Callable[[], object]:
        return lambda: store.put_device(row)

    expected: dict[str, tuple[str, bool]] = {}
    changes: list[tuple[Callable[[], object], dict[str, tuple[str, bool]]]] = [
        (again(other, device("a")), {}),
        (again(other, north), {"a": ("north", False)}),
        (again(seeing, replace(north, channel="stable")), {}),
        (lambda: other.set_device_channel("a", "south"), {"a": ("south", False)}),
        (lambda: seeing.set_device_channel("a", "north"), {"a": ("north", False)}),
        (lambda: other.set_device_channel("a", "stable"), {}),
        (lambda: other.revoke_device("a"), {"a": ("stable", True)}),
        (again(other, device("b", revoked=True)), {"a": ("stable", True), "b": ("stable", True)}),
        (lambda: other.run("DELETE FROM devices WHERE id = 'b'"), {"a": ("stable", True)}),
        (lambda: other.run("UPDATE devices SET id = 'c'"), {"c": ("stable", True)}),
    ]
    for change, expected in changes:
        change()
        assert seeing.unusual_devices() == expected
    for store in (seeing, other):
        store.close()


def test_what_is_rolled_back_was_never_seen(stores: Callable[[], SqliteStore]) -> None:
    store = stores()

    def enrol_in_vain() -> None:
        with store.transaction():
            store.put_device(device("a", "north"))
            assert store.unusual_devices() == {"a": ("north", False)}
            raise RuntimeError

    with pytest.raises(RuntimeError):
        enrol_in_vain()
    store.put_device(device("b", "south"))
    assert store.unusual_devices() == {"b": ("south", False)}


# Releases -----------------------------------------------------------------------------------------


def release(version: int, channel: str = "stable", share: float = 1.0) -> ReleaseRow:
    return ReleaseRow(version, channel, 1, 1, b"m" * 3_000, 1, share=share)


def test_releases_in_force_are_found_whatever_came_before(
    stores: Callable[[], SqliteStore],
) -> None:
    counts = []
    for releases in (FEW, MANY):
        store = stores()
        with store.transaction():
            for version in range(1, releases + 1):
                store.put_release(release(version, ("stable", "north")[version % 2]))
            store.put_release(release(releases + 1, share=0.5))
        in_force = [row.version for row in store.releases_in_force()]
        assert in_force == [releases + 1, releases, releases - 1]
        given = partial(store.release_for, "dev-1", "north")
        counts.append((steps(store, store.releases_in_force), steps(store, given)))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("seed", range(20))
def test_releases_in_force_are_those_that_the_rules_name(
    stores: Callable[[], SqliteStore], seed: int
) -> None:
    store, chance = stores(), random.Random(seed)
    assert store.releases_in_force() == []
    for version in range(1, 25):
        channel = chance.choice(("stable", "north", "", "südlich"))
        store.put_release(release(version, channel, chance.choice((1.0, 1.0, 0.5))))
        if chance.random() < 0.3:
            store.withdraw_release(chance.randint(1, version))
        standing = [row for row in store.releases() if not row.withdrawn]
        whole = {row.channel: row.version for row in standing[::-1] if row.share >= 1}
        expected = [row for row in standing if row.version >= whole.get(row.channel, 0)]
        assert store.releases_in_force() == expected


# Members ------------------------------------------------------------------------------------------


def test_whether_anybody_is_gone_is_found_whatever_else_changed(
    stores: Callable[[], SqliteStore],
) -> None:
    standings = {b"e" * 16: ERASED, b"r" * 16: RETURNED, b"l" * 16: LEFT, b"w" * 16: WITHDRAWN}
    counts = []
    for members in (FEW, MANY):
        store = stores()
        store.put_audience(AudienceRow("all", {}))
        add = "INSERT INTO members (audience, subject, stamp, standing) VALUES ('all', ?, ?, ?)"
        with store.transaction():
            store.run_many(
                add, ((b"%016d" % i, 10 + i, (PRESENT, SILENT)[i % 2]) for i in range(members))
            )
        asked = partial(store.anyone_gone, "all", 4)
        assert not asked()
        nobody = steps(store, asked)
        for stamp, (subject, standing) in enumerate(standings.items(), start=1):
            store.run(add, [subject, stamp, standing])
            assert store.anyone_gone("all", stamp - 1)
            assert not store.anyone_gone("all", stamp)
        assert sorted(store.erased("all")) == [b"e" * 16, b"r" * 16]
        counts.append((nobody, steps(store, partial(store.erased, "all"))))
    assert counts[0] == counts[1]
