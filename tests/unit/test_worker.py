"""Doubtful work is done in a process of its own: what it does to its reader stays there."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.dna.columns import Columns, encode, row_sums, total
from edge_sdk.dna.genome import Row, block_from_rows
from edge_sdk.errors import FormatError, TrustError
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.snapshot import Snapshot
from edge_sdk.sync.worker import compact, try_release, write_content
from genome_edge.v1 import dna_pb2, release_pb2

LINEAGE = dna_pb2.Lineage(vocabulary_lineage=bytes(16), schema_epoch=2, quantiser=2)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def shelf(tmp_path: Path) -> tuple[Path, release_pb2.Manifest]:
    """The parts of the example bundle as a store holds them, and their manifest."""
    bundle = release_pb2.Bundle.FromString((ROOT / "examples" / "town.bundle").read_bytes())
    manifest = release_pb2.Manifest.FromString(bundle.manifest.manifest)
    (tmp_path / "parts").mkdir()
    content = {part.name: part.content for part in bundle.parts}
    for part in manifest.parts:
        (tmp_path / "parts" / part.sha256.hex()).write_bytes(content[part.name])
    return tmp_path, manifest


def replaced(
    shelf: tuple[Path, release_pb2.Manifest], name: str, content: bytes
) -> release_pb2.Manifest:
    """The manifest with another content for one part."""
    import hashlib

    root, manifest = shelf
    (part,) = [part for part in manifest.parts if part.name == name]
    part.sha256, part.size = hashlib.sha256(content).digest(), len(content)
    (root / "parts" / part.sha256.hex()).write_bytes(content)
    return manifest


def test_a_good_release_passes(shelf: tuple[Path, release_pb2.Manifest]) -> None:
    try_release(*shelf)


def test_the_reason_comes_back(shelf: tuple[Path, release_pb2.Manifest]) -> None:
    manifest = replaced(shelf, "model", b"no model at all")
    with pytest.raises(TrustError) as caught:
        try_release(shelf[0], manifest)
    assert caught.value.reason == "MODEL"


def test_a_missing_part_is_named(shelf: tuple[Path, release_pb2.Manifest]) -> None:
    root, manifest = shelf
    for path in (root / "parts").iterdir():
        path.unlink()
    with pytest.raises(TrustError, match="is not in the store") as caught:
        try_release(root, manifest)
    assert caught.value.reason == "PARTS"


def test_a_release_that_takes_its_reader_down_is_refused(
    shelf: tuple[Path, release_pb2.Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho started\nkill -SEGV $$\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(TrustError, match="ends the process") as caught:
        try_release(*shelf)
    assert caught.value.reason == "MODEL"


def test_a_release_that_hangs_is_refused(
    shelf: tuple[Path, release_pb2.Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho started\nexec sleep 60\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(TrustError, match="within") as caught:
        try_release(*shelf, timeout_s=0.5)
    assert caught.value.reason == "MODEL"


def test_an_interpreter_that_never_starts_says_nothing_of_the_release(
    shelf: tuple[Path, release_pb2.Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = tmp_path / "app"
    app.write_text("#!/bin/sh\nexec sleep 60\n")
    app.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(app))
    try_release(*shelf, timeout_s=0.5)
    assert "says nothing" in caplog.text


def test_odd_places_to_import_from_keep_no_child_from_its_work(
    shelf: tuple[Path, release_pb2.Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), tmp_path, *sys.path])
    monkeypatch.setenv("PYTHONIOENCODING", "utf-16")
    try_release(*shelf)
    assert not caplog.text, "not here"


def test_an_app_that_is_its_own_interpreter_is_not_started_again(
    shelf: tuple[Path, release_pb2.Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = tmp_path / "app"
    app.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    app.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(app))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    try_release(*shelf)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("script", [None, "#!/bin/sh\necho usage: app\nexit 2\n"])
def test_without_an_interpreter_it_is_tried_here(
    shelf: tuple[Path, release_pb2.Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    script: str | None,
) -> None:
    interpreter = tmp_path / "app"
    if script:
        interpreter.write_text(script)
        interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    try_release(*shelf)
    assert "doing its work here" in caplog.text
    with pytest.raises(TrustError):
        try_release(shelf[0], replaced(shelf, "model", b"no model at all"))


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A store's folder and a content in it."""
    (tmp_path / "genomes").mkdir()
    nothing = np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    rows = [Row(bytes([number]) * 16, 2, 0, *nothing) for number in range(1, 40)]
    (tmp_path / "content").write_bytes(encode(Columns.of(rows)))
    return tmp_path


def test_a_content_is_written_by_the_child(content: Path) -> None:
    files = write_content(content, LINEAGE, content / "content")
    snapshot = Snapshot.open(content / "genomes" / files.snapshot)
    assert (len(snapshot), files.rows) == (39, 39)
    assert snapshot.lineage == LINEAGE
    assert files.row_sum == total(row_sums(Columns.of(snapshot)))


def test_what_is_wrong_with_a_content_comes_back(content: Path) -> None:
    (content / "content").write_bytes(b"no content at all" * 10)
    with pytest.raises(FormatError, match="no genome content"):
        write_content(content, LINEAGE, content / "content")


def test_a_disk_that_refuses_comes_back(content: Path) -> None:
    (content / "genomes").rmdir()
    (content / "genomes").write_bytes(b"")
    with pytest.raises(OSError) as caught:  # noqa: PT011 its number is looked at
        write_content(content, LINEAGE, content / "content")
    assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR)


def test_a_content_that_takes_its_reader_down_is_refused(
    content: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = content / "python"
    interpreter.write_text("#!/bin/sh\necho started\nkill -SEGV $$\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(FormatError, match="ends the process"):
        write_content(content, LINEAGE, content / "content")


def test_patches_are_folded_in_by_the_child(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "store")
    nothing = np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    first = [Row(bytes([number]) * 16, 2, 0, *nothing) for number in range(1, 40)]
    second = [Row(bytes([number]) * 16, 6, 0, *nothing) for number in range(30, 50)]
    for full, rows in ((True, first), (False, second)):
        block = block_from_rows(LINEAGE, rows)
        store.commit_genomes(full=full, lineage=LINEAGE, blocks=[block], cursor=b"c")
    change, files = compact(store.path)
    view = store.genomes()
    assert change == view.change
    written = list(Snapshot.open(store.path / "genomes" / files.snapshot))
    assert written == sorted(view.rows(), key=lambda row: row.subject)
    assert files.row_sum == total(row_sums(Columns.of(view.rows())))
    store.close()
