"""Tiers by age, counts without a lock for who reads, and a sentence for people."""

from __future__ import annotations

import threading

import pytest

from edge_sdk.config import Config
from edge_sdk.decision import Tier
from edge_sdk.errors import UnreachableError
from edge_sdk.status import Counts, State, Status, tier_of

SECOND = 1_000


@pytest.mark.parametrize(
    ("now_ms", "tier"),
    [
        (0, Tier.FRESH),
        (99_999, Tier.FRESH),
        (100_000, Tier.STALE),
        (109_999, Tier.STALE),
        (110_000, Tier.RESTRICTED),
        (129_999, Tier.RESTRICTED),
        (130_000, Tier.HOUSE),
        (10**15, Tier.HOUSE),
    ],
)
def test_a_release_degrades_in_steps(now_ms: int, tier: Tier) -> None:
    config = Config(stale_s=10, restricted_s=20)
    assert tier_of(100 * SECOND, now_ms, config) is tier


def test_counts_are_exact_from_many_threads() -> None:
    counts = Counts()

    def count() -> None:
        for _ in range(2_000):
            counts.add("a")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts.all() == {"a": 16_000}


def test_what_is_taken_is_what_is_new() -> None:
    counts = Counts()
    counts.add("a")
    assert counts.take() == {"a": 1}
    counts.add("b")
    assert counts.take() == {"b": 1}
    assert counts.take() == {}
    assert counts.all() == {"a": 1, "b": 1}


def test_reading_waits_for_nobody() -> None:
    counts = Counts()
    counts.add("a")
    with counts._lock:
        assert counts.all() == counts.take() == {"a": 1}


def test_a_status_reads_like_a_sentence() -> None:
    status = Status(State.STALE, Tier.STALE, release=3, genomes=2, outbox=1)
    assert str(status) == "STALE, release 3 (stale), 2 genomes, 1 events to send"
    empty = Status(State.EMPTY, Tier.EMPTY, cause=UnreachableError("no answer"))
    assert str(empty).endswith("release none (empty), 0 genomes, 0 events to send: no answer")
