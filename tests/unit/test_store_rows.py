"""Rows of a device's store that are not what was written."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import StoreCorrupt
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.identity import Identity
from edge_sdk.store.lane_rows import Lane, put_lane
from edge_sdk.store.rows import CHECKED, check_all, read_rows, row_crc, seal_all, sealed
from edge_sdk.sync.keys import DeviceKey
from genome_edge.v1 import enrolment_pb2

#: Columns that no check is of: what has one of its own, and numbers that only order rows.
APART = {"row_crc", "manifest", "frames", "id"}


class Purpose(IntEnum):
    """Some number with a name."""

    ONE = 1


def filled(path: Path) -> DeviceStore:
    """A store with a row in every table."""
    store = DeviceStore.open(path)
    with store.write() as connection:
        for table in CHECKED:
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            row = ["active" if name == "role" else example(kind) for _, name, kind, *_ in columns]
            marks = ", ".join("?" * (len(row) - 1))
            connection.execute(f"INSERT INTO {table} VALUES ({marks}, 0)", row[:-1])
        connection.execute("UPDATE counters SET n = 7 WHERE name IN ('outbox_bytes', 'ring')")
        seal_all(connection)
    return store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a store, closed."""
    path = tmp_path_factory.mktemp("whole") / "edge"
    with closing(filled(path)) as store, store.read() as connection:
        check_all(connection)
    return path


def example(kind: str) -> object:
    """A value of this type."""
    return {"INTEGER": 7, "TEXT": "text", "BLOB": b"blob"}[kind]


def damage(
    connection: sqlite3.Connection, table: str, column: str, value: object, old: object
) -> None:
    """Change a value as a disk does: nothing else hears of it."""
    connection.execute(f"DROP TRIGGER IF EXISTS {table}_checked")
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (value, old))


def values_of() -> list[tuple[str, str]]:
    """Every column that is checked, with its table."""
    return [(table, column) for table in CHECKED for column in CHECKED[table].split(", ")]


def test_every_column_is_checked_but_those_that_have_a_check_of_their_own(tmp_path: Path) -> None:
    with closing(DeviceStore.open(tmp_path / "edge")) as store, store.read() as connection:
        for table, checked in CHECKED.items():
            found = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            assert found[-1] == "row_crc"
            assert set(found) - set(checked.split(", ")) <= APART


@pytest.mark.parametrize(("table", "column"), values_of())
def test_a_value_that_changed_on_disk_is_said_when_a_store_opens(
    whole: Path, tmp_path: Path, table: str, column: str
) -> None:
    shutil.copytree(whole, tmp_path / "edge")
    with closing(sqlite3.connect(tmp_path / "edge" / "edge.sqlite")) as connection, connection:
        old: Any = connection.execute(f"SELECT {column} FROM {table}").fetchall()[-1][0]
        new = {int: 8, str: "tex", bytes: b"bloc"}[type(old)]
        damage(connection, table, column, "staged" if column == "role" else new, old)
    with closing(DeviceStore.open(tmp_path / "edge")) as again:
        assert table in str(again.incident)
        with again.read() as connection:
            check_all(connection)
            kept = list(read_rows(connection, table))
            if table == "consents":
                assert [row[2] for row in kept] == [0], "whatever it said, it grants nothing"
            elif table == "meta":
                assert "text" not in dict(kept)
            elif table not in ("outbox", "lanes"):
                assert not kept or table == "losses"


def test_a_damaged_row_is_not_changed_and_so_made_good(tmp_path: Path) -> None:
    store = filled(tmp_path / "edge")
    trigger = "SELECT sql FROM sqlite_master WHERE name = 'lanes_checked'"
    with store.write() as connection:
        text = connection.execute(trigger).fetchone()[0]
        damage(connection, "lanes", "received", 3, 7)
        connection.execute(text)
    with pytest.raises(StoreCorrupt, match="lanes"), store.write() as connection:
        connection.execute("UPDATE lanes SET safe = 1")
    assert store.incident is not None
    with store.write() as connection:
        put_lane(connection, Lane(9, 1, 8, 7, 7, bytes(16), 9))
        connection.execute("UPDATE lanes SET received = 6, safe = 5")
        assert list(read_rows(connection, "lanes", "WHERE lane = ?", 9)) == [
            [9, 1, 8, 6, 5, bytes(16), 9]
        ]
    store.close()


def test_a_name_of_a_number_is_that_number() -> None:
    assert row_crc(Purpose.ONE, True, "one", None) == row_crc(1, 1, "one", None)
    assert row_crc(b"a", b"bc") != row_crc(b"ab", b"c")
    assert len({row_crc("1"), row_crc(b"1"), row_crc(1)}) == 3  # one bit makes text of bytes
    assert sealed(1, b"a") == (1, b"a", row_crc(1, b"a"))


def test_an_identity_is_what_was_written_and_an_old_one_is_read(tmp_path: Path) -> None:
    identity = Identity("http://localhost:1", "acme", "d-1", "all", b"c", b"r")
    with closing(DeviceStore.open(tmp_path / "edge")) as store:
        store.set_identity(identity)
        path = tmp_path / "edge" / "identity" / "identity.json"
        document = json.loads(path.read_bytes())
        path.write_text(json.dumps(document | {"device_id": "d-2"}))
        with pytest.raises(StoreCorrupt, match="enrol this device again"):
            store.identity()
        path.write_text(json.dumps(document | {"device_id": "d-2", "sha257": "?"}))
        with pytest.raises(StoreCorrupt):
            store.identity()
        del document["sha256"]
        path.write_text(json.dumps(document))
        assert store.identity() == identity


def test_a_key_is_the_one_that_its_credential_is_for(tmp_path: Path) -> None:
    key = DeviceKey.load_or_create(tmp_path / "device.pem")
    for public in (key.public, DeviceKey.generate().public):
        credential = enrolment_pb2.Credential(public_key=public).SerializeToString()
        signed = enrolment_pb2.SignedCredential(credential=credential).SerializeToString()
        if public == key.public:
            assert DeviceKey.load(tmp_path / "device.pem", signed).public == public
        else:
            with pytest.raises(StoreCorrupt, match="another key"):
                DeviceKey.load(tmp_path / "device.pem", signed)
