"""The log in columns, with the votes that the aggregation works out, is its events one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.imprint import ilog2_q8
from edge_sdk.dna.schema import MAX_WEIGHT_Q24, DnaSchema
from edge_sdk.errors import LandmarkExhausted
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import dna_pb2, event_pb2
from genome_server.genomes import tables
from genome_server.genomes.columns import ColumnReader, ThingDna
from genome_server.genomes.events import (
    ConsentSaid,
    EventReader,
    Imprint,
    LinkSaid,
    MarkerVote,
    Skip,
)
from genome_server.log.reader import LogBatch
from tests.unit import test_genome_reading as bodies

_Effects = tuple[list[Imprint], list[tuple[int, ConsentSaid | LinkSaid]], Counter[Skip]]


def one_by_one(batches: Sequence[LogBatch]) -> _Effects:
    single = bodies.reader()
    effects = [(f.offset, single.read(f)) for batch in batches for f in batch.frames()]
    return (
        [e for _, e in effects if isinstance(e, Imprint)],
        [(at, e) for at, e in effects if isinstance(e, ConsentSaid | LinkSaid)],
        Counter(e for _, e in effects if isinstance(e, Skip)),
    )


class InTables:
    """A `ColumnReader`, whose tables are taken apart again."""

    def __init__(self, schema: DnaSchema, events: EventReader) -> None:
        self._reader = ColumnReader(schema, events)
        self._dna: list[ThingDna] = []
        self._kinds = {row["kind"]: row for row in tables.kinds(schema).to_pylist()}
        self._landmark = schema.landmark_hour

    def read(self, batches: Sequence[LogBatch]) -> _Effects:
        told = self._reader.read(batches)
        self._dna += self._reader.fresh_dna()
        once = {row["event"]: key(row["id_high"], row["id_low"]) for row in told.once.to_pylist()}
        imprints = []
        for row in told.interactions.to_pylist():
            kind, log2_q8 = self._kinds[row["kind"]], ilog2_q8(1 + row["units"])
            weight = min(kind["weight"] + (kind["money"] * log2_q8 >> 8), MAX_WEIGHT_Q24)
            votes = tuple(
                MarkerVote(one.marker, one.half_life, weight * one.salience >> 8)
                for one in self._dna
                if one.thing == row["thing"]
            )
            who = list(self._reader.people)[row["who"]]
            hour = row["hours"] + self._landmark
            imprints.append(Imprint(who, hour, votes, once.get(row["event"])))
        return imprints, told.words, told.skips


def key(high: int, low: int) -> bytes:
    return tables.keys(np.array([high]), np.array([low])).tobytes()


@settings(max_examples=60, deadline=None)
@given(frames=bodies.FRAMES, cut=st.integers(1, 5))
def test_they_are_the_events_one_by_one(
    frames: Sequence[tuple[bytes, int, int, bytes]], cut: int
) -> None:
    batches = bodies.batches_of(frames, cut)
    try:
        expected = one_by_one(batches)
    except LandmarkExhausted:
        return  # what is built of them says so: test_aggregate
    reader = InTables(bodies.SCHEMA, bodies.reader())
    assert reader.read(batches) == expected
    assert reader.read(batches) == expected  # now that it knows what was done to what


def bought(**more: object) -> tuple[bytes, int, int, bytes]:
    said = event_pb2.Interaction(kind="buy", **more)  # type: ignore[arg-type]
    body = event_pb2.Event(interaction=said).SerializeToString()
    at_ms = bodies.NOW_MS - 50 * bodies.HOUR_MS
    return b"a" * 16, int(FrameKind.INTERACTION), at_ms, body


def test_a_thing_has_one_number_whatever_was_paid() -> None:
    reader = ColumnReader(bodies.SCHEMA, bodies.reader())
    frames = [bought(product="soap", amount_micros=n * 1_234_567) for n in range(50)]
    told = reader.read(bodies.batches_of(frames, 50))
    assert set(told.interactions["thing"].to_pylist()) == {0}
    assert told.interactions["units"].to_pylist() == [n * 1_234_567 // 10**6 for n in range(50)]
    assert len(reader.fresh_dna()) == len(bodies.DNA["soap"])
    assert reader.fresh_dna() == []


def test_what_is_imprinted_by_itself_is_a_thing_for_each_vote() -> None:
    reader = ColumnReader(bodies.SCHEMA, bodies.reader())
    dna = [dna_pb2.WeightedMarker(marker="a:b", salience_q8=300)]
    frames = [bought(dna=dna, amount_micros=n * 4_000_000) for n in (0, 1, 1, 0)]
    told = reader.read(bodies.batches_of(frames, 4))
    assert told.interactions["thing"].to_pylist() == [0, 1, 1, 0]
    assert set(told.interactions["kind"].to_pylist()) == {tables.AS_IT_IS}
    assert len(reader.fresh_dna()) == 2
