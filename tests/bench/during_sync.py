"""Decisions that arrive at 200 a second while this device syncs, reports and swaps releases.

The arrivals are an open loop: their times are fixed beforehand, and a decision's latency counts
from the time at which it was due, so that one that is late makes the next ones late, too. First
nothing else happens on the device; then the same again while a till changes genomes, releases
follow each other, and every decision is reported with an outcome. The server, the till and the
publisher are other processes and, being other machines in the field, give way to this one. The
process is tuned (`tune_process`), alone as well as not, as an app's that cares would be.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from edge_sdk import Context, EdgeClient, tune_process
from tests.bench.figures import Figures
from tests.e2e.house import House, until

RATE: float = 200.0
SECONDS: float = 20.0
OFFERS: int = 1_000
CUSTOMERS: int = 1_000
PUBLISH_EVERY_S: float = 2.0
BOUGHT_PER_S: float = 20.0
NICE: int = 10
WORLD = (sys.executable, "-m", "tests.bench.during_sync")
CONTEXTS = [
    Context(place="hotel", attributes={"weather": weather}) for weather in ("sunny", "rain")
]


def guests() -> list[str]:
    """The app's own ids."""
    return [f"guest-{number}" for number in range(CUSTOMERS)]


def numbered(number: int, title: str = "") -> tuple[str, dict[str, object]]:
    """One of the offers; another title makes another catalogue."""
    from tests.serving import offer  # no device has the server's libraries in its memory

    name, document = offer(f"offer-{number:04d}", f"service:s{number % 200}")
    return name, document | {"content": {"title": title or name}}


def prepare(home: Path) -> None:
    """A published tenant with the offers and the customers."""
    from tests.serving import make_home, publish_release

    tenant = make_home(home, guests()).tenant("default")
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [numbered(number) for number in range(OFFERS)])
    publish_release(tenant)


def bustle(home: Path, till_store: Path) -> None:
    """The rest of the world, until it is told to end: purchases, and one release after another."""
    from genome_server.home import Home
    from genome_server.releases.publish import publish

    rng = random.Random(3)
    tenant = Home(home).tenant("default")
    names = guests()
    published = 0
    next_release = time.monotonic()
    with EdgeClient(till_store) as till:
        till.wait_ready(60)
        while True:
            till.imprint(rng.choice(names), "buy", product="bread", amount=3.5, currency="EUR")
            if time.monotonic() >= next_release:
                published += 1
                with closing(tenant.open_store()) as store:
                    store.put_documents("offer", [numbered(published % OFFERS, f"{published}")])
                publish(tenant, untrained=True)
                next_release = time.monotonic() + PUBLISH_EVERY_S
            time.sleep(1 / BOUGHT_PER_S)


def latencies(edge: EdgeClient, seconds: float, *, report: bool) -> list[int]:
    """Nanoseconds from when each decision was due to when it was made."""
    names = guests()
    taken: list[int] = []
    gap = round(1e9 / RATE)
    due = time.perf_counter_ns() + gap
    for number in range(int(seconds * RATE)):
        wait = due - time.perf_counter_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        decision = edge.decide(CONTEXTS[number % 2], "screen", customer=names[number % CUSTOMERS])
        taken.append(time.perf_counter_ns() - due)
        if report:
            edge.report(decision, "view")
        due += gap
    return taken


def run(figures: Figures) -> None:
    """Alone, then with everything at once."""
    with tempfile.TemporaryDirectory() as name:
        house = House(Path(name))
        subprocess.run([*WORLD, str(house.home)], check=True)
        house.start()
        assert house.process is not None
        os.setpriority(os.PRIO_PROCESS, house.process.pid, NICE)
        others: subprocess.Popen[bytes] | None = None
        try:
            stores = [house.enrol(device, audience="all") for device in ("kiosk", "till")]
            with EdgeClient(stores[0]) as edge:
                until(lambda: edge.status.genomes == CUSTOMERS, what="genomes")
                edge.wait_ready(60)
                tune_process()
                latencies(edge, 2, report=True)
                edge.flush(10)
                alone = latencies(edge, SECONDS, report=False)
                others = subprocess.Popen(
                    ["nice", "-n", str(NICE), *WORLD, str(house.home), str(stores[1])]
                )
                first = edge.status.release
                until(lambda: edge.status.release > first, 60, what="another release")
                before = edge.status.release
                during = latencies(edge, SECONDS, report=True)
                swaps = edge.status.release - before
        finally:
            if others is not None:
                others.send_signal(signal.SIGKILL)
                others.wait()
            house.kill()
    if swaps < SECONDS / PUBLISH_EVERY_S / 4:
        raise RuntimeError(f"only {swaps} releases came while decisions were measured")
    figures.add("decide.during_sync.release_swaps", swaps, "swaps")
    figures.quantiles("decide.during_sync.alone", alone)
    figures.quantiles("decide.during_sync", during)
    p99 = [sorted(taken)[int(len(taken) * 0.99)] for taken in (alone, during)]
    figures.add("decide.during_sync.p99_ratio", p99[1] / p99[0], "ratio")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        prepare(Path(sys.argv[1]))
    else:
        bustle(Path(sys.argv[1]), Path(sys.argv[2]))
