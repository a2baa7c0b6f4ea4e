"""A device receives its audience and nothing else; consent is looked at first."""

from __future__ import annotations

import json

from edge_sdk import Context, EdgeClient, Purpose
from tests.e2e.house import House, until

MOMENT = Context(place="hotel", activity="flight-search")


def customers(house: House) -> list[dict[str, object]]:
    lines = (house.root / "town" / "customers.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def agreeing(house: House) -> list[str]:
    return [str(c["id"]) for c in customers(house) if "personalisation" in c.get("consent", [])]  # type: ignore[operator]


def wait_for_genomes(edge: EdgeClient, number: int) -> None:
    until(lambda: edge.status.genomes == number, what=f"its {number} genomes")


def wait_for(edge: EdgeClient, guest: str) -> None:
    until(lambda: edge.genome(guest) is not None, what=f"the genome of {guest}")


def test_two_devices_with_different_audiences(house: House) -> None:
    left, right = agreeing(house)[:3], agreeing(house)[3:6]
    for name, ids in (("left", left), ("right", right)):
        file = house.root / f"{name}.txt"
        file.write_text("\n".join(ids))
        house.server("audiences", "add", name, "--customers", file, "--lookup")
    house.start()
    with (
        EdgeClient(house.enrol("l", "left"), house.address) as one,
        EdgeClient(house.enrol("r", "right"), house.address) as two,
    ):
        for edge in (one, two):
            assert edge.wait_ready(20)
            wait_for_genomes(edge, 3)
        assert one.decide(MOMENT, "feed", customer=left[0]).unknown == ()
        stranger = one.decide(MOMENT, "feed", customer=right[0])
        assert stranger.unknown, "a customer of another audience is nobody here"
        assert one.genome(right[0]) is None
        assert two.genome(right[0]) is not None


def test_without_consent_there_is_no_genome(house: House) -> None:
    house.start()
    silent = next(str(c["id"]) for c in customers(house) if not c.get("consent"))
    with EdgeClient(house.enrol("d"), house.address) as edge:
        assert edge.wait_ready(20)
        until(lambda: edge.status.genomes == len(agreeing(house)))
        assert edge.genome(silent) is None
        assert edge.decide(MOMENT, "feed", customer=silent).offer is not None, (
            "the moment still counts"
        )


def test_consent_withdrawn_reaches_server_and_every_device(house: House) -> None:
    house.start()
    guest = agreeing(house)[0]
    with (
        EdgeClient(house.enrol("a"), house.address) as here,
        EdgeClient(house.enrol("b"), house.address) as there,
    ):
        for edge in (here, there):
            assert edge.wait_ready(20)
            wait_for(edge, guest)
        here.set_consent(guest, Purpose.PERSONALISATION, False)
        assert here.genome(guest) is None, "at once, before any network"
        until(lambda: there.genome(guest) is None, what="withdrawn on the other device too")
        here.set_consent(guest, Purpose.PERSONALISATION, True)
        assert here.genome(guest) is not None or here.status is not None
        until(lambda: there.genome(guest) is not None, what="granted again")
