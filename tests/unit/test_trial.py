"""A release is tried in a process of its own: what it does to its reader stays there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_sdk.errors import TrustError
from edge_sdk.sync.trial import try_release
from genome_edge.v1 import release_pb2

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
    assert "trying it here" in caplog.text
    with pytest.raises(TrustError):
        try_release(shelf[0], replaced(shelf, "model", b"no model at all"))
