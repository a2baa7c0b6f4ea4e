"""The client for an app with an event loop: the same names, awaited where they wait.

What never waits is called as in `EdgeClient`: `decide`, `imprint`, `genome`, `session`, `status`.
What may wait for the disk, the server or another thread is awaited, and waits in a thread of the
loop's executor: `report`, `redeem`, `explain`, `set_consent`, `identify`, `wait_ready`, `flush`,
`close`, and `decide` with `durable=True`. An await that is cancelled stops waiting; what it asked
for is done all the same where that has begun.
Why: docs/adr/0009.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from edge_sdk.client import EdgeClient
from edge_sdk.config import Config
from edge_sdk.context import Context
from edge_sdk.decision import Decision
from edge_sdk.errors import UsageError
from edge_sdk.plugins import Plugins
from edge_sdk.session import Session
from edge_sdk.status import Status

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _awaited(
    method: Callable[Concatenate[Any, _P], _R],
) -> Callable[Concatenate[Any, _P], Coroutine[Any, Any, _R]]:
    @functools.wraps(method)
    async def awaited(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return await asyncio.to_thread(method, self._own, *args, **kwargs)

    return awaited


def _at_once(
    method: Callable[Concatenate[Any, _P], _R],
) -> Callable[Concatenate[Any, _P], _R]:
    @functools.wraps(method)
    def at_once(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return method(self._own, *args, **kwargs)

    return at_once


class AsyncSession:
    """One visit, as `Session`. Use it in an `async with`: it is wiped at the end."""

    def __init__(self, session: Session) -> None:
        self._own = session

    identify = _awaited(Session.identify)
    report = _awaited(Session.report)
    redeem = _awaited(Session.redeem)
    imprint = _at_once(Session.imprint)  # type: ignore[arg-type]  # no fact is named self
    wipe = _at_once(Session.wipe)

    @overload
    def decide(
        self, context: Context, placement: str, slots: int = 1, *, durable: Literal[False] = False
    ) -> Decision: ...
    @overload
    def decide(
        self, context: Context, placement: str, slots: int = 1, *, durable: Literal[True]
    ) -> Coroutine[Any, Any, Decision]: ...
    def decide(
        self, context: Context, placement: str, slots: int = 1, *, durable: bool = False
    ) -> Decision | Coroutine[Any, Any, Decision]:
        """As `Session.decide`; with `durable` it is awaited."""
        call = functools.partial(self._own.decide, context, placement, slots, durable=durable)
        return asyncio.to_thread(call) if durable else call()

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wipe()


class AsyncEdgeClient:
    """Decides, and takes down what followed, beside an event loop; as `EdgeClient`.

    Close it when done, or use it in an `async with`. It belongs to no loop: opening it needs none.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        server: str | None = None,
        *,
        config: Config | None = None,
        bundle: str | os.PathLike[str] | bytes | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self._own = EdgeClient(store, server, config=config, bundle=bundle, plugins=plugins)

    @property
    def status(self) -> Status:
        """How the device is now. Never raises."""
        return self._own.status

    wait_ready = _awaited(EdgeClient.wait_ready)
    report = _awaited(EdgeClient.report)
    redeem = _awaited(EdgeClient.redeem)
    set_consent = _awaited(EdgeClient.set_consent)
    explain = _awaited(EdgeClient.explain)
    flush = _awaited(EdgeClient.flush)
    close = _awaited(EdgeClient.close)
    imprint = _at_once(EdgeClient.imprint)  # type: ignore[arg-type]
    genome = _at_once(EdgeClient.genome)

    @overload
    def decide(
        self,
        context: Context,
        placement: str,
        slots: int = 1,
        *,
        customer: str | None = None,
        durable: Literal[False] = False,
    ) -> Decision: ...
    @overload
    def decide(
        self,
        context: Context,
        placement: str,
        slots: int = 1,
        *,
        customer: str | None = None,
        durable: Literal[True],
    ) -> Coroutine[Any, Any, Decision]: ...
    def decide(
        self,
        context: Context,
        placement: str,
        slots: int = 1,
        *,
        customer: str | None = None,
        durable: bool = False,
    ) -> Decision | Coroutine[Any, Any, Decision]:
        """As `EdgeClient.decide`; with `durable` it is awaited."""
        call = functools.partial(
            self._own.decide, context, placement, slots, customer=customer, durable=durable
        )
        return asyncio.to_thread(call) if durable else call()

    def session(self, customer: str | None = None) -> AsyncSession:
        """A visit: one person before one screen, wiped at its end."""
        return AsyncSession(self._own.session(customer))

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` in the running loop after the release or the genomes have changed.

        Returns what ends that.
        """
        if not callable(callback):
            raise UsageError(f"callback must be callable, not {type(callback).__name__}")
        loop = asyncio.get_running_loop()

        def call() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(callback)

        return self._own.on_change(call)

    async def __aenter__(self) -> AsyncEdgeClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
