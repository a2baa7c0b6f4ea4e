"""The files of genomes: from a content, and with patches folded in."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.columns import HEAD, MAGIC, Columns, encode, row_sum_of
from edge_sdk.dna.genome import Row
from edge_sdk.errors import FormatError
from edge_sdk.numbers import CONSENT_WITHDRAWN, ERASED, LEFT_AUDIENCE
from edge_sdk.store import snapshot as snapshot_module
from edge_sdk.store.genome_files import Files, write_content, write_files, write_view
from edge_sdk.store.genomes import GenomeView, pack_row
from edge_sdk.store.lookup_file import LookupFile
from edge_sdk.store.snapshot import Snapshot
from genome_edge.v1 import dna_pb2

LINEAGE = dna_pb2.Lineage(vocabulary_lineage=bytes(16), schema_epoch=2, quantiser=2)


def made(number: int, rng: random.Random, top: int = 300) -> Row:
    indices = sorted(rng.sample(range(top), rng.randrange(8)))
    codes = [rng.randrange(1, 127) for _ in indices]
    return Row(
        number.to_bytes(8, "big") * 2,
        rng.randrange(8),
        0,
        np.array(indices, np.uint32),
        np.array(codes, np.uint8),
    )


def opened(folder: Path, files: Files) -> tuple[Snapshot, LookupFile]:
    return Snapshot.open(folder / files.snapshot), LookupFile.open(folder / files.lookup)


def held(folder: Path, files: Files) -> tuple[list[Row], dict[bytes, bytes]]:
    snapshot, lookup = opened(folder, files)
    assert len(snapshot) == files.rows
    assert files.row_sum == sum(map(row_sum_of, snapshot)) % 2**64
    assert snapshot.lineage == LINEAGE
    return list(snapshot), dict(lookup)


@given(st.randoms(use_true_random=False), st.sampled_from([300, 2**32]), st.integers(0, 40))
def test_patches_are_folded_in(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random, top: int, n: int
) -> None:
    folder = tmp_path_factory.mktemp("genomes")
    before = {row.subject: row for row in (made(k, rng) for k in rng.sample(range(60), n))}
    pairs = {rng.randbytes(16): (k % 60).to_bytes(8, "big") * 2 for k in range(n)}
    columns = Columns.of(before.values(), pairs.items())
    files = write_files(folder, LINEAGE, columns.sizes, [columns], [columns.lookups])
    snapshot, lookup = opened(folder, files)
    patches: dict[bytes, bytes | int] = {}
    after = dict(before)
    for number in rng.sample(range(60), rng.randrange(30)):
        row = made(number, rng, top)
        reason = rng.choice([0, 0, 0, ERASED, LEFT_AUDIENCE, CONSENT_WITHDRAWN])
        patches[row.subject] = reason or pack_row(row)
        after.pop(row.subject, None)
        if not reason:
            after[row.subject] = row
    again = rng.sample(sorted(pairs), min(len(pairs), 3))
    newer = dict.fromkeys([*again, rng.randbytes(16)], b"new owner of it.")
    view = GenomeView(
        1, ("", ""), LINEAGE, len(after), b"", snapshot, lookup, patches=patches, lookups=newer
    )
    left = {s for s, patch in patches.items() if patch in (ERASED, LEFT_AUDIENCE)}
    wanted = {hash_: s for hash_, s in pairs.items() if s not in left} | newer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_module, "_BLOCK_ROWS", rng.randrange(1, 20))
        rows, found = held(folder, write_view(folder, view))
    assert rows == [after[subject] for subject in sorted(after)]
    assert found == wanted


def test_a_view_without_files_can_be_written(tmp_path: Path) -> None:
    row = made(1, random.Random(1))
    view = GenomeView(lineage=LINEAGE, count=1, patches={row.subject: pack_row(row)})
    assert held(tmp_path, write_view(tmp_path, view)) == ([row], {})


def test_a_content_becomes_both_files(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [made(number, rng) for number in range(3_000)]
    pairs = {rng.randbytes(16): row.subject for row in rows[:2_000]}
    pairs[bytes(16)] = b"nobody with rows"
    (tmp_path / "content").write_bytes(encode(Columns.of(rows, pairs.items())))
    files = write_content(tmp_path, LINEAGE, tmp_path / "content")
    assert held(tmp_path, files) == (rows, pairs)


def test_a_damaged_content_becomes_no_file(tmp_path: Path) -> None:
    whole = encode(Columns.of([made(number, random.Random(5)) for number in range(1, 30)]))
    (tmp_path / "content").write_bytes(whole[:-9])
    with pytest.raises(FormatError):
        write_content(tmp_path, LINEAGE, tmp_path / "content")


def test_a_small_content_does_not_fill_the_disk(tmp_path: Path) -> None:
    head = HEAD.pack(MAGIC, 2_000_000, 0, 0, 0, 0)
    (tmp_path / "content").write_bytes(head + bytes(50_000))
    with pytest.raises(FormatError, match="too large"):
        write_content(tmp_path, LINEAGE, tmp_path / "content")
    assert [entry.name for entry in tmp_path.iterdir()] == ["content"]
