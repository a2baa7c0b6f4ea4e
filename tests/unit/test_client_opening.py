"""Opening a client, what is in the store or comes with the app, and closing it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_sdk import (
    ClientClosed,
    EdgeClient,
    Purpose,
    Reason,
    State,
    StoreError,
    Tier,
    UsageError,
)
from edge_sdk.store.device import DeviceStore
from tests.unit.device_client import FAST, MOMENT
from tests.unit.device_town import (
    AGREED,
    DAY_MS,
    HOUR_MS,
    OFFERS,
    Town,
    customer,
    filled,
    now_ms,
    row,
    subject,
    until,
)

# Opening ----------------------------------------------------------------------------------------


def test_opening_does_not_wait_and_decides_from_the_start(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    began = time.monotonic()
    edge = EdgeClient(tmp_path / "store", config=FAST)
    first = edge.decide(MOMENT, "lobby")
    assert time.monotonic() - began < 0.5
    assert first.reason in (Reason.NO_RELEASE, Reason.CHOSEN)
    assert edge.wait_ready(10)
    assert edge.decide(MOMENT, "lobby").offer is not None
    assert edge.status.state is State.READY
    edge.close()


def test_with_nothing_there_is_still_an_answer(tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert not edge.wait_ready(0.1)
        decision = edge.decide(MOMENT, "lobby", 2, customer="anyone")
        assert [slot.offer for slot in decision.slots] == [None, None]
        assert decision.reason is Reason.NO_RELEASE
        assert decision.tier is Tier.EMPTY
        status = edge.status
        assert (status.state, status.tier, status.release) == (State.EMPTY, Tier.EMPTY, 0)
        assert status.cause is None


def test_a_bundle_serves_where_there_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "town.bundle").write_bytes(Town(version=4).bundle())
    edge = EdgeClient(bundle=tmp_path / "town.bundle", config=FAST)
    assert edge.wait_ready(10)
    assert edge.decide(MOMENT, "lobby").release == 4
    temporary = edge._origin.path
    assert temporary.exists()
    assert not (tmp_path / "data").exists()
    edge.close()
    assert not temporary.parent.exists(), "nothing to keep, nobody to tell"


def test_a_bundle_goes_into_the_store_with_its_genomes(tmp_path: Path) -> None:
    town = Town(version=4)
    bundle = replace(town, genomes=[row(1, town=town)]).bundle()
    with EdgeClient(tmp_path / "store", config=FAST, bundle=bundle) as edge:
        assert edge.wait_ready(10)
        assert edge.status.genomes == 1
        assert edge.genome(subject(1).hex())
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        assert (edge.status.release, edge.status.genomes) == (4, 1)


@pytest.mark.parametrize(("bundled", "expected"), [(1, 2), (3, 3)])
def test_the_newer_of_bundle_and_store_counts(tmp_path: Path, bundled: int, expected: int) -> None:
    filled(tmp_path / "store", Town(version=2))
    bundle = Town(version=bundled).bundle()
    with EdgeClient(tmp_path / "store", config=FAST, bundle=bundle) as edge:
        until(lambda: edge.status.release == expected)


@pytest.mark.parametrize("broken", [b"", b"no bundle", Town().bundle()[:-100]])
def test_a_broken_bundle_is_said(tmp_path: Path, broken: bytes) -> None:
    with EdgeClient(tmp_path / "store", config=FAST, bundle=broken) as edge:
        until(lambda: edge.status.state is State.ERROR)
        assert edge.status.cause is not None
        assert edge.decide(MOMENT, "lobby").reason is Reason.NO_RELEASE


def test_a_bundle_that_was_changed_is_refused(tmp_path: Path) -> None:
    changed = Town().bundle().replace(b"A taxi", b"A t@xi")
    with EdgeClient(tmp_path / "store", config=FAST, bundle=changed) as edge:
        until(lambda: edge.status.state is State.ERROR)


def test_nobody_waits_for_a_release_that_nothing_will_bring(tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "store", config=FAST, bundle=tmp_path / "none") as edge:
        began = time.monotonic()
        assert not edge.wait_ready(30)
        assert time.monotonic() - began < 10
        assert "none" in str(edge.status.cause)


def test_a_missing_bundle_is_said(tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "store", config=FAST, bundle=tmp_path / "none") as edge:
        until(lambda: "none" in str(edge.status.cause))


def test_a_store_that_cannot_be_used_keeps_no_decision_from_anybody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with EdgeClient(tmp_path / "file" / "store", config=FAST, bundle=Town().bundle()) as edge:
        assert edge.wait_ready(10)
        decision = edge.decide(MOMENT, "lobby")
        assert decision.offer is not None
        assert edge.report(decision, "view")
        assert isinstance(edge.status.cause, StoreError)
        with pytest.raises(StoreError):
            edge.report(decision, "view", durable=True)
        with pytest.raises(StoreError):
            edge.redeem(decision)
        assert edge.flush(0) >= 2, "they wait in memory"


def test_wrong_arguments_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="config"):
        EdgeClient(tmp_path, config={})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="bundle"):
        EdgeClient(tmp_path, bundle=7)  # type: ignore[arg-type]
    monkeypatch.setenv("GENOME_EDGE_WATCH_S", "often")
    with pytest.raises(UsageError, match="GENOME_EDGE_WATCH_S"):
        EdgeClient(tmp_path)


def test_the_environment_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "here")
    monkeypatch.setenv("GENOME_EDGE_STORE", str(tmp_path / "here"))
    with EdgeClient() as edge:
        assert edge.wait_ready(10)


def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    script = (
        "import sys\n"
        "from edge_sdk import Context, EdgeClient\n"
        f"edge = EdgeClient({str(tmp_path / 'store')!r})\n"
        "assert edge.wait_ready(10)\n"
        "c = Context(cell='8a2a1072b59ffff', activity='walk')\n"
        f"d = edge.decide(c, 'lobby', 2, customer={customer(1)!r})\n"
        "assert d.offer is not None and d.genome_used\n"
        "edge.report(d, 'view'); edge.redeem(d); edge.flush(0)\n"
        "found = {'grpc', 'cryptography', 'h3'} & set(sys.modules)\n"
        "assert not found, found\n"
        "edge.close()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Expiry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over_ms", "tier", "state"),
    [
        (-HOUR_MS, Tier.FRESH, State.READY),
        (HOUR_MS, Tier.STALE, State.STALE),
        (8 * DAY_MS, Tier.RESTRICTED, State.STALE),
        (38 * DAY_MS, Tier.HOUSE, State.STALE),
    ],
)
def test_an_expired_release_degrades_in_steps(
    tmp_path: Path, over_ms: int, tier: Tier, state: State
) -> None:
    offers = (*OFFERS, {"id": "water", "content": {"title": "Water"}})
    placements = [{"id": "lobby", "slots": 3, "house_offer": "water"}]
    filled(tmp_path / "store", Town(expires_ms=now_ms() - over_ms, offers=offers,
                                    placements=placements))  # fmt: skip
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        assert (edge.status.tier, edge.status.state) == (tier, state)
        decision = edge.decide(MOMENT, "lobby")
        assert decision.tier is tier
        if tier is Tier.HOUSE:
            assert decision.reason is Reason.EXPIRED
            assert decision.offer is not None
            assert decision.offer.id == "water"


def test_a_clock_set_back_makes_nothing_fresh_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "store", Town(expires_ms=now_ms() + HOUR_MS))
    later = now_ms() + 2 * HOUR_MS
    store = DeviceStore.open(tmp_path / "store")
    store.raise_clock_floor(later)
    store.close()
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        assert edge.status.tier is Tier.STALE


# The end ----------------------------------------------------------------------------------------


def test_a_closed_client_says_so(edge: EdgeClient) -> None:
    session = edge.session()
    decision = edge.decide(MOMENT, "lobby")
    edge.close()
    edge.close()
    calls: list[Callable[[], object]] = [
        lambda: edge.decide(MOMENT, "lobby"),
        lambda: edge.report(decision, "view"),
        lambda: edge.redeem(decision),
        lambda: edge.imprint(None, "buy", product="poems"),
        lambda: edge.set_consent(customer(1), Purpose.LEARNING, True),
        edge.session,
        lambda: edge.flush(0),
        lambda: edge.wait_ready(0),
        lambda: session.decide(MOMENT, "lobby"),
    ]
    for call in calls:
        with pytest.raises(ClientClosed):
            call()
    assert edge.status is not None
    session.wipe()


def test_closing_writes_what_there_is(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    edge = EdgeClient(tmp_path / "store", config=replace(FAST, group_commit_s=0.05))
    edge.wait_ready(10)
    for _ in range(100):
        edge.decide(MOMENT, "lobby")
    edge.close()
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.flush(0) == 100


def test_a_process_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    script = (
        "from edge_sdk import Context, EdgeClient\n"
        f"edge = EdgeClient({str(tmp_path / 'store')!r}); edge.wait_ready(10)\n"
        "for _ in range(50): edge.decide(Context(activity='walk'), 'lobby')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.flush(0) == 50


def test_agreed_means_what_the_rows_say() -> None:
    assert AGREED == 1 << Purpose.PERSONALISATION
