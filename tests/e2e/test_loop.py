"""The whole loop over real sockets and files, with the server killed in between."""

from __future__ import annotations

import json
from contextlib import closing

from edge_sdk import Context, EdgeClient
from edge_sdk.clock import wall_ms
from edge_sdk.dna.genome import Genome, Row
from edge_sdk.store.device import DeviceStore
from genome_server.genomes.rows import row_of
from genome_server.home import Home
from tests.e2e.house import House, listening_line, run, until

AT_THE_HOTEL = Context(place="hotel", activity="flight-search")


def first_guest(house: House) -> str:
    """A customer who agreed to personalisation."""
    with (house.root / "town" / "customers.jsonl").open() as lines:
        for line in lines:
            customer = json.loads(line)
            if "personalisation" in customer.get("consent", []):
                return str(customer["id"])
    raise AssertionError("the town has nobody who agreed")


def test_the_loop_survives_a_killed_server(house: House) -> None:
    house.start()
    store = house.enrol("lobby")
    guest = first_guest(house)
    with EdgeClient(store, house.address) as edge:
        assert edge.wait_ready(20)
        until(lambda: edge.status.genomes > 0, what="genomes on the device")
        first = edge.decide(AT_THE_HOTEL, "lobby-screen", customer=guest)
        assert first.offer is not None
        assert first.offer.id == "taxi-to-airport"

        house.kill()
        offline = edge.decide(AT_THE_HOTEL, "lobby-screen", customer=guest)
        assert offline.offer is not None
        assert offline.offer.id == "taxi-to-airport"
        edge.report(offline, "view")
        edge.report(offline, "redeem", event_id="ride-1")
        edge.report(offline, "redeem", event_id="ride-1")  # said twice is once
        edge.imprint(guest, "buy", dna={"service:taxi": 1.0}, amount=52.0, currency="EUR")
        assert edge.flush(0.3) > 0, "nobody is there to take the events"

        before = house.server_json("customers", "show", guest)
        house.start()
        until(lambda: edge.flush(1.0) == 0, what="outbox drained")
        until(
            lambda: house.server_json("customers", "show", guest)["genome"] != before["genome"],
            what="genome changed by what happened",
        )
        after = edge.decide(AT_THE_HOTEL, "lobby-screen", customer=guest)
        assert after.offer is None or after.offer.id != "taxi-to-airport", "the ride is taken"

    # Exactly once in the log, whatever was repeated.
    report = house.server_json("status")
    assert report["log"]["outcomes"]["redeem"] == 1


def test_a_recorded_decision_is_replayed(house: House) -> None:
    house.start()
    store = house.enrol("lobby")
    with EdgeClient(store, house.address) as edge:
        assert edge.wait_ready(20)
        made = [
            edge.decide(AT_THE_HOTEL, "feed", 3, customer=first_guest(house)) for _ in range(20)
        ]
        edge.flush(5)
    for decision in made[-3:]:
        answer = json.loads(run("genome-edge", "replay", decision.id, "--store", store, "--json"))
        assert answer["identical"] is True


def test_bought_at_the_till_decided_differently_at_the_kiosk(house: House) -> None:
    house.start()
    till_store, kiosk_store = house.enrol("till"), house.enrol("kiosk")
    guest = first_guest(house)
    with (
        EdgeClient(till_store, house.address) as till,
        EdgeClient(kiosk_store, house.address) as kiosk,
    ):
        assert till.wait_ready(20)
        assert kiosk.wait_ready(20)
        until(lambda: kiosk.status.genomes and till.status.genomes)
        decision = till.decide(AT_THE_HOTEL, "lobby-screen", customer=guest)
        before = kiosk.genome(guest)
        till.report(decision, "redeem", durable=True)
        until(lambda: kiosk.genome(guest) != before, what="the kiosk knows what the till sold")


def server_row(house: House, guest: str) -> Row:
    """The row that the server encoded."""
    with closing(Home(house.home).tenant().open_store()) as store:
        subject = store.subject_of("app", guest)
        assert subject is not None
        record = store.genome(subject)
    assert record is not None
    return row_of(record)


def test_a_genome_is_the_servers_once_the_server_caught_up(house: House) -> None:
    house.start()
    till_store, kiosk_store = house.enrol("till"), house.enrol("kiosk")
    guest = first_guest(house)
    with (
        EdgeClient(till_store, house.address) as till,
        EdgeClient(kiosk_store, house.address) as kiosk,
    ):
        until(lambda: kiosk.status.genomes and till.status.genomes)
        before = till.genome(guest)
        assert before
        known = next(iter(before))  # a marker that is new has no name before the next release
        till.imprint(guest, "buy", dna={"service:taxi": 1.0, known: 0.5}, amount=52.0)
        till.imprint(guest, "view", dna={"service:taxi": 0.25})
        assert till.genome(guest) != before, "a device knows at once"
        until(lambda: till.flush(1.0) == 0)
        # The till's own imprints give way to the row that includes them; the kiosk has only that.
        until(
            lambda: till.genome(guest) == kiosk.genome(guest) != before,
            what="what the till imprinted counts once on both",
        )
        release = till._desk.room.live.release
        assert release is not None
        while True:  # the hour may just pass
            hour = wall_ms() // 3_600_000
            held = till.genome(guest), kiosk.genome(guest)
            if wall_ms() // 3_600_000 == hour:
                break
    there = server_row(house, guest)
    named = dict(Genome(there, release.schema, release.vocabulary).strengths(hour))
    assert held == (named, named)
    for path in (till_store, kiosk_store):
        with closing(DeviceStore.open(path)) as store:
            view = store.genomes()
            subject = view.subject_of(guest)
            assert subject is not None
            assert view.row(subject) == there, "the same markers, codes, hour and consents"


def test_no_coordinate_in_messages_files_or_logs(house: House) -> None:
    import struct

    lat, lng = 40.758896, -73.985130
    house.start()
    with listening_line(house.port) as (port, heard):
        store = house.enrol("walker", server=f"127.0.0.1:{port}")
        with EdgeClient(store, f"127.0.0.1:{port}") as edge:
            assert edge.wait_ready(20)
            decision = edge.decide(Context(lat=lat, lng=lng, activity="walk"), "feed", 2)
            edge.report(decision, "view")
            edge.imprint(first_guest(house), "view", dna={"service:taxi": 1.0})
            until(lambda: edge.flush(1.0) == 0)
    assert len(heard) > 1000, "the line did listen"
    needles = [
        needle
        for number in (lat, lng)
        for needle in (
            f"{number:.4f}".encode(),
            struct.pack("<d", number),
            struct.pack(">d", number),
            struct.pack("<f", number),
            struct.pack(">f", number),
        )
    ]
    for needle in needles:
        assert needle not in heard
        for path in house.tenant_files():
            assert needle not in path.read_bytes(), path
