"""Several processes, one device: forks, spawned children, workers killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import Config, Context, EdgeClient, StoreError, _posix
from edge_sdk.outbox.frames import iter_frames
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore
from genome_edge.v1 import event_pb2
from tests.unit.device_town import Town, customer, filled, until

FAST = Config(group_commit_s=0.002, watch_s=0.02)
MOMENT = Context(place="hotel", activity="flight-search")

# A multi-threaded process that forks is warned about on newer interpreters; that it works is what
# is tested here.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


def in_child(work: Callable[[], Any], timeout: float = 20.0) -> Any:
    """What `work` gives in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            answer = {"value": work()}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    deadline = time.monotonic() + timeout
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(read)
            raise AssertionError("the child hangs")
        time.sleep(0.01)
    with os.fdopen(read, "rb") as file:
        found = json.loads(file.read())
    assert "error" not in found, found["error"]
    return found["value"]


def reported(path: Path) -> list[tuple[int, int, str]]:
    """Lane, sequence and kind of everything that a store would send."""
    store = DeviceStore.open(path)
    outbox = Outbox(store)
    found = []
    while (batch := outbox.next_batch()) is not None:
        for frame in iter_frames(batch.frames):
            payload = event_pb2.Event.FromString(frame.body).WhichOneof("payload")
            found.append((batch.lane, frame.sequence, str(payload)))
        outbox.ack(batch, batch.last_sequence, batch.last_sequence, b"log")
    store.close()
    return found


def gapless(events: list[tuple[int, int, str]]) -> bool:
    lanes: dict[int, list[int]] = {}
    for lane, sequence, _ in events:
        lanes.setdefault(lane, []).append(sequence)
    return all(found == list(range(1, len(found) + 1)) for found in lanes.values())


def test_a_forked_child_goes_on_by_itself(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        before = edge.decide(MOMENT, "lobby", customer=customer(1))

        def child() -> dict[str, Any]:
            first = edge.decide(MOMENT, "lobby", customer=customer(1))  # at once, no gap
            edge.wait_ready(10)
            edge.report(first, "click", durable=True)
            edge.report(before.id, "click", durable=True)
            edge.imprint(customer(1), "buy", product="poems")
            edge.flush(0)
            lanes = edge._keeper.open.writer.lanes  # type: ignore[union-attr]
            edge.close()
            return {"offer": first.offer.id if first.offer else None, "used": first.genome_used,
                    "lanes": lanes}  # fmt: skip

        told = in_child(child)
        assert told["offer"] == before.offer.id  # type: ignore[union-attr]
        assert told["used"]
        own = edge._keeper.open.writer.lanes  # type: ignore[union-attr]
        assert not set(told["lanes"]) & set(own)
        # What the child did is known here, without anybody's help.
        until(lambda: "category:book" in (edge.genome(customer(1)) or {}))
        after = edge.decide(MOMENT, "lobby", customer=customer(1))
        edge.report(after, "view", durable=True)
    events = reported(tmp_path / "store")
    kinds = [kind for _, _, kind in events]
    assert (kinds.count("decision"), kinds.count("outcome"), kinds.count("interaction")) == (
        3,
        3,
        1,
    )
    assert gapless(events)


def test_what_a_child_promised_outlives_its_parent_and_itself(tmp_path: Path) -> None:
    """A child that believed itself to hold its parent's locks would go on in a log that the parent
    deletes when it closes, and another process would not see a word of it."""
    filled(tmp_path / "store")
    edge = EdgeClient(tmp_path / "store", config=FAST)
    assert edge.wait_ready(10)
    edge.report(edge.decide(MOMENT, "lobby"), "view", durable=True)
    said, says = os.pipe()
    goes_on, go_on = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for _ in range(2):
                edge.report(edge.decide(MOMENT, "lobby"), "view", durable=True)
                os.write(says, b".")
                os.read(goes_on, 1)
        finally:
            os._exit(1)
    os.set_blocking(said, False)

    def promised() -> bool:
        try:
            return os.read(said, 1) == b"."
        except BlockingIOError:
            return False

    try:
        until(promised)
        edge.close()
        os.write(go_on, b".")
        until(promised)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for end in (said, says, goes_on, go_on):
            os.close(end)
    kinds = [kind for _, _, kind in reported(tmp_path / "store")]
    assert (kinds.count("decision"), kinds.count("outcome")) == (3, 3)


def test_a_child_of_a_process_that_was_writing_decides_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "store")
    monkeypatch.setattr(_posix, "_PAUSE_S", 0.05)
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        writing, written = threading.Event(), threading.Event()

        def work() -> None:
            with _posix.quiet:
                writing.set()
                written.wait(20)

        thread = threading.Thread(target=work)
        thread.start()
        writing.wait(5)

        def child() -> list[str]:
            decision = edge.decide(MOMENT, "lobby")
            with pytest.raises(StoreError, match="start it anew"):
                edge.report(decision, "view", durable=True)
            return [decision.reason.value, str(edge.status.cause)]

        reason, cause = in_child(child)
        written.set()
        thread.join()
        assert reason == "CHOSEN"
        assert "forked while its parent was writing" in cause
        edge.report(edge.decide(MOMENT, "lobby"), "view", durable=True)
        assert edge.status.cause is None
    assert len(reported(tmp_path / "store")) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["store"], "a good file was moved aside"


def test_a_child_that_was_forked_in_the_midst_of_it_leaves_a_lost_file_to_others(
    tmp_path: Path,
) -> None:
    filled(tmp_path / "store")

    def child() -> str:
        with pytest.raises(StoreError, match="start it anew"):
            DeviceStore.open(tmp_path / "store")
        return "refused"

    (tmp_path / "store" / "edge.sqlite").unlink()
    with EdgeClient(bundle=Town().bundle()), _posix.quiet:
        assert in_child(child) == "refused"
    assert [one.name for one in tmp_path.iterdir()] == ["store"]
    DeviceStore.open(tmp_path / "store").close()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_waits_in_the_parents_memory_is_written_once(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    slow = Config(group_commit_s=0.3)
    with EdgeClient(tmp_path / "store", config=slow) as edge:
        edge.wait_ready(10)
        for _ in range(20):
            edge.decide(MOMENT, "lobby")

        def child() -> int:
            edge.decide(MOMENT, "lobby")
            edge.close()
            return 0

        in_child(child)
    assert len(reported(tmp_path / "store")) == 21


def test_forks_under_load_do_not_hang(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    stop = threading.Event()
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)

        def busy() -> None:
            while not stop.is_set():
                decision = edge.decide(MOMENT, "lobby", customer=customer(1))
                edge.report(decision, "view")

        threads = [threading.Thread(target=busy, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()

        def child() -> str:
            decision = edge.decide(MOMENT, "lobby", customer=customer(2))
            edge.report(decision, "click", durable=True)
            edge.close()
            return decision.id

        ids = {in_child(child) for _ in range(8)}
        stop.set()
        for thread in threads:
            thread.join()
    assert len(ids) == 8
    assert gapless(reported(tmp_path / "store"))


def test_a_child_of_a_child_and_one_that_never_uses_it(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        assert in_child(lambda: 7) == 7

        def grandchild() -> str:
            return edge.decide(MOMENT, "lobby").reason.value

        assert in_child(lambda: in_child(grandchild)) == "CHOSEN"
        assert in_child(lambda: (edge.decide(MOMENT, "lobby"), in_child(grandchild))[1]) == "CHOSEN"
        assert edge.decide(MOMENT, "lobby").offer is not None


def test_a_fork_right_after_opening(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:

        def child() -> bool:
            ready = edge.wait_ready(10)
            return ready and edge.decide(MOMENT, "lobby").offer is not None

        assert in_child(child)
        assert edge.wait_ready(10)


def test_a_child_that_ends_takes_nothing_of_a_bundle_client_away(tmp_path: Path) -> None:
    with EdgeClient(bundle=Town().bundle(), config=FAST) as edge:
        assert edge.wait_ready(10)

        def child() -> bool:
            edge.wait_ready(10)
            edge.close()
            return True

        assert in_child(child)
        assert edge._origin.path.exists()
        assert edge.report(edge.decide(MOMENT, "lobby"), "view", durable=True)


def _spawned(path: str, decision: str, answers: Any) -> None:
    with EdgeClient(path, config=FAST) as edge:
        assert edge.wait_ready(20)
        edge.report(decision, "click", durable=True)
        answers.put(edge.decide(MOMENT, "lobby", customer=customer(1)).id)


def test_spawned_children_share_the_device(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        decision = edge.decide(MOMENT, "lobby", customer=customer(1))
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        children = [
            context.Process(target=_spawned, args=(str(tmp_path / "store"), decision.id, answers))
            for _ in range(2)
        ]
        for child in children:
            child.start()
        theirs = [answers.get(timeout=60) for _ in children]
        for child in children:
            child.join()
            assert child.exitcode == 0
        for name in theirs:
            edge.report(name, "view", durable=True)
    events = reported(tmp_path / "store")
    assert [kind for _, _, kind in events].count("outcome") == 4
    assert gapless(events)


def _worked(edge: EdgeClient, answers: Any) -> None:
    decision = edge.decide(MOMENT, "lobby", customer=customer(1))
    edge.report(decision, "click")
    answers.put(decision.id)  # and the child ends without closing anything


def test_children_of_multiprocessing_use_the_client_that_they_inherit(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    slow = Config(group_commit_s=0.3)
    context = multiprocessing.get_context("fork")
    with EdgeClient(tmp_path / "store", config=slow) as edge:
        edge.wait_ready(10)
        answers = context.Queue()
        children = [context.Process(target=_worked, args=(edge, answers)) for _ in range(3)]
        for child in children:
            child.start()
        theirs = {answers.get(timeout=30) for _ in children}
        for child in children:
            child.join(30)
            assert child.exitcode == 0
        assert len(theirs) == 3
        for name in theirs:
            edge.report(name, "view", durable=True)
        answers.close()
        answers.join_thread()
    events = reported(tmp_path / "store")
    kinds = [kind for _, _, kind in events]
    assert (kinds.count("decision"), kinds.count("outcome")) == (3, 6)
    assert gapless(events)


KILLED = """
import sys
from edge_sdk import Context, EdgeClient
with EdgeClient(sys.argv[1]) as edge:
    edge.wait_ready(10)
    while True:
        decision = edge.decide(Context(activity="walk"), "lobby")
        assert edge.redeem(decision)
        print(decision.id, flush=True)
"""


def test_a_killed_worker_loses_nothing_that_it_promised(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    promised = [process.stdout.readline().strip() for _ in range(30)]
    process.kill()
    promised += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.stdout.close()
    process.wait()
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        for name in promised:
            assert not edge.redeem(name), "granted once, for ever"
    events = reported(tmp_path / "store")
    assert [kind for _, _, kind in events].count("outcome") >= len(promised)
    assert gapless(events)


def test_another_process_takes_over_syncing(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        open_ = edge._keeper.open
        assert open_ is not None
        script = (
            "import sys, time; from edge_sdk.store.device import DeviceStore;"
            "lock = DeviceStore.open(sys.argv[1]).elect(); print(lock is not None, flush=True);"
            "time.sleep(60)"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not open_.hold_sync()
        other.kill()
        other.wait()
        other.stdout.close()
        assert open_.hold_sync()
