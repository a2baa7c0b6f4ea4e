"""Bought at till A, decided differently at kiosk B: how long that takes, over real sockets.

The server is a process of its own; till and kiosk are two enrolled devices, each with its store.
Each round another customer buys bread at the till. The kiosk is asked every millisecond until it
shows what only customers of that baker are offered.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path

from edge_sdk import Context, EdgeClient
from tests.bench.figures import Figures
from tests.e2e.house import House, until
from tests.serving import make_home, offer, publish_release

ROUNDS = 100
PATIENCE_S = 30.0
MOMENT = Context(place="hotel")


def prepare(house: House, customers: list[str]) -> None:
    """A published tenant with one offer for everybody, and one for customers of the baker."""
    tenant = make_home(house.home, customers).tenant("default")
    with closing(tenant.open_store()) as store:
        name, document = offer("brunch", "brand:mill", all_of=["brand:mill"], priority=1)
        store.put_documents("offer", [(name, document)])
    publish_release(tenant)


def seconds_until_known(till: EdgeClient, kiosk: EdgeClient, customer: str) -> float:
    """From the purchase at the till to the kiosk's other decision."""

    def shown() -> str:
        decision = kiosk.decide(MOMENT, "feed", customer=customer)
        return decision.offer.id if decision.offer is not None else ""

    if shown() == "brunch":
        raise RuntimeError("the kiosk knew before anything was bought")
    started = time.perf_counter()
    till.imprint(customer, "buy", product="bread", amount=3.5, currency="EUR")
    while shown() != "brunch":
        if time.perf_counter() - started > PATIENCE_S:
            raise RuntimeError(f"the kiosk did not hear of it: {till.status}; {kiosk.status}")
        time.sleep(0.001)
    return time.perf_counter() - started


def wait_for_genomes(edge: EdgeClient, number: int) -> None:
    """Return when the device has them."""
    until(lambda: edge.status.genomes == number, what="genomes")


def run(figures: Figures) -> None:
    """A hundred purchases, one after the other."""
    customers = [f"guest-{number}" for number in range(ROUNDS + 5)]
    with tempfile.TemporaryDirectory() as name:
        house = House(Path(name))
        prepare(house, customers)
        house.start()
        try:
            stores = [house.enrol(device, audience="all") for device in ("till", "kiosk")]
            with EdgeClient(stores[0]) as till, EdgeClient(stores[1]) as kiosk:
                for edge in (till, kiosk):
                    wait_for_genomes(edge, len(customers))
                taken = [seconds_until_known(till, kiosk, customer) for customer in customers]
        finally:
            house.kill()
    # The first ones open connections.
    figures.quantiles("loop.freshness", [round(one * 1e9) for one in taken[5:]], "ms")
