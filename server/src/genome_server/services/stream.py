"""One device's sync stream: what it says, what is said to it, and when it ends.

Nothing is queued for a device; a message is written when the one before it has left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from genome_edge.v1 import sync_pb2
from genome_server.services.auth import Authenticator, Caller, come_back_ms
from genome_server.services.errors import CallRefusedError

HEARTBEAT_S = 15.0
#: A device from which nothing was heard for this long is gone.
SILENCE_S = 150.0
HELLO_S = 20.0
WRITE_S = 60.0
#: A device loads a release and tries its golden vectors before it answers.
ANSWER_S = 300.0

_MAX_REASONS = 64
_MAX_WORD = 64
_MAX_TEXT = 200

log = logging.getLogger(__name__)


class StreamOverError(Exception):
    """The stream is at its end; nothing is wrong."""


class DeviceStream:
    """The stream of one device. Lives on the event loop; `blocking` reaches the pool.

    `wake` is set when the device says something that matters, when the bell rings,
    and when the server drains. Clear it, look at everything, then `pause`.
    """

    def __init__(
        self, who: Caller, context: Any, authenticator: Authenticator, pool: Executor
    ) -> None:
        self.who = who
        self.room = who.room
        self.wake = asyncio.Event()
        self.hello = sync_pb2.Hello()
        #: Set from outside: say goodbye and end.
        self.draining = False
        self._context = context
        self._authenticator = authenticator
        self._pool = pool
        self._over = False
        self._heard = time.monotonic()
        self._beat_due = 0.0
        self._nonce = 0
        self._answer: sync_pb2.Ack | sync_pb2.Nack | None = None
        self._status: dict[str, Any] = {}
        self._listener: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take the Hello, start listening, and say what time it is.

        Raises INVALID_ARGUMENT where the stream does not begin with a Hello.
        """
        try:
            first = await asyncio.wait_for(self._context.read(), HELLO_S)
        except TimeoutError:
            first = None
        if not isinstance(first, sync_pb2.SyncRequest) or not first.HasField("hello"):
            raise CallRefusedError("INVALID_ARGUMENT", "a stream begins with Hello")
        self.hello = first.hello
        if len(self.hello.epoch) != 16:
            raise CallRefusedError("INVALID_ARGUMENT", "an epoch is 16 bytes", field="epoch")
        await self.note(
            release=self.hello.active_release,
            sdk=self.hello.sdk_version[:_MAX_WORD],
            features=sorted(name[:_MAX_WORD] for name in self.hello.features[:_MAX_REASONS]),
        )
        self._listener = asyncio.create_task(self._listen())
        self.room.bell.subscribe(self.wake)
        # Before anything that expires: the device may not know the time.
        await self.beat()

    async def close(self) -> None:
        """Stop listening."""
        self.room.bell.unsubscribe(self.wake)
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    async def check(self) -> None:
        """End the stream where it has to end: hung up, silent, revoked, or the server leaves.

        Raises StreamOverError or CREDENTIAL_REVOKED.
        """
        if self._over or time.monotonic() - self._heard > SILENCE_S:
            raise StreamOverError
        if self.draining:
            goodbye = sync_pb2.Goodbye(retry_after_ms=come_back_ms())
            await self.write(sync_pb2.SyncResponse(goodbye=goodbye))
            raise StreamOverError
        await self.blocking(self._authenticator.check_standing, self.who)

    async def pause(self, until: float | None = None) -> None:
        """Sleep until `wake`, a heartbeat (which is sent) or the monotonic time `until`."""
        due = self._beat_due if until is None else min(self._beat_due, until)
        try:
            await asyncio.wait_for(self.wake.wait(), max(due - time.monotonic(), 0.0))
        except TimeoutError:
            if time.monotonic() >= self._beat_due:
                await self.beat()

    async def begin(self, begin: sync_pb2.Begin) -> int:
        """Open a transaction; returns its nonce."""
        self._nonce += 1
        begin.nonce = self._nonce
        self._answer = None
        await self.write(sync_pb2.SyncResponse(begin=begin))
        return self._nonce

    def refused(self, nonce: int) -> bool:
        """Say whether the device has already refused this transaction."""
        return isinstance(self._answer, sync_pb2.Nack) and self._answer.nonce == nonce

    async def commit(self, commit: sync_pb2.Commit) -> sync_pb2.Nack | None:
        """End a transaction and wait for the device's answer: None for Ack, or the Nack."""
        await self.write(sync_pb2.SyncResponse(commit=commit))
        deadline = time.monotonic() + ANSWER_S
        while self._answer is None or self._answer.nonce != commit.nonce:
            if time.monotonic() > deadline:
                raise StreamOverError
            self.wake.clear()
            await self.check()
            if self._answer is None:
                await self.pause()
        if isinstance(self._answer, sync_pb2.Ack):
            return None
        nack = self._answer
        log.warning("device %s refused a transaction: %s", self.who.name, nack.reason)
        await self.note(last_nack=f"{nack.reason}: {nack.detail}"[:_MAX_TEXT])
        return nack

    async def write(self, message: sync_pb2.SyncResponse) -> None:
        """Send one message. Raises StreamOverError where the device does not read any more."""
        if self._over:
            raise StreamOverError
        try:
            await asyncio.wait_for(self._context.write(message), WRITE_S)
        except TimeoutError:
            raise StreamOverError from None

    async def beat(self) -> None:
        """Say what time it is. Between transactions it also says: nothing more for now."""
        self._beat_due = time.monotonic() + HEARTBEAT_S
        beat = sync_pb2.ServerHeartbeat(server_time_ms=time.time_ns() // 1_000_000)
        await self.write(sync_pb2.SyncResponse(heartbeat=beat))

    async def note(self, **facts: Any) -> None:
        """Keep facts about the device where people look for them."""
        self._status |= facts
        now_ms = time.time_ns() // 1_000_000
        await self.blocking(self.room.store.touch_device, self.who.name, now_ms, dict(self._status))

    async def blocking(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run something that blocks in the pool."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, function, *arguments)

    async def _listen(self) -> None:
        """Take what the device says until it hangs up."""
        try:
            while True:
                message = await self._context.read()
                if not isinstance(message, sync_pb2.SyncRequest):
                    return  # the end of the stream
                self._heard = time.monotonic()
                match message.WhichOneof("message"):
                    case "heartbeat":
                        await self._hear(message.heartbeat)
                    case "ack":
                        self._answer = message.ack
                        self.wake.set()
                    case "nack":
                        self._answer = message.nack
                        self.wake.set()
                    case "hello":
                        return  # there is one to a stream: this device is confused
                    case _:
                        pass  # said by a newer device
        finally:
            self._over = True
            self.wake.set()

    async def _hear(self, beat: sync_pb2.DeviceHeartbeat) -> None:
        reasons = sorted(beat.reasons.items())[:_MAX_REASONS]
        await self.note(
            release=beat.active_release,
            tier=beat.tier[:_MAX_WORD],
            outbox=beat.outbox_events,
            last_nack=beat.last_nack[:_MAX_TEXT],
            reasons={name[:_MAX_WORD]: count for name, count in reasons},
        )
