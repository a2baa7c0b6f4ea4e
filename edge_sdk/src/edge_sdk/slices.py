"""Long work on a background thread, cut in slices so that threads that decide are not kept waiting.

The interpreter runs one thread at a time, and a thread that is busy lets another one in only every
few milliseconds: many times what a decision takes. So whatever loops for long calls `rest` on its
way. On a thread that works `in_slices` it sleeps now and then, and whoever waits goes first; on any
other thread it does nothing: nobody waits for what is not there yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SLICE_S: Final = 0.0003
_REST_S: Final = 0.001

_mine = threading.local()


@contextmanager
def in_slices(wanted: bool = True) -> Iterator[None]:
    """What this thread does in here is done in slices; not where it is not wanted."""
    before = getattr(_mine, "since", None)
    _mine.since = time.perf_counter() if wanted else None
    try:
        yield
    finally:
        _mine.since = before


def rest() -> None:
    """Let others go first, where this thread works in slices and has had its share."""
    since = getattr(_mine, "since", None)
    if since is not None and time.perf_counter() - since > _SLICE_S:
        time.sleep(_REST_S)
        _mine.since = time.perf_counter()
