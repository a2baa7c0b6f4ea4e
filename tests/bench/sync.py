"""Bytes on the wire for genomes: everything between two sockets is counted, framing included.

The customers are those of a grocer (see `journey`). A device that takes genomes is compared with
one that takes none, so that the release and the heartbeats drop out.
"""

from __future__ import annotations

import random
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np

from edge_sdk.dna.genome import Row, block_from_rows
from edge_sdk.sync.trust import FEATURES
from examples.datasets import DataSetMissing
from genome_edge.v1 import sync_pb2
from genome_server.genomes.rows import LOG_KEY, built_schema
from genome_server.home import Tenant
from genome_server.log.committer import Committer
from genome_server.store.protocol import AudienceRow, CustomerRow, GenomeRecord
from tests.bench import journey
from tests.bench.figures import Figures
from tests.e2e.house import listening_line
from tests.serving import AGREED, RawDevice, add_code, make_home, publish_release, serving

CUSTOMERS = 100_000
CHANGED = CUSTOMERS // 100
MARKERS_CHANGED = 3
QUIET_S = 2.0
OPTIONS = [("grpc.max_receive_message_length", 16 << 20)]


class Snapshot(NamedTuple):
    """Bytes of the genomes on the wire, and where they stand."""

    size: int
    cursor: bytes


def fill(tenant: Tenant, lines: journey.Lines) -> list[Row]:
    """A hundred thousand genomes; two audiences, one of them with the app's ids."""
    names = [f"customer-{number}" for number in range(CUSTOMERS)]
    with closing(tenant.open_store()) as store:
        words = store.extend_vocabulary(lines.names)
        subjects = sorted(store.subjects_of("app", names, create=True).values())
        store.put_customers(CustomerRow(subject, (), AGREED) for subject in subjects)
        for name, lookup in (("backends", True), ("kiosks", False)):
            store.put_audience(AudienceRow(name, {"all": True}, "none", lookup, bytes(32)))
            store.set_members(name, subjects)
    number = np.array([words.index(name) for name in lines.names], np.uint32)
    columns = journey.columns_of(list(journey.customers(lines, CUSTOMERS)))
    made = []
    for row, subject in zip(columns.rows(), subjects, strict=True):
        order = np.argsort(number[row.indices])
        indices, codes = number[row.indices][order], row.codes[order]
        made.append(Row(subject, AGREED, 0, indices, codes))
    put(tenant, made)
    return made


def imprinted(rows: list[Row]) -> list[Row]:
    """The rows with a few of their markers one step stronger."""
    rng = random.Random(4)
    changed = []
    for row in rows:
        codes = row.codes.copy()
        codes[rng.sample(range(len(codes)), min(MARKERS_CHANGED, len(codes)))] += 1
        changed.append(replace(row, codes=codes))
    return changed


def put(tenant: Tenant, genomes: list[Row]) -> None:
    """Put rows into the store, as a build and live increments do."""
    with closing(tenant.open_store()) as store:
        schema = built_schema(store)
        if schema is None:
            raise RuntimeError("nothing was built")
        lineage = schema.lineage(store.vocabulary())
        records = [
            GenomeRecord(
                row.subject,
                schema.epoch,
                b"",
                schema.landmark_hour + row.as_of_hour,
                block_from_rows(lineage, [row]).SerializeToString(),
                row.consents,
            )
            for row in genomes
        ]
        store.put_genomes(records, schema.epoch)
        # As a build does: else the server takes them for the genomes of a log that was lost.
        with Committer(tenant.log_path) as log:
            store.set_meta(LOG_KEY, log.incarnation.hex())


def taken(device: RawDevice, heard: bytearray, release: int, cursor: bytes = b"") -> Snapshot:
    """What a device that has the release, and its genomes up to a cursor, is sent."""
    marks = []
    commit = sync_pb2.Commit()
    for wants in (False, True):
        before = len(heard)
        stream = device.sync(
            active_release=release,
            genome_cursor=cursor,
            wants_genomes=wants,
            features=FEATURES,
        )
        if wants:
            commit = stream.transaction(timeout=300)[-1].commit
        if not stream.quiet(QUIET_S):
            raise RuntimeError("more came than one transaction")
        marks.append(len(heard) - before)
        stream.close()
    return Snapshot(marks[1] - marks[0], commit.genome_cursor)


def run(figures: Figures) -> None:
    """All rows, with and without the lookup of the app's own ids; then one per cent changed."""
    try:
        lines = journey.read_lines()
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    with tempfile.TemporaryDirectory() as name:
        home = make_home(Path(name), ())
        tenant = home.tenant("default")
        release = publish_release(tenant)
        genomes = fill(tenant, lines)
        with (
            serving(home) as house,
            listening_line(house.port) as (port, heard),
            grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel,
        ):
            device, backend = RawDevice(channel), RawDevice(channel)
            device.enrol(add_code(tenant, "kiosks"))
            backend.enrol(add_code(tenant, "backends"))
            with_ids = taken(backend, heard, release)
            full = taken(device, heard, release)
            put(tenant, imprinted(random.Random(5).sample(genomes, CHANGED)))
            changed = taken(device, heard, release, full.cursor)
    figures.add("sync.bytes_per_customer", full.size / CUSTOMERS, "B")
    figures.add("sync.with_lookup.bytes_per_customer", with_ids.size / CUSTOMERS, "B")
    figures.add("sync.delta_1pct_kb", changed.size / 1000, "KB")
