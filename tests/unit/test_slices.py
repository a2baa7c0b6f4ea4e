"""Long work in slices: it sleeps where that was asked for, and nowhere else."""

from __future__ import annotations

import threading
import time

from edge_sdk.slices import in_slices, rest


def busy(seconds: float) -> None:
    """Work, calling `rest` all the time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        rest()


def test_a_thread_sleeps_in_slices_only() -> None:
    slept: list[float] = []

    def work(wanted: bool) -> None:
        began, used = time.perf_counter(), time.thread_time()
        with in_slices(wanted):
            busy(0.01)
        slept.append((time.perf_counter() - began) - (time.thread_time() - used))

    thread = threading.Thread(target=work, args=(True,))
    thread.start()
    thread.join()
    # Ten milliseconds of work are some thirty slices, with a rest of a millisecond after each.
    assert slept[0] > 0.015


def test_what_is_inside_ends_with_it() -> None:
    with in_slices():
        with in_slices(False):
            began = time.perf_counter()
            for _ in range(1000):
                rest()
            assert time.perf_counter() - began < 0.5
        time.sleep(0.001)
        began = time.perf_counter()
        rest()
        assert time.perf_counter() - began >= 0.001
