"""The two clients: the same names and parameters, and the same behaviour, told once for both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import (
    AsyncEdgeClient,
    AsyncSession,
    ClientClosed,
    EdgeClient,
    IdentifyResult,
    Purpose,
    RedemptionReason,
    Session,
    State,
    UnknownDecision,
    UsageError,
)
from edge_sdk.store.device import DeviceStore
from tests.unit.device_client import FAST, MOMENT, decisions_in
from tests.unit.device_town import Town, customer, filled, until

WAITS = {
    "wait_ready", "report", "redeem", "set_consent", "explain", "flush", "close", "identify",
}  # fmt: skip


def surface(one: type) -> dict[str, Any]:
    return {name: member for name, member in vars(one).items() if not name.startswith("_")}


@pytest.mark.parametrize(("one", "other"), [(EdgeClient, AsyncEdgeClient), (Session, AsyncSession)])
def test_the_names_and_parameters_are_the_same(one: type, other: type) -> None:
    forks = {name for name in surface(one) if "fork" in name}  # for the interpreter, not for apps
    assert surface(one).keys() - forks == surface(other).keys()
    for name, member in surface(other).items():
        theirs = surface(one)[name]
        assert member.__doc__, name
        if isinstance(member, property):
            assert isinstance(theirs, property)
            continue
        assert inspect.iscoroutinefunction(member) == (name in WAITS), name
        own = inspect.signature(member).parameters
        assert [str(p) for p in own.values()] == [
            str(p) for p in inspect.signature(theirs).parameters.values()
        ], name
    if one is EdgeClient:
        assert str(inspect.signature(one)).replace("EdgeClient", "") == str(
            inspect.signature(other)
        ).replace("AsyncEdgeClient", "")


# One behaviour ----------------------------------------------------------------------------------


class Blocking:
    """An async client or session as if it were the other one."""

    def __init__(self, own: Any, run: Callable[[Any], Any]) -> None:
        self.own, self.run = own, run

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.own, name)
        if not callable(member):
            return member

        def call(*args: Any, **kwargs: Any) -> Any:
            async def within() -> Any:
                found = member(*args, **kwargs)
                return await found if inspect.isawaitable(found) else found

            found = self.run(within())
            return Blocking(found, self.run) if isinstance(found, AsyncSession) else found

        return call

    def __enter__(self) -> Any:
        self.run(self.own.__aenter__())
        return self

    def __exit__(self, *exc: object) -> None:
        self.run(self.own.__aexit__(*exc))


@pytest.fixture(params=["blocking", "awaited"])
def opened(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    if request.param == "blocking":
        yield EdgeClient
        return
    with asyncio.Runner() as runner:
        yield lambda *args, **kwargs: Blocking(AsyncEdgeClient(*args, **kwargs), runner.run)


@pytest.fixture
def edge(opened: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    filled(tmp_path / "store")
    with opened(tmp_path / "store", config=FAST) as made:
        assert made.wait_ready(10)
        yield made


def test_a_decision_and_what_follows(edge: Any) -> None:
    assert edge.status.state is State.READY
    decision = edge.decide(MOMENT, "lobby", 2, customer=customer(1))
    assert decision.offer is not None
    assert len(decision.slots) == 2
    name = edge.report(decision, "view", event_id="seen")
    assert name == "seen"
    assert edge.report(decision.id, "click", durable=True)
    assert edge.redeem(decision)
    again = edge.redeem(decision.id)
    assert (again.granted, again.reason) == (False, RedemptionReason.ALREADY_REDEEMED)
    edge.imprint(customer(1), "buy", product="poems", amount=12.5)
    assert "category:book" in edge.genome(customer(1))
    assert edge.flush(0) == 5


def test_a_durable_decision(edge: Any, tmp_path: Path) -> None:
    made = edge.decide(MOMENT, "lobby", customer=customer(1), durable=True)
    with edge.session(customer(2)) as visit:
        other = visit.decide(MOMENT, "lobby", 2, durable=True)
    assert len(other.slots) == 2
    assert {made.id, other.id} <= decisions_in(tmp_path / "store")
    with pytest.raises(UsageError):
        edge.decide(MOMENT, "lobby", 0, durable=True)


def test_a_consent_is_in_force_at_once(edge: Any) -> None:
    assert edge.genome(customer(1)) is not None
    edge.set_consent(customer(1), Purpose.PERSONALISATION, False)
    assert edge.genome(customer(1)) is None
    assert not edge.decide(MOMENT, "lobby", customer=customer(1)).genome_used
    edge.set_consent(customer(1), "personalisation", True)
    assert edge.genome(customer(1)) is not None


def test_a_visit(edge: Any) -> None:
    with edge.session() as visit:
        assert visit.identify(customer(2), 1) is IdentifyResult.LOCAL
        decision = visit.decide(MOMENT, "lobby")
        assert decision.genome_used
        visit.report(decision, "view")
        assert visit.redeem(decision).granted
        visit.imprint("view", product="poems")
        visit.wipe()
        assert not visit.decide(MOMENT, "lobby").genome_used
    with edge.session(customer(1)) as visit:
        assert visit.decide(MOMENT, "lobby").genome_used
    with edge.session() as visit:
        assert visit.identify("nobody", 1) is IdentifyResult.OFFLINE


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("report", ("no id", "view"), {}),
        ("decide", (MOMENT, "lobby", 0), {}),
        ("imprint", (None, "view"), {}),
        ("set_consent", ("stranger", "learning", True), {}),
        ("wait_ready", ("soon",), {}),
        ("flush", ("soon",), {}),
        ("on_change", (7,), {}),
        ("session", (7,), {}),
    ],
)
def test_mistakes_are_said(edge: Any, name: str, args: Any, kwargs: Any) -> None:
    with pytest.raises(UsageError):
        getattr(edge, name)(*args, **kwargs)


def test_an_id_that_is_none(edge: Any) -> None:
    with pytest.raises(UnknownDecision):
        edge.redeem("x")


def test_closed_is_closed(opened: Callable[..., Any]) -> None:
    made = opened(bundle=Town().bundle(), config=FAST)
    assert made.wait_ready(10)
    made.close()
    made.close(1.0)
    for call in (
        lambda: made.decide(MOMENT, "lobby"),
        lambda: made.report("ab" * 16, "view"),
        lambda: made.flush(0),
        lambda: made.session(customer(1)),
    ):
        with pytest.raises(ClientClosed):
            call()  # type: ignore[no-untyped-call]


# What only the loop sees ------------------------------------------------------------------------


def test_the_loop_goes_on_while_somebody_waits(tmp_path: Path) -> None:
    async def main() -> int:
        async with AsyncEdgeClient(tmp_path / "empty", config=FAST) as edge:
            waiting = asyncio.ensure_future(edge.wait_ready(0.5))
            turns = 0
            while not waiting.done():
                await asyncio.sleep(0.005)
                turns += 1
            assert not waiting.result()
            return turns

    assert asyncio.run(main()) > 20


def test_changes_are_told_in_the_loop(tmp_path: Path) -> None:
    filled(tmp_path / "store")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard: list[asyncio.AbstractEventLoop] = []
        news = asyncio.Event()

        def told() -> None:
            heard.append(asyncio.get_running_loop())
            news.set()

        async with AsyncEdgeClient(tmp_path / "store", config=FAST) as edge:
            assert await edge.wait_ready(10)
            end = edge.on_change(told)
            filled(tmp_path / "store", Town(version=2))
            await asyncio.wait_for(news.wait(), 10)
            end()
        assert set(heard) == {loop}

    asyncio.run(main())


def test_a_loop_that_has_ended_is_told_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    edge = AsyncEdgeClient(tmp_path / "store", config=FAST)

    async def listen() -> None:
        assert await edge.wait_ready(10)
        edge.on_change(lambda: None)

    asyncio.run(listen())
    filled(tmp_path / "store", Town(version=2))
    until(lambda: edge.status.release == 2)
    asyncio.run(edge.close())


def test_a_durable_decision_is_awaited_and_the_loop_goes_on(tmp_path: Path) -> None:
    filled(tmp_path / "store")

    async def main() -> int:
        async with AsyncEdgeClient(tmp_path / "store", config=FAST) as edge:
            assert await edge.wait_ready(10)
            await edge.flush(0)
            other = DeviceStore.open(tmp_path / "store")
            turns = 0
            with other.write():  # nobody else can, meanwhile
                waiting = asyncio.ensure_future(edge.decide(MOMENT, "lobby", durable=True))
                for _ in range(20):
                    await asyncio.sleep(0.005)
                    turns += not waiting.done()
            other.close()
            assert (await waiting).offer is not None
            return turns

    assert asyncio.run(main()) == 20


def test_what_has_begun_is_done_though_nobody_waits(tmp_path: Path) -> None:
    filled(tmp_path / "store")

    async def main() -> None:
        async with AsyncEdgeClient(tmp_path / "store", config=FAST) as edge:
            assert await edge.wait_ready(10)
            decision = edge.decide(MOMENT, "lobby")
            other = DeviceStore.open(tmp_path / "store")
            with other.write():  # nobody else can, meanwhile
                waiting = asyncio.ensure_future(edge.redeem(decision))
                await asyncio.sleep(0.1)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            other.close()
            await edge.flush(0)
            assert not await edge.redeem(decision)

    asyncio.run(main())
