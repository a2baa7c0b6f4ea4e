"""A prepared home, copied for every test that wants to change it; and a device that serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.adapters import town
from tests.e2e.house import House
from tests.e2e.sidecar_client import Served, served
from tests.e2e.sidecar_town import ORIGIN
from tests.e2e.sidecar_town import town as sidecar_town
from tests.unit.device_town import until


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small town: imported, built, trained and published once."""
    root = tmp_path_factory.mktemp("prepared")
    house = House(root)
    files = root / "town"
    written = town.write(files, seed=7)
    house.server("init")
    for kind, file in written.in_import_order():
        house.server("import", kind, file)
    house.server("audiences", "add", "app", "--all", "--lookup")
    house.server("build")
    house.server("train", "--quick", "--seed", "1")
    house.server("publish")
    return root


@pytest.fixture(scope="session")
def handout(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `models examples` writes of the town, for models that are made elsewhere."""
    folder = tmp_path_factory.mktemp("handout")
    House(prepared).server("models", "examples", folder)
    return folder


@pytest.fixture
def house(prepared: Path, tmp_path: Path) -> Iterator[House]:
    """A house of one's own, with the town published and no server running yet."""
    shutil.copytree(prepared / "home", tmp_path / "house" / "home")
    shutil.copytree(prepared / "town", tmp_path / "house" / "town")
    made = House(tmp_path / "house")
    yield made
    made.kill()


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A device with a sidecar, for the tests of one file."""
    folder = tmp_path_factory.mktemp("served")
    with served(folder, "--allow-origin", ORIGIN, town=sidecar_town()) as one:
        until(lambda: one.post("decide", placement="lobby")["slots"][0]["offer"] == "taxi")
        yield one
