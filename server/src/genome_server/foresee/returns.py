"""Whether a customer comes at all within some time, and whether they are overdue. Free of I/O.

Theory. A pause that has not ended yet is known to be longer than it is now, and may never end. So
it is hazards that are counted: of all pauses that lasted until some hour, open ones included, how
many ended in it. They are the crowd's, by the classes of `pauses`, with their daily and weekly
humps. A customer comes at so many times that rate: a gamma distribution of mean 1 over customers,
narrowed by how many pauses of theirs ended, and by how many would have with everybody's rate over
the same time. Who stays away for long has spent much of that time and ended nothing, so the chance
falls: it is not said who is gone, but how much speaks for it. That somebody comes again within the
same stay says nothing of how often they come: up to some hours the rate is everybody's.

The rate of everybody and the rates of each are found in turns (EM). How much customers differ, how
fast the past is forgotten and how long a stay is are what told best, on the newest fifth, who came
within a day and within a week.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

from genome_server.foresee.columns import Array, Ints
from genome_server.foresee.pauses import CLASSES, EDGES, class_of

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DAY: Final = 24
WEEK: Final = 168
_WIDTH: Final = (EDGES[1:] - EDGES[:-1]).astype(float)
# How alike customers are: cases that everybody's rate counts as.
_PRIORS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
# Hours up to which coming again says nothing of how often: it is the same stay.
_STAYS: Final = (0, 12, 48)
_HALF_LIVES: Final = (30 * 24, 120 * 24, 480 * 24)
# Cases of the mean rate that each class has mixed in.
_LEAN: Final = 1.0
_TURNS: Final = 6
_MOST_PEOPLE: Final = 2_000
_MOMENTS: Final = 8
# A pause ends within its last hour: in the middle of it, for all that is known.
_HALF: Final = 0.5
_TINY: Final = 1e-9


@dataclass(frozen=True, eq=False)
class Visits:
    """n visits, ascending by customer and hour, one for each hour: int64[n] each.

    `who` numbers customers from 0 to `people` - 1, `hour` is local hours since 1970.
    """

    who: Ints
    hour: Ints
    people: int

    @classmethod
    def of(cls, who: Ints, hour: Ints, people: int) -> Visits:
        """Visits out of events in any order, int64[n] each."""
        both = np.unique(np.stack([who, hour]), axis=1)
        return cls(both[0], both[1], people)

    def spread(self, most: int) -> Visits:
        """The visits of so many customers at most, evenly spread."""
        every = -(-self.people // most)
        if every <= 1:
            return self
        some = self.who % every == 0
        return Visits(self.who[some] // every, self.hour[some], -(-self.people // every))

    def at(self, hour: int) -> tuple[Ints, Ints]:
        """The last visit and the next one of each customer as of an hour, int64[people].

        -1: there was none by then, or there is none after it.
        """
        last, following = np.full(self.people, -1), np.full(self.people, -1)
        past = self.hour <= hour
        last[self.who[past]] = self.hour[past]  # of each customer the last one stays
        following[self.who[~past][::-1]] = self.hour[~past][::-1]
        return last, following


@dataclass(frozen=True, eq=False)
class _Pauses:
    """Pauses as of an hour: of whom, how long, how much each counts; `last` and `away` of each.

    `following` is the next visit, int64[people], -1: there is none.
    """

    who: Ints
    hours: Ints
    weight: Floats
    last: Ints
    following: Ints
    away: Ints

    @classmethod
    def of(cls, visits: Visits, now: int, half_life: float) -> _Pauses:
        told = visits.hour <= now
        who, hour = visits.who[told], visits.hour[told]
        same = who[1:] == who[:-1]
        weight = np.exp2((hour[1:][same] - now) / half_life)
        last, following = visits.at(now)
        away = np.maximum(now - last, 0)
        return cls(who[1:][same], np.diff(hour)[same], weight, last, following, away)


@dataclass(frozen=True, eq=False)
class Returns:
    """Chances of coming, learned as of some hour.

    `summed` float64[CLASSES + 1] is what a customer of everybody's rate is to have come, on
    average, by each of EDGES; `prior` how many cases that rate counts as; `half_life` hours in
    which a pause comes to count half; `stay` hours up to which the rate is everybody's.
    """

    summed: Floats
    prior: float
    half_life: float
    stay: int

    def expected(self, hours: npt.ArrayLike) -> Floats:
        """How often one of everybody's rate comes within so many hours of a visit."""
        found: Floats = np.interp(np.asarray(hours, float), EDGES, self.summed)
        return found

    def came(self, visits: Visits, now: int) -> tuple[Floats, Floats, Ints]:
        """How often each came and was expected to, as pauses count, beyond a stay: float64[people]
        each; and how long they are away, int64[people] hours since the last visit."""
        pauses = _Pauses.of(visits, now, self.half_life)
        return *self._came(pauses), pauses.away

    def _came(self, pauses: _Pauses) -> tuple[Floats, Floats]:
        people = len(pauses.last)
        counts = pauses.weight * (pauses.hours >= self.stay)
        spent = self.beyond(pauses.hours + _HALF) * pauses.weight
        ended = np.bincount(pauses.who, counts, minlength=people).astype(float)
        return ended, np.bincount(pauses.who, spent, minlength=people).astype(float)

    def beyond(self, hours: npt.ArrayLike) -> Floats:
        """What is expected of the hours after a stay."""
        return self.expected(np.maximum(hours, self.stay)) - self.expected(self.stay)

    def within(self, visits: Visits, now: int, hours: int) -> Floats:
        """The chance that each comes within so many hours from `now` on, float64[people].

        It says something of who was seen by then.
        """
        return self._within(_Pauses.of(visits, now, self.half_life), (hours,))[0]

    def _within(self, pauses: _Pauses, horizons: Sequence[int]) -> list[Floats]:
        ended, spent = self._came(pauses)
        spent = spent + self.beyond(pauses.away)
        away = pauses.away
        return [self._chance(ended, spent, away, away + hours) for hours in horizons]

    def over(self, visits: Visits, now: int) -> Floats:
        """The chance that each had come by now, as it was right after the last visit."""
        ended, spent, away = self.came(visits, now)
        return self._chance(ended, spent, np.zeros_like(away), away)

    def _chance(self, ended: Floats, spent: Floats, begin: Ints, end: Ints) -> Floats:
        all_told = self.expected(end) - self.expected(begin)
        later = self.beyond(end) - self.beyond(begin)
        known = self.prior + spent
        still = (self.prior + ended) * np.log(known / (known + later)) - (all_told - later)
        return -np.expm1(still)


def fit(visits: Visits, until: int) -> Returns | None:
    """Learn from visits up to a local hour since 1970; None where nobody came twice."""
    some = visits.spread(_MOST_PEOPLE)
    hours = np.sort(some.hour[some.hour <= until])
    start = int(hours[round(0.8 * len(hours)) - 1]) if len(hours) else until
    asked = moments(start, until, DAY)
    known = {
        half_life: [(now, _Pauses.of(some, now, half_life)) for now in (start, *asked)]
        for half_life in _HALF_LIVES
    }
    least = np.inf
    prior, stay, half_life = 1.0, 0, _HALF_LIVES[-1]

    def loss_of(prior: float, stay: int, half_life: int) -> float:
        (_, before), *later = known[half_life]
        found = _rates(before, prior, half_life, stay)
        return np.inf if found is None else _loss(found, later, until)

    for each in product(_PRIORS, _STAYS):
        loss = loss_of(*each, _HALF_LIVES[1])
        if loss < least:
            (prior, stay), half_life, least = each, _HALF_LIVES[1], loss
    for other in _HALF_LIVES[::2]:
        loss = loss_of(prior, stay, other)
        if loss < least:
            half_life, least = other, loss
    return _rates(_Pauses.of(visits, until, half_life), prior, half_life, stay)


def moments(start: int, end: int, within: int) -> list[int]:
    """Hours to ask at, evenly spread: after each `within` hours are known up to `end`."""
    last = end - within
    if last < start:
        return []
    return sorted({round(one) for one in np.linspace(start, last, _MOMENTS)})


def _loss(found: Returns, asked: Sequence[tuple[int, _Pauses]], until: int) -> float:
    """The mean log loss over customers and moments, of a day and, where it is known, of a week."""
    losses = []
    for now, pauses in asked:
        seen, following = pauses.last >= 0, pauses.following
        horizons = [hours for hours in (DAY, WEEK) if now + hours <= until]
        for hours, chances in zip(horizons, found._within(pauses, horizons), strict=True):
            came = (following[seen] >= 0) & (following[seen] <= now + hours)
            losses.append(log_losses(chances[seen], came).mean())
    return float(np.mean(losses)) if losses else 0.0


def log_losses(chances: Floats, came: Mask) -> Floats:
    """The log loss of each case in nats, float64[n]."""
    safe = np.clip(chances, _TINY, 1 - _TINY)
    found: Floats = -np.where(came, np.log(safe), np.log1p(-safe))
    return found


def _rates(pauses: _Pauses, prior: float, half_life: float, stay: int) -> Returns | None:
    """Everybody's rate, and the customers' beside it, in turns; None where no pause ended."""
    if not len(pauses.who):
        return None
    ended = np.bincount(class_of(pauses.hours), pauses.weight, minlength=CLASSES)
    open_ones = np.flatnonzero(pauses.last >= 0)
    everybody = rate = np.ones(len(pauses.last))
    ended_hours, away = pauses.hours + _HALF, pauses.away[open_ones].astype(float)
    found = Returns(np.zeros(CLASSES + 1), prior, half_life, stay)
    own_rate = EDGES[:-1] >= stay
    for _ in range(_TURNS):
        spent = np.zeros(CLASSES)
        for each, inside in ((rate, own_rate), (everybody, ~own_rate)):
            weighed = pauses.weight * each[pauses.who]
            spent[inside] += _spent(ended_hours, weighed)[inside]
            spent[inside] += _spent(away, each[open_ones])[inside]
        overall = float(ended.sum() / max(spent.sum(), _TINY))
        hazard = (ended + _LEAN) / (spent + _LEAN / overall)
        found = replace(found, summed=np.concatenate([[0.0], np.cumsum(hazard * _WIDTH)]))
        own, past = found._came(pauses)
        past[open_ones] += found.beyond(away)
        rate = (prior + own) / (prior + past)
    return found


def _spent(hours: Array, weight: Array) -> Floats:
    """How many hours were spent in each class by pauses that lasted so long, float64[CLASSES]."""
    at = class_of(hours.astype(np.int64))
    inside = np.bincount(at, weight * np.minimum(hours - EDGES[at], _WIDTH[at]), minlength=CLASSES)
    through = np.bincount(at, weight, minlength=CLASSES)
    longer = through.sum() - np.cumsum(through)
    found: Floats = inside + longer * _WIDTH
    return found
