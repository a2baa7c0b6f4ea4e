"""Several opinions become one: weights by how much is known of a customer, then how sure to be.

Theory. Each opinion is a distribution over the symbols, and none is right for everybody: of a
stranger only the crowd is known, of a regular their own habits say more. So events are in groups
(how much there is of the customer, how fresh what came last is), and every group has weights of
its own, found by expectation maximisation on a stretch of time that nobody has learned from. A
group with few cases leans on the weights of all.

A mixture cannot say "both": where two opinions that know different things agree, it is as sure as
either. So mixture and opinions are pooled once more, as a product of powers, whose exponents are
one number each (a convex problem: Newton's method). What comes out is mixed with itself under
several exponents, so that what is rare keeps its share while what is likeliest is said as surely
as it happens. All of it begins at the same place: no chance is involved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

_ROUNDS: Final = 200
_ENOUGH: Final = 1e-7
# Cases that the weights of all stand for in a group of its own.
_PRIOR: Final = 30.0
_TINY: Final = 1e-12
# A pool must not hear from an opinion that something cannot be.
_LEAST_CHANCE: Final = 1e-6
_RIDGE: Final = 10.0
_STEPS, _HALVINGS, _AT_ONCE = 20, 8, 256
EXPONENTS: Final = (0.7, 1.0, 1.5, 2.2, 3.5)


@dataclass(frozen=True, eq=False)
class Mixture:
    """`weights` float64[groups, opinions] and `sureness` float64[groups, EXPONENTS]; rows sum to 1.

    `powers` float64[opinions + 1] pools the opinions, and the mixture as one more. What is None
    changes nothing.
    """

    weights: npt.NDArray[np.float64]
    powers: npt.NDArray[np.float64] | None = None
    sureness: npt.NDArray[np.float64] | None = None

    def blend(self, opinions: Floats, group: Ints) -> npt.NDArray[np.float64]:
        """One distribution for each case, float64[n, symbols].

        `opinions` is float[n, opinions, symbols], `group` int64[n].
        """
        mixed: npt.NDArray[np.float64] = np.einsum(
            "nks,nk->ns", opinions, self.weights[group], dtype=np.float64
        )
        if self.powers is not None:
            mixed = pooled(_logs(opinions, mixed), self.powers)
        if self.sureness is None:
            return mixed
        found: npt.NDArray[np.float64] = np.zeros_like(mixed)
        for exponent, share in zip(EXPONENTS, self.sureness[group].T, strict=True):
            found += share[:, None] * sharpen(mixed, exponent)
        return found


def sharpen(chances: npt.NDArray[np.float64], exponent: float) -> npt.NDArray[np.float64]:
    """Distributions to the power of `exponent`, each summing to 1 again."""
    powered = np.maximum(chances, _TINY) ** exponent
    summed: npt.NDArray[np.float64] = powered / powered.sum(axis=1, keepdims=True)
    return summed


def _logs(opinions: Floats, mixed: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    every = np.concatenate([opinions, mixed[:, None]], axis=1)
    logs: npt.NDArray[np.float64] = np.log(np.maximum(every, _LEAST_CHANCE))
    return logs


def pooled(
    logs: npt.NDArray[np.float64], powers: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Distributions that are products of powers, float64[n, symbols], of logs[n, k, symbols]."""
    sums: npt.NDArray[np.float64] = np.matmul(powers, logs)
    chances = np.exp(sums - sums.max(axis=1, keepdims=True))
    summed: npt.NDArray[np.float64] = chances / chances.sum(axis=1, keepdims=True)
    return summed


def fit_powers(
    opinions: Floats, mixed: npt.NDArray[np.float64], happened: Ints
) -> npt.NDArray[np.float64]:
    """The exponents of a pool, float64[opinions + 1], under which what happened was likeliest.

    `opinions` float[n, opinions, symbols], `mixed` float64[n, symbols], `happened` int64[n]. They
    begin as the mixture alone and stay near it where there are few cases.
    """
    logs = _logs(opinions, mixed)
    start = np.zeros(logs.shape[1])
    start[-1] = 1.0
    if not len(happened):
        return start
    rows = np.arange(len(happened))
    true = logs[rows, :, happened]

    def loss(powers: npt.NDArray[np.float64]) -> float:
        given = pooled(logs, powers)[rows, happened]
        away = powers - start
        return float(-np.log(np.maximum(given, _TINY)).sum() + _RIDGE * (away @ away) / 2)

    powers, least = start, loss(start)
    for _ in range(_STEPS):
        chances = pooled(logs, powers)
        mean = np.einsum("nks,ns->nk", logs, chances)
        slope = (true - mean).sum(axis=0) - _RIDGE * (powers - start)
        bend = _RIDGE * np.eye(len(powers)) - mean.T @ mean
        for some in range(0, len(logs), _AT_ONCE):
            part = logs[some : some + _AT_ONCE]
            weighed = part * chances[some : some + _AT_ONCE, None]
            bend += np.matmul(weighed, part.transpose(0, 2, 1)).sum(axis=0)
        step = np.linalg.solve(bend, slope)
        # A whole step may go too far where some exponents are nearly interchangeable.
        for _ in range(_HALVINGS):
            if (new := loss(powers + step)) < least:
                break
            step /= 2
        else:
            break
        powers, gained, least = powers + step, least - new, new
        if gained < _ENOUGH * len(happened):
            break
    return powers


def fit_sureness(
    chances: npt.NDArray[np.float64], happened: Ints, group: Ints, groups: int
) -> npt.NDArray[np.float64]:
    """How much each exponent counts, float64[groups, EXPONENTS].

    `chances` float64[n, symbols] is the mixture, `happened` int64[n] what came.
    """
    rows = np.arange(len(happened))
    likely = [sharpen(chances, exponent)[rows, happened] for exponent in EXPONENTS]
    return fit_weights(np.stack(likely, axis=1), group, groups)


def fit_weights(likely: Floats, group: Ints, groups: int) -> npt.NDArray[np.float64]:
    """Weights of opinions by group, float64[groups, opinions].

    `likely` float[n, opinions] is the chance that each opinion gave to what happened.
    """
    given = np.maximum(np.asarray(likely, np.float64), _TINY)
    opinions = given.shape[1]
    start = np.full(opinions, 1.0 / opinions)
    if not len(given):
        return np.tile(start, (groups, 1))
    of_all = _maximise(given, start, np.zeros(opinions))
    found = np.tile(of_all, (groups, 1))
    for each in np.unique(group).tolist():
        found[each] = _maximise(given[group == each], of_all, _PRIOR * of_all)
    return found


def _maximise(
    given: npt.NDArray[np.float64], start: npt.NDArray[np.float64], prior: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    weights = start
    for _ in range(_ROUNDS):
        share = given * weights
        share /= share.sum(axis=1, keepdims=True)
        new = share.sum(axis=0) + prior
        new /= new.sum()
        moved = float(np.abs(new - weights).max())
        weights = new
        if moved < _ENOUGH:
            break
    return weights
