"""A list of 20,000 customers with genomes and 1,000 eligible offers: decided dry, and logged."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path

from genome_server.bulk.order import Order
from genome_server.bulk.run import decide_list
from tests.bench.figures import Figures
from tests.serving import make_home, offer, publish_release

CUSTOMERS = 20_000
OFFERS = 1_000


def run(figures: Figures) -> None:
    """From the list to the result on disk; decisions a second, by the clock and by CPU time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tenant = make_home(folder, [f"c{n}" for n in range(CUSTOMERS)]).tenant("default")
        with closing(tenant.open_store()) as store:
            cap = [{"limit": 3, "window_hours": 24}]
            store.put_documents(
                "offer",
                [
                    offer(
                        f"o{n}", f"service:s{n % 97}", value=1.0 + n % 7, caps=cap if n % 3 else []
                    )
                    for n in range(OFFERS)
                ],
            )
        publish_release(tenant)
        for kind, dry in (("dry", True), ("logged", False)):
            order = Order(
                folder / f"{kind}.parquet", everybody=True, placement="screen", dry_run=dry
            )
            begun, used = time.perf_counter(), time.process_time()
            with closing(tenant.open_store()) as store:
                outcome = decide_list(tenant, store, order)
            took, used = time.perf_counter() - begun, time.process_time() - used
            assert outcome.decided == outcome.genomes == CUSTOMERS
            figures.add(f"bulk.{kind}.customers_per_s", CUSTOMERS / took, "1/s")
            figures.add(f"bulk.{kind}.customers_per_cpu_s", CUSTOMERS / used, "1/s")
