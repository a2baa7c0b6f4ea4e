"""Events in columns: what `EventReader.read` says of each, for every body that there may be."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.errors import LandmarkExhausted
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import dna_pb2, event_pb2
from genome_server.genomes import reading
from genome_server.genomes.events import ConsentSaid, EventReader, Imprint, LinkSaid
from genome_server.genomes.reading import BulkReader
from genome_server.log.framing import FRAME_HEADER, kind_bits
from genome_server.log.reader import LogBatch

HOUR_MS = 3_600_000
LANDMARK = 490_000
NOW_MS = (LANDMARK + 200) * HOUR_MS
SCHEMA = DnaSchema.from_proto(
    dna_pb2.DnaSchema(
        epoch=1,
        landmark_hour=LANDMARK,
        default_half_life_hours=48,
        max_markers=64,
        quantiser=2,
        # Its markers use the landmark up shortly before NOW_MS.
        namespaces=[dna_pb2.NamespaceRule(name="claim", half_life_hours=7)],
        kinds=[
            dna_pb2.KindRule(name="buy", weight_q24=2 << 24, money_weight_q24=1 << 22),
            dna_pb2.KindRule(name="view", weight_q24=1 << 22),
        ],
    )
)
# Under which tender, moment and time spent count.
WHOLE = replace(
    SCHEMA,
    kinds=(
        replace(SCHEMA.kinds[0], beside=("tender", "channel")),
        replace(SCHEMA.kinds[1], dwell_weight_q24=1 << 20),
    ),
)
DNA = {"soap": [("brand:acme", 256), ("claim:organic", 128)], "rock": [], "käse": [("food:x", 1)]}

TEXT = st.sampled_from(["", "soap", "käse", "rock", "nope", "x" * 200])
KIND = st.sampled_from(["buy", "view", "", "nope", "ü"])
ID = st.sampled_from(["", "a", "b", "ä", "0" * 32])
NUMBER = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 300), st.integers(0, 2**33))
TIME = st.builds(
    event_pb2.EventTime,
    wall_ms=st.one_of(NUMBER, st.integers(NOW_MS - 200 * HOUR_MS, NOW_MS + 10 * HOUR_MS)),
    monotonic_ms=NUMBER,
    boot_id=st.binary(max_size=3),
    server_offset_ms=st.one_of(NUMBER, st.integers(-5_000, 5_000)),
    offset_known=st.booleans(),
)
INTERACTION = st.builds(
    event_pb2.Interaction,
    interaction_id=ID,
    kind=KIND,
    product=TEXT,
    offer=TEXT,
    dna=st.lists(
        st.builds(dna_pb2.WeightedMarker, marker=TEXT, salience_q8=st.just(256)), max_size=1
    ),
    amount_micros=NUMBER,
    currency=TEXT,
    quantity_milli=NUMBER,
    tender=st.sampled_from(["", "", "card", "ü"]),
    dwell_ms=NUMBER,
    context_markers=st.lists(st.one_of(TEXT, st.just("channel:app")), max_size=2),
)
OUTCOME = st.builds(
    event_pb2.Outcome,
    decision_id=st.binary(max_size=3),
    slot=st.integers(0, 2**32 - 1),
    kind=KIND,
    offer=TEXT,
    value_micros=NUMBER,
    event_id=ID,
    placement=TEXT,
)
OTHER = st.sampled_from(
    [
        event_pb2.Event(consent=event_pb2.ConsentChange(purpose="CONSENT_PURPOSE_LEARNING")),
        event_pb2.Event(link=event_pb2.SubjectLink(other_subject=b"o" * 16, linked=True)),
        event_pb2.Event(),
    ]
)
EVENT = st.one_of(
    st.builds(event_pb2.Event, time=TIME, interaction=INTERACTION),
    st.builds(event_pb2.Event, time=TIME, outcome=OUTCOME),
    st.builds(event_pb2.Event, interaction=INTERACTION),
    OTHER,
).map(lambda event: event.SerializeToString())


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body; often two in one, which protobuf merges, or one that is damaged."""
    body = draw(EVENT)
    how = draw(st.integers(0, 5))
    if how == 0:
        return body + draw(EVENT)
    if how == 1 and body:
        place = draw(st.integers(0, len(body) - 1))
        return body[:place] + bytes([draw(st.integers(0, 255))]) + body[place + 1 :]
    if how == 2:
        return body[: draw(st.integers(0, len(body)))]
    return body


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([NOBODY, b"a" * 16, b"b" * 15 + b"\0"]),
        st.sampled_from([int(kind) for kind in FrameKind]),
        st.one_of(st.just(NOW_MS), st.integers(-(2**63), 2**63 - 1)),
        bodies(),
    ),
    min_size=1,
    max_size=12,
)
_Frames = Sequence[tuple[bytes, int, int, bytes]]


def batches_of(frames: _Frames, cut: int) -> list[LogBatch]:
    made = []
    for at in range(0, len(frames), cut):
        part = frames[at : at + cut]
        raw = b"".join(
            FRAME_HEADER.pack(len(body), at + i + 1, subject, kind, time_ms) + body
            for i, (subject, kind, time_ms, body) in enumerate(part)
        )
        digest = hashlib.sha256(raw).digest()
        last = at + len(part)
        kinds = kind_bits({kind for _, kind, _, _ in part})
        made.append(
            LogBatch(at, "till", b"e" * 16, 1, at + 1, last, len(part), digest, NOW_MS, kinds, raw)
        )
    return made


def reader(schema: DnaSchema = SCHEMA) -> EventReader:
    return EventReader(schema, DNA.get, DNA.get)


def one_by_one(
    batches: Sequence[LogBatch], schema: DnaSchema = SCHEMA
) -> tuple[list[Imprint], list[ConsentSaid | LinkSaid]]:
    single = reader(schema)
    effects = [single.read(frame) for batch in batches for frame in batch.frames()]
    imprints = [e for e in effects if isinstance(e, Imprint)]
    return imprints, [e for e in effects if isinstance(e, ConsentSaid | LinkSaid)]


def in_columns(
    bulk: BulkReader, batches: Sequence[LogBatch]
) -> tuple[list[Imprint], list[ConsentSaid | LinkSaid]]:
    told = bulk.read(batches)
    imprints = []
    for i, subject in enumerate(told.subjects):
        votes, hour = told.doses[told.dose[i]]
        assert hour == told.hours[i]
        imprints.append(Imprint(subject.tobytes(), hour, votes, told.once[i]))
    return imprints, told.words


def check(frames: _Frames, cut: int, schema: DnaSchema = SCHEMA) -> None:
    batches = batches_of(frames, cut)
    bulk = BulkReader(reader(schema))
    try:
        expected = one_by_one(batches, schema)
    except LandmarkExhausted:
        with pytest.raises(LandmarkExhausted):
            bulk.read(batches)
        return
    assert in_columns(bulk, batches) == expected
    assert in_columns(bulk, batches) == expected  # now that it knows what was done to what


@settings(max_examples=40, deadline=None)
@given(frames=FRAMES, cut=st.integers(1, 5), schema=st.sampled_from([SCHEMA, WHOLE]))
def test_they_are_the_events_one_by_one(frames: _Frames, cut: int, schema: DnaSchema) -> None:
    check(frames, cut, schema)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None)
@given(frames=FRAMES, cut=st.integers(1, 5), schema=st.sampled_from([SCHEMA, WHOLE]))
def test_they_are_the_events_one_by_one_of_many(
    frames: _Frames, cut: int, schema: DnaSchema
) -> None:
    check(frames, cut, schema)


@pytest.mark.parametrize("schema", [SCHEMA, WHOLE])
def test_what_is_usual_is_not_left_to_the_other_reader(
    monkeypatch: pytest.MonkeyPatch, schema: DnaSchema
) -> None:
    event = event_pb2.Event(
        time=event_pb2.EventTime(
            wall_ms=NOW_MS - 50 * HOUR_MS,
            monotonic_ms=5,
            boot_id=b"\xff",
            server_offset_ms=-9,
            offset_known=True,
        ),
        interaction=event_pb2.Interaction(
            interaction_id="i",
            kind="buy",
            product="soap",
            amount_micros=7_990_000,
            currency="EUR",
            quantity_milli=1_000,
            tender="card",
            context_markers=["daypart:evening", "channel:app", "c" * 150],
        ),
    )
    seen = event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=NOW_MS - 50 * HOUR_MS),
        outcome=event_pb2.Outcome(
            decision_id=b"\xff" * 16, slot=1, kind="view", offer="soap", event_id="o"
        ),
    )
    frames = [
        (b"a" * 16, int(FrameKind.INTERACTION), NOW_MS, event.SerializeToString()),
        (b"a" * 16, int(FrameKind.OUTCOME), NOW_MS, seen.SerializeToString()),
    ] * 3
    batches = batches_of(frames, 4)
    expected = one_by_one(batches, schema)
    assert len(expected[0]) == 6
    assert len(expected[0][0].votes) == (2 if schema is SCHEMA else 4)
    bulk = BulkReader(reader(schema))
    monkeypatch.setattr(EventReader, "read", None)
    assert in_columns(bulk, batches) == expected


def field(number: int, content: bytes) -> bytes:
    """One field of a message, its content at most 127 bytes long."""
    return bytes([number << 3 | 2, len(content)]) + content


BOUGHT = field(2, b"buy") + field(3, b"soap")


@pytest.mark.parametrize(
    "inside",
    [
        field(1, b"\xff") + BOUGHT + field(1, b"i"),
        field(2, b"\xff") + BOUGHT,
        field(3, b"\xff") + BOUGHT,
        field(4, b"\xff") + field(4, b"") + BOUGHT,
        field(3, b"rock") + BOUGHT,
    ],
)
def test_of_two_names_both_must_be_text_and_the_last_one_counts(inside: bytes) -> None:
    check([(b"a" * 16, int(FrameKind.INTERACTION), NOW_MS - 50 * HOUR_MS, field(2, inside))], 1)


def test_a_body_of_very_many_fields_is_left_to_the_other_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = event_pb2.Interaction(kind="buy", product="soap", context_markers=[""] * 20_000)
    body = event_pb2.Event(interaction=said).SerializeToString()
    frame = (b"a" * 16, int(FrameKind.INTERACTION), NOW_MS - 50 * HOUR_MS, body)
    check([frame], 1)
    monkeypatch.setattr(EventReader, "read", lambda *_: None)
    assert in_columns(BulkReader(reader()), batches_of([frame], 1)) == ([], [])


def test_what_is_remembered_of_bodies_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_HELD", 10_000)
    bulk = BulkReader(reader())
    for batch in range(50):
        frames = []
        for i in range(10):
            said = event_pb2.Interaction(kind="view", product=f"nobody knows {batch} {i}")
            body = event_pb2.Event(interaction=said).SerializeToString()
            frames.append((b"a" * 16, int(FrameKind.INTERACTION), NOW_MS, body))
        assert in_columns(bulk, batches_of(frames, 10)) == ([], [])
    assert sum(len(known) for known in bulk._numbers.values()) < 100
