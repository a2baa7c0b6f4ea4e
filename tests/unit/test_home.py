"""Where things are, and what is said when they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from genome_server.errors import NotInitialised, UsageError
from genome_server.home import Home
from genome_server.setup import set_up


def test_where_the_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENOME_EDGE_HOME", raising=False)
    assert Home.find().root == tmp_path / "genome-home"
    monkeypatch.setenv("GENOME_EDGE_HOME", "elsewhere")
    assert Home.find().root == tmp_path / "elsewhere"
    assert Home.find(tmp_path / "said").root == tmp_path / "said"


def test_names_of_tenants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    monkeypatch.delenv("GENOME_EDGE_TENANT", raising=False)
    assert home.tenant().name == "default"
    monkeypatch.setenv("GENOME_EDGE_TENANT", "shop-1")
    assert home.tenant().dir == tmp_path / "tenants" / "shop-1"
    for name in ("../x", "A", "a b", "-a", "a" * 64):
        with pytest.raises(UsageError):
            home.tenant(name)


def test_looking_makes_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.tenants() == []
    with pytest.raises(NotInitialised, match="init --tenant one"):
        home.tenant("one").open_store()
    assert not home.root.exists()
    with pytest.raises(NotInitialised, match="init, or say with --home or GENOME_EDGE_HOME"):
        home.tenant("default").open_store()


def test_tenants_are_those_that_were_made(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for name in ("two", "one"):
        set_up(home.tenant(name))
    (home.tenants_dir / "stray").mkdir()
    assert [tenant.name for tenant in home.tenants()] == ["one", "two"]
    home.tenant("one").open_store().close()
