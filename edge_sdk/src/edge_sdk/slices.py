"""Long work on a background thread, cut in slices so that threads that decide are not kept waiting.

The interpreter runs one thread at a time, and a thread that is busy lets another one in only every
few milliseconds: many times what a decision takes. So whatever loops for long calls `rest` on its
way. On a thread that works `in_slices` it sleeps now and then, and whoever waits goes first; on any
other thread it does nothing: nobody waits for what is not there yet.

A rest lasts longer than a decision, which lets others in at each of its sums: else one and the same
decision would wait for many slices.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SLICE_S: Final = 0.0003
_REST_S: Final = 0.001


class _Mine(threading.local):
    """Of the current thread: when its slice ends (None: it does not work in slices), and how long
    slices and rests are."""

    until: float | None = None
    slice_s = _SLICE_S
    rest_s = _REST_S


_mine = _Mine()


@contextmanager
def in_slices(
    wanted: bool = True, slice_s: float = _SLICE_S, rest_s: float = _REST_S
) -> Iterator[None]:
    """What this thread does in here is done in slices; not where it is not wanted."""
    before = _mine.until, _mine.slice_s, _mine.rest_s
    _mine.until = time.perf_counter() + slice_s if wanted else None
    _mine.slice_s, _mine.rest_s = slice_s, rest_s
    try:
        yield
    finally:
        _mine.until, _mine.slice_s, _mine.rest_s = before


def rest() -> None:
    """Let others go first, where this thread works in slices and has had its share."""
    until = _mine.until
    if until is not None and time.perf_counter() > until:
        time.sleep(_mine.rest_s)
        _mine.until = time.perf_counter() + _mine.slice_s
