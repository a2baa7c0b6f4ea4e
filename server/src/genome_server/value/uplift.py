"""Whom showing helps: the difference that it makes, by what is known of a person. Free of I/O.

Theory of operation. Who is held out was drawn by a hash, so the chance `e` of being shown is known
and nothing else differs. With m(x) for what somebody like x does, on the whole,

    score = (shown - e) / (e (1 - e)) · (done - m(x))

has the mean of the difference that showing makes, whatever m is; a good m takes noise out of it
(Robins; Kennedy 2023). The difference as a line in what is known is learned from done - m(x)
against (shown - e) times the columns (the R-learner of Nie and Wager 2021), held back as far as
leaving rows out says: to a constant, where nothing is to be found.

Rules.
- Learned and judged on different persons, in turn: of ten parts drawn by lot, each from the fourth
  on is ranked by a line that was learned of those before it. So every part is judged given the
  past alone, and errors of parts add up like those of independent persons (Wager 2024). Folds that
  learn from each other do not: in trials an order without meaning passed twice as often as it may.
- The verdict is the area between the Qini curve and its diagonal: the mean of score · (1/2 - rank),
  with rank 0 for who is helped most. It is 0 where the order means nothing. Unless its interval
  lies above 0 nothing is said of anybody: an order that does no better than a constant is none.
- What is said of fifths and of markers is measured by scores, of persons whom the order had not
  seen. It is not what the line believes.
- What is known is what was known when the person entered; nothing of it was caused by showing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from genome_server.value.ridge import Line, fit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

PARTS: Final = 10
FIRST: Final = 3
"""Parts that are only learned from."""
FIFTHS: Final = 5
LEAST_OF_EACH: Final = 200
"""So many persons of either group, or nothing is learned."""
MOST_COLUMNS: Final = 64
LEAST_WITH: Final = 50
"""A marker needs so many persons who have it, and so many who do not."""
NORMAL: Final = 1.959964


@dataclass(frozen=True, eq=False)
class People:
    """n persons who are compared.

    `start` int64[n + 1], `index` int64[…], `weight` float64[…]: their markers when they entered.
    `held` bool[n]; `stratum` int64[n] is where they were drawn; `done` float64[n] is what they did.
    """

    start: Ints
    index: Ints
    weight: Floats
    held: Flags
    stratum: Ints
    done: Floats

    @classmethod
    def of(
        cls,
        bags: Sequence[Sequence[tuple[int, float]]],
        held: Flags | None = None,
        stratum: Ints | None = None,
        done: Floats | None = None,
    ) -> People:
        """Of bags of (marker, weight), one for each person; what is left out is 0."""
        n = len(bags)
        return cls(
            np.cumsum([0, *(len(bag) for bag in bags)]).astype(np.int64),
            np.array([marker for bag in bags for marker, _ in bag], np.int64),
            np.array([weight for bag in bags for _, weight in bag], np.float64),
            np.zeros(n, bool) if held is None else held,
            np.zeros(n, np.int64) if stratum is None else stratum,
            np.zeros(n) if done is None else done,
        )

    def __len__(self) -> int:
        """How many persons there are."""
        return len(self.held)


@dataclass(frozen=True)
class Measured:
    """A mean difference that showing makes, of some persons, with its 95 % interval."""

    persons: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class ByMarker:
    """The difference of who has a marker (vocabulary index) and of who has not. `low` and `high`
    are of the former less the latter and hold for all markers at once (Bonferroni)."""

    marker: int
    having: Measured
    others: Measured
    low: float
    high: float

    @property
    def unmoved(self) -> bool:
        """Whether who has it is surely helped less than others, and in the mean not at all."""
        return self.high < 0 and self.having.difference <= 0


@dataclass(frozen=True, eq=False)
class Uplift:
    """What was found. Differences are in the unit of what was done, by person.

    `area`, with `low` and `high`, is of the Qini curve above its diagonal. `curve` float64[11]: how
    much more is done by everybody, in the mean, where only the first 0, 10 … 100 % of the order are
    shown. `fifths` begin with who is helped most. `order` float64[n] is the rank of each person in
    their part, 0 to 1; NaN where they were only learned from. `line` was learned of everybody.
    """

    all: Measured
    area: float
    low: float
    high: float
    curve: Floats
    fifths: tuple[Measured, ...]
    markers: tuple[ByMarker, ...]
    order: Floats
    line: Line
    columns: Ints
    centre: Floats
    scale: Floats

    @property
    def sure(self) -> bool:
        """Whether the order is better than none."""
        return self.low > 0

    def of(self, people: People) -> Floats:
        """The difference that the line of everybody expects of persons, float64[n]."""
        return self.line((dense(people, self.columns) - self.centre) / self.scale)


def chosen(people: People) -> Ints:
    """The markers that have a column: those that many have and many have not, the most frequent."""
    persons = np.repeat(np.arange(len(people)), np.diff(people.start))
    some = people.weight > 0
    pairs = np.unique(np.stack([people.index[some], persons[some]]), axis=1)
    names, count = np.unique(pairs[0], return_counts=True)
    telling = np.minimum(count, len(people) - count) >= LEAST_WITH
    names, count = names[telling], count[telling]
    found = names[np.argsort(-count, kind="stable")[:MOST_COLUMNS]]
    return np.asarray(np.sort(found), np.int64)


def dense(people: People, columns: Ints) -> Floats:
    """The weights of some markers, float64[n, d]."""
    made = np.zeros((len(people), len(columns)))
    if not len(columns):
        return made
    persons = np.repeat(np.arange(len(people)), np.diff(people.start))
    at = np.minimum(np.searchsorted(columns, people.index), len(columns) - 1)
    known = columns[at] == people.index
    np.add.at(made, (persons[known], at[known]), people.weight[known])
    return made


def shares(people: People) -> Floats:
    """The chance with which each was shown, float64[n]: the share of their stratum."""
    found = np.empty(len(people))
    for stratum in np.unique(people.stratum):
        inside = people.stratum == stratum
        found[inside] = (~people.held[inside]).mean()
    return found


def learn(people: People, seed: int = 0) -> Uplift | None:
    """What is to be said; None where there are too few of a group, or nothing is known of anybody.

    A stratum in which a group has nobody must have been left out.
    """
    shown = ~people.held
    columns = chosen(people)
    if min(int(shown.sum()), int(people.held.sum())) < LEAST_OF_EACH or not len(columns):
        return None
    raw = dense(people, columns)
    centre, scale = raw.mean(0), raw.std(0)
    scale[scale == 0] = 1.0
    x, e = (raw - centre) / scale, shares(people)
    score, order = np.empty(len(x)), np.full(len(x), np.nan)
    part = _parts(people, seed)
    for number in range(PARTS):
        own, past = part == number, part < number
        if number < FIRST:
            past = part != number  # for scores alone, which any other part will do for
        usual, line = _lines(x[past], e[past], shown[past], people.done[past])
        score[own] = _scores(shown[own], e[own], people.done[own] - usual(x[own]))
        if number >= FIRST:
            order[own] = _ranks(line(x[own]))
    _, line = _lines(x, e, shown, people.done)
    judged = part >= FIRST
    area, error = _area(score[judged], order[judged], part[judged])
    return Uplift(
        all=measured(score),
        area=area,
        low=area - NORMAL * error,
        high=area + NORMAL * error,
        curve=np.array([(score * (order <= tenth / 10))[judged].mean() for tenth in range(11)]),
        fifths=tuple(
            measured(score[(order > fifth / FIFTHS) & (order <= (fifth + 1) / FIFTHS)])
            for fifth in range(FIFTHS)
        ),
        markers=_by_marker(score, raw > 0, columns),
        order=order,
        line=line,
        columns=columns,
        centre=centre,
        scale=scale,
    )


def measured(score: Floats, reach: float = NORMAL) -> Measured:
    """The mean of scores with its interval; of fewer than two persons nothing is known."""
    if len(score) < 2:
        return Measured(len(score), 0.0, -np.inf, np.inf)
    mean = float(score.mean())
    error = reach * float(score.std(ddof=1)) / np.sqrt(len(score))
    return Measured(len(score), mean, mean - error, mean + error)


def _parts(people: People, seed: int) -> Ints:
    """Each person's part: of every stratum and group as many in each, as far as it goes."""
    rng = np.random.default_rng(seed)
    found = np.empty(len(people), np.int64)
    for stratum in np.unique(people.stratum):
        for group in (True, False):
            inside = np.flatnonzero((people.stratum == stratum) & (people.held == group))
            found[rng.permutation(inside)] = (np.arange(len(inside)) + rng.integers(PARTS)) % PARTS
    return found


def _lines(x: Floats, e: Floats, shown: Flags, done: Floats) -> tuple[Line, Line]:
    """What somebody does on the whole, and the difference that showing makes to it."""
    # With these weights it is the mix of both groups by which scores vary least.
    root = np.sqrt(np.where(shown, (1 - e) / e, e / (1 - e)))
    usual = fit(root, root[:, None] * x, root * done)
    apart = shown - e
    return usual, fit(apart, apart[:, None] * x, usual.left_out / root)


def _scores(shown: Flags, e: Floats, rest: Floats) -> Floats:
    return np.asarray((shown - e) / (e * (1 - e)) * rest)


def _ranks(believed: Floats) -> Floats:
    """The place of each in a descending order, 0 to 1; equals have the middle of their places."""
    _, which, count = np.unique(-believed, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - count / 2
    return np.asarray(middle[which] / len(believed))


def _area(score: Floats, order: Floats, part: Ints) -> tuple[float, float]:
    """The area above the diagonal and its standard error."""
    weight = 0.5 - order
    variance = 0.0
    for number in np.unique(part):
        own = part == number
        parts = weight[own] * (score[own] - score[own].mean())
        variance += float(parts.var()) * own.sum()
    return float((weight * score).mean()), float(np.sqrt(variance)) / len(score)


def _by_marker(score: Floats, has: Flags, columns: Ints) -> tuple[ByMarker, ...]:
    """Of each marker, the one that tells persons apart the most surely first."""
    from scipy.special import ndtri

    reach = float(ndtri(1.0 - 0.025 / len(columns)))
    found = []
    for place, marker in enumerate(columns.tolist()):
        having, others = (measured(score[has[:, place] == side]) for side in (True, False))
        wide = np.hypot(having.high - having.low, others.high - others.low)
        between, error = having.difference - others.difference, float(wide) / (2 * NORMAL)
        one = ByMarker(marker, having, others, between - reach * error, between + reach * error)
        found.append((-abs(between) / max(error, 1e-300), marker, one))
    return tuple(one for *_, one in sorted(found, key=lambda entry: entry[:2]))
