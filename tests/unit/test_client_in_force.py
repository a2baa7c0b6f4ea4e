"""What the server says is in force, on a client: stops, freshness, files, languages, warnings."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import Context, EdgeClient, UsageError
from edge_sdk.decision import Reason, Tier
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.identity import Identity
from genome_edge.v1 import release_pb2
from tests.unit.authority import Authority
from tests.unit.device_client import FAST, store_of
from tests.unit.device_town import DAY_MS, Town, now_ms, until
from tests.unit.publisher import Published

PICTURES = {"logo": b"any", "logo-de": b"deutsch"}
OFFERS = (
    {
        "id": "taxi",
        "priority": 2,
        "content": {"title": "A taxi", "body": "Now"},
        "texts": {"de": {"title": "Ein Taxi"}},
        "assets": {"image": "logo", "image.de": "logo-de"},
    },
    {"id": "train", "priority": 1, "max_offline_age_hours": 48},
    {"id": "bus"},
)


def enrolled(path: Path, town: Town, authority: Authority) -> DeviceStore:
    """A store with a release, pinned to the root."""
    store = DeviceStore.open(path)
    root = authority.root.SerializeToString()
    store.set_identity(Identity("http://localhost:1", "acme", "d", "all", b"c", root))
    store.heard_server(now_ms())
    town.commit(store)
    return store


def first(edge: EdgeClient, **context: Any) -> str:
    """The offer that is shown."""
    decision = edge.decide(Context(**context), "lobby")
    return decision.offer.id if decision.offer is not None else decision.reason


@pytest.fixture
def authority() -> Authority:
    """Whoever signs."""
    return Authority()


def test_what_is_stopped_is_not_shown_from_one_look_to_the_next(
    tmp_path: Path, authority: Authority
) -> None:
    enrolled(tmp_path / "edge", Town(offers=OFFERS[1:]), authority).close()
    with EdgeClient(tmp_path / "edge", config=FAST) as edge:
        assert edge.wait_ready(20)
        assert (first(edge), edge.status.stop_list) == ("train", 0)
        store_of(edge).put_trust(stop_list=authority.stop_list(3, "train", "unknown"))
        until(lambda: edge.status.stop_list == 3)
        assert first(edge) == "bus"
        reasons = {one.offer: one.reasons for one in decide(edge).explain().losers}
        assert reasons == {"train": (Reason.STOPPED,)}
        store_of(edge).put_trust(stop_list=authority.stop_list(4, "train", "bus"))
        until(lambda: edge.status.stop_list == 4)
        assert first(edge) == Reason.STOPPED
        store_of(edge).put_trust(stop_list=authority.stop_list(5))
        until(lambda: first(edge) == "train")


def decide(edge: EdgeClient) -> Any:
    """A decision about nobody in particular."""
    return edge.decide(Context(), "lobby")


def test_an_offer_waits_for_its_files_in_each_language(
    tmp_path: Path, authority: Authority
) -> None:
    town = Town(offers=OFFERS, files=PICTURES)
    enrolled(tmp_path / "edge", town, authority).close()
    with EdgeClient(tmp_path / "edge", config=replace(FAST, language="de-AT")) as edge:
        assert edge.wait_ready(20)
        assert first(edge) == "train"
        store = store_of(edge)
        store.stage_part(sha256(PICTURES["logo-de"]).digest(), PICTURES["logo-de"])
        store.assets_arrived()
        until(lambda: first(edge) == "taxi")
        assert first(edge, language="fr") == "train"
        offer = decide(edge).offer
        assert dict(offer.content) == {"title": "Ein Taxi", "body": "Now"}
        assert offer.asset("image").read_bytes() == b"deutsch"
        with pytest.raises(UsageError, match="no file 'audio'; it has: image"):
            offer.asset("audio")
        store.stage_part(sha256(PICTURES["logo"]).digest(), PICTURES["logo"])
        store.assets_arrived()
        until(lambda: first(edge, language="fr") == "taxi")


def test_a_file_that_goes_from_the_disk_takes_its_offer_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.runtime.keeper._HOUSEKEEPING_S", 0.1)
    bundle = Town(offers=OFFERS, files=PICTURES).bundle()
    with EdgeClient(tmp_path / "edge", config=FAST, bundle=bundle) as edge:
        assert edge.wait_ready(20)
        assert first(edge) == "taxi"
        decide(edge).offer.asset("image").unlink()
        until(lambda: first(edge) == "train")


def test_a_bundle_brings_its_files_where_a_store_can_take_them(tmp_path: Path) -> None:
    bundle = Town(offers=OFFERS, files=PICTURES).bundle()
    with EdgeClient(tmp_path / "edge", config=FAST, bundle=bundle) as edge:
        assert edge.wait_ready(20)
        assert first(edge) == "taxi"
        assert decide(edge).offer.asset("image").read_bytes() == b"any"
    (tmp_path / "file").write_text("")
    with EdgeClient(tmp_path / "file" / "store", config=FAST, bundle=bundle) as edge:
        assert edge.wait_ready(20)
        assert first(edge) == "train", "nobody could open the other one's picture"
        reasons = {one.offer: one.reasons for one in decide(edge).explain().losers}
        assert reasons["taxi"] == (Reason.ASSETS,)


def test_a_bundle_that_another_process_keeps_from_the_store_shows_no_empty_frames(
    tmp_path: Path,
) -> None:
    bundle = Town(offers=OFFERS, files=PICTURES).bundle()
    lock = DeviceStore.open(tmp_path / "edge").elect()
    assert lock is not None
    with EdgeClient(tmp_path / "edge", config=FAST, bundle=bundle) as edge:
        assert edge.wait_ready(20)
        assert first(edge) == "train"
        # What is in force is looked at again, and changes nothing about that.
        store_of(edge).assets_arrived()
        until(lambda: edge._keeper.open is not None and edge._keeper.open._seen[3] > 0)
        assert first(edge) == "train"
    lock.release()


def test_long_without_the_server(tmp_path: Path, authority: Authority) -> None:
    town = Town(offers=OFFERS[1:], created_ms=now_ms() - 9 * DAY_MS)
    store = enrolled(tmp_path / "edge", town, authority)
    store.close()
    with EdgeClient(tmp_path / "edge", config=FAST) as edge:
        assert edge.wait_ready(20)
        assert first(edge) == "train"
        room = edge._desk.room
        until(lambda: room.contact_ms > 0)
        room.contact_ms = now_ms() - 3 * DAY_MS
        assert first(edge) == "bus"


def test_a_timestamp_keeps_a_release_fresh_and_warns_in_time(
    tmp_path: Path, authority: Authority
) -> None:
    town = Town(offers=OFFERS[2:], expires_ms=now_ms() - DAY_MS, created_ms=now_ms() - 9 * DAY_MS)
    store = enrolled(tmp_path / "edge", town, authority)
    signed = release_pb2.SignedManifest.FromString(stored(store))
    manifest = release_pb2.Manifest.FromString(signed.manifest)
    store.close()
    with EdgeClient(tmp_path / "edge", config=FAST) as edge:
        assert edge.wait_ready(20)
        until(lambda: edge.status.tier is Tier.STALE)
        assert "is no longer fresh: no contact with the server since" in edge.status.warnings[0]
        named = Published(manifest, signed, {})
        soon = now_ms() + 3 * DAY_MS
        store_of(edge).put_trust(timestamp=authority.timestamp(1, named, expires_ms=soon))
        until(lambda: edge.status.tier is Tier.FRESH)
        assert edge.status.fresh_until_ms == soon
        assert edge.status.warnings == ()


def stored(store: DeviceStore) -> bytes:
    """The signed manifest of the active release."""
    active = store.active_release()
    assert active is not None
    return active.signed_manifest
