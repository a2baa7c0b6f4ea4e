"""In whatever order the log holds what happened, a campaign is told of in the same way."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.doings.reading import doings
from genome_server.genomes.events import ConsentSaid, LinkSaid
from genome_server.lift.rules import Done, Meetings, Met, Rows, enter
from genome_server.log.reader import LoggedFrame
from genome_server.store.rows import CONSENT_LEARNING, CustomerRow

PEOPLE = [bytes([n]) * 16 for n in range(1, 7)]
PURPOSE = CONSENT_LEARNING.bit_length() - 1
WINDOW = 20

whose = st.sampled_from(PEOPLE)
when = st.integers(0, 60)
meets = st.tuples(st.just("met"), whose, when, st.booleans(), st.booleans(), st.integers(0, 1))
links = st.tuples(st.just("link"), whose, whose, when, st.booleans()).filter(lambda s: s[1] != s[2])
words = st.tuples(st.just("consent"), whose, when, st.booleans())
buys = st.tuples(
    st.just("did"), whose, when, st.sampled_from([-5, 0, 3, 8]), st.sampled_from(["", "EUR", "JPY"])
)
happened = st.lists(st.one_of(meets, links, words, buys), max_size=40)
customers = st.dictionaries(whose, st.sampled_from([0, CONSENT_LEARNING]), max_size=len(PEOPLE))


def told(events: list[tuple], agreed: dict[bytes, int]) -> Rows:  # type: ignore[type-arg]
    """What a log in this order tells."""
    meetings = Meetings(since_ms=5)
    for number, (what, *said) in events:
        if what == "met":
            subject, at_ms, held, hit, placement = said
            met = Met(at_ms, number.to_bytes(16), hit, number, subject)
            meetings.meet(placement, met, group=held)
        elif what == "link":
            one, other, at_ms, linked = said
            meetings.hear(LinkSaid(one, other, linked=linked, time_ms=at_ms))
        elif what == "consent":
            subject, at_ms, granted = said
            meetings.hear(ConsentSaid(subject, PURPOSE, granted=granted, time_ms=at_ms))
    known = {one: CustomerRow(one, consents=bits) for one, bits in agreed.items()}
    done = Done(enter(meetings, known), WINDOW, ("buy",), ("buy",))
    frames = []
    for number, (what, *said) in events:
        if what == "did":
            subject, at_ms, amount, currency = said
            interaction = event_pb2.Interaction(
                interaction_id=f"i{number}", kind="buy", currency=currency,
                amount_micros=amount * 1_000_000,
            )  # fmt: skip
            event = event_pb2.Event(
                time=event_pb2.EventTime(wall_ms=at_ms, offset_known=True), interaction=interaction
            )
            body = event.SerializeToString()
            kind = FrameKind.INTERACTION
            frames.append(LoggedFrame(0, "d", b"", 0, 1, subject, kind, at_ms, at_ms, body))
    for doing in doings(frames, done.whose, once=done.counts):
        done.take(doing)
    return done.rows()


@settings(max_examples=150, deadline=None)
@given(happened, customers, st.randoms(use_true_random=False))
def test_the_order_of_the_log_does_not_matter(
    events: list[tuple],  # type: ignore[type-arg]
    agreed: dict[bytes, int],
    chance: random.Random,
) -> None:
    numbered = list(enumerate(events))
    mixed = numbered.copy()
    chance.shuffle(mixed)
    one, other = told(numbered, agreed), told(mixed, agreed)
    assert one.entered.subject == other.entered.subject
    assert one.entered.ids == other.entered.ids
    assert one.entered.left_out == other.entered.left_out
    for name in ("at_ms", "group", "placement", "offset", "other_ms", "earlier"):
        assert np.array_equal(getattr(one.entered, name), getattr(other.entered, name)), name
    assert one.times.tolist() == other.times.tolist()
    assert one.amount.tolist() == other.amount.tolist()
    assert (one.currency, one.elsewhere, one.newest_ms) == (
        other.currency,
        other.elsewhere,
        other.newest_ms,
    )
