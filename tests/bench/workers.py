"""What two million customers cost eight processes that decide from one store, beyond none.

Memory is what the processes have in their proportional share (PSS): a page that all eight have
mapped counts once. Each process is an app with a client of its own, and decides for customers at
random before it is measured.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from edge_sdk import Context, EdgeClient
from edge_sdk.dna.columns import Columns, Sizes
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.genome_files import Files, write_files
from edge_sdk.store.meta import set_meta
from examples.datasets import DataSetMissing
from genome_edge.v1 import dna_pb2
from tests.bench import journey
from tests.bench.figures import Figures
from tests.bench.stage import PLACEMENT, write_bundle

CUSTOMERS = 2_000_000
WORKERS = 8
DECISIONS = 2_000
_KINDS = 50_000


def run(figures: Figures) -> None:
    """Eight processes on a store without customers, then on a full one."""
    try:
        lines = journey.read_lines()
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    kinds = journey.columns_of(list(journey.customers(lines, _KINDS)))
    with tempfile.TemporaryDirectory() as name:
        bundle = write_bundle(Path(name) / "bundle", offers=1_000, genomes=1)
        stores = [Path(name) / which for which in ("none", "full")]
        for store in stores:
            with EdgeClient(store, bundle=bundle) as edge:
                if not edge.wait_ready(60):
                    raise RuntimeError(f"not ready: {edge.status}")
        none = measure(stores[0], [None] * WORKERS * DECISIONS)
        full = measure(stores[1], fill(stores[1], kinds))
    figures.add("store.workers_8_mb", (full - none) / 1e6, "MB")


def fill(path: Path, kinds: Columns) -> list[str | None]:
    """Put two million customers into a store, and as many ids of an app; returns some of them."""
    store = DeviceStore.open(path)
    active = store.active_release()
    assert active is not None
    rng = np.random.default_rng(9)
    high = np.sort(rng.integers(0, 1 << 64, CUSTOMERS, np.uint64))
    low = rng.integers(0, 1 << 64, CUSTOMERS, np.uint64)
    times = CUSTOMERS // len(kinds)
    blocks = (
        Columns(
            high[at : at + len(kinds)],
            low[at : at + len(kinds)],
            kinds.consents,
            kinds.as_of_hours,
            kinds.starts,
            kinds.indices,
            kinds.codes,
        )
        for at in range(0, CUSTOMERS, len(kinds))
    )
    sizes = Sizes(CUSTOMERS, times * len(kinds.indices), CUSTOMERS, wide=False)
    hashes = np.sort(rng.integers(0, 1 << 64, CUSTOMERS, np.uint64))
    lookups = (hashes, hashes, high, low)
    files = write_files(path / "genomes", active.manifest.lineage, sizes, blocks, [lookups])
    put(store, files, active.manifest.lineage)
    store.close()
    some = np.random.default_rng(3).choice(CUSTOMERS, WORKERS * DECISIONS)
    return [f"{int(high[at]):016x}{int(low[at]):016x}" for at in some]


def put(store: DeviceStore, files: Files, rows_of: dna_pb2.Lineage) -> None:
    """Make files the current ones, as a commit of all rows does."""
    from edge_sdk.store.genomes import GenomeShelf

    with store.write() as connection:
        lineage = rows_of.SerializeToString()
        GenomeShelf(store.database, store.path).replace(connection, files, genome_lineage=lineage)
        set_meta(connection, lookup_key=bytes(32))


def measure(path: Path, customers: Sequence[str | None]) -> int:
    """Bytes that eight processes have in all, each with its share of the decisions made."""
    context = multiprocessing.get_context("spawn")
    shares = [customers[number::WORKERS] for number in range(WORKERS)]
    pipes = [context.Pipe() for _ in shares]
    workers = [
        context.Process(target=work, args=(path, share, pipe[1]))
        for share, pipe in zip(shares, pipes, strict=True)
    ]
    for worker in workers:
        worker.start()
    for mine, _ in pipes:
        mine.recv()
    total = sum(proportional(worker.pid or 0) for worker in workers)
    for mine, _ in pipes:
        mine.send(None)
    for worker in workers:
        worker.join()
    return total


def work(path: Path, customers: Sequence[str | None], pipe: Connection) -> None:
    """One process: decides for customers, says so, and waits until it was measured."""
    with EdgeClient(path) as edge:
        if not edge.wait_ready(60):
            raise RuntimeError(f"not ready: {edge.status}")
        for customer in customers:
            decision = edge.decide(Context(activity="browse"), PLACEMENT, customer=customer)
            if decision.offer is None or decision.unknown:
                raise RuntimeError(f"{customer}: {decision}")
        pipe.send(len(customers))
        pipe.recv()


def proportional(pid: int) -> int:
    """The proportional set size of a process, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not say")
