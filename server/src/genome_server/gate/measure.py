"""What a model says of examples: how far off it is, and what it goes by. Free of I/O.

- *Calibration.* The error is that of training's figures: the mean distance between what is said
  and what happens, over 15 bins of equal size. How large it may be by chance is worked out from the
  same examples: were what is said right, what is left over would be as likely to lie on the other
  side. So the sign of all that is left over of one person is tossed, 400 times; that keeps answers
  of one person together, which resemble each other.
- *By itself.* How well some markers tell the answer alone: by the mean answer of those with the
  same of them, among other persons.
- *Without.* The AUC of the model when markers are taken out of the queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.examples import Examples
from genome_server.learning.metrics import auc
from genome_server.learning.towers import Floats, Indices

_BINS: Final = 15
_TOSSES: Final = 400
_RESAMPLES: Final = 200
_FOLDS: Final = 5
_OF_EACH_KIND: Final = 20

Persons = NDArray[np.integer]


class Bin(NamedTuple):
    """Examples about which about the same was said: what was said, what came true, how many."""

    said: float
    came: float
    examples: int


class Calibration(NamedTuple):
    """The error, what chance makes of it (99 of 100 times less), and the bins behind it.

    `overall` is by how much all that was said is off on the whole, too much and too little
    together, and `overall_chance` what chance makes of that. `chance_at_most` is what chance would
    make of the error if nothing but the share of successes were known.
    """

    error: float
    chance: float
    bins: tuple[Bin, ...]
    overall: float
    overall_chance: float
    chance_at_most: float


def calibration_of(label: Floats, said: Floats, person: Persons, weight: Floats) -> Calibration:
    """How far off probabilities are, of n > 0 examples, float32 (n,) each; `weight` says how much
    each counts."""
    order = np.argsort(said, kind="stable")
    where = np.zeros(len(said), np.int64)
    parts = [part for part in np.array_split(order, _BINS) if len(part)]
    for number, part in enumerate(parts):
        where[part] = number
    left = weight * (label.astype(np.float64) - said)
    whole = float(weight.sum())
    _, who = np.unique(person, return_inverse=True)
    # Sums by person and bin, so that a toss is one product.
    persons, number = int(who.max()) + 1, len(parts)
    cells, at = np.unique(who * number + where, return_inverse=True)
    signs = np.random.default_rng(0).integers(0, 2, (_TOSSES, persons)) * 2.0 - 1.0

    def tossed(rest: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is left over of each bin, float64[tosses, bins], with persons' signs tossed."""
        sums = signs[:, cells // number] * np.bincount(at, rest)
        of_bin = [sums[:, cells % number == each].sum(axis=1) for each in range(number)]
        return np.stack(of_bin, axis=1) / whole

    def by_chance(sums: NDArray[np.float64]) -> float:
        return float(np.quantile(np.abs(sums).sum(axis=1), 0.99))

    found = float(np.abs(np.bincount(where, left, number)).sum() / whole)
    sums = tossed(left)
    bins = tuple(
        Bin(
            float(np.average(said[part], weights=weight[part])),
            float(np.average(label[part], weights=weight[part])),
            len(part),
        )
        for part in parts
        if weight[part].sum() > 0
    )
    share = float(np.average(label, weights=weight))
    return Calibration(
        found,
        by_chance(sums),
        bins,
        abs(float(left.sum())) / whole,
        by_chance(sums.sum(axis=1, keepdims=True)),
        by_chance(tossed(weight * (label.astype(np.float64) - share))),
    )


class Alone(NamedTuple):
    """How well markers tell the answer by themselves: an AUC, and of which examples."""

    auc: float
    rows: Indices


def alone(examples: Examples, rows: Indices, marks: NDArray[np.bool_]) -> Alone | None:
    """How well the markers `marks`, bool (V,), tell the answers `rows` by themselves.

    Among those that have some of them, and among all: where only what succeeded has one, having it
    tells. The greater counts; None where neither can be said.
    """
    count = np.diff(examples.start)[rows]
    begin = examples.start[rows]
    flat = np.repeat(begin - np.cumsum(count) + count, count) + np.arange(count.sum())
    example = np.repeat(np.arange(len(rows)), count)
    used = (examples.warm[flat] > 0) & marks[examples.index[flat]]
    # The set of an example's markers as a sum of random numbers.
    rng = np.random.default_rng(0)
    number = rng.integers(1, 1 << 62, examples.vocabulary_size)
    key = np.zeros(len(rows), np.int64)
    np.add.at(key, example[used], number[examples.index[flat][used]])
    having = np.zeros(len(rows), bool)
    having[example[used]] = True
    _, who = np.unique(examples.person[rows], return_inverse=True)
    fold = rng.permutation(int(who.max(initial=0)) + 1)[who] % _FOLDS
    found = None
    for some in (having, np.ones(len(rows), bool)):
        label = examples.label[rows[some]]
        good = int((label > 0).sum())
        if min(good, len(label) - good) < _OF_EACH_KIND or not having.any():
            continue
        _, group = np.unique(key[some], return_inverse=True)
        told = auc(label, _told(label, group, fold[some]))
        if told is not None and (found is None or told > found.auc):
            found = Alone(float(told), rows[some])
    return found


def _told(label: Floats, group: Indices, fold: NDArray[np.integer]) -> NDArray[np.float64]:
    """For each example the mean label of its group among the other folds' examples."""
    groups = int(group.max()) + 1
    told = np.zeros(len(label))
    for number in range(_FOLDS):
        others = fold != number
        times = np.bincount(group[others], minlength=groups)
        good = np.bincount(group[others], label[others], groups)
        overall = float(label[others].mean()) if others.any() else 0.5
        told[~others] = ((good + overall) / (times + 1.0))[group[~others]]
    return told


def fall(
    label: Sequence[Floats],
    said: Sequence[Floats],
    person: Sequence[Persons],
    weight: Sequence[Floats],
) -> tuple[float, float, float]:
    """Two AUCs of different examples, and the low end of the 95 % interval of the first less the
    second, for which persons are drawn. Raises ValueError where one of them is not defined."""
    plain = [auc(*each) for each in zip(label, said, weight, strict=True)]
    if plain[0] is None or plain[1] is None:
        raise ValueError("both kinds of answer are needed")
    rng = np.random.default_rng(0)
    drawn = []
    groups = [np.unique(one, return_inverse=True)[1] for one in person]
    rows = [[np.flatnonzero(group == who) for who in range(group.max() + 1)] for group in groups]
    for _ in range(_RESAMPLES):
        found = []
        for side in range(2):
            of = rows[side]
            picked = np.concatenate([of[who] for who in rng.integers(0, len(of), len(of))])
            found.append(auc(label[side][picked], said[side][picked], weight[side][picked]))
        if found[0] is not None and found[1] is not None:
            drawn.append(found[0] - found[1])
    low = float(np.quantile(drawn, 0.025)) if drawn else -1.0
    return plain[0], plain[1], low
