"""One device's sync stream: what it says, what is said to it, and when it ends.

Nothing is queued for a device; a message is written when the one before it has left.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn

from google.protobuf.message import Message

from genome_edge.v1 import sync_pb2
from genome_server.services.auth import Caller
from genome_server.services.errors import CallRefusedError
from genome_server.services.facts import heartbeat_facts, hello_facts, short
from genome_server.services.framing import Piece, encode, framed

HEARTBEAT_S = 15.0
#: A device from which nothing was heard for this long is gone.
SILENCE_S = 150.0
HELLO_S = 20.0
WRITE_S = 60.0
#: A device loads a release and tries its golden vectors before it answers.
ANSWER_S = 300.0
#: For how long a stream has its place in the line.
PLACE_S = 2.0
#: When to come back after a goodbye, in milliseconds; each device half of it to half as much again.
COME_BACK_MS = 2_000

_LINE_S = 1.0
#: Before it is looked again whether the device was sent the root that has our key for the time.
_UNDATED_S = 0.2

log = logging.getLogger(__name__)


class StreamOverError(Exception):
    """The stream is at its end; nothing is wrong."""


class DeviceStream:
    """The stream of one device. Lives on the event loop; `blocking` reaches the pool.

    An idle stream is one coroutine that waits for the device to say something. `poke` it when
    there may be something to do: it then works in a task of its own until there is nothing left.
    """

    __slots__ = (
        "_again",
        "_answer",
        "_beat_due",
        "_context",
        "_failure",
        "_line",
        "_listening",
        "_nonce",
        "_over",
        "_salt",
        "_stirred",
        "_work",
        "_working",
        "_writing",
        "blocking",
        "draining",
        "heard",
        "look_at",
        "room",
        "root",
        "trust",
        "who",
    )

    def __init__(
        self,
        who: Caller,
        context: Any,
        blocking: Callable[..., Awaitable[Any]],
        line: asyncio.Semaphore,
    ) -> None:
        self.who = who
        self.room = who.room
        #: Versions of root, timestamp and stop list that the device has said it holds.
        self.trust = (0, 0, 0)
        #: Version of the root that the device holds, or was sent on this stream.
        self.root = 0
        #: Set from outside: say goodbye and end.
        self.draining = False
        #: Run something that blocks in the pool.
        self.blocking = blocking
        #: When to poke it though nothing happened, beside heartbeats: monotonic seconds.
        self.look_at = math.inf
        self._context = context
        self._line = line
        self._over = False
        #: When the device said something last: monotonic seconds.
        self.heard = time.monotonic()
        self._beat_due = math.inf
        self._nonce = 0
        self._salt = b""
        self._answer: sync_pb2.Ack | sync_pb2.Nack | None = None
        self._work: Callable[[], Awaitable[None]] | None = None
        self._working: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[Any] | None = None
        self._again = False
        self._writing = math.inf
        self._stirred: asyncio.Event | None = None
        self._failure: Exception | None = None

    async def open(self) -> sync_pb2.Hello:
        """Take the Hello. `greet` the device next.

        Raises INVALID_ARGUMENT where the stream does not begin with a Hello.
        """
        try:
            first = await asyncio.wait_for(self._context.read(), HELLO_S)
        except TimeoutError:
            first = None
        if not isinstance(first, sync_pb2.SyncRequest) or not first.HasField("hello"):
            raise CallRefusedError("INVALID_ARGUMENT", "a stream begins with Hello")
        hello = first.hello
        if len(hello.epoch) != 16:
            raise CallRefusedError("INVALID_ARGUMENT", "an epoch is 16 bytes", field="epoch")
        if len(hello.nonce) not in (0, 16):  # none: an SDK that knows no signed time
            raise CallRefusedError("INVALID_ARGUMENT", "a nonce is 16 bytes", field="nonce")
        self._salt = hello.nonce
        self._holds(hello)
        self.note(**hello_facts(hello))
        self.heard = time.monotonic()
        return hello

    async def greet(self) -> None:
        """Say what time it is, before anything that expires: the device may not know."""
        await self.beat(undated=True)
        # Spread, so that those who came at once do not all have to be told the time at once.
        self._beat_due = time.monotonic() + HEARTBEAT_S * random.uniform(0.5, 1.0)

    @contextmanager
    def until_ended(self) -> Iterator[None]:
        """Within this, what the stream is ended with is raised to the task that serves it."""
        self._listening = task = asyncio.current_task()
        try:
            yield
        except asyncio.CancelledError:
            if self._failure is None or task is None:
                raise
            task.uncancel()
            raise self._failure from None
        finally:
            self._listening = None

    async def live(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work whenever there may be some, until the device hangs up or the work fails.

        Raises what the work raises, within `until_ended`.
        """
        self._work = work
        self.room.bell.subscribe(self.who.audience, self.who.name, self)
        self.poke()
        try:
            await self._listen()
        finally:
            self.room.bell.unsubscribe(self.who.audience, self.who.name, self)
            self._over = True
            self._listening = None
            if self._working is not None:
                self._working.cancel()
                await asyncio.gather(self._working, return_exceptions=True)

    def tick(self, now: float) -> None:
        """Do what is due at this time (monotonic seconds), several times a second."""
        if now - self._writing > WRITE_S:  # the device does not read any more
            self.end(StreamOverError())
        elif self._beat_due <= now or self.look_at <= now:
            self.poke()

    def poke(self) -> None:
        """There may be something to do."""
        self._again = True
        if self._stirred is not None:
            self._stirred.set()
        if self._working is None and self._work is not None and not self._over:
            self._working = asyncio.get_running_loop().create_task(self._do())

    async def _do(self) -> None:
        assert self._work is not None
        try:
            while self._again:
                self._again = False
                await self.check()
                await self._work()
                if time.monotonic() >= self._beat_due:
                    await self.beat()
        except Exception as error:  # noqa: BLE001  whoever listens raises it
            self.end(error)
        finally:
            self._working = None

    def end(self, why: Exception) -> None:
        """Let the task that serves this stream raise this; the work ends with it."""
        if self._failure is None:
            self._failure = why
            if self._listening is not None:
                self._listening.cancel()

    async def check(self) -> None:
        """End the stream where it has to end: hung up, silent, revoked, or the server leaves.

        Raises StreamOverError or CREDENTIAL_REVOKED.
        """
        if self._over or time.monotonic() - self.heard > SILENCE_S:
            raise StreamOverError
        if self.draining:
            await self.leave()
        if self.room.revoked(self.who.name):
            raise CallRefusedError("CREDENTIAL_REVOKED", "this device's credential was revoked")

    async def leave(self) -> NoReturn:
        """Say goodbye and end the stream; the device comes back soon. Raises StreamOverError."""
        retry_ms = int(COME_BACK_MS * random.uniform(0.5, 1.5))
        goodbye = sync_pb2.Goodbye(retry_after_ms=retry_ms)
        await self.write(sync_pb2.SyncResponse(goodbye=goodbye))
        raise StreamOverError

    @asynccontextmanager
    async def turn(self, meanwhile: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Wait in line to be sent something; heartbeats and `meanwhile` go on.

        Whoever takes long goes on without a place, so that slow devices hold up nobody.
        Raises what `check` raises.
        """
        waiting = asyncio.ensure_future(self._line.acquire())
        leaving: asyncio.TimerHandle | None = None
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._line.release()

        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=_LINE_S)
                if not waiting.done():
                    await self.check()
                    await meanwhile()
                    if time.monotonic() >= self._beat_due:
                        await self.beat()
            leaving = asyncio.get_running_loop().call_later(PLACE_S, leave)
            yield
        finally:
            if leaving is not None:
                leaving.cancel()
            if not waiting.cancel():
                leave()

    async def begin(self, begin: sync_pb2.Begin | bytes) -> int:
        """Open a transaction; returns its nonce. The message comes without one."""
        self._nonce += 1
        self._answer = None
        await self.send(("begin", encode(begin)), self._nonce)
        return self._nonce

    async def send(self, piece: Piece, nonce: int) -> None:
        """Send a message of a transaction. Raises StreamOverError."""
        await self.write(framed(piece, nonce))

    def refused(self, nonce: int) -> bool:
        """Say whether the device has already refused this transaction."""
        return isinstance(self._answer, sync_pb2.Nack) and self._answer.nonce == nonce

    async def commit(self, nonce: int, commit: sync_pb2.Commit) -> None:
        """End a transaction. The message comes without the nonce."""
        await self.send(("commit", commit.SerializeToString()), nonce)

    async def answer(self, meanwhile: Callable[[], Awaitable[None]]) -> sync_pb2.Nack | None:
        """Wait for the device's answer to the open transaction: None for Ack, or the Nack.

        `meanwhile` is done whenever there may be news.
        """
        deadline = time.monotonic() + ANSWER_S
        stirred = self._stirred = asyncio.Event()
        while self._answer is None:
            if time.monotonic() > deadline:
                raise StreamOverError
            await self.check()
            await meanwhile()
            if time.monotonic() >= self._beat_due:
                await self.beat()
            if self._answer is None:
                await stirred.wait()
                stirred.clear()
        said, self._stirred, self._answer = self._answer, None, None
        if isinstance(said, sync_pb2.Ack):
            return None
        log.warning("device %s refused a transaction: %s", self.who.name, short(said.reason))
        self.note(last_nack=short(f"{said.reason}: {said.detail}"))
        return said

    async def write(self, message: Message | bytes) -> None:
        """Send one message. Raises StreamOverError where the device does not read any more."""
        if self._over:
            raise StreamOverError
        self._writing = time.monotonic()
        await self._context.write(message)
        self._writing = math.inf

    async def beat(self, *, undated: bool = False) -> None:
        """Say what time it is. Between transactions it also says: nothing more for now.

        A device that could not believe it yet is sent the root first, and then told; `undated`: at
        once all the same.
        """
        if not (undated or self.room.trust.dates(self.root)):
            self._beat_due = time.monotonic() + _UNDATED_S
            return
        self._beat_due = time.monotonic() + HEARTBEAT_S
        beat = sync_pb2.ServerHeartbeat(
            server_time_ms=time.time_ns() // 1_000_000, incarnation=self.room.log.incarnation
        )
        signature = self.room.trust.sign_time(self._salt, beat.server_time_ms)
        if signature is not None:
            beat.signature.CopyFrom(signature)
        await self.write(sync_pb2.SyncResponse(heartbeat=beat))

    def note(self, **facts: Any) -> None:
        """Keep facts about the device where people look for them."""
        self.room.facts.note(self.who.name, **facts)

    def _holds(self, said: sync_pb2.Hello | sync_pb2.DeviceHeartbeat) -> None:
        self.trust = (said.root_version, said.timestamp_version, said.stop_list_version)
        self.root = max(self.root, said.root_version)

    async def _listen(self) -> None:
        """Take what the device says until it hangs up. Nothing of it is held meanwhile."""
        while self._take(await self._context.read()):
            pass

    def _take(self, message: object) -> bool:
        """Take in a message; False where it ends the stream."""
        if not isinstance(message, sync_pb2.SyncRequest):
            return False
        self.heard = time.monotonic()
        match message.WhichOneof("message"):
            case "heartbeat":
                self._holds(message.heartbeat)
                self.note(**heartbeat_facts(message.heartbeat))
            case "ack":
                self._take_answer(message.ack)
            case "nack" if message.nack.nonce == 0:  # of something that Trust carried
                self.note(last_nack=short(f"{message.nack.reason}: {message.nack.detail}"))
            case "nack":
                self._take_answer(message.nack)
            case "hello":
                return False  # there is one to a stream: this device is confused
            case _:
                pass  # said by a newer device
        return True

    def _take_answer(self, answer: sync_pb2.Ack | sync_pb2.Nack) -> None:
        """Take the answer to the transaction that is open; one to anything else is nobody's."""
        if answer.nonce == self._nonce:
            self._answer = answer
            self.poke()
