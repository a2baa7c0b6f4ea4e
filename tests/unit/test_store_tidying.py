"""After a commit: rows count whatever becomes of the tidying, and nobody who was erased stays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NoReturn

import pytest

from edge_sdk.errors import DiskFull, FormatError, StoreError
from edge_sdk.numbers import ERASED, LEFT_AUDIENCE
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.genomes import GenomeShelf
from edge_sdk.sync.holding import holding
from tests.unit.device_town import Town, commit_rows, customer, filled, row, subject


def fails(self: GenomeShelf) -> NoReturn:
    raise StoreError("folding patches into the snapshot ends the process that reads it")


def disk_is_full(self: GenomeShelf) -> NoReturn:
    raise DiskFull("no room is left")


def names(store: DeviceStore) -> set[bytes]:
    """Subjects in the files of genomes, whether they are current or not."""
    found = b"".join(path.read_bytes() for path in (store.path / "genomes").iterdir())
    halves = {n: subject(n) for n in range(3)}
    return {one for one in halves.values() if one[:8] in found or one[:8][::-1] in found}


@pytest.mark.parametrize("trouble", [fails, disk_is_full])
def test_rows_are_here_though_nothing_could_be_tidied_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: object
) -> None:
    town = filled(tmp_path / "store")
    store = DeviceStore.open(tmp_path / "store")
    with monkeypatch.context() as patched:
        patched.setattr(GenomeShelf, "compact", trouble)
        patched.setattr(GenomeShelf, "wants_compaction", lambda *_: True)
        patched.setattr(GenomeShelf, "sweep", trouble)
        changed = [row(7, town=town)]
        assert commit_rows(store, changed, town, full=False, cursor=b"next") == 4
        assert store.genome_cursor() == b"next"
        assert store.genomes().row(subject(7)) is not None
        assert commit_rows(store, changed, town, cursor=b"all") == 1
    assert len(list((store.path / "genomes").iterdir())) == 4
    assert commit_rows(store, changed, town, cursor=b"anew") == 1
    assert len(list((store.path / "genomes").iterdir())) == 2


@pytest.mark.parametrize("reason", [ERASED, LEFT_AUDIENCE])
def test_an_erasure_that_was_cut_short_is_brought_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    town = filled(tmp_path / "store")
    store = DeviceStore.open(tmp_path / "store")
    gone = subject(1)
    with monkeypatch.context() as patched:
        patched.setattr(GenomeShelf, "compact", disk_is_full)
        if reason == ERASED:
            with pytest.raises(DiskFull):
                commit_rows(store, [], town, full=False, deletes=[(gone, reason)])
            holding(store, wants_genomes=True, all_rows=False)
        else:
            commit_rows(store, [], town, full=False, deletes=[(gone, reason)])
    assert store.genomes().subject_of(customer(1)) is None
    assert gone in names(store)
    store.close()
    again = DeviceStore.open(tmp_path / "store")
    holding(again, wants_genomes=True, all_rows=False)
    assert (gone in names(again)) == (reason != ERASED)
    assert again.genomes().row(subject(0)) is not None
    assert again.genome_count() == 2
    files = set((again.path / "genomes").iterdir())
    holding(again, wants_genomes=True, all_rows=False)
    assert set((again.path / "genomes").iterdir()) == files, "once is enough"


def test_a_content_that_cannot_be_read_is_given_up(tmp_path: Path) -> None:
    store, town = DeviceStore.open(tmp_path / "store"), Town()
    content = b"no genome content"
    sha256 = hashlib.sha256(content).digest()
    store.append_partial(sha256, 0, content)
    with pytest.raises(FormatError):
        store.commit_genomes(full=True, lineage=town.lineage, content=sha256, cursor=b"1")
    assert store.partials() == {}
    assert store.genome_cursor() == b""
