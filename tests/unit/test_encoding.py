"""Decisions as bytes: whatever way is taken, they say what the record says."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.clock import Stamp
from edge_sdk.context import Context
from edge_sdk.decision import Tier
from edge_sdk.dna.genome import Genome
from edge_sdk.engine.decide import decide
from edge_sdk.engine.record import Record, coarse
from edge_sdk.engine.release import Release, load_bundle
from edge_sdk.engine.withheld import Terms
from edge_sdk.errors import TrustError
from edge_sdk.outbox import encoding
from edge_sdk.outbox.encoding import bodies
from genome_edge.v1 import event_pb2, release_pb2
from tests.bench.stage import HOUR_MS, PERSONALISATION, PLACEMENT, rows, vocabulary, write_bundle

STAMP = Stamp(1_700_000_000_000, 5_000_000, bytes(range(16)), -70_000)
OFFERS = 400


@cache
def release() -> Release:
    with TemporaryDirectory() as folder:
        bundle = load_bundle(write_bundle(Path(folder, "bundle"), offers=OFFERS).read_bytes())
    manifest = release_pb2.Manifest.FromString(bundle.signed.manifest)
    return Release.from_parts(manifest, bundle.parts)


@cache
def genome() -> Genome:
    return Genome(rows(1, vocabulary())[0], release().schema, vocabulary())


def said(record: Record, stamp: Stamp, private: bool) -> tuple[Any, Any]:
    """The plain way: everything into a message, and the coarse form out of it."""
    full = record.to_proto()
    if private:
        del full.genome_indices[:]
        del full.genome_weights[:]
    time = stamp.to_proto()
    return (
        event_pb2.Event(time=time, decision=coarse(full)),
        event_pb2.Event(time=time, decision=full),
    )


def check(record: Record, stamp: Stamp = STAMP, private: bool = False) -> None:
    found = [event_pb2.Event.FromString(body) for body in bodies(record, stamp, private)]
    assert found == list(said(record, stamp, private))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    slots=st.integers(1, 12),
    cell=st.sampled_from([None, "8a2a1072b59ffff", "8001fffffffffff"]),
    activity=st.sampled_from([None, "browse", "never heard of"]),
    ago_s=st.sampled_from([None, 0.0, 300.0, 3_000.0]),
    known=st.booleans(),
    private=st.booleans(),
    blocked=st.sets(st.integers(0, OFFERS - 1).map("offer-{:07d}".format), max_size=3),
    rooms=st.sets(st.integers(0, OFFERS - 1), max_size=3),
    placement=st.sampled_from([PLACEMENT, PLACEMENT, "elsewhere"]),
    tier=st.sampled_from(list(Tier)),
    offset=st.sampled_from([None, 0, 86_400_000, -3]),
)
def test_every_way_says_the_same(
    seed: int, slots: int, cell: str | None, activity: str | None, ago_s: float | None,
    known: bool, private: bool,
    blocked: set[str], rooms: set[int], placement: str, tier: Tier, offset: int | None,
) -> None:  # fmt: skip
    _, record = decide(
        release(),
        Context(cell=cell, activity=activity, recent=[] if ago_s is None else [("search", ago_s)]),
        placement,
        slots,
        genome=genome() if known else None,
        consents=PERSONALISATION if known else 0,
        blocked=frozenset(blocked),
        rooms={
            f"campaign-{n % 2}": ((1 + n % 3, frozenset({release().catalogue.ids[n]})),)
            for n in rooms
        },
        seed=seed,
        terms=Terms(tier),
        now_ms=STAMP.wall_ms - seed % HOUR_MS,
        decision_id=seed.to_bytes(16, "little"),
    )
    check(record, STAMP._replace(offset_ms=offset), private)


def test_the_common_form_is_the_one_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _, record = decide(
        release(), Context(activity="browse"), PLACEMENT, genome=genome(), consents=PERSONALISATION
    )
    expected = said(record, STAMP, False)
    monkeypatch.setattr(Record, "to_proto", lambda self: pytest.fail("the slow way"))
    found = [event_pb2.Event.FromString(body) for body in bodies(record, STAMP, False)]
    assert found == list(expected)
    assert found[1].decision.genome_indices
    assert np.frombuffer(found[1].decision.scores, "<i4").tolist() == record.scores.tolist()  # type: ignore[union-attr]


def test_what_is_reported_says_how_strong_the_moment_was() -> None:
    context = Context(
        activity="browse", recent=[("search", 1_800)]
    )  # a half-life of activities ago
    _, record = decide(release(), context, PLACEMENT)
    for body in bodies(record, STAMP, False):
        told = event_pb2.Event.FromString(body).decision
        saliences = dict(zip(told.context_markers, told.context_saliences_q8, strict=True))
        assert saliences["activity:browse"] == 256
        assert saliences["activity:search"] == 64  # halved once by time, once by what goes on now


def test_a_decision_without_release_or_model_is_encoded() -> None:
    check(decide(None, Context(), PLACEMENT, 2)[1])
    broken = release().renewed()

    def refuse() -> Any:
        raise TrustError("no", "MODEL")

    broken._make_scorer = refuse
    check(decide(broken, Context(), PLACEMENT)[1])


def test_what_is_found_again_is_of_the_same_object() -> None:
    made: list[list[int]] = []

    def encode(one: list[int]) -> bytes:
        made.append(one)
        return bytes(one)

    known = encoding._Known(encode)
    kept = [1, 2]
    assert (known.get(kept), known.get(kept)) == (b"\1\2", b"\1\2")
    assert made == [kept]
    for number in range(1000):  # objects that go give their number to others
        assert known.get([number % 250]) == bytes([number % 250])
    assert len(known._found) <= 256
