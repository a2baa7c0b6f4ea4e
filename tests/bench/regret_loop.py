"""One policy over one stream: it decides, answers come late or never, and regret is exact.

A policy is told no truth. It is asked for an offer among those that are there; later it hears what
became of it at the device that showed it, is told when a device has a line, and of each full hour.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from tests.bench.world.covariates import Floats, Ints
from tests.bench.world.stream import Stream
from tests.bench.world.truth import HOUR_MS

#: The quiet hour of a server: what it does once a day, it does then.
NIGHT: Final = 3
_HOUR, _SYNC, _HEARD, _MOMENT = range(4)


class Policy(Protocol):
    """Something that decides. Times are Unix milliseconds; moments and offers are positions."""

    def decide(self, moment: int, at_ms: int, live: Ints) -> int:
        """The offer that is shown: one of `live`; -1 shows none."""
        ...

    def hear(self, moment: int, kind: str, at_ms: int) -> None:
        """What became of it, TAKEN or REFUSED, at the device that showed it."""
        ...

    def sync(self, device: int, at_ms: int) -> None:
        """A device has a line."""
        ...

    def hour(self, at_ms: int) -> None:
        """An hour is full."""
        ...

    def close(self) -> None:
        """The stream is over."""
        ...


@dataclass(frozen=True, eq=False)
class Judge:
    """The truth of a stream: `chances` float64[n, offers], 0 for an offer that is not there."""

    stream: Stream
    chances: Floats
    there: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, stream: Stream) -> Judge:
        """Work out every chance of a stream."""
        world = stream.world
        at, rows = stream.at_ms.tolist(), stream.row.tolist()
        chances = np.stack([world.chances(row, ms) for row, ms in zip(rows, at, strict=True)])
        there = np.zeros(chances.shape, bool)
        for moment, ms in enumerate(at):
            there[moment, world.live(ms)] = True
        return cls(stream, np.where(there, chances, 0.0), there)

    @cached_property
    def best(self) -> Floats:
        """The chance of the best offer of each moment, float64[n]."""
        return np.asarray(self.chances.max(axis=1))

    @property
    def random_regret(self) -> Floats:
        """What is expected to be lost in each moment by one of all offers at random, float64[n]."""
        return np.asarray(self.best - self.chances.sum(axis=1) / self.there.sum(axis=1))

    def regret(self, shown: Ints) -> Floats:
        """What was lost in each moment by what was shown, float64[n]; -1 stands for nothing."""
        at = np.arange(len(shown))
        return np.asarray(self.best - np.where(shown >= 0, self.chances[at, shown], 0.0))


def play(judge: Judge, policy: Policy) -> Ints:
    """What a policy shows in each moment of the stream, int64[n]; closes it."""
    stream = judge.stream
    begin, end = stream.world.begin_ms, stream.world.end_ms
    order = itertools.count()
    due = [
        (at, _MOMENT, next(order), moment, "") for moment, at in enumerate(stream.at_ms.tolist())
    ]
    due += [(at, _SYNC, next(order), device, "") for at, device in stream.syncs]
    due += [(at, _HOUR, next(order), 0, "") for at in range(begin + HOUR_MS, end, HOUR_MS)]
    heapq.heapify(due)
    shown = np.full(len(stream), -1, np.int64)
    try:
        while due:
            at, what, _, which, kind = heapq.heappop(due)
            if what == _HOUR:
                policy.hour(at)
            elif what == _SYNC:
                policy.sync(which, at)
            elif what == _HEARD:
                policy.hear(which, kind, at)
            else:
                offer = policy.decide(which, at, np.flatnonzero(judge.there[which]))
                if offer >= 0 and not judge.there[which, offer]:
                    raise RuntimeError(f"moment {which}: offer {offer} is not there")
                shown[which] = offer
                answer = stream.answer(which, judge.chances[which, offer]) if offer >= 0 else None
                if answer is not None:
                    heapq.heappush(due, (answer[1], _HEARD, next(order), which, answer[0]))
    finally:
        policy.close()
    return shown


def is_night(at_ms: int) -> bool:
    """Whether the quiet hour of the server begins."""
    return at_ms // HOUR_MS % 24 == NIGHT


class Deaf:
    """A policy that learns nothing."""

    def hear(self, moment: int, kind: str, at_ms: int) -> None:
        """Nothing."""

    def sync(self, device: int, at_ms: int) -> None:
        """Nothing."""

    def hour(self, at_ms: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Oracle(Deaf):
    """Knows the truth."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def decide(self, moment: int, at_ms: int, live: Ints) -> int:
        """The best offer."""
        return int(self._judge.chances[moment].argmax())


class Random(Deaf):
    """One of all that are there, whichever."""

    def __init__(self, judge: Judge) -> None:
        self._draws = judge.stream.draws

    def decide(self, moment: int, at_ms: int, live: Ints) -> int:
        """Each with the same chance."""
        return int(live[int(self._draws[moment] * len(live))])
