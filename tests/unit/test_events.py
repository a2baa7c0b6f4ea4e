from __future__ import annotations

import hashlib

import pytest

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.schema import ONE_Q24, DnaSchema, KindRule, NamespaceRule
from edge_sdk.errors import LandmarkExhausted
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import dna_pb2, event_pb2
from genome_server.genomes.events import (
    ConsentSaid,
    Effect,
    EventReader,
    Imprint,
    LinkSaid,
    MarkerVote,
    Skip,
    event_ms,
    interaction_key,
)
from genome_server.log.reader import LoggedFrame

HOUR = 3_600_000
RECEIVED = 1_010 * HOUR
ALICE, BOB = b"a" * 16, b"b" * 16
SCHEMA = DnaSchema(
    epoch=1,
    landmark_hour=1_000,
    namespaces=(NamespaceRule("brand", 24), NamespaceRule("fact", 0)),
    kinds=(
        KindRule("view", ONE_Q24 // 4),
        KindRule("buy", 2 * ONE_Q24, ONE_Q24),
        KindRule("dismiss", ONE_Q24, marker_prefix="not-"),
    ),
    default_half_life_hours=48,
)
PRODUCTS = {"soap": [("brand:acme", 256), ("fact:clean", 128)], "rock": []}
OFFERS = {"taxi": [("ride:taxi", 256)]}
asked: list[str] = []


def product(name: str) -> list[tuple[str, int]] | None:
    asked.append(name)
    return PRODUCTS.get(name)


def read(
    event: event_pb2.Event | bytes,
    kind: int = FrameKind.INTERACTION,
    subject: bytes = ALICE,
    wall_ms: int = 1_005 * HOUR,
) -> Effect | None:
    if isinstance(event, event_pb2.Event):
        event.time.wall_ms = wall_ms
        event = event.SerializeToString()
    frame = LoggedFrame(0, "d", b"e" * 16, 0, 1, subject, kind, wall_ms, RECEIVED, event)
    return EventReader(SCHEMA, product, OFFERS.get).read(frame)


def interaction(**facts: object) -> event_pb2.Event:
    return event_pb2.Event(interaction=event_pb2.Interaction(**facts))  # type: ignore[arg-type]


def test_the_time_of_an_event() -> None:
    time = event_pb2.EventTime(wall_ms=1000, server_offset_ms=50)
    assert event_ms(time, 10**6) == 1000
    time.offset_known = True
    assert event_ms(time, 10**6) == 1050
    time.server_offset_ms = -5000
    assert event_ms(time, 10**6) == 0
    time.server_offset_ms = 10**9
    assert event_ms(time, 10**6) == 10**6 + 300_000


def test_a_product_is_imprinted() -> None:
    effect = read(interaction(kind="buy", product="soap", amount_micros=3_000_000))
    weight = 2 * ONE_Q24 + 2 * ONE_Q24
    votes = (MarkerVote("brand:acme", 24, weight), MarkerVote("fact:clean", 0, weight // 2))
    assert effect == Imprint(ALICE, 1_005, votes, None)


def test_explicit_dna_comes_before_product_and_offer() -> None:
    dna = [dna_pb2.WeightedMarker(marker="fact:x", salience_q8=512)]
    effect = read(interaction(kind="view", dna=dna, product="nope", interaction_id="i-1"))
    assert isinstance(effect, Imprint)
    assert effect.votes == (MarkerVote("fact:x", 0, ONE_Q24 // 2),)
    assert effect.once == hashlib.blake2b(b"i-1", digest_size=16).digest()


def test_refusing_is_remembered_as_such() -> None:
    effect = read(interaction(kind="dismiss", offer="taxi"))
    assert isinstance(effect, Imprint)
    assert effect.votes == (MarkerVote("not-ride:taxi", 48, ONE_Q24),)


def test_an_outcome_imprints_its_offer_and_counts_once_for_each_kind() -> None:
    def said(kind: str) -> event_pb2.Event:
        outcome = event_pb2.Outcome(kind=kind, offer="taxi", event_id="e-1", value_micros=10**6)
        return event_pb2.Event(outcome=outcome)

    bought, seen = read(said("buy"), FrameKind.OUTCOME), read(said("view"), FrameKind.OUTCOME)
    assert isinstance(bought, Imprint)
    assert isinstance(seen, Imprint)
    assert bought.votes == (MarkerVote("ride:taxi", 48, 3 * ONE_Q24),)
    assert bought.once is not None
    assert len({bought.once, seen.once, interaction_key("e-1")}) == 3


def test_consent_and_links() -> None:
    said = event_pb2.Event(consent=event_pb2.ConsentChange(purpose=1, granted=True))  # type: ignore[arg-type]
    assert read(said, FrameKind.CONSENT) == ConsentSaid(ALICE, 1, True, 1_005 * HOUR)
    linked = event_pb2.Event(link=event_pb2.SubjectLink(other_subject=BOB, linked=True))
    assert read(linked, FrameKind.LINK) == LinkSaid(ALICE, BOB, True, 1_005 * HOUR)
    for other in (ALICE, NOBODY):
        linked.link.other_subject = other
        assert read(linked, FrameKind.LINK) is Skip.NOBODY


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (interaction(kind="steal", product="soap"), Skip.UNKNOWN_KIND),
        (interaction(kind="buy", product="nope"), Skip.UNKNOWN_PRODUCT),
        (interaction(kind="buy", offer="nope"), Skip.UNKNOWN_OFFER),
        (interaction(kind="buy", product="rock"), Skip.NO_DNA),
        (interaction(kind="buy"), Skip.NO_DNA),
        (interaction(kind="buy", dna=[dna_pb2.WeightedMarker(marker="?")]), Skip.UNREADABLE),
        (event_pb2.Event(), Skip.UNREADABLE),
        (event_pb2.Event(outcome=event_pb2.Outcome(kind="buy")), Skip.UNKNOWN_OFFER),
        (event_pb2.Event(outcome=event_pb2.Outcome(kind="?", offer="taxi")), Skip.UNKNOWN_KIND),
        (event_pb2.Event(consent=event_pb2.ConsentChange(granted=True)), Skip.UNREADABLE),
        (event_pb2.Event(link=event_pb2.SubjectLink(other_subject=b"x")), Skip.UNREADABLE),
        (b"\xff\xff\xff", Skip.UNREADABLE),
    ],
)
def test_what_leaves_no_trace(event: event_pb2.Event | bytes, why: Skip) -> None:
    assert read(event) is why


def test_nobody_has_no_genome_and_other_kinds_are_not_read() -> None:
    assert read(interaction(kind="buy", product="soap"), subject=NOBODY) is Skip.NOBODY
    for kind in (FrameKind.TOMBSTONE, FrameKind.DECISION, FrameKind.EVICTED, 77):
        assert read(b"\xff", kind) is None


def test_without_its_own_clocks_the_frame_says_when_it_was() -> None:
    body = interaction(kind="buy", product="soap").SerializeToString()
    for claimed, hour in ((1_003 * HOUR, 1_003), (9_999 * HOUR, 1_010), (-5, 0)):
        frame = LoggedFrame(0, "d", b"e" * 16, 0, 1, ALICE, 1, claimed, RECEIVED, body)
        effect = EventReader(SCHEMA, product, OFFERS.get).read(frame)
        assert isinstance(effect, Imprint)
        assert effect.hour == hour


def test_too_far_after_the_landmark() -> None:
    def at(hours: int) -> LoggedFrame:
        ms = (1_000 + hours) * HOUR
        body = interaction(kind="buy", product="soap").SerializeToString()
        return LoggedFrame(0, "d", b"e" * 16, 0, 1, ALICE, 1, ms, ms, body)

    reader = EventReader(SCHEMA, product, OFFERS.get)
    assert isinstance(reader.read(at(26 * 24 - 1)), Imprint)
    with pytest.raises(LandmarkExhausted, match="brand:acme"):
        reader.read(at(26 * 24))


def test_each_product_is_asked_for_once() -> None:
    reader = EventReader(SCHEMA, product, OFFERS.get)
    body = interaction(kind="buy", product="soap").SerializeToString()
    frame = LoggedFrame(0, "d", b"e" * 16, 0, 1, ALICE, 1, RECEIVED, RECEIVED, body)
    asked.clear()
    assert reader.read(frame) == reader.read(frame)
    assert asked == ["soap"]
