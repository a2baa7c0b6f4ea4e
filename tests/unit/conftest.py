"""Fixtures of the tests of what runs on a device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk import EdgeClient
from tests.unit.device_client import FAST
from tests.unit.device_town import filled


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees, or leaves anything in, the place of the person who runs it."""
    for name in ("GENOME_EDGE_STORE", "GENOME_EDGE_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[EdgeClient]:
    """A client of a store with a release and three customers who agreed."""
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as made:
        assert made.wait_ready(10)
        yield made
