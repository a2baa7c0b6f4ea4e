"""What an installed package gives by entry point is used, and what cannot be used is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edge_sdk.plugins import Plugins
from genome_server import plugins
from genome_server.errors import Refused
from genome_server.home import Home, Tenant
from genome_server.setup import set_up
from genome_server.store.protocol import Store
from genome_server.store.sqlite import SqliteStore

opened: list[Path] = []


class Beacons:
    """Every cell is at a hotel."""

    def resolve(self, cell: int) -> Sequence[tuple[str, float]]:
        return [("place:hotel", 1.0)]


def open_elsewhere(tenant: Tenant) -> Store:
    """A store of another name."""
    opened.append(tenant.dir)
    return SqliteStore.open(tenant.dir / "other.sqlite")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    for known in (plugins.installed, plugins.deciding):
        known.cache_clear()
    yield
    for known in (plugins.installed, plugins.deciding):
        known.cache_clear()


def given(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    found = [
        EntryPoint(name, f"tests.unit.test_server_plugins:{value}", plugins.GROUP)
        for name, value in points
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found)


def test_without_any_ours_are_used(tmp_path: Path) -> None:
    tenant = Home(tmp_path).tenant()
    set_up(tenant)
    assert tenant.db_path.is_file()
    assert plugins.deciding() == Plugins()


def test_a_store_is_opened_by_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, ("store", "open_elsewhere"))
    tenant = Home(tmp_path).tenant()
    before = tenant.exists
    set_up(tenant)
    with closing(tenant.open_store()) as store:
        assert store.audiences()
    assert (before, tenant.exists) == (False, True)
    assert not tenant.db_path.exists()
    assert opened[-1] == tenant.dir


def test_the_server_decides_with_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, ("places", "Beacons"))
    found = plugins.deciding()
    assert isinstance(found.places, Beacons)
    assert found.scorer is None
    assert plugins.deciding() is found, "made once"


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ((("store", "open_elsewhere"), ("store", "Beacons")), "more than one"),
        ((("stoer", "open_elsewhere"),), "no plug-in 'stoer'"),
        ((("store", "nothing"),), "cannot be loaded"),
    ],
)
def test_what_cannot_be_used_is_refused(
    points: tuple[tuple[str, str], ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, *points)
    with pytest.raises(Refused, match=said):
        plugins.store_opener()
