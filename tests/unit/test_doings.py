"""What customers did, as everything but genomes reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.schema import default_schema
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.doings.categories import Categories
from genome_server.doings.money import money_kinds, that_counts, usual_currency
from genome_server.doings.reading import DONE, PLACED, doings, frames_of
from genome_server.genomes.events import FUTURE_MS
from genome_server.log import LogReader
from genome_server.log.reader import LoggedFrame
from tests.unit._genomes import (
    HOUR,
    LANDMARK_HOUR,
    NOW_MS,
    House,
    consent,
    interaction,
    outcome,
    subject,
)


def logged(who: bytes, kind: FrameKind, body: bytes, time_ms: int = 7) -> LoggedFrame:
    return LoggedFrame(0, "till", b"e" * 16, 1, 1, who, kind, time_ms, 9, body)


def test_what_is_told_of_whom(tmp_path: Path) -> None:
    decision = event_pb2.Event(decision=event_pb2.DecisionRecord(region="852a100ffffffff"))
    with House(tmp_path) as house:
        house.log(
            [
                interaction(1, 1, "buy", product="soap", amount_micros=5, interaction_id="a"),
                interaction(1, 2, "buy", product="soap", amount_micros=6, interaction_id="a"),
                interaction(2, 3, "buy", product="soap"),
                outcome(1, 4, "redeem", "spa", value_micros=8, event_id="e"),
                outcome(1, 5, "redeem", "spa", value_micros=9, event_id="e"),
                outcome(1, 6, "dismiss", "spa", event_id="e"),
                consent(1, 7, 1, True),
                interaction(1, 1_000_000, "view", product="bread"),
            ]
        )
        with LogReader(house.tenant.log_path) as log:
            passed: list[int] = []
            frames = list(frames_of(log, DONE | PLACED, heard=passed.append))
            assert sum(passed) == log.end() == 8
            assert not list(frames_of(log, DONE, stop=0))
    frames.append(logged(subject(1), FrameKind.DECISION, decision.SerializeToString()))
    nothing = event_pb2.Event(interaction=event_pb2.Interaction(kind="buy")).SerializeToString()
    frames.append(logged(NOBODY, FrameKind.INTERACTION, nothing))
    frames.append(logged(subject(1), FrameKind.INTERACTION, b"\xff"))
    found = list(doings(frames, {subject(1), NOBODY}.__contains__))
    assert [
        (one.said.kind, one.said.product, one.said.offer, one.said.amount_micros, one.is_outcome)
        for one in found
    ] == [
        ("buy", "soap", "", 5, False),
        ("redeem", "", "spa", 8, True),
        ("dismiss", "", "spa", 0, True),
        ("view", "bread", "", 0, False),
        ("", "", "", 0, False),
    ]
    assert found[-1].said.region == "852a100ffffffff"
    assert found[0].at_ms == (LANDMARK_HOUR + 1) * HOUR + 5
    assert found[-2].at_ms == NOW_MS + FUTURE_MS, "no later than its receipt, or little"
    assert found[-1].at_ms == 7, "of the frame, where the event says none"
    twice = list(doings(frames, {subject(1)}.__contains__, once=lambda _: False))
    assert [one.said.amount_micros for one in twice] == [5, 6, 8, 9, 0, 0, 0]


def test_ids_of_kinds_that_may_come_twice_are_not_looked_at() -> None:
    said = [
        event_pb2.Interaction(kind=kind, interaction_id=name)
        for kind, name in (("view", "a"), ("view", "a"), ("buy", "a"), ("buy", "a"), ("buy", ""))
    ]
    bodies = [event_pb2.Event(interaction=one).SerializeToString() for one in said]
    frames = [logged(subject(1), FrameKind.INTERACTION, body) for body in bodies]
    found = doings(frames, lambda _: True, once={"buy"}.__contains__)
    assert [one.said.kind for one in found] == ["view", "view", "buy", "buy"]
    assert [one.said.kind for one in doings(frames, lambda _: True)] == ["view", "buy"]


def test_money_is_of_the_kinds_in_which_it_counts() -> None:
    kinds = money_kinds(default_schema(0))
    assert "buy" in kinds
    assert "view" not in kinds


@pytest.mark.parametrize(
    ("currency", "payments", "usual", "counted"),
    [
        ([0, 1, 1, -1], [1, 1, 1, 1], 1, [0, 1, 1, 1]),
        ([0, 1, -1, -1], [1, 1, 1, 0], 1, [0, 1, 1, 0]),  # of equals EUR, by its name
        ([-1, -1, -1, -1], [1, 1, 0, 1], -1, [1, 1, 0, 1]),
        ([1, 0, 0, 0], [1, 0, 0, 0], 1, [1, 0, 0, 0]),  # the others are no payments
    ],
)
def test_the_currency_that_counts(
    currency: list[int], payments: list[int], usual: int, counted: list[int]
) -> None:
    numbers, payment = np.array(currency, np.int64), np.array(payments, bool)
    assert usual_currency(numbers, payment, ["USD", "EUR"]) == usual
    assert that_counts(numbers, payment, usual).tolist() == counted


def test_a_category_is_of_what_it_was_about() -> None:
    asked = []

    def product(name: str) -> list[tuple[str, int]] | None:
        asked.append(name)
        return {"tea": [("category:hot", 128), ("category:tea", 256), ("brand:a", 999)]}.get(name)

    found = Categories(product, lambda name: [("category:ride", 256)] if name == "taxi" else None)
    said = event_pb2.Interaction(product="tea", offer="taxi")
    assert found.of(said) == found.of(said) == "tea"
    said.dna.add(marker="category:cold", salience_q8=1)
    assert found.of(said) == "cold", "the event's own word goes first"
    assert found.of(event_pb2.Interaction(offer="taxi")) == "ride"
    assert found.of(event_pb2.Interaction(product="rum", offer="taxi")) is None
    assert found.of(event_pb2.Interaction()) is None
    assert asked == ["tea", "rum"]
    brands = Categories(product, lambda _: None, "brand")
    assert brands.of(event_pb2.Interaction(product="tea")) == "a"
