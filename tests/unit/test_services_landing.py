"""What other threads finish comes back to the loop, in one wake where it comes together."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

from genome_server.services.landing import Landing


def test_results_and_errors_land_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        landing, loop = Landing(), asyncio.get_running_loop()
        futures: list[Future[Any]] = [Future() for _ in range(50)]
        tasks = [loop.create_task(landing.bring(future)) for future in futures]
        await asyncio.sleep(0)
        wakes = 0
        wake = loop.call_soon_threadsafe

        def counted(*args: Any, **kwargs: Any) -> asyncio.Handle:
            nonlocal wakes
            wakes += 1
            return wake(*args, **kwargs)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        for number, future in enumerate(futures):
            if number == 7:
                future.set_exception(ValueError("seven"))
            else:
                future.set_result(number)
        assert wakes == 1
        with pytest.raises(ValueError, match="seven"):
            await tasks.pop(7)
        assert await asyncio.gather(*tasks) == [n for n in range(50) if n != 7]

    asyncio.run(go())


def test_who_goes_away_cancels_what_has_not_begun() -> None:
    async def go() -> None:
        landing = Landing()
        waiting, begun = Future[Any](), Future[Any]()
        assert begun.set_running_or_notify_cancel()
        tasks = [asyncio.create_task(landing.bring(future)) for future in (waiting, begun)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert waiting.cancelled()
        begun.set_result(None)  # nobody waits for it any more
        assert await landing.bring(begun) is None

    asyncio.run(go())


def test_what_was_cancelled_elsewhere_is_cancelled_here() -> None:
    async def go() -> None:
        future = Future[Any]()
        task = asyncio.create_task(Landing().bring(future))
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
