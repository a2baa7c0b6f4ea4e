"""Being told to end: what a command that runs for ever waits for.

The system may hand a signal to any thread, and Python's handlers run in the main one only: a main
thread blocked in a lock or a sleep would not notice. The number of the signal is therefore written
to a socket by the interpreter itself, in whichever thread it arrives, and read here.
"""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_WAKE = b"\0"
"""No signal has the number 0."""


class Told:
    """SIGINT and SIGTERM, while the `with` block lasts. Of the main thread, `wake` of any."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._ended = False

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._end) for number in _SIGNALS]
        self._fd = signal.set_wakeup_fd(self._ours.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._fd)
        for number, handler in zip(_SIGNALS, self._before, strict=True):
            signal.signal(number, handler)
        self._ours.close()
        self._theirs.close()

    def wake(self) -> None:
        """Let `wait` return, from any thread."""
        with suppress(OSError):  # full: it wakes anyway; closed: nobody waits any more
            self._ours.send(_WAKE)

    def wait(self) -> bool:
        """Until told to end (True), or woken (False)."""
        read = self._theirs.recv(1 << 16)
        return self._ended or any(number in _SIGNALS for number in read)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ended = True  # where the socket was too full for the number
