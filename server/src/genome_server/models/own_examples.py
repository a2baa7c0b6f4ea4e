"""A tenant's own examples, for models that were made here or elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.learning.dataset import Counts, load_examples
from genome_server.learning.examples import Examples
from genome_server.learning.job import sources_of
from genome_server.learning.survey import Sources, Survey, survey
from genome_server.log.reader import LogReader
from genome_server.offpolicy.past import Past, PastCounts, read_past
from genome_server.store.protocol import Store


def read_examples(
    tenant: Tenant, store: Store, now_ms: int, advance: Callable[..., Any]
) -> tuple[Examples, Counts]:
    """Return the examples of the log as training sees them; nothing is written, so markers that
    the vocabulary does not have yet are left out. `advance` moves a bar over two readings.

    Raises Refused where nothing has happened, or genomes were never built.
    """
    with _surveyed(tenant, store, advance, readings=2) as (sources, found):
        return load_examples(sources, found, store.vocabulary(), now_ms=now_ms, on_events=advance)


def read_decisions_too(
    tenant: Tenant, store: Store, now_ms: int, advance: Callable[..., Any]
) -> tuple[Examples, list[Past], PastCounts]:
    """Return the examples as `read_examples` does, and the decisions that can be asked about.

    `advance` moves a bar over four readings.
    """
    vocabulary = store.vocabulary()
    with _surveyed(tenant, store, advance, readings=4) as (sources, found):
        examples, _ = load_examples(sources, found, vocabulary, now_ms=now_ms, on_events=advance)
        past, counts = read_past(sources, found, vocabulary, now_ms=now_ms, on_events=advance)
    return examples, past, counts


@contextmanager
def _surveyed(
    tenant: Tenant, store: Store, advance: Callable[..., Any], *, readings: int
) -> Iterator[tuple[Sources, Survey]]:
    """The log of a tenant, read for the first time of so many."""
    if not tenant.log_path.exists():
        raise Refused("nothing has happened yet; run: genome-server import interactions FILE")
    with LogReader(tenant.log_path) as log:
        sources = sources_of(store, log)
        advance(0, total=readings * log.end())
        yield sources, survey(sources, advance)


def write_examples(folder: Path, store: Store, examples: Examples) -> dict[str, int]:
    """Write vocabulary.json, offers.parquet and examples.parquet into a folder; rows by file.

    The columns are in docs/models.md. Persons are numbers of this reading and nobody's ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = store.vocabulary()
    numbered = {
        "lineage": vocabulary.lineage.hex(),
        "newest_ms": examples.newest_ms,
        "markers": list(vocabulary),
    }
    text = json.dumps(numbered, ensure_ascii=False, indent=0)
    (folder / "vocabulary.json").write_text(f"{text}\n", "utf-8")
    table = examples.offers
    pairs = [
        (index[weight != 0], weight[weight != 0])
        for index, weight in zip(table.index, table.weight, strict=True)
    ]
    offers = pa.table(
        {
            "offer": list(table.ids),
            "markers": pa.array([index for index, _ in pairs], pa.list_(pa.int64())),
            "weights": pa.array([weight for _, weight in pairs], pa.list_(pa.float32())),
        }
    )
    pq.write_table(offers, folder / "offers.parquet")
    ragged = pa.array(examples.start, pa.int64())

    def lists(flat: Any) -> Any:
        return pa.LargeListArray.from_arrays(ragged, pa.array(flat))

    ids = np.array(table.ids, dtype=object)
    rows = pa.table(
        {
            "person": examples.person,
            "time_ms": examples.time_ms,
            "offer": pa.array(ids[examples.offer] if len(examples) else [], pa.string()),
            "success": examples.label > 0,
            "propensity": examples.propensity,
            "stands_for": examples.stands_for,
            "markers": lists(examples.index),
            "weights": lists(examples.warm),
            "stranger_weights": lists(examples.cold),
        }
    )
    pq.write_table(rows, folder / "examples.parquet")
    return {"markers": len(vocabulary), "offers": len(table.ids), "examples": len(examples)}
