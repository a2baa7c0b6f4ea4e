"""Fixtures of more than one file: a device's client, and a served tenant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from edge_sdk import EdgeClient
from genome_server.home import Home, Tenant
from genome_server.services.serve import House
from tests.serving import make_home, publish_release, serving
from tests.unit.contract_server import CODE, ContractServer
from tests.unit.device_client import FAST
from tests.unit.device_town import filled
from tests.unit.shells import Shell


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


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one tenant and a release."""
    home = make_home(tmp_path / "home")
    publish_release(home.tenant("default"))
    return home


@pytest.fixture
def tenant(home: Home) -> Tenant:
    """Its tenant."""
    return home.tenant("default")


@pytest.fixture
def house(home: Home) -> Iterator[House]:
    """A server for it, in this process."""
    with serving(home) as house:
        yield house


@pytest.fixture
def channel(house: House) -> Iterator[grpc.Channel]:
    """A line to that server."""
    with grpc.insecure_channel(house.address) as channel:
        yield channel


@pytest.fixture
def contract_house() -> Iterator[ContractServer]:
    """The server of the contract, with a release."""
    server = ContractServer()
    server.release = server.publisher.release(1)
    yield server
    server.stop()


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell for a store that is not there yet."""
    return Shell(tmp_path / "edge", capsys)


@pytest.fixture
def device(contract_house: ContractServer, shell: Shell) -> Shell:
    """A shell on a device of that server, synced."""
    shell.run("enrol", "--server", contract_house.address, "--code", CODE, "--name", "lobby")
    shell.run("sync", "--once")
    return shell
