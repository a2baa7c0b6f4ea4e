"""The last one is taken once: in all threads and processes of a store, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import EdgeClient
from edge_sdk.decision import Reason
from edge_sdk.runtime import claiming
from tests.unit.device_client import FAST, MOMENT, shown
from tests.unit.device_town import Town, customer, filled, until

ROOT = Path(__file__).parents[2]
LIMIT = 60
ANN, BOB = bytes([1]) * 16, bytes([2]) * 16
BOOT = bytes(range(16))
CAPPED = (
    {"id": "taxi", "value": 9.0, "caps": [{"limit": LIMIT, "scope": "device"}]},
    {"id": "train", "value": 1.0},
)
# Decides in threads until everything is gone, and tells what it showed.
WORKER = """
import json, sys, threading, time
from collections import Counter
from pathlib import Path
from edge_sdk import Config, EdgeClient
from tests.unit.device_client import FAST, MOMENT
from edge_sdk.runtime import claiming
from tests.unit.device_town import customer

claiming._PATIENCE_S = 20.0  # whatever else this machine does: each has its turn
store, placement, go, threads, decisions, *stay = sys.argv[1:]
shown = Counter()
edge = EdgeClient(store, config=FAST)
assert edge.wait_ready(60)
edge.flush(0)
print("ready", flush=True)
while not Path(go).exists():
    time.sleep(0.001)

def work(number):
    for turn in range(int(decisions)):
        made = edge.decide(MOMENT, placement, customer=customer(turn % 3))
        shown[made.offer.id if made.offer else made.reason.value] += 1

workers = [threading.Thread(target=work, args=(n,)) for n in range(int(threads))]
for one in workers: one.start()
for one in workers: one.join()
print(json.dumps(shown), flush=True)
if stay:
    time.sleep(60)
edge.close()
"""


def begin(*arguments: object) -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    )


def told(process: Any) -> str:
    line = process.stdout.readline()
    assert line, process.wait()
    return str(line)


@pytest.mark.parametrize("placement", ["lobby", "feed"])
def test_four_processes_with_threads_take_as_many_as_there_are(
    tmp_path: Path, placement: str
) -> None:
    store, go = tmp_path / "store", tmp_path / "go"
    filled(store, Town(offers=CAPPED))
    processes = [begin(store, placement, go, 3, 20) for _ in range(4)]
    try:
        for process in processes:
            assert told(process) == "ready\n"
        go.touch()
        total: Counter[str] = Counter()
        for process in processes:
            total += Counter(json.loads(told(process)))
            assert process.wait(60) == 0
    finally:
        for process in processes:
            process.kill()
            process.stdout.close()
    assert total == {"taxi": LIMIT, "train": 4 * 3 * 20 - LIMIT}
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        assert shown(edge, placement, customer=customer(1)) == "train", "also afterwards"
        rows = {row.claim for row in edge._desk.room.ledger.rows()}
        assert len(rows) == (LIMIT if placement == "lobby" else 0)


def test_threads_of_one_client_take_the_last_one_once(tmp_path: Path) -> None:
    one = ({"id": "last", "value": 9.0, "caps": [{"limit": 1, "scope": "device"}]}, CAPPED[1])
    filled(tmp_path / "store", Town(offers=one))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        found: Counter[str] = Counter()
        start = threading.Barrier(8)

        def work() -> None:
            start.wait()
            found[shown(edge, "lobby")] += 1

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert found == {"last": 1, "train": 7}


def test_forked_children_count_from_their_first_decision_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "_PATIENCE_S", 20.0)
    filled(tmp_path / "store", Town(offers=CAPPED))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        assert shown(edge, "lobby") == "taxi"
        children = []
        for number in range(3):
            child = os.fork()
            if not child:
                taken = [shown(edge, "lobby") for _ in range(30)].count("taxi")
                (tmp_path / str(number)).write_text(str(taken))
                os._exit(0)
            children.append(child)
        mine = [shown(edge, "lobby") for _ in range(30)].count("taxi")
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        theirs = [int((tmp_path / str(number)).read_text()) for number in range(3)]
        assert 1 + mine + sum(theirs) == LIMIT


def test_what_a_killed_process_took_stays_taken(tmp_path: Path) -> None:
    store, go = tmp_path / "store", tmp_path / "go"
    filled(store, Town(offers=CAPPED))
    go.touch()
    process = begin(store, "lobby", go, 1, LIMIT, "stay")
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        try:
            assert told(process) == "ready\n"
            assert json.loads(told(process)) == {"taxi": LIMIT}
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        finally:
            process.kill()
            process.stdout.close()
        assert shown(edge, "lobby") == "train"
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        assert shown(edge, "lobby") == "train"


def test_whoever_is_killed_in_its_turn_keeps_nobody_waiting(tmp_path: Path) -> None:
    holder = "import sys, time\nfrom pathlib import Path\nfrom edge_sdk._posix import Turns\n" + (
        "t = Turns(Path(sys.argv[1]))\nassert t.take(1)\nprint('mine', flush=True)\ntime.sleep(60)"
    )
    filled(tmp_path / "store", Town(offers=CAPPED))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        assert shown(edge, "lobby") == "taxi"
        file = tmp_path / "store" / "locks" / "claims"
        process = subprocess.Popen(
            [sys.executable, "-c", holder, str(file)], stdout=subprocess.PIPE, text=True
        )
        assert told(process) == "mine\n"
        began = time.monotonic()
        assert shown(edge, "lobby") == "train", "what is limited is not shown meanwhile"
        assert time.monotonic() - began < 2
        process.kill()
        process.wait(10)
        process.stdout.close()  # type: ignore[union-attr]
        assert shown(edge, "lobby") == "taxi"


def test_a_view_is_held_until_it_lapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = ({**CAPPED[0], "caps": [{"limit": 2, "window_hours": 24}]}, CAPPED[1])
    filled(tmp_path / "store", Town(offers=two))
    monkeypatch.setattr(claiming, "HOLD_MS", 300)
    with (
        EdgeClient(tmp_path / "store", config=FAST) as edge,
        EdgeClient(tmp_path / "store", config=FAST) as other,
    ):
        assert edge.wait_ready(10)
        assert other.wait_ready(10)
        first = edge.decide(MOMENT, "feed", customer=customer(1))
        assert first.offer is not None
        assert shown(other, "feed", customer=customer(1)) == "taxi"
        assert shown(edge, "feed", customer=customer(1)) == "train", "both are held"
        assert shown(edge, "feed", customer=customer(2)) == "taxi"
        other.report(first.id, "view")
        other.report(first.id, "view")
        until(lambda: shown(edge, "feed", customer=customer(1)) == "taxi", 5)
        time.sleep(0.4)
        assert shown(edge, "feed", customer=customer(1)) == "taxi", "one was viewed, one lapsed"
        last = edge.decide(MOMENT, "feed", customer=customer(1))
        assert last.reason is not Reason.CAPPED
        edge.report(last, "view")


def test_two_of_a_campaign_in_one_decision_are_two(tmp_path: Path) -> None:
    cap = [{"limit": 1, "over": "campaign"}]
    ride = {"campaign": "rides", "caps": cap}
    offers = (
        {"id": "taxi", "value": 9.0, **ride},
        {"id": "bus", "value": 8.0, **ride},
        {"id": "tram", "value": 7.0, **ride},
        {"id": "book", "value": 1.0},
    )
    filled(tmp_path / "store", Town(offers=offers))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        decision = edge.decide(MOMENT, "lobby", 3, customer=customer(1))
        assert [slot.offer.id if slot.offer else slot.reason for slot in decision.slots] == [
            "taxi", "book", Reason.NO_MORE,
        ]  # fmt: skip
        losers = {one.offer: one.reasons for one in decision.explain().losers}
        assert losers["bus"] == losers["tram"] == (Reason.CAPPED,)
        assert edge.decide(MOMENT, "lobby", 3, customer=customer(1)).offer.id == "book"  # type: ignore[union-attr]
