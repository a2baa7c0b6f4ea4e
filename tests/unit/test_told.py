"""A command that runs for ever ends when it is told to, whichever thread the signal reaches."""

from __future__ import annotations

import signal
import threading

from edge_sdk.cli.told import Told


def test_a_signal_to_another_thread_ends_it_too() -> None:
    with Told() as told:
        ready, done = threading.Event(), threading.Event()

        def other() -> None:
            ready.set()
            done.wait(30)

        thread = threading.Thread(target=other)
        thread.start()
        ready.wait(30)
        signal.pthread_kill(thread.ident or 0, signal.SIGTERM)
        assert told.wait()
        done.set()
        thread.join()


def test_who_is_woken_is_not_told_to_end() -> None:
    with Told() as told:
        thread = threading.Thread(target=told.wake)
        thread.start()
        assert not told.wait()
        thread.join()
        for _ in range(100_000):  # more than its socket holds
            told.wake()
        signal.raise_signal(signal.SIGINT)
        assert told.wait()
    told.wake()  # nobody waits any more


def test_what_was_there_before_is_there_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Told():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1
