"""Bought at till A, decided differently at kiosk B: how long that takes, over real sockets.

The server is a process of its own; till and kiosk are two enrolled devices, each with its store.
Each round another customer buys bread at the till. The kiosk is asked every millisecond until it
shows what only customers of that baker are offered. That is done while nothing else goes on, while
other devices report a thousand events a second, and again after the server was away.
"""

from __future__ import annotations

import multiprocessing as mp
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import grpc

from edge_sdk import Context, EdgeClient
from genome_server.home import Home
from tests.bench.figures import Figures
from tests.e2e.house import House, until
from tests.serving import (
    RawDevice,
    add_code,
    frames,
    interaction,
    make_home,
    offer,
    publish_release,
)

ROUNDS = 100
WARM_UP = 5
#: Events a second beside what is measured, and in how many batches a second they come.
EVENTS = 1_000
BATCHES = 20
OTHERS = 2_000
AWAY_S = 5.0
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


@contextmanager
def others(house: House) -> Iterator[None]:
    """Other customers' events, a thousand a second, from another process."""
    tenant = Home(house.home).tenant("default")
    context = mp.get_context("spawn")
    stop, going = context.Event(), context.Event()
    with closing(tenant.open_store()) as store:
        names = [f"other-{number}" for number in range(OTHERS)]
        subjects = list(store.subjects_of("app", names).values())
    code = add_code(tenant)
    process = context.Process(target=report, args=(house.address, code, subjects, going, stop))
    process.start()
    try:
        if not going.wait(PATIENCE_S):
            raise RuntimeError("nobody reports")
        yield
    finally:
        stop.set()
        process.join(PATIENCE_S)


def report(address: str, code: str, subjects: list[bytes], going: Event, stop: Event) -> None:
    """Report views of one customer after the other until told to stop."""
    size, sequence = EVENTS // BATCHES, 1
    with grpc.insecure_channel(address) as channel:
        device = RawDevice(channel)
        device.enrol(code)
        due = time.monotonic()
        while not stop.wait(max(due - time.monotonic(), 0.0)):
            due += 1 / BATCHES
            batch = [
                interaction(
                    subjects[(sequence + i) % len(subjects)], "view", "soap", f"o{sequence + i}"
                )
                for i in range(size)
            ]
            device.report(sequence, frames(sequence, *batch), sequence + size - 1)
            sequence += size
            going.set()


def measure(
    figures: Figures, name: str, till: EdgeClient, kiosk: EdgeClient, customers: list[str]
) -> None:
    """One purchase of each customer; the first ones open connections."""
    taken = [seconds_until_known(till, kiosk, customer) for customer in customers]
    figures.quantiles(name, [round(one * 1e9) for one in taken[WARM_UP:]], "ms")


def outage(figures: Figures, house: House, till: EdgeClient, kiosk: EdgeClient, name: str) -> None:
    """The server goes, somebody buys, and the server comes back."""
    house.kill()
    till.imprint(name, "buy", product="bread", amount=3.5, currency="EUR")
    time.sleep(AWAY_S)
    house.start()
    back = time.perf_counter()

    def known() -> bool:
        decision = kiosk.decide(MOMENT, "feed", customer=name)
        return decision.offer is not None and decision.offer.id == "brunch"

    until(known, PATIENCE_S, "the kiosk hears of what was bought meanwhile")
    figures.add("loop.after_outage.caught_up_s", time.perf_counter() - back, "s")


def run(figures: Figures) -> None:
    """A hundred purchases, one after the other, in each of three situations."""
    rounds = ROUNDS + WARM_UP
    customers = [f"guest-{number}" for number in range(3 * rounds + 1)]
    with tempfile.TemporaryDirectory() as name:
        house = House(Path(name))
        prepare(house, [*customers, *(f"other-{number}" for number in range(OTHERS))])
        house.start()
        try:
            stores = [house.enrol(device, audience="all") for device in ("till", "kiosk")]
            with EdgeClient(stores[0]) as till, EdgeClient(stores[1]) as kiosk:
                for edge in (till, kiosk):
                    wait_for_genomes(edge, len(customers) + OTHERS)
                measure(figures, "loop.quiet.freshness", till, kiosk, customers[:rounds])
                with others(house):
                    time.sleep(1.0)
                    measure(figures, "loop.freshness", till, kiosk, customers[rounds : 2 * rounds])
                outage(figures, house, till, kiosk, customers[-1])
                with others(house):
                    left = customers[2 * rounds : 3 * rounds]
                    measure(figures, "loop.after_outage.freshness", till, kiosk, left)
        finally:
            house.kill()
