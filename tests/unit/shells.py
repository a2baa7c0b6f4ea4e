"""Commands run as a person runs them, on one store and against one server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import cli
from genome_edge.v1 import release_pb2
from tests.unit.publisher import Publisher


class Shell:
    """Runs commands on one store."""

    def __init__(self, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self._capsys = capsys
        self.err = ""

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command; its standard output."""
        found = cli.main([arguments[0], "--store", str(self.store), *arguments[1:]])
        captured = self._capsys.readouterr()
        self.err = captured.err
        assert found == code, captured
        return captured.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with --json; what it said."""
        return json.loads(self.run(*arguments, "--json", code=code))


def bundle(
    path: Path,
    version: int = 1,
    publisher: Publisher | None = None,
    change: dict[str, bytes] | None = None,
) -> Path:
    publisher = publisher or Publisher()
    release = publisher.release(version, change=change)
    path.write_bytes(
        release_pb2.Bundle(
            manifest=release.signed,
            root=publisher.root,
            parts=[
                release_pb2.PartContent(name=part.name, content=release.parts[part.sha256])
                for part in release.manifest.parts
            ],
        ).SerializeToString()
    )
    return path
