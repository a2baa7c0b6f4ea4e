"""A hotel guest looks up flights; the lobby screen offers a taxi. With the network down, too.

    python -m examples.hotel_flights

Everything is synthetic: a small town and a server on this machine. The guest has never
been at the hotel; that a taxi fits here was learned from other (made-up) guests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from edge_sdk import Context, Decision, EdgeClient
from examples.adapters import hotel, town
from examples.local_server import LocalServer, expect, parser, play, until
from examples.scenes import Scene

GUEST = "customer-001"
FLIGHTS = Context(cell=town.cell_at("hotel"), activity="flight-search", channel="kiosk")


def shown(when: str, decision: Decision) -> str:
    """Print what the screen shows; the offer's id."""
    slot = decision.slots[0]
    expect(slot.offer, f"{when}: nothing was offered ({decision.reason})")
    expect(decision.genome_used, "the guest's genome is read", str(decision.unknown))
    assert slot.offer is not None
    print(f"{when:<28} {slot.offer.content['title']:<24} score {slot.score:.2f}")
    return slot.offer.id


def train(edge: EdgeClient) -> Decision | None:
    """A decision for the guest, if it is the train."""
    decision = edge.decide(FLIGHTS, hotel.SCREEN, customer=GUEST)
    return decision if decision.offer and decision.offer.id == hotel.TRAIN else None


def story(server: LocalServer, _scene: Scene, _options: argparse.Namespace) -> None:
    """Online, offline, and back."""
    store = server.enrol("lobby-screen")
    with EdgeClient(store, server.address) as edge:
        expect(edge.wait_ready(30), "the screen has its release", str(edge.status.cause))
        until(lambda: edge.status.genomes > 0, "the screen has its genomes")

        first = edge.decide(FLIGHTS, hotel.SCREEN, customer=GUEST)
        expect(shown("online:", first) == hotel.TAXI, "a taxi is offered")

        server.kill()
        print("-- the server is killed --")
        offline = edge.decide(FLIGHTS, hotel.SCREEN, customer=GUEST)
        expect(shown("offline:", offline) == hotel.TAXI, "a taxi is still offered")

        edge.report(offline, "view")
        edge.report(offline, "dismiss")
        edge.imprint(GUEST, "buy", dna={"service:train": 1.0}, amount=12.0, currency="EUR")
        print("   the guest waves the taxi away and buys a train ticket at the desk")
        waiting = edge.flush(0.5)
        expect(waiting > 0, "events wait in the outbox while nobody takes them")
        print(f"   {waiting} events wait in the outbox")
        again = edge.decide(FLIGHTS, hotel.SCREEN, customer=GUEST)
        expect(shown("offline, a moment later:", again) == hotel.TRAIN, "the train is offered")

        server.start()
        print("-- the server is back --")
        until(lambda: edge.flush(1.0) == 0, "the outbox is drained")
        print("   the outbox is empty")

    # Another screen, which was not there when it happened, knows by way of the server.
    with EdgeClient(server.enrol("desk-screen"), server.address) as desk:
        expect(desk.wait_ready(30), "the other screen has its release", str(desk.status.cause))
        until(lambda: desk.genome(GUEST) is not None, "the other screen has the genome")
        shown("another screen:", until(lambda: train(desk), "the other screen offers the train"))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when everything happened as told, else 1."""
    return play(story, parser("examples.hotel_flights", __doc__).parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
