"""One of several processes syncs; whichever dies, nothing that was promised is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.enrolment import enrol
from genome_edge.v1 import event_pb2
from tests.unit.contract_server import CODE, ContractServer, until
from tests.unit.devices import FAST, running

WORKER = """
import sys, time
from edge_sdk import Config, EdgeClient
store, name = sys.argv[1:]
config = Config(election_s=0.2, watch_s=0.02, reconnect_min_s=0.02, reconnect_max_s=0.2)
with EdgeClient(store, config=config) as edge:
    number = 0
    while True:
        word = edge.imprint(None, "view", product="soap", interaction_id=f"{name}-{number}")
        assert edge._keeper.when_open(5).writer.flush(5)
        print(word, edge.status.connected, flush=True)
        number += 1
        time.sleep(0.002)
"""


class Worker:
    """A process that reports, and what it was promised."""

    def __init__(self, store: Path, name: str) -> None:
        self.promised: list[str] = []
        self.connected = False
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(store), name], stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                word, connected = line.split()
                self.promised.append(word)
                self.connected = connected == "True"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def arrived(house: ContractServer) -> Counter[str]:
    return Counter(event_pb2.Event.FromString(b).interaction.interaction_id for b in house.events())


def test_the_elected_is_killed_and_another_takes_over(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with running() as house:
        store = DeviceStore.open(path)
        enrol(house.address, CODE, store, "lobby", FAST)
        store.close()
        workers = [Worker(path, f"w{n}") for n in range(3)]
        promised: list[str] = []
        try:
            for _ in range(2):
                until(lambda: any(w.connected for w in workers), "somebody is connected", 20)
                elected = next(w for w in workers if w.connected)
                assert sum(w.connected for w in workers) == 1
                elected.kill()
                workers.remove(elected)
                promised += elected.promised
                began = time.monotonic()
                until(lambda: any(w.connected for w in workers), "another takes over", 20)
                assert time.monotonic() - began < 10
            until(lambda: len(workers[0].promised) > 300, "work goes on", 30)
        finally:
            for worker in workers:
                worker.kill()
                promised += worker.promised
        # The last one was killed, too: what it left is for whoever comes.
        after = Worker(path, "after")
        try:
            until(lambda: set(promised) <= arrived(house).keys(), "everything arrives", 30)
        finally:
            after.kill()
        assert len(promised) > 300
        assert set(arrived(house).values()) == {1}


PRELOADED = """
import os, sys, time
from edge_sdk import Config, EdgeClient
edge = EdgeClient(sys.argv[1], config=Config(reconnect_min_s=0.02, reconnect_max_s=0.2))
deadline = time.monotonic() + 20
while not edge.status.connected:
    assert time.monotonic() < deadline
    time.sleep(0.01)
for number in range(8):
    edge.imprint(None, "view", product="soap", interaction_id=f"parent-{number}")
    pid = os.fork()
    if pid == 0:
        edge.imprint(None, "view", product="soap", interaction_id=f"child-{number}")
        edge.flush(0)
        if number == 7:  # the parent ends meanwhile
            deadline = time.monotonic() + 20
            while not edge.status.connected:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            edge.imprint(None, "view", product="soap", interaction_id="last")
            assert edge.flush(10) == 0
        sys.exit(0)
    if number < 7:
        assert os.waitpid(pid, 0)[1] == 0, "a child failed"
assert edge.flush(10) == 0
edge.close()
assert os.waitpid(pid, 0)[1] == 0, "the heir failed"
"""


def test_children_of_a_process_that_syncs_need_no_help(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with running() as house:
        store = DeviceStore.open(path)
        enrol(house.address, CODE, store, "lobby", FAST)
        store.close()
        done = subprocess.run(
            [sys.executable, "-c", PRELOADED, str(path)],
            capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr
        said = {f"{who}-{n}" for who in ("parent", "child") for n in range(8)} | {"last"}
        assert arrived(house) == Counter(said)


DRAINED = """
import signal, sys, time
from edge_sdk import EdgeClient
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
edge = EdgeClient(sys.argv[1])
edge.flush(0)
for number in range(2_000):
    edge.imprint(None, "view", product="soap", interaction_id=f"{number}")
print("said", flush=True)
while True:  # a signal may reach another thread and not end the sleep of this one
    time.sleep(0.05)
"""


def test_who_is_told_to_end_writes_what_it_has(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRAINED, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "said\n"
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    store = DeviceStore.open(tmp_path / "store")
    with store.read() as connection:
        assert connection.execute("SELECT sum(next - 1) FROM lanes").fetchone() == (2_000,)
    store.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_needs_no_help_either(tmp_path: Path, method: str) -> None:
    script = f"""
import multiprocessing, sys
from edge_sdk import EdgeClient

def work(edge, number):
    if edge is None:
        edge = EdgeClient(sys.argv[1])
    edge.imprint(None, "view", product="soap", interaction_id=f"child-{{number}}")

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with EdgeClient(sys.argv[1]) as edge:
        edge.imprint(None, "view", product="soap")
        mine = edge if {method!r} == "fork" else None
        children = [context.Process(target=work, args=(mine, n)) for n in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
"""
    (tmp_path / "app.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "app.py"), str(tmp_path / "store")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    store = DeviceStore.open(tmp_path / "store")
    with store.read() as connection:
        assert connection.execute("SELECT sum(next - 1) FROM lanes").fetchone() == (4,)
    store.close()
