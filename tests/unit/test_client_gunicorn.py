"""A web app under a server that forks: `gunicorn --preload`, workers killed and drained."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_sdk import EdgeClient
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.testing import SimulatedHouse, SimulatedServer, serve
from genome_edge.v1 import event_pb2
from tests.unit.device_town import until

OFFERS = [{"id": "taxi", "content": {"title": "A taxi"}}]
APP = """
import os
from edge_sdk import Context, EdgeClient

edge = EdgeClient({store!r})  # in gunicorn's own process, before it forks
assert edge.wait_ready(30)

def app(environ, start_response):
    decision = edge.decide(Context(), "any")
    if environ["PATH_INFO"] == "/durable":
        edge.report(decision, "click", durable=True)
    else:
        edge.report(decision, "view")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{{os.getpid()}} {{decision.id}} {{decision.reason.value}}".encode()]
"""


@contextlib.contextmanager
def gunicorn(
    folder: Path, store: Path, workers: int
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The app behind a port; what is printed goes to `printed`, its log to `log`."""
    (folder / "shop.py").write_text(APP.format(store=str(store)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(workers)]
    command += ["--bind", f"127.0.0.1:{port}", "--error-logfile", "log", "shop:app"]
    with (folder / "printed").open("w") as printed:
        process = subprocess.Popen(
            command, cwd=folder, stdout=printed, stderr=subprocess.STDOUT, text=True
        )
    try:
        until(lambda: process.poll() is not None or is_open(port), 30)
        yield port, process
    finally:
        process.kill()
        process.wait()


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def ask(port: int, path: str) -> tuple[int, str, str]:
    """Which worker answered, the decision and its reason. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read().decode()
        assert answer.status == 200, said
    finally:
        connection.close()
    worker, decision, reason = said.split()
    return int(worker), decision, reason


def come(visit: Callable[[int], None], visits: int) -> list[threading.Thread]:
    """Four visitors."""
    crowd = [threading.Thread(target=visit, args=(visits,)) for _ in range(4)]
    for visitor in crowd:
        visitor.start()
    return crowd


def outcomes(house: SimulatedHouse) -> Counter[str]:
    """How often each decision was followed by something, by decision."""
    frames = [frame for frame in house.events if frame.kind == FrameKind.OUTCOME]
    return Counter(
        event_pb2.Event.FromString(frame.body).outcome.decision_id.hex() for frame in frames
    )


def test_preloaded_workers_are_one_device_and_lose_nothing_durable(tmp_path: Path) -> None:
    server = SimulatedServer(seed=3)
    server.publish(OFFERS)
    with serve(server) as house:
        house.enrol(tmp_path / "store")
        durable: list[str] = []
        workers: set[int] = set()

        def visit(visits: int) -> None:
            for i in range(visits):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    worker, decision, reason = ask(port, "/durable" if i % 2 else "/")
                    assert reason == "CHOSEN"
                    workers.add(worker)
                    if i % 2:
                        durable.append(decision)

        with gunicorn(tmp_path, tmp_path / "store", workers=3) as (port, process):
            crowd = come(visit, 40)
            until(lambda: len(durable) > 20)
            os.kill(max(workers), signal.SIGKILL)
            booted = tmp_path / "log"
            until(lambda: booted.read_text().count("Booting worker") == 4)
            for visitor in [*crowd, *come(visit, 10)]:
                visitor.join()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert process.pid not in workers
        assert len(workers) > 2
        assert len(durable) > 70
        # The next one who opens the store sends what the last ones could only write down.
        with EdgeClient(tmp_path / "store") as edge:
            assert edge.flush(20) == 0
        found = outcomes(house)
        assert set(durable) <= set(found)
        assert set(found.values()) == {1}
        assert len({epoch for epoch, _ in house.log}) == 1
        for lane in house.log.values():
            assert sorted(lane) == list(range(1, len(lane) + 1))
    assert (tmp_path / "printed").read_text() == ""
