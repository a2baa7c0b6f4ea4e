"""SyncService: one stream for each device, on which it is kept current.

A stream does one thing at a time: it offers the newest release, then what the
genomes lack, each as one transaction that the device answers; then it sleeps until
the bell rings, the device says something, or a heartbeat is due. What a device
lacks is worked out when it is ready for it, so a slow device costs no memory and
gets the newest state, not a backlog.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Generator
from concurrent.futures import Executor
from typing import Any

from genome_edge.v1 import release_pb2, sync_pb2, sync_pb2_grpc
from genome_server.services.auth import Authenticator, caller
from genome_server.services.shelf import Shelved
from genome_server.services.stream import DeviceStream, StreamOverError
from genome_server.services.sync_plan import GenomePlan, plan_genomes

#: After a refusal of genomes, before all rows are offered again.
RETRY_S = 30.0
#: Marks that come without a row concern events that changed none: nobody waits for them.
MARKS_S = 15.0

log = logging.getLogger(__name__)


class SyncService(sync_pb2_grpc.SyncServiceServicer):
    """Keeps every device that opens a stream current. `drain` sends all of them away."""

    def __init__(self, authenticator: Authenticator, pool: Executor) -> None:
        self._authenticator = authenticator
        self._pool = pool
        self._streams: set[DeviceStream] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False

    async def Sync(  # noqa: N802
        self,
        request_iterator: Any,  # noqa: ARG002  read from the context, so that it can be timed
        context: Any,
    ) -> None:
        """Keep one device current until it or the server leaves."""
        stream = DeviceStream(caller(), context, self._authenticator, self._pool)
        stream.draining = self._draining
        self._streams.add(stream)
        self._empty.clear()
        try:
            await stream.open()
            await _Keeper(stream).keep()
        except StreamOverError:
            pass
        finally:
            self._streams.discard(stream)
            if not self._streams:
                self._empty.set()
            await stream.close()

    async def drain(self, timeout_s: float) -> None:
        """Say goodbye on every stream, and wait for their ends, but not for ever."""
        self._draining = True
        for stream in self._streams:
            stream.draining = True
            stream.wake.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)


class _Keeper:
    """Decides what one device is offered next."""

    def __init__(self, stream: DeviceStream) -> None:
        self._stream = stream
        self._room = stream.room
        self._device = stream.who.name
        hello = stream.hello
        self._held = set(hello.held_parts)
        self._release = hello.active_release
        self._refused_release = 0
        self._cursor = hello.genome_cursor
        # What the room looked like when the genomes were last worked out.
        self._planned: tuple[int, int] | None = None
        # How many reports of this device are known to be in its marks.
        self._settled = -1
        self._retry_at = 0.0
        self._marks_at = 0.0

    async def keep(self) -> None:
        """Keep the device current. Ends with StreamOverError or CREDENTIAL_REVOKED."""
        stream = self._stream
        offered = True
        while True:
            stream.wake.clear()
            await stream.check()
            if await self._offer_release() or await self._offer_genomes():
                offered = True
                continue
            if offered:
                offered = False
                await stream.beat()
            await stream.pause(self._next_look())

    # Releases

    async def _offer_release(self) -> bool:
        """Offer the newest release where the device lacks it; True where it was offered."""
        stream = self._stream
        newest = await stream.blocking(self._room.shelf.release_for, self._device)
        if newest is None or not self._lacks(newest):
            return False
        if not await self._may_have(newest):
            self._refused_release = newest.version
            return False
        nonce = await stream.begin(
            sync_pb2.Begin(
                kind=sync_pb2.Begin.KIND_RELEASE,
                manifest=newest.signed,
                lineage=newest.manifest.lineage,
            )
        )
        for part in newest.needed:
            if part.sha256 not in self._held and not stream.refused(nonce):
                await self._send_part(nonce, part)
        nack = await stream.commit(sync_pb2.Commit(nonce=nonce))
        if nack is None:
            self._release = newest.version
            await stream.note(release=newest.version, held_back="", last_nack="")
        else:
            self._refused_release = newest.version
            await stream.note(held_back=f"release {newest.version}: refused, {nack.reason}")
        return True

    def _lacks(self, newest: Shelved) -> bool:
        return (
            newest.version > max(self._release, self._refused_release)
            and newest.version >= self._stream.hello.highest_release
        )

    async def _may_have(self, newest: Shelved) -> bool:
        manifest = newest.manifest
        if manifest.expires_ms <= time.time_ns() // 1_000_000:
            why = "it has expired"
        elif missing := set(manifest.required_features) - set(self._stream.hello.features):
            why = f"it needs {', '.join(sorted(missing))}"
        elif not await self._stream.blocking(self._room.shelf.whole, newest):
            why = "a part of it is missing on the server"
        else:
            return True
        log.warning("device %s does not get release %d: %s", self._device, newest.version, why)
        await self._stream.note(held_back=f"release {newest.version}: {why}")
        return False

    async def _send_part(self, nonce: int, part: release_pb2.Part) -> None:
        stream = self._stream
        chunks = self._room.shelf.chunks(part)
        try:
            while (chunk := await stream.blocking(_next, chunks)) is not None:
                offset, data = chunk
                message = sync_pb2.Chunk(nonce=nonce, sha256=part.sha256, offset=offset, data=data)
                await stream.write(sync_pb2.SyncResponse(chunk=message))
                if stream.refused(nonce):
                    return
        finally:
            await stream.blocking(chunks.close)
        self._held.add(part.sha256)

    # Genomes

    async def _offer_genomes(self) -> bool:
        """Offer what the device's genomes lack; True where something was offered."""
        if not self._stream.hello.wants_genomes or not self._news():
            return False
        held = await self._stream.blocking(self._room.shelf.get, self._release)
        if held is None:  # rows are of no use without the release that they are read with
            return False
        # Taken before the plan: what changes while it is made is news again.
        seen = (self._room.stamp, self._room.release_version)
        reports = self._room.reports[self._device]
        settled, plan = await self._stream.blocking(self._plan, held)
        if plan is not None and plan.marks_only and time.monotonic() < self._marks_at:
            self._planned = seen
            return False
        if plan is not None:
            if await self._send_genomes(plan) is not None:
                # All rows put right whatever was wrong; but not at once, and not for ever.
                self._planned, self._cursor = None, b""
                self._retry_at = time.monotonic() + RETRY_S
                return True
            self._cursor = plan.cursor
        self._planned = seen
        if settled:
            self._settled = reports
        self._marks_at = time.monotonic() + MARKS_S
        return plan is not None

    def _news(self) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        if self._planned != (self._room.stamp, self._room.release_version):
            return True
        return self._unsettled() and time.monotonic() >= self._marks_at

    def _unsettled(self) -> bool:
        return self._settled != self._room.reports[self._device]

    def _next_look(self) -> float | None:
        """When to look again though nothing rang: monotonic seconds, None for never."""
        if time.monotonic() < self._retry_at:
            return self._retry_at
        return self._marks_at if self._unsettled() else None

    def _plan(self, held: Shelved) -> tuple[bool, GenomePlan | None]:
        """Say whether all that this device reported is in the genomes, and what it lacks."""
        room = self._room
        applied = {(e, lane): upto for e, lane, upto in room.store.applied_marks(self._device)}
        settled = all(
            applied.get((epoch, lane), 0) >= through
            for epoch, lane, through in room.reader.device_lanes(self._device)
        )
        lineage = held.manifest.lineage
        plan = plan_genomes(room, self._stream.who.audience, self._device, lineage, self._cursor)
        return settled, plan

    async def _send_genomes(self, plan: GenomePlan) -> sync_pb2.Nack | None:
        stream = self._stream
        nonce = await stream.begin(
            sync_pb2.Begin(
                kind=sync_pb2.Begin.KIND_GENOMES,
                full=plan.full,
                lineage=plan.lineage,
                rows=plan.rows,
                lookup_key=plan.lookup_key,
            )
        )
        for put in plan.puts(nonce):
            if not stream.refused(nonce):
                await stream.write(sync_pb2.SyncResponse(put=put))
        for subject, reason in plan.deletes:
            delete = sync_pb2.Delete(
                nonce=nonce, subject=subject, reason=sync_pb2.Delete.Reason.Name(reason)
            )
            await stream.write(sync_pb2.SyncResponse(delete=delete))
        included = [
            sync_pb2.LaneMark(epoch=epoch, lane=lane, sequence=sequence)
            for epoch, lane, sequence in plan.marks
        ]
        return await stream.commit(
            sync_pb2.Commit(
                nonce=nonce,
                genome_cursor=plan.cursor,
                included=included,
                total_rows=plan.total_rows,
            )
        )


def _next(chunks: Generator[tuple[int, bytes], None, None]) -> tuple[int, bytes] | None:
    return next(chunks, None)
