from __future__ import annotations

import random

from edge_sdk.sync.pace import STEADY_S, Backoff, Silence
from edge_sdk.sync.pulse import Due


def test_backoff_grows_has_jitter_and_honours_what_was_asked() -> None:
    backoff = Backoff(0.5, 8.0, random.Random(1))
    waits = [backoff.after_failure() for _ in range(200)]
    assert all(0.25 <= wait <= 8.0 for wait in waits)
    assert waits[0] <= 0.5
    assert max(waits) > 6.0
    assert len({round(wait, 6) for wait in waits[10:]}) > 100, "devices must not march in step"
    asked = [backoff.after_failure(30.0) for _ in range(200)]
    assert all(30.0 <= wait <= 53.0 for wait in asked)
    assert max(asked) - min(asked) > 15.0, "nor those that were sent away together"
    assert max(backoff.after_failure(1e300) for _ in range(9)) < 5_500.0, (
        "nobody is sent away for ever"
    )
    backoff.reset()
    assert backoff.after_failure() <= 0.5


def test_news_hurries_a_heartbeat_but_not_more_than_once_a_second() -> None:
    due = Due(100.0, 30.0)
    assert due.wait(100.0) == 1.0
    assert not due.beat(100.5)
    assert due.beat(101.0), "the first one soon"
    assert not due.beat(102.0)
    due.hurry()
    assert due.beat(102.0)
    due.hurry()
    assert not due.beat(102.5)
    assert due.wait(102.5) == 0.5
    assert due.beat(103.0)
    assert not due.beat(132.9)
    assert due.beat(133.0)


def test_after_a_good_stream_an_outage_is_a_new_story() -> None:
    def after(took: bool, lasted_s: float) -> list[float]:
        backoff = Backoff(0.5, 60.0, random.Random(3))
        for _ in range(12):  # an outage of minutes
            backoff.after_stream(0.1, took=False)
        return [backoff.after_stream(lasted_s, took) for _ in range(50)]

    assert max(after(took=True, lasted_s=0.1)) <= 0.5
    assert max(after(took=False, lasted_s=STEADY_S)) <= 0.5
    assert max(after(took=False, lasted_s=STEADY_S - 0.1)) > 30
    backoff = Backoff(0.5, 60.0, random.Random(3))
    assert all(30 <= backoff.after_stream(20.0, took=True, at_least_s=30.0) <= 46 for _ in range(9))


def test_silence() -> None:
    silence = Silence(10.0, 100.0)
    assert not silence.too_long(110.0)
    assert silence.too_long(110.1)
    silence.heard(110.0)
    assert not silence.too_long(115.0)
    assert silence.lasts(115.0) == 5.0
