"""Whether a customer comes within a day or a week, whether or not they ever come again. I/O-free.

Rules.
- Three opinions are asked: the hazards of `returns`, the share of all who had been away as long who
  then came, and an exponential law with the customer's own mean gap. Their log odds are added up
  with weights for each horizon.
- Weights are fitted on the newest fifth of what happened, from opinions that knew what lies before
  it, and are pulled towards the hazards alone: customers of one hour have much in common, so that
  a fitted constant, or weights without a pull, take one week's weather for a law.
- It is asked of everybody who was seen by then, at hours that have nothing to do with what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from genome_server.foresee import returns
from genome_server.foresee.columns import Ints
from genome_server.foresee.returns import DAY, WEEK, Returns, Visits, moments

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

HORIZONS: Final = (DAY, WEEK)
"""Hours within which it is foretold that somebody comes."""

# Hours since the last visit at which customers are in the next class.
_RECENCY: Final = np.array([8, 24, 48, 72, 168, 336, 672, 1344, 2688])
# Weights of the opinions: the hazards as they are.
_AS_THEY_ARE: Final = np.array([1.0, 0.0, 0.0])
# How much it counts that weights are those: for so large a share of the cases, and for one case.
_PULL: Final = 0.1
_STEPS: Final = 20
_LEAST: Final = 1e-4


@dataclass(frozen=True, eq=False)
class Before:
    """How many came within some time, of all who had been seen: `share`; and by how long they had
    been away, float64[classes of _RECENCY]."""

    share: float
    recency: Floats

    def by_recency(self, away: Ints) -> Floats:
        """The share of those who had been away alike, for int64[n] hours."""
        found: Floats = self.recency[np.searchsorted(_RECENCY, away)]
        return found


def came_before(visits: Visits, start: int, end: int, within: int) -> Before:
    """What was the case at moments between two hours, as far as it was known by the later one.

    The share of all is one more case of each class; 0 where nobody had been seen.
    """
    came, away = [np.zeros(0, bool)], [np.zeros(0, np.int64)]
    for now in moments(start, end, within):
        seen, happened = came_by(visits, now, within)
        came.append(happened)
        away.append(now - visits.at(now)[0][seen])
    every, kind = np.concatenate(came), np.searchsorted(_RECENCY, np.concatenate(away))
    share = float(every.mean()) if len(every) else 0.0
    cases = np.bincount(kind, minlength=len(_RECENCY) + 1) + 1.0
    return Before(share, (np.bincount(kind, every, minlength=len(cases)) + share) / cases)


@dataclass(frozen=True, eq=False)
class Opinions:
    """What is known of the crowd as of some hour; `before` by horizon, `gap` in hours."""

    returns: Returns
    before: Mapping[int, Before]
    gap: float

    def odds(self, visits: Visits, now: int, within: int) -> Floats:
        """Log odds of coming within so many hours by each opinion, float64[people, 3]."""
        last, _ = visits.at(now)
        away = np.maximum(now - last, 0)
        chances = (
            self.returns.within(visits, now, within),
            self.before[within].by_recency(away),
            -np.expm1(-within / own_gaps(visits, now, self.gap)),
        )
        given = np.clip(np.stack(chances, axis=1), _LEAST, 1 - _LEAST)
        found: Floats = np.log(given / (1 - given))
        return found


@dataclass(frozen=True, eq=False)
class Comes:
    """The forecaster: opinions, and float64[3] weights of their log odds by horizon."""

    opinions: Opinions
    weights: Mapping[int, Floats] = field(default_factory=dict)

    def within(self, visits: Visits, now: int, hours: int) -> Floats:
        """The chance that each comes within so many hours (one of HORIZONS), float64[people].

        It says something of who was seen by `now`, a local hour since 1970.
        """
        odds = self.opinions.odds(visits, now, hours)
        return 1 / (1 + np.exp(-odds @ self.weights.get(hours, _AS_THEY_ARE)))

    def over(self, visits: Visits, now: int) -> Floats:
        """The chance that each had come by now, as it was right after the last visit."""
        return self.opinions.returns.over(visits, now)


def fit(visits: Visits, until: int) -> Comes | None:
    """Learn from visits up to a local hour since 1970; None where nobody came twice."""
    hours = np.sort(visits.hour[visits.hour <= until])
    if not len(hours):
        return None
    earlier, start = (int(hours[round(share * len(hours)) - 1]) for share in (0.6, 0.8))
    learned = returns.fit(visits, start)
    if learned is None:
        whole = returns.fit(visits, until)
        return None if whole is None else Comes(_opinions(visits, whole, start, until))
    draft = _opinions(visits, learned, earlier, start)
    weights = {within: _weights(draft, visits, start, until, within) for within in HORIZONS}
    again = returns.fit(visits, until) or learned
    return Comes(_opinions(visits, again, start, until), weights)


def _opinions(visits: Visits, learned: Returns, start: int, end: int) -> Opinions:
    before = {within: came_before(visits, start, end, within) for within in HORIZONS}
    return Opinions(learned, before, crowd_gap(visits, end))


def _weights(draft: Opinions, visits: Visits, start: int, end: int, within: int) -> Floats:
    """Weights with which the log loss is least, pulled to those of the hazards (Newton's steps)."""
    odds, came = [np.zeros((0, len(_AS_THEY_ARE)))], [np.zeros(0, bool)]
    for now in moments(start, end, within):
        seen, happened = came_by(visits, now, within)
        odds.append(draft.odds(visits, now, within)[seen])
        came.append(happened)
    x, y = np.concatenate(odds), np.concatenate(came)
    weights, pull = _AS_THEY_ARE.copy(), _PULL * len(y) + 1.0
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (chance - y) + pull * (weights - _AS_THEY_ARE)
        bend = (x * (chance * (1 - chance))[:, None]).T @ x + pull * np.eye(len(weights))
        step = np.linalg.solve(bend, slope)
        weights = weights - step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))
    return weights


def came_by(visits: Visits, now: int, within: int) -> tuple[Ints, Mask]:
    """Who had been seen by an hour, int64[n], and whether they came within so many hours of it."""
    last, following = visits.at(now)
    seen = np.flatnonzero(last >= 0)
    return seen, (following[seen] >= 0) & (following[seen] <= now + within)


def crowd_gap(visits: Visits, until: int) -> float:
    """The mean gap in hours of all that had ended by an hour, of which there is at least one."""
    told = (visits.who[1:] == visits.who[:-1]) & (visits.hour[1:] <= until)
    return float(np.diff(visits.hour)[told].mean())


def own_gaps(visits: Visits, now: int, crowd: float) -> Floats:
    """The mean gap in hours of each as of `now`, float64[people]; that of the crowd is one more."""
    told = (visits.who[1:] == visits.who[:-1]) & (visits.hour[1:] <= now)
    who, gap = visits.who[1:][told], np.diff(visits.hour)[told]
    summed = np.bincount(who, gap, minlength=visits.people) + crowd
    found: Floats = summed / (np.bincount(who, minlength=visits.people) + 1)
    return found
