"""How what another thread finished comes back to the event loop: many at a time.

A commit finishes a whole group of calls at once. To wake the loop for each of them costs a
system call and a fight for the interpreter each time; here one wake brings all that came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any


class Landing:
    """Awaits futures of other threads, for one event loop."""

    def __init__(self) -> None:
        self._landed: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._woken = False

    async def bring(self, future: Future[Any]) -> Any:
        """Return its result or raise its error. Cancelled, it cancels what has not begun."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Any] = loop.create_future()

        def done(finished: Future[Any]) -> None:
            self._landed.append((waiting, finished))
            # Whoever finds it set came before the loop looks: it is cleared before that.
            if not self._woken and not loop.is_closed():
                self._woken = True
                loop.call_soon_threadsafe(self._land)

        future.add_done_callback(done)
        try:
            return await waiting
        except asyncio.CancelledError:
            future.cancel()
            raise

    def _land(self) -> None:
        self._woken = False
        while self._landed:
            waiting, finished = self._landed.popleft()
            if waiting.done():
                continue
            if finished.cancelled():
                waiting.cancel()
            elif (error := finished.exception()) is not None:
                waiting.set_exception(error)
            else:
                waiting.set_result(finished.result())
