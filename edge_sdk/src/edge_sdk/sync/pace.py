"""When to try again, and when to give up on a stream. No clock and no sleep in here."""

from __future__ import annotations

import random
from typing import Final

# A stream that held this long was a good one, also where there was nothing to take.
STEADY_S: Final = 10.0
# Nobody stays away for longer, whatever is asked: a number that is wrong must not cost a device.
MOST_ASKED_S: Final = 3_600.0


class Backoff:
    """Waiting times between attempts: doubling from `first_s` to `most_s`, with full jitter, so
    that many devices that lost the same server do not come back at the same moment."""

    def __init__(
        self, first_s: float, most_s: float, random_source: random.Random | None = None
    ) -> None:
        self._first_s = first_s
        self._most_s = max(first_s, most_s)
        self._failures = 0
        self._random = random_source or random.Random()

    def reset(self) -> None:
        """An attempt went well."""
        self._failures = 0

    def after_stream(self, lasted_s: float, took: bool, at_least_s: float = 0.0) -> float:
        """Seconds to wait after a stream that lasted so long. Where the device took something, or
        it held for a while, what came before is over: the next outage is a new story."""
        if took or lasted_s >= STEADY_S:
            self.reset()
        return self.after_failure(at_least_s)

    def after_failure(self, at_least_s: float = 0.0) -> float:
        """Seconds to wait now. What the server asked for is waited for, up to an hour, and jitter
        added that grows with it: a server that asks everybody for a minute does not get everybody
        back at once."""
        ceiling = min(self._most_s, self._first_s * 2.0 ** min(self._failures, 60))
        self._failures += 1
        asked_s = min(at_least_s, MOST_ASKED_S) * self._random.uniform(1.0, 1.5)
        return asked_s + self._random.uniform(self._first_s / 2, ceiling)


class Silence:
    """Says when a stream has been silent for too long. Times are monotonic seconds."""

    def __init__(self, allowed_s: float, now_s: float) -> None:
        self._allowed_s = allowed_s
        self._heard_s = now_s

    def heard(self, now_s: float) -> None:
        """Something came, or the device was busy with what came."""
        self._heard_s = now_s

    def too_long(self, now_s: float) -> bool:
        """Whether the stream is dead."""
        return self.lasts(now_s) > self._allowed_s

    def lasts(self, now_s: float) -> float:
        """Seconds since anything was heard."""
        return now_s - self._heard_s
