"""Golden vectors after the swap: a client goes back by itself, and says why."""

from __future__ import annotations

from pathlib import Path

from edge_sdk import EdgeClient, TrustError
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.trust import Refusal
from genome_edge.v1 import release_pb2
from tests.unit.device_client import FAST, MOMENT, store_of
from tests.unit.device_town import OFFERS, Town, filled, until


def golden(value: float) -> dict[str, bytes]:
    """A part that asks for this value of the first offer."""
    vector = release_pb2.GoldenVector(
        indices=[1], weights=[1.0], offers=[str(OFFERS[0]["id"])], values=[value]
    )
    return {"golden": release_pb2.GoldenVectors(vectors=[vector]).SerializeToString()}


def test_a_release_that_fails_after_the_swap_gives_way_to_the_one_before(tmp_path: Path) -> None:
    filled(tmp_path / "store", Town(version=1))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        Town(version=2, assets=golden(123.0)).commit(store_of(edge))
        until(lambda: isinstance(edge.status.cause, TrustError))
        cause = edge.status.cause
        assert isinstance(cause, TrustError)
        assert cause.reason == Refusal.GOLDEN
        assert edge.status.release == 1
        assert edge.decide(MOMENT, "lobby").offer is not None
        facts = store_of(edge).facts()
        assert "golden vector 0" in facts.cause
        active = store_of(edge).active_release()
        assert active is not None
        assert active.version == 1
        assert "golden vector 0" in store_of(edge).failed_release()[1]
        Town(version=3).commit(store_of(edge))
        until(lambda: edge.status.release == 3)
        assert edge.status.cause is None


def test_where_the_one_before_does_no_better_the_newer_one_stays(tmp_path: Path) -> None:
    filled(tmp_path / "store", Town(version=1, assets=golden(123.0)))
    store = DeviceStore.open(tmp_path / "store")
    Town(version=2, assets=golden(124.0)).commit(store)
    store.close()
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        assert edge.status.release == 2
        assert isinstance(edge.status.cause, TrustError)
        assert store_of(edge).failed_release() == (b"", "")
