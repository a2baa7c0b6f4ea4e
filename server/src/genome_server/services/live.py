"""What keeps an open tenant going: events become genomes and count, and changes ring the bell.

Four tasks for each tenant. One runs the live consumer whenever the log grew, in a
thread of its own; another looks, several times a second, for what other
processes did to the same files: an import into the log, a release published. The
third writes what devices say of themselves, and the last looks after canaries.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from edge_sdk.slices import in_slices
from genome_server.services.room import Room

WATCH_S = 0.15
#: How often what devices say of themselves is written.
FACTS_S = 0.5
#: How often it is asked whether a canary is due to be looked at, or refused.
CANARIES_S = 5.0
#: The more events of one customer meet in a transaction, the fewer rows are written.
_EVENTS_AT_ONCE = 60_000
_FIRST_RETRY_S = 0.5
_LAST_RETRY_S = 30.0

log = logging.getLogger(__name__)


class Consumer(Protocol):
    """Turns what is new in the log into genomes."""

    def catch_up(self, max_events: int) -> int:
        """Apply at most about `max_events` events; return how many there were, 0 at the end."""

    def close(self) -> None:
        """Let go of its files."""


class WithCounters:
    """The genomes' consumer and beside it another, whose troubles hold up no genome."""

    def __init__(self, genomes: Consumer, counters: Callable[[], Consumer], tenant: str) -> None:
        self._genomes = genomes
        self._make = counters
        self._counters: Consumer | None = None
        self._tenant = tenant
        self._retry_at = 0.0

    def catch_up(self, max_events: int) -> int:
        """First the genomes, which the others follow."""
        applied = self._genomes.catch_up(max_events)
        if time.monotonic() < self._retry_at:
            return applied
        try:
            if self._counters is None:
                self._counters = self._make()
            return self._counters.catch_up(max_events) or applied
        except Exception:
            # As with genomes: the log is the truth, and nothing is lost meanwhile.
            log.exception("tenant %s: what counts for caps is not kept current", self._tenant)
            self._retry_at = time.monotonic() + _LAST_RETRY_S
            return applied

    def close(self) -> None:
        """Let go of the files of both."""
        self._genomes.close()
        if self._counters is not None:
            self._counters.close()


class Live:
    """The tasks of one room."""

    def __init__(self, room: Room, pool: Executor, consumer: Callable[[], Consumer]) -> None:
        self._room = room
        self._pool = pool
        self._make = consumer
        self._consumer: Consumer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"live-{room.name}")
        self._grown = asyncio.Event()
        self._grown.set()
        # Two looks at once would each find half of the news.
        self._looking = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the tasks on the running loop."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._grown.set)

        self._room.on_commit(wake)
        self._tasks = [
            loop.create_task(work())
            for work in (self._consume, self._watch, self._keep_facts, self._keep_canaries)
        ]

    async def stop(self) -> None:
        """Stop the tasks; what the consumer is doing is finished first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._room.on_commit(lambda: None)
        if self._consumer is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._consumer.close)
        await asyncio.to_thread(self._thread.shutdown)

    async def _consume(self) -> None:
        retry_s, unseen = _FIRST_RETRY_S, False
        while True:
            self._grown.clear()
            try:
                applied = await self._catch_up()
                if applied or unseen:
                    unseen = True
                    await self._look(self._room.unsettled)
                    unseen = False
                retry_s = _FIRST_RETRY_S
            except Exception:
                # The log is the truth: nothing is lost while this does not work.
                log.exception("tenant %s: the log cannot be turned into genomes", self._room.name)
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _LAST_RETRY_S)
                self._grown.set()
                continue
            if not applied:
                await self._grown.wait()

    async def _catch_up(self) -> int:
        loop = asyncio.get_running_loop()
        if self._consumer is None:
            self._consumer = await loop.run_in_executor(self._thread, self._make)
        return await loop.run_in_executor(self._thread, self._consumer.catch_up, _EVENTS_AT_ONCE)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        end, wait_s = -1, WATCH_S
        while True:
            try:
                await self._look()
                wait_s = WATCH_S
                now = await loop.run_in_executor(self._pool, self._room.reader.end)
                if now != end:
                    end = now
                    self._grown.set()
            except Exception:
                log.exception("tenant %s: its files cannot be read", self._room.name)
                wait_s = min(wait_s * 2, _LAST_RETRY_S)
            await asyncio.sleep(wait_s)

    async def _keep_facts(self) -> None:
        while True:
            await asyncio.sleep(FACTS_S)
            try:
                await asyncio.get_running_loop().run_in_executor(self._pool, self._room.facts.flush)
            except Exception:
                log.exception("tenant %s: what devices say cannot be kept", self._room.name)

    async def _keep_canaries(self) -> None:
        wait_s = CANARIES_S
        while True:
            await asyncio.sleep(wait_s)
            try:
                await asyncio.get_running_loop().run_in_executor(self._pool, self._canaries)
                wait_s = CANARIES_S
            except Exception:
                log.exception("tenant %s: its canaries cannot be looked at", self._room.name)
                wait_s = min(wait_s * 2, _LAST_RETRY_S)

    def _canaries(self) -> None:
        from genome_server.canary.watch import tick  # the statistics come with it

        with in_slices():
            tick(self._room.tenant, time.time_ns() // 1_000_000)

    async def _look(self, concerned: Iterable[str] = ()) -> None:
        loop = asyncio.get_running_loop()
        async with self._looking:
            news = await loop.run_in_executor(self._pool, self._room.look)
        self._room.bell.ring(replace(news, devices=frozenset(concerned)))
