"""What is imprinted beside DNA, and what time spent weighs: device and server agree."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.imprint import beside, event_weight
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema, KindRule, NamespaceRule
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.runtime.earlier import votes
from genome_edge.v1 import dna_pb2, event_pb2
from genome_server.genomes.events import EventReader, Imprint, Skip
from genome_server.log.reader import LoggedFrame

SCHEMA = DnaSchema(
    epoch=1,
    landmark_hour=490_000,
    namespaces=(NamespaceRule("brand", 24), NamespaceRule("tender", 48)),
    kinds=(
        KindRule("buy", 2 * ONE_Q24, ONE_Q24 // 4, beside=("tender", "channel")),
        KindRule("browse", ONE_Q24 // 8, dwell_weight_q24=ONE_Q24 // 16),
        KindRule("dismiss", ONE_Q24, marker_prefix="not-", beside=("channel",)),
        KindRule("plain", ONE_Q24),
    ),
    default_half_life_hours=100,
)
NAMES = ["brand:acme", "tender:coupon", "tender:gift-card", "channel:app", "daypart:night"]
VOCABULARY = Vocabulary(bytes(16), [*NAMES, *(f"not-{name}" for name in NAMES)])
DNA = {"soap": [("brand:acme", 256)], "coupon-book": [("tender:coupon", 64)], "rock": []}


class Products:
    def dna(self, name: str) -> list[tuple[int, int]] | None:
        found = DNA.get(name)
        if found is None:
            return None
        return [(cast(int, VOCABULARY.index(marker)), q8) for marker, q8 in found]


OFFER = SimpleNamespace(dna=[dna_pb2.WeightedMarker(marker="brand:acme", salience_q8=128)])
RELEASE: Any = SimpleNamespace(
    schema=SCHEMA,
    vocabulary=VOCABULARY,
    products=Products(),
    catalogue=SimpleNamespace(row_of={"taxi": 0}, offers=[OFFER]),
)


def reader(schema: DnaSchema = SCHEMA) -> EventReader:
    return EventReader(schema, DNA.get, {"taxi": [("brand:acme", 128)]}.get)


def on_the_server(said: event_pb2.Interaction) -> dict[str, tuple[int, int]]:
    body = event_pb2.Event(interaction=said).SerializeToString()
    now_ms = SCHEMA.landmark_hour * 3_600_000
    frame = LoggedFrame(0, "d", b"e", 1, 1, b"s" * 16, FrameKind.INTERACTION, now_ms, now_ms, body)
    effect = reader().read(frame)
    if isinstance(effect, Skip):
        return {}
    assert isinstance(effect, Imprint)
    return {one.marker: (one.vote, one.half_life) for one in effect.votes}


def on_the_device(said: event_pb2.Interaction) -> dict[str, tuple[int, int]]:
    return {VOCABULARY.name(v.marker): (v.q24, v.half_life) for v in votes(RELEASE, said)}


def test_time_spent_is_a_vote() -> None:
    weights = [event_weight(SCHEMA, "browse", 0, s * 1000) for s in (0, 1, 3, 7)]
    assert weights == [ONE_Q24 // 8 + n * ONE_Q24 // 16 for n in range(4)]
    assert event_weight(SCHEMA, "browse", 0, -5) == weights[0]
    assert event_weight(SCHEMA, "plain", 0, 10**9) == ONE_Q24


def test_only_what_the_kind_names_is_beside() -> None:
    moment = ["daypart:night", "channel:app", "channel:app"]
    assert beside(SCHEMA, "buy", "Gift Card", moment) == [
        ("channel:app", 256), ("tender:gift-card", 256),
    ]  # fmt: skip
    assert beside(SCHEMA, "dismiss", "coupon", moment) == [("channel:app", 256)]
    assert beside(SCHEMA, "plain", "coupon", moment) == []
    assert beside(SCHEMA, "buy", "x" * 200, []) == [], "no marker says it"


def test_tender_and_money_count_together() -> None:
    said = event_pb2.Interaction(
        kind="buy", product="soap", amount_micros=3_000_000, tender="coupon"
    )
    weight = 2 * ONE_Q24 + 2 * ONE_Q24 // 4
    assert on_the_server(said) == {"brand:acme": (weight, 24), "tender:coupon": (weight, 48)}


def test_what_the_dna_says_wins_over_what_is_beside() -> None:
    said = event_pb2.Interaction(kind="buy", product="coupon-book", tender="coupon")
    assert on_the_server(said) == {"tender:coupon": (2 * ONE_Q24 * 64 >> 8, 48)}


def test_a_purchase_of_nothing_that_is_named_says_how_it_was_paid() -> None:
    assert on_the_server(event_pb2.Interaction(kind="buy", tender="coupon")).keys() == {
        "tender:coupon"
    }
    for unknown in ("nope", "rock"):
        said = event_pb2.Interaction(kind="buy", product=unknown, tender="coupon")
        assert on_the_server(said) == on_the_device(said) == {}


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        event_pb2.Interaction,
        kind=st.sampled_from(["buy", "browse", "dismiss", "plain", "nope"]),
        product=st.sampled_from(["", "soap", "coupon-book", "rock", "nope"]),
        tender=st.sampled_from(["", "coupon", "Gift Card", "x" * 200]),
        amount_micros=st.integers(-5, 10**9),
        dwell_ms=st.integers(-5, 10**7),
        context_markers=st.lists(st.sampled_from(["channel:app", "daypart:night"]), max_size=3),
        dna=st.lists(
            st.builds(
                dna_pb2.WeightedMarker,
                marker=st.sampled_from(["brand:acme", "channel:app"]),
                salience_q8=st.integers(1, 512),
            ),
            max_size=2,
            unique_by=lambda one: one.marker,
        ),
    )
)
def test_a_device_gives_what_the_server_gives(said: event_pb2.Interaction) -> None:
    assert on_the_device(said) == on_the_server(said)
