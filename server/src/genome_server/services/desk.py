"""Where the streams of one tenant ask what their genomes lack; they are answered together.

One question costs as much as a thousand: whoever asks while an answer is worked out is answered
next, from one snapshot of the store. The more were answered, the longer the pause before the next
round, so that a tenant of many devices hears of changes in larger portions and the server keeps
time for other things.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from genome_server.services.contents import Contents
from genome_server.services.room import Room
from genome_server.services.sync_plan import GenomePlan, Missing, Want, plan

#: Pause after a round for each device in it: about what sending it a change costs.
PACE_S: Final = 0.000_25
CONTENTS: Final = "contents"
"""The tenant's folder of contents."""
_SWEEP_S: Final = 60.0

log = logging.getLogger(__name__)

_Blocking = Callable[..., Awaitable[Any]]
_Asked = tuple[Want, "asyncio.Future[GenomePlan | None]"]


class Desk:
    """Answers the streams of one room. Lives on the event loop."""

    def __init__(self, room: Room, blocking: _Blocking) -> None:
        self._room = room
        self._blocking = blocking
        self.contents = Contents(room.tenant.dir / CONTENTS, room.store)
        self._asked: list[_Asked] = []
        self._round: asyncio.Task[None] | None = None
        self._making: dict[bytes, asyncio.Task[None]] = {}
        self._swept = 0.0

    async def ask(self, want: Want) -> GenomePlan | None:
        """What a device's genomes lack; None where it has everything or has to wait."""
        future: asyncio.Future[GenomePlan | None] = asyncio.get_running_loop().create_future()
        self._asked.append((want, future))
        self._go_on()
        return await future

    def close(self) -> None:
        """Stop answering."""
        for task in (self._round, *self._making.values()):
            if task is not None:
                task.cancel()

    def _go_on(self) -> None:
        if self._round is None or self._round.done():
            self._round = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            asked = [(want, future) for want, future in asked if not future.done()]
            try:
                answers = await self._blocking(
                    plan,
                    self._room.store,
                    self.contents,
                    self._room.log.incarnation,
                    [want for want, _ in asked],
                )
            except Exception as error:  # noqa: BLE001  whoever asked hears of it
                _fail(asked, error)
                continue
            for (want, future), answer in zip(asked, answers, strict=True):
                if isinstance(answer, Missing):
                    self._make(answer, (want, future))
                elif not future.done():
                    future.set_result(answer)
            await self._sweep()
            await asyncio.sleep(len(asked) * PACE_S)

    def _make(self, missing: Missing, asked: _Asked) -> None:
        """Have a content made once for all who need it; they are asked about again then."""
        task = self._making.get(missing.basis)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._content(missing))
            self._making[missing.basis] = task
            task.add_done_callback(lambda _: self._making.pop(missing.basis, None))

        def made(done: asyncio.Task[None]) -> None:
            if done.cancelled() or done.exception() is not None:
                _fail([asked], done.exception() if not done.cancelled() else None)
            else:
                self._asked.append(asked)
                self._go_on()

        task.add_done_callback(made)

    async def _content(self, missing: Missing) -> None:
        await self._blocking(self.contents.make, missing.audience, missing.basis)

    async def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._swept > _SWEEP_S:
            self._swept = now
            try:
                await self._blocking(self.contents.sweep)
            except Exception:  # whoever asks is answered all the same
                log.exception("tenant %s: old contents cannot be removed", self._room.name)


def _fail(asked: list[_Asked], error: BaseException | None) -> None:
    for _, future in asked:
        if not future.done():
            if error is None:
                future.cancel()
            else:
                future.set_exception(error)
