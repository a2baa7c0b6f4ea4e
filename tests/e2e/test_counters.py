"""What customers did on one device counts on the other: a real server, real devices."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_sdk import Context, EdgeClient, RedemptionReason
from edge_sdk.engine.cap_rules import CapRow
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.files import DATABASE
from edge_sdk.store.state import read_caps
from genome_server.home import Home
from tests.e2e.house import House, run, until
from tests.serving import make_home, offer, publish_release

HERE = Context(channel="kiosk")
DAILY = {"caps": [{"limit": 1, "calendar": "day"}], "priority": 3, "placements": ["screen"]}
ONCE = {"caps": [{"limit": 1, "count": "redeem"}], "priority": 2, "placements": ["feed"]}
ENDED = {"stop_after": {"convert": True, "dismiss": True}, "campaign": "spring"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house whose offers have caps; its server runs."""
    made = House(tmp_path / "house")
    tenant = make_home(made.home).tenant("default")
    with closing(tenant.open_store()) as store:
        docs = [offer("daily", "service:taxi", **DAILY), offer("once", "service:spa", **ONCE)]
        docs.append(offer("ended", "service:loan", priority=1, **ENDED))
        store.put_documents("offer", docs)
    with tenant.dna_path.open("a") as dna:
        dna.write("  dismiss: 0.1\n")
    publish_release(tenant)
    made.start()
    yield made
    made.kill()


def subject_of(house: House, name: str) -> bytes:
    with closing(Home(house.home).tenant("default").open_store()) as store:
        found = store.subject_of("app", name)
    assert found is not None
    return found


def ready(edge: EdgeClient) -> EdgeClient:
    assert edge.wait_ready(20)
    until(lambda: edge.status.genomes > 0, what="genomes on the device")
    return edge


def shown(edge: EdgeClient, name: str, placement: str = "screen") -> str:
    decision = edge.decide(HERE, placement, customer=name)
    assert decision.offer is not None
    return decision.offer.id


def caps(store: Path) -> list[CapRow]:
    with closing(DeviceStore.open(store)) as opened, opened.read() as connection:
        return read_caps(connection)[0]


def elsewhere(store: Path, subject: bytes, kind: str = "view") -> bool:
    return any(row.elsewhere and (row.subject, row.kind) == (subject, kind) for row in caps(store))


def keeps_away(edge: EdgeClient, subject: bytes) -> bool:
    room = edge._desk.room
    return "daily" in room.ledger.blocked(subject, room.clock.now_ms())


def test_once_a_day_is_once_a_day_wherever(house: House) -> None:
    lobby, bar = house.enrol("lobby", "all"), house.enrol("bar", "all")
    ann = subject_of(house, "ann")
    with EdgeClient(lobby, house.address) as one:
        ready(one)
        with EdgeClient(bar, house.address) as two:
            ready(two)
            assert shown(one, "ann") == "daily"
            until(lambda: elsewhere(bar, ann), what="the bar hears of it")
            until(lambda: keeps_away(two, ann))
            decision = two.decide(HERE, "screen", customer="ann")
            assert decision.offer is not None
            assert decision.offer.id != "daily"
            why = {loser.offer: loser.reasons for loser in decision.explain().losers}
            assert why["daily"] == ("CAPPED",)
            assert shown(two, "bob") == "daily", "another customer"
            two.flush(5)
        # The bar is closed while the lobby goes on, and the server dies.
        bob = subject_of(house, "bob")
        until(lambda: elsewhere(lobby, bob))
        until(lambda: keeps_away(one, bob))
        assert shown(one, "bob") != "daily"
        assert shown(one, "eve") == "daily"
        one.flush(5)
        house.kill()
        house.start()
        with EdgeClient(bar, house.address) as two:
            ready(two)
            until(lambda: elsewhere(bar, subject_of(house, "eve")), what="what it missed")
            until(lambda: shown(two, "eve") != "daily")
    answer = json.loads(run("genome-edge", "replay", decision.id, "--store", bar, "--json"))
    assert answer["identical"] is True


def test_redeemed_in_the_lobby_is_refused_at_the_bar(house: House) -> None:
    lobby, bar = house.enrol("lobby", "all"), house.enrol("bar", "all")
    ann = subject_of(house, "ann")
    with EdgeClient(lobby, house.address) as one, EdgeClient(bar, house.address) as two:
        ready(one)
        ready(two)
        decisions = [edge.decide(HERE, "feed", customer="ann") for edge in (one, two)]
        assert [d.offer.id if d.offer else "" for d in decisions] == ["once", "once"]
        assert one.redeem(decisions[0]).granted
        until(lambda: elsewhere(bar, ann, "redeem"), what="the bar hears of it")
        refused = two.redeem(decisions[1])
        assert (refused.granted, refused.reason) == (False, RedemptionReason.CAPPED)
        assert two.redeem(two.decide(HERE, "feed", customer="bob")).granted


def test_the_server_counts_what_the_device_counts(house: House) -> None:
    """The same events under the same claims, and nothing else."""
    store = house.enrol("lobby", "all")
    ann, tenant = subject_of(house, "ann"), Home(house.home).tenant("default")
    with EdgeClient(store, house.address) as edge:
        ready(edge)
        screen, feed = (edge.decide(HERE, p, 2, customer="ann") for p in ("screen", "feed"))
        for decision in (screen, feed):
            for kind in ("view", "view", "click", "dismiss", "buy"):
                for slot in (0, 1):
                    edge.report(decision, kind, slot=slot)
        edge.redeem(feed)
        edge.imprint("ann", "buy", offer="ended")
        edge.imprint("ann", "view", offer="ended")
        until(lambda: edge.flush(1.0) == 0)
    own = {row[:3] + row[4:7] for row in caps(store) if row.subject == ann and not row.elsewhere}
    assert {kind for _, _, kind, *_ in own} == {"view", "redeem", "dismiss", "convert"}
    assert len(own) >= 5

    def counted() -> set[tuple[object, ...]]:
        with closing(tenant.open_store()) as opened:
            return {row[:3] + row[4:7] for row in opened.cap_events_of([ann])}

    until(lambda: len(counted()) >= len(own), what="the server counts as much")
    assert counted() == own


def test_all_rows_anew_and_who_is_erased(house: House) -> None:
    lobby, bar = house.enrol("lobby", "all"), house.enrol("bar", "all")
    ann, bob = subject_of(house, "ann"), subject_of(house, "bob")
    with EdgeClient(lobby, house.address) as one:
        ready(one)
        assert [shown(one, name) for name in ("ann", "bob")] == ["daily", "daily"]
        until(lambda: one.flush(1.0) == 0)
        with EdgeClient(bar, house.address) as two:
            ready(two)
            until(lambda: elsewhere(bar, ann) and elsewhere(bar, bob))
        with closing(sqlite3.connect(bar / DATABASE)) as connection:
            connection.execute("DELETE FROM meta WHERE key = 'genome_cursor'")
            connection.execute("DELETE FROM caps")
            connection.commit()
        with EdgeClient(bar, house.address) as two:
            ready(two)
            until(lambda: elsewhere(bar, ann) and elsewhere(bar, bob), what="all of it again")
            with closing(Home(house.home).tenant("default").open_store()) as store:
                store.erase_subject(ann)
            until(lambda: ann not in {row.subject for row in (*caps(lobby), *caps(bar))})
            assert elsewhere(bar, bob)
            ledger = two._desk.room.ledger
            until(lambda: ann not in {row.subject for row in ledger.rows()})
