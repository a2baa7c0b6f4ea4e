"""SyncService: one stream for each device, on which it is kept current.

A stream does one thing at a time: it offers what the device lacks (see `keeper`),
each as one transaction that the device answers; then it sleeps until the bell
rings or a heartbeat is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import Executor
from typing import Any, Final

import grpc

from genome_edge.v1 import sync_pb2
from genome_server.services.auth import caller
from genome_server.services.desk import Desk
from genome_server.services.errors import CallRefusedError
from genome_server.services.framing import encode
from genome_server.services.keeper import Keeper
from genome_server.services.room import Room
from genome_server.services.shipping import Shipping
from genome_server.services.stream import DeviceStream, StreamOverError

NAME: Final = sync_pb2.DESCRIPTOR.services_by_name["SyncService"].full_name
#: Streams that are sent a transaction at once; the others wait in line.
PLACES: Final = 64
TICK_S: Final = 0.1
#: Streams of one device. It needs one, a second while it changes over, and one for a person who
#: looks; the others are those whose line broke without a word. Beyond it the one ends that was
#: silent for longest.
STREAMS: Final = 4


class SyncService:
    """Keeps every device that opens a stream current. `drain` sends all of them away."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._streams: set[DeviceStream] = set()
        # Those of each device that were not ended, by tenant and device.
        self._of: dict[tuple[str, str], tuple[DeviceStream, ...]] = {}
        self._desks: dict[str, tuple[Desk, Shipping]] = {}
        self._line = asyncio.Semaphore(PLACES)
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False
        self._ticking: asyncio.Task[None] | None = None

    def add_to(self, server: Any) -> None:
        """Serve the contract's method; what it sends are messages, or their bytes."""
        handler = grpc.stream_stream_rpc_method_handler(
            self.Sync, sync_pb2.SyncRequest.FromString, encode
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(NAME, {"Sync": handler}),)
        )

    async def Sync(  # noqa: N802
        self,
        request_iterator: Any,  # noqa: ARG002  read from the context, so that it can be timed
        context: Any,
    ) -> None:
        """Keep one device current until it or the server leaves."""
        stream = DeviceStream(caller(), context, self._blocking, self._line)
        stream.draining = self._draining
        self._enter(stream)
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick())
        try:
            with stream.until_ended():
                await stream.live((await self._keeper(stream)).keep)
        except StreamOverError:
            pass
        finally:
            self._leave(stream)

    def _enter(self, stream: DeviceStream) -> None:
        """Count a stream in; where its device has too many, another one ends."""
        self._streams.add(stream)
        self._empty.clear()
        device = (stream.room.name, stream.who.name)
        own = self._of.get(device, ())
        if len(own) >= STREAMS:
            silent = min(own, key=lambda one: one.heard)
            silent.end(CallRefusedError("TOO_MANY_STREAMS", "this device opened other streams"))
            own = tuple(one for one in own if one is not silent)
        self._of[device] = (*own, stream)

    def _leave(self, stream: DeviceStream) -> None:
        """Count a stream out."""
        self._streams.discard(stream)
        if not self._streams:
            self._empty.set()
        device = (stream.room.name, stream.who.name)
        left = tuple(one for one in self._of.pop(device, ()) if one is not stream)
        if left:
            self._of[device] = left

    async def drain(self, timeout_s: float) -> None:
        """Say goodbye on every stream, and wait for their ends, but not for ever."""
        self._draining = True
        for stream in list(self._streams):
            stream.draining = True
            stream.poke()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        if self._ticking is not None:
            self._ticking.cancel()
        for desk, _ in self._desks.values():
            desk.close()

    async def _tick(self) -> None:
        """Let each stream do what is due: one task instead of a timer for each."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for stream in self._streams:
                stream.tick(now)

    async def _keeper(self, stream: DeviceStream) -> Keeper:
        hello = await stream.open()
        keeper = Keeper(stream, hello, *await self._desk(stream.room))
        await keeper.greet()
        return keeper

    async def _desk(self, room: Room) -> tuple[Desk, Shipping]:
        if room.name not in self._desks:
            desk = await self._blocking(Desk, room, self._blocking)
            self._desks.setdefault(room.name, (desk, Shipping(room, self._blocking)))
        return self._desks[room.name]

    async def _blocking(self, function: Any, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, function, *arguments)
