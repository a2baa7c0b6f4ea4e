"""Every example, run the way that a person runs it, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_sdk import Context, EdgeClient
from examples import datasets, demo, make_bundle
from examples.adapters import hotel, places_nyc, town
from examples.local_server import LocalServer
from tests.e2e.house import House, until
from tests.e2e.house import run as run_command

# Whole demos: minutes on a machine that is busy with other things.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "demo", "hotel_flights", "kiosk", "mobile_backend", "grpc_client", "field_walk", "local_server",
    "sidecar.run", "make_bundle", "datasets", "adapters.coupon", "adapters.places_nyc",
    "adapters.town",
)  # fmt: skip


def run(
    module: str, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"examples.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def tell(module: str, *arguments: str | Path) -> str:
    """Run an example that must end well; what it printed. Nothing may be on standard error."""
    done = run(module, *arguments)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == "", "an account has no log noise"
    return done.stdout


def test_without_the_sdk_an_example_says_how_to_install_it() -> None:
    # -S leaves out what is installed; what is left is the folder named edge_sdk.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "examples.kiosk"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ""},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr


def in_order(text: str, *wanted: str) -> None:
    """The words stand in the text in this order."""
    at = 0
    for words in wanted:
        found = text.find(words, at)
        assert found >= 0, f"{words!r} is not in, or not in this place of:\n{text}"
        at = found + len(words)


@pytest.mark.parametrize("module", MODULES)
def test_says_how_it_is_used(module: str) -> None:
    done = run(module, "--help")
    assert done.returncode == 0
    assert f"examples.{module}" in done.stdout


def test_hotel_flights(prepared: Path) -> None:
    said = tell("hotel_flights", "--prepared", prepared)
    in_order(
        said,
        "online:", "A taxi to the airport",
        "the server is killed",
        "offline:", "A taxi to the airport",
        "events wait in the outbox",
        "The airport train",
        "the server is back",
        "the outbox is empty",
        "another screen:", "The airport train",
    )  # fmt: skip


def test_kiosk(prepared: Path) -> None:
    said = tell("kiosk", "--prepared", prepared)
    in_order(said, "nobody", "a stranger", "wiped", "another stranger", "(fetched)", "wiped",
             "killed", "(offline)", "nobody")  # fmt: skip


def test_mobile_backend(prepared: Path) -> None:
    said = tell("mobile_backend", "--prepared", prepared)
    decided, clicked = re.findall(r"worker (\d+)", said)
    assert decided != clicked, "the click lands on another worker"
    assert "in the server's log" in said


def test_grpc_client(prepared: Path) -> None:
    said = tell("grpc_client", "--prepared", prepared)
    for service in ("Sync", "Report", "Enrolment", "Identify", "Decision"):
        assert f"genome_edge.v1.{service}Service" in said
    in_order(said, "UNAUTHENTICATED", hotel.TAXI, "event")


def test_the_thin_client_needs_nothing_but_stubs() -> None:
    """Up to `main`, which sets the scene, the client imports neither the SDK nor our helpers."""
    source = (ROOT / "examples" / "grpc_client.py").read_text()
    client = source[: source.index("def main(")]
    imports = set(re.findall(r"^(?:from|import) (\w+)", client, re.MULTILINE))
    assert imports <= {"__future__", "argparse", "sys", "collections", "grpc", "grpc_reflection",
                       "genome_edge"}  # fmt: skip


def test_field_walk_in_the_town(prepared: Path, tmp_path: Path) -> None:
    page = tmp_path / "walk.html"
    said = tell("field_walk", "--town", "--prepared", prepared, "--out", page)
    in_order(said, "hotel", "cafe", "airport", str(page))
    text = page.read_text()
    assert "synthetic town" in text
    assert "The second cup is on us" in text
    assert_self_contained(text)


def assert_self_contained(text: str) -> None:
    assert "<svg" in text
    for outside in ("http://", "https://", "src=", "@import", "url("):
        assert outside not in text, "the page loads nothing"


# the bundle beside the code


def test_the_committed_bundle_decides_alone(tmp_path: Path) -> None:
    assert make_bundle.BUNDLE.stat().st_size <= make_bundle.MOST_BYTES
    with EdgeClient(tmp_path / "store", bundle=make_bundle.BUNDLE) as edge:
        assert edge.wait_ready(10)
        flights = Context(place="hotel", activity="flight-search")
        decision = edge.decide(flights, hotel.SCREEN)
        assert decision.offer is not None
        assert decision.offer.id == hotel.TAXI
        dinner = edge.decide(Context(place="hotel", activity="restaurant-search"), hotel.SCREEN)
        assert dinner.offer is not None
        assert dinner.offer.id != hotel.TAXI


def test_the_bundle_can_be_made_again(tmp_path: Path) -> None:
    out = tmp_path / "town.bundle"
    assert "synthetic" in tell("make_bundle", out)
    assert 0 < out.stat().st_size <= make_bundle.MOST_BYTES


# the demo


def test_at_whatever_time_it_is_the_flights_that_speak_for_the_taxi(house: House) -> None:
    """The model of the town knows what its rule is about: nothing else weighs half as much."""
    house.start()
    now = datetime.now(UTC)
    with EdgeClient(house.enrol("lobby"), house.address) as lobby:
        assert lobby.wait_ready(30)
        until(lambda: lobby.status.genomes, 30)
        for hours in range(0, 7 * 24, 7):
            moment = Context(
                cell=town.cell_at("hotel"),
                activity="flight-search",
                channel="kiosk",
                time=now - timedelta(hours=hours),
            )
            decision = lobby.decide(moment, hotel.SCREEN, customer="customer-001")
            assert decision.offer is not None
            assert decision.offer.id == hotel.TAXI
            first, second = [one for one in decision.explain().carriers if one.source != "offer"][
                :2
            ]
            assert first.marker == "activity:flight-search"
            assert abs(second.difference) < first.difference / 2, second


STEPS = (
    "go into a new server", "learns", "signed", "enrolled", "syncs", "looks up flights", "killed",
    "comes back", "Another screen",
)  # fmt: skip


def check_account(said: str) -> None:
    in_order(said, "Real", "Made up", *STEPS, "All of it held")
    steps = [int(n) for n in re.findall(r"^(\d+)\. ", said, re.MULTILINE)]
    assert steps == list(range(1, len(STEPS) + 1))
    for offer in ("A taxi to the airport", "The airport train"):
        assert offer in said
    assert re.search(r"AUC by person 0\.\d{3}", said)
    assert re.search(r"\d+ bytes a customer", said)
    assert re.search(r"\d\.\d\d milliseconds", said)
    for kind, rows, accepted, rejected in re.findall(
        r"^\s+(\w+)\s+([\d,]+)\s+=\s+([\d,]+)\s+\+\s+([\d,]+)$", said, re.MULTILINE
    ):
        numbers = [int(n.replace(",", "")) for n in (rows, accepted, rejected)]
        assert numbers[0] == numbers[1] + numbers[2], kind
    assert all(len(line) <= 100 for line in said.splitlines())
    assert "\x1b" not in said, "no colours in a pipe"


def test_demo_in_the_town(tmp_path: Path) -> None:
    said = tell("demo", "--town", "--keep", tmp_path / "kept")
    check_account(said)
    assert "synthetic" in said
    assert str(tmp_path / "kept") in said


def test_demo_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    done = run("demo", "--town", "--keep", tmp_path)
    assert done.returncode == 1
    assert "did not hold" in done.stdout


class Tap:
    """A line between devices and a server that may come and go; it keeps what it hears."""

    def __init__(self, target: int) -> None:
        self.heard = bytearray()
        self.target = target
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.door.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:  # the server was killed
                    near.close()
                    continue
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(65536):
                self.heard.extend(data)
                sink.sendall(data)


class TappedServer(LocalServer):
    """A local server whose devices reach it through a tap."""

    tap: Tap | None = None

    @property
    def address(self) -> str:
        assert TappedServer.tap is not None
        return f"127.0.0.1:{TappedServer.tap.port}"

    def start(self) -> str:
        if self.port == 0:  # the first time: the port stays the same from then on
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
            TappedServer.tap = Tap(self.port)
        return super().start()


class Played(NamedTuple):
    """The demo on the data sets: its files, what it printed, what went over the wire."""

    files: Path
    said: str
    heard: bytes


@pytest.fixture(scope="module")
def new_york(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    for name in ("uci_coupon", "foursquare_nyc", "openflights"):
        try:
            datasets.find(name)
        except datasets.DataSetMissing as error:
            pytest.skip(str(error).splitlines()[0])
    kept, said = tmp_path_factory.mktemp("demo") / "kept", io.StringIO()
    handlers = list(logging.getLogger().handlers)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(demo, "LocalServer", TappedServer)
        patch.setenv("GRPC_VERBOSITY", "NONE")
        code = demo.main(["--keep", str(kept)])
    logging.getLogger().handlers[:] = handlers
    assert code == 0, said.getvalue()
    assert TappedServer.tap is not None
    yield Played(kept, said.getvalue(), bytes(TappedServer.tap.heard))
    TappedServer.tap.door.close()


@pytest.mark.dataset
def test_demo_on_real_data(new_york: Played) -> None:
    kept, said, _ = new_york
    check_account(said)
    survey = datasets.find("uci_coupon") / "coupons.csv"
    rows = len(survey.read_text("utf-8").splitlines()) - 1
    assert re.search(rf"interactions\s+{rows:,}\s+=\s+{rows:,}\s+\+\s+0", said)
    assert "UCI" in said
    assert "Foursquare" in said
    taught = [
        json.loads(line)
        for line in (kept / "commands.log").read_text().splitlines()
        if line.startswith("{") and "auc_by_person" in line
    ]
    assert taught[0]["auc_by_person"]["cold"] > 0.7, "on the survey's people, unseen"
    store = next(path.parent for path in kept.rglob("edge.sqlite"))
    moment = ("--placement", "lobby-screen", "--place", "hotel", "--activity", "flight-search")
    made = json.loads(run_command("genome-edge", "decide", "--store", store, *moment, "--json"))
    again = json.loads(run_command("genome-edge", "replay", made["id"], "--store", store, "--json"))
    assert again["identical"] is True


@pytest.mark.dataset
def test_no_coordinate_is_in_any_message_file_or_log_of_the_demo(new_york: Played) -> None:
    kept, said, heard = new_york
    seen = places_nyc.venues(datasets.find("foursquare_nyc"))
    hotels = [venue for venue in seen if places_nyc.kind_of(venue.category) == "hotel"][:40]
    wanted: set[bytes] = set()
    for venue in hotels:
        for number in (venue.lat, venue.lng):
            wanted |= {
                f"{number:.4f}".encode(),
                struct.pack("<d", number),
                struct.pack(">d", number),
            }
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert len(files) > 20
    pattern = re.compile(b"|".join(re.escape(needle) for needle in sorted(wanted)))
    assert not pattern.search(said.encode())
    assert len(heard) > 50_000, "the line did listen"
    assert not pattern.search(heard)
    for path in files:
        assert not pattern.search(path.read_bytes()), path


@pytest.mark.dataset
def test_a_real_day_is_walked(new_york: Played, tmp_path: Path) -> None:
    page = tmp_path / "walk.html"
    said = tell("field_walk", "--prepared", new_york.files, "--out", page)
    in_order(said, "airport", str(page))
    text = page.read_text()
    assert_self_contained(text)
    assert "Foursquare" in text
    assert "made up" in text.lower()
    assert not re.search(r"\b(40\.[5-9]\d{3,}|7[34]\.\d{4,})", text), "no coordinates"
