from __future__ import annotations

import json
import os
import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.dna.columns import Columns, encode, row_sum_of
from edge_sdk.dna.content import Content
from edge_sdk.dna.genome import Row
from edge_sdk.errors import FormatError, StoreCorrupt
from edge_sdk.store import snapshot as snapshot_module
from edge_sdk.store.snapshot import Snapshot, write_columns
from genome_edge.v1 import dna_pb2
from tests.unit.stored_files import write_snapshot

NOTHING = (np.zeros(0, np.uint32), np.zeros(0, np.uint8))

LINEAGE = dna_pb2.Lineage(vocabulary_lineage=bytes(range(16)), schema_epoch=4, landmark_hour=9)


def some_rows(n: int, top: int = 5000, seed: int = 1) -> list[Row]:
    rng = random.Random(seed)
    return [
        Row(
            subject=rng.randbytes(16),
            consents=rng.randrange(16),
            as_of_hour=rng.randrange(-1000, 1000),
            indices=np.array(sorted(rng.sample(range(top), rng.randrange(9))), dtype=np.uint32),
            codes=np.zeros(0, dtype=np.uint8),
        )
        for _ in range(n)
    ]


def with_codes(rows: list[Row]) -> list[Row]:
    rng = random.Random(2)
    return [
        Row(
            r.subject,
            r.consents,
            r.as_of_hour,
            r.indices,
            np.array([rng.randrange(1, 256) for _ in r.indices], dtype=np.uint8),
        )
        for r in rows
    ]


@pytest.mark.parametrize("top", [5000, 2**32])
@pytest.mark.parametrize("n", [0, 1, 300])
def test_what_was_written_is_found(tmp_path: Path, n: int, top: int) -> None:
    path = tmp_path / "deep" / "genomes.snap"
    rows = with_codes(some_rows(n, top))
    assert write_snapshot(path, LINEAGE, rows) == n
    snapshot = Snapshot.open(path)
    assert len(snapshot) == n
    assert snapshot.lineage == LINEAGE
    for row in rows:
        assert snapshot.lookup(row.subject) == row
        assert row.subject in snapshot
    assert list(snapshot) == sorted(rows, key=lambda r: r.subject)
    for missing in (bytes(16), b"\xff" * 16, b"short", random.Random(9).randbytes(16)):
        assert snapshot.lookup(missing) is None
    assert not list(path.parent.glob(".*"))


def test_subjects_that_share_their_first_half(tmp_path: Path) -> None:
    path = tmp_path / "s.snap"
    (row,) = with_codes(some_rows(1))
    rows = [
        Row(b"\xf0" * 8 + bytes([i] * 8), i, i, row.indices, row.codes) for i in (0, 1, 127, 255)
    ]
    write_snapshot(path, LINEAGE, rows)
    snapshot = Snapshot.open(path)
    assert [snapshot.lookup(r.subject) for r in rows] == rows
    assert snapshot.lookup(b"\xf0" * 8 + bytes([2] * 8)) is None


def test_the_last_row_of_a_subject_counts(tmp_path: Path) -> None:
    path = tmp_path / "s.snap"
    (old,) = some_rows(1)
    new = Row(old.subject, 8, 1, np.array([3], dtype=np.uint32), np.array([4], dtype=np.uint8))
    assert write_snapshot(path, LINEAGE, [old, new]) == 1
    assert Snapshot.open(path).lookup(old.subject) == new


def test_a_reader_keeps_the_file_that_it_opened(tmp_path: Path) -> None:
    path = tmp_path / "s.snap"
    first, second = with_codes(some_rows(5, seed=1)), with_codes(some_rows(5, seed=2))
    write_snapshot(path, LINEAGE, first)
    before = Snapshot.open(path)
    write_snapshot(path, LINEAGE, second)
    assert list(before) == sorted(first, key=lambda r: r.subject)
    assert list(Snapshot.open(path)) == sorted(second, key=lambda r: r.subject)


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    path, damaged = tmp_path / "s.snap", tmp_path / "d.snap"
    rows = with_codes(some_rows(6))
    write_snapshot(path, LINEAGE, rows)
    data = path.read_bytes()
    wanted = sorted(rows, key=lambda r: r.subject)
    for at in range(len(data)):
        damaged.write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        try:
            read = list(Snapshot.open(damaged))
        except StoreCorrupt:
            continue
        assert read == wanted  # padding between sections
        assert data[at] == 0


def test_every_cut_is_found(tmp_path: Path) -> None:
    path, cut = tmp_path / "s.snap", tmp_path / "c.snap"
    write_snapshot(path, LINEAGE, with_codes(some_rows(6)))
    data = path.read_bytes()
    whole = 0
    for end in range(len(data)):
        cut.write_bytes(data[:end])
        try:
            assert len(list(Snapshot.open(cut))) == 6
            whole += 1
        except StoreCorrupt:
            pass
    assert whole < 64  # only the padding behind the last section may be gone


def test_without_verifying_the_places_of_sections_are_still_checked(tmp_path: Path) -> None:
    path = tmp_path / "s.snap"
    write_snapshot(path, LINEAGE, with_codes(some_rows(50)))
    assert len(Snapshot.open(path, verify=False)) == 50
    os.truncate(path, path.stat().st_size - 200)
    with pytest.raises(StoreCorrupt):
        Snapshot.open(path, verify=False)


def test_no_file_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        Snapshot.open(tmp_path / "missing.snap")
    for content in (b"", b"x" * 10, json.dumps({"a": 1}).encode() * 10):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(StoreCorrupt):
            Snapshot.open(tmp_path / "other")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "s.snap"
    rows = with_codes(some_rows(3))
    write_snapshot(path, LINEAGE, rows)

    def broken() -> object:
        yield rows[0]
        raise OSError("the source went away")

    with pytest.raises(OSError, match="went away"):
        write_snapshot(path, LINEAGE, broken())  # type: ignore[arg-type]
    assert len(Snapshot.open(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["s.snap"]


@pytest.mark.parametrize("top", [5000, 2**32])
def test_a_content_becomes_the_same_file_as_its_rows(tmp_path: Path, top: int) -> None:
    rows = with_codes(some_rows(3000, top))
    content = Content(encode(Columns.of(rows)))
    summed = write_columns(tmp_path / "a.snap", LINEAGE, content.sizes, content.rows())
    write_snapshot(tmp_path / "b.snap", LINEAGE, rows)
    assert (tmp_path / "a.snap").read_bytes() == (tmp_path / "b.snap").read_bytes()
    assert summed == sum(row_sum_of(row) for row in rows) % 2**64


def test_rows_come_back_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "_BLOCK_ROWS", 7)
    rows = with_codes(some_rows(30))
    write_snapshot(tmp_path / "s.snap", LINEAGE, rows)
    blocks = list(Snapshot.open(tmp_path / "s.snap").blocks())
    assert [len(block) for block in blocks] == [7, 7, 7, 7, 2]
    assert [row for block in blocks for row in block.rows()] == sorted(
        rows, key=lambda r: r.subject
    )


def test_blocks_of_other_sizes_than_said_are_not_written(tmp_path: Path) -> None:
    columns = Columns.of(with_codes(some_rows(5)))
    for wrong in (replace(columns.sizes, rows=6), replace(columns.sizes, markers=1)):
        with pytest.raises(FormatError, match="more or less"):
            write_columns(tmp_path / "s.snap", LINEAGE, wrong, [columns])
    assert not list(tmp_path.iterdir())


def test_a_subject_is_found_by_how_it_begins(tmp_path: Path) -> None:
    rows = with_codes(some_rows(20))
    alike = [Row(b"\xf0" * 8 + bytes([i] * 8), 1, 1, *NOTHING) for i in (1, 2)]
    write_snapshot(tmp_path / "s.snap", LINEAGE, [*rows, *alike])
    snapshot = Snapshot.open(tmp_path / "s.snap")
    assert all(snapshot.subject_of(row.subject[:8]) == row.subject for row in rows)
    assert snapshot.subject_of(b"\xf0" * 8) is None
    assert snapshot.subject_of(b"\xff" * 8) is None
    assert snapshot.subject_of(bytes(8)) is None


def write_as_before(path: Path, rows: list[Row]) -> None:
    """A file as SDKs before 0.2 wrote it."""
    columns = Columns.of(rows)
    relative, entries, sections = 0, {}, []
    for name in ("high", "low", "consents", "as_of_hours", "starts", "indices", "codes"):
        column = getattr(columns, name)
        content = column.tobytes()
        crc = zlib.crc32(content)
        length = len(content)
        entries[name] = {"type": column.dtype.str, "offset": relative, "length": length, "crc": crc}
        sections.append((relative, content))
        relative += -(-length // 64) * 64
    lineage = LINEAGE.SerializeToString().hex()
    header = json.dumps({"rows": len(rows), "lineage": lineage, "sections": entries}).encode()
    head = struct.pack("<8sII", b"GESNAP1\n", len(header), zlib.crc32(header)) + header
    base = -(-len(head) // 64) * 64
    data = bytearray(base + relative)
    data[: len(head)] = head
    for offset, content in sections:
        data[base + offset : base + offset + len(content)] = content
    path.write_bytes(data)


@pytest.mark.parametrize("top", [5000, 2**32])
def test_a_file_of_an_sdk_before_0_2_is_read(tmp_path: Path, top: int) -> None:
    rows = with_codes(some_rows(50, top))
    write_as_before(tmp_path / "old.snap", rows)
    snapshot = Snapshot.open(tmp_path / "old.snap")
    ordered = sorted(rows, key=lambda row: row.subject)
    assert list(snapshot) == ordered
    assert [row for block in snapshot.blocks() for row in block.rows()] == ordered
    assert snapshot.sizes == Columns.of(rows).sizes


def test_a_disk_that_gives_a_row_no_longer_is_no_exception(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.snap"
    rows = with_codes(some_rows(2000))
    write_snapshot(path, LINEAGE, rows)
    snapshot = Snapshot.open(path)
    last = max(rows, key=lambda row: row.subject)
    os.truncate(path, path.stat().st_size - 4096)
    assert snapshot.lookup(last.subject) is None
    assert "ended while it was read" in caplog.text
