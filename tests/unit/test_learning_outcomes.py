from __future__ import annotations

import pytest

from genome_server.learning.outcomes import Outcomes, Verdict

HOUR = 3_600_000
ID = b"d" * 16


def verdict(
    *outcomes: tuple[int, int, int],
    shown_on_view: bool = False,
    now: int = 100 * HOUR,
    slot: int = 0,
) -> Verdict:
    """The verdict on a decision at hour 10 with a window of 24 hours."""
    found = Outcomes()
    for at, label, time_ms in outcomes:
        found.add(ID, at, label, time_ms)
    return found.verdict(
        ID,
        slot,
        decided_ms=10 * HOUR,
        window_ms=24 * HOUR,
        shown_on_view=shown_on_view,
        now_ms=now,
    )


@pytest.mark.parametrize("shown_on_view", [False, True])
def test_a_success_counts_whatever_else_happened(shown_on_view: bool) -> None:
    late, early = (0, 1, 30 * HOUR), (0, -1, 11 * HOUR)
    assert verdict(early, late, shown_on_view=shown_on_view) is Verdict.SUCCESS
    assert verdict(late, early, shown_on_view=shown_on_view) is Verdict.SUCCESS


def test_what_comes_after_the_window_does_not_count() -> None:
    assert verdict((0, 1, 34 * HOUR)) is Verdict.SUCCESS
    assert verdict((0, 1, 34 * HOUR + 1)) is Verdict.FAILURE
    assert verdict((0, 1, 34 * HOUR + 1), shown_on_view=True) is Verdict.UNSEEN


def test_silence_says_nothing_while_the_window_is_open() -> None:
    assert verdict(now=34 * HOUR - 1) is Verdict.OPEN
    assert verdict((0, 0, 11 * HOUR), now=20 * HOUR, shown_on_view=True) is Verdict.OPEN
    assert verdict((0, -1, 11 * HOUR), now=20 * HOUR) is Verdict.FAILURE
    assert verdict(now=34 * HOUR) is Verdict.FAILURE


def test_what_nobody_viewed_is_no_refusal() -> None:
    assert verdict(shown_on_view=True) is Verdict.UNSEEN
    assert verdict((0, 0, 11 * HOUR), shown_on_view=True) is Verdict.FAILURE


def test_slots_and_decisions_are_apart() -> None:
    assert verdict((1, 1, 11 * HOUR)) is Verdict.FAILURE
    assert verdict((1, 1, 11 * HOUR), slot=1) is Verdict.SUCCESS
