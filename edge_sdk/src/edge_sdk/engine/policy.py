"""The policy: how offers are scored, and how one is drawn.

Scores. A model gives every candidate a value, the probability of success. Times what a success is
worth, in 16.16 fixed point, that is its score. Floats end here: the choice and its propensity are
pure functions of int32 scores and a 64-bit seed, in integers, and are the same everywhere.

Drawing. With P = 2^32, A candidates and the gap of each to the best score, inverse gap weighting
(SquareCB) gives candidate a the chance

    p_a = max( P · 65536 // (A · 65536 + floor(gamma · gap_a)),  floor(floor · P) // A )

and the best (ties: the first) what is left of P, which is never less than P // A. The draw for
slot k is the upper half of the k-th number of the SplitMix64 sequence that starts at the seed; it
picks the first candidate whose running total exceeds it. Propensities are therefore exact.

proto/vectors/exploration.json holds vectors for every other implementation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import FormatError

CONTRACT: Final = "genome-edge/offer/1"
P: Final = 1 << 32
ONE: Final = 1 << 16
SCORE_MIN: Final = -(1 << 31)
SCORE_MAX: Final = (1 << 31) - 1

_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1
# The sum of the squares of scores that are all within bounds may be up to this.
_SMALL: Final = float(SCORE_MAX) ** 2
# Longer sums are shared among threads by numpy's library; a decision does not wait for them.
_SUMMED_ALONE: Final = 10_000
_TOP: Final = np.array(float(P * ONE))

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.int32]


class Scorer(Protocol):
    """Values offers for a moment. Thread-safe; `values` must not block."""

    def vectors(self, dna: Sequence[Sequence[tuple[int, float]]]) -> Floats:
        """Each offer's DNA, (marker index, weight), as one row: float32[m, d]."""
        ...

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        """Probability of success, float32[k], for a query of n markers and vectors[k, d]."""
        ...


class Drawn(NamedTuple):
    """A draw: which candidate, its chance in 2^-32, and which one had the best score."""

    position: int
    chance: int
    best: int


class Explorer(Protocol):
    """Draws one of the candidates. A pure function of the scores and a number."""

    name: str
    gamma: float
    floor: float

    def distribution(self, scores: Scores) -> npt.NDArray[np.int64]:
        """Chance of every candidate in 2^-32, int64[A], for int32[A]; they add up to 2^32."""
        ...

    def draw(self, scores: Scores, number: int) -> Drawn:
        """One of A >= 1 candidates; `number` is uniform in 0 … 2^32 - 1."""
        ...


class Greedy:
    """Always the best score; of equal ones the first."""

    name = "greedy"
    gamma = 0.0
    floor = 0.0

    def distribution(self, scores: Scores) -> npt.NDArray[np.int64]:
        """All of it on the best: int64[A]."""
        chances = np.zeros(len(scores), np.int64)
        chances[int(scores.argmax())] = P
        return chances

    def draw(self, scores: Scores, number: int) -> Drawn:  # noqa: ARG002 the protocol's
        """The best."""
        best = int(scores.argmax())
        return Drawn(best, P, best)


class SquareCB:
    """Inverse gap weighting over all candidates, with a floor.

    `gamma` (0 to 1e6): how fast the chance falls with the gap to the best score. `floor` (0 to 1):
    the least that every candidate gets, times their number.
    """

    name = "squarecb"

    def __init__(self, gamma: float, floor: float) -> None:
        if not 0.0 <= gamma <= 1e6 or not 0.0 <= floor <= 1.0:
            raise FormatError(f"SquareCB takes gamma 0 to 1e6 and floor 0 to 1: {gamma}, {floor}")
        self.gamma = float(gamma)
        self.floor = floor
        self._is_whole = self.gamma.is_integer()
        self._floor_p = math.floor(floor * P)
        # As arrays, like `_TOP`: a number has to be made one each time.
        self._slope = np.array(-self.gamma)
        self._least = (0, np.array(0))

    def distribution(self, scores: Scores) -> npt.NDArray[np.int64]:
        """Chance of every candidate in 2^-32, int64[A], for int32[A]; they add up to 2^32."""
        best = int(scores.argmax())
        chances = self._others(scores, best)
        chances[best] = P - int(chances.sum())
        return chances

    def draw(self, scores: Scores, number: int) -> Drawn:
        """One of A >= 1 candidates; `number` is uniform in 0 … 2^32 - 1."""
        best = int(scores.argmax())
        if len(scores) == 1:
            return Drawn(0, P, 0)
        totals = self._others(scores, best)
        np.add.accumulate(totals, out=totals)
        # What the best has moves the totals of those behind it, and need not be put among them.
        chance, before = P - int(totals[-1]), int(totals[best])
        if before <= number < before + chance:
            return Drawn(best, chance, best)
        number = number if number < before else number - chance
        position = int(totals.searchsorted(number, side="right"))
        below = int(totals[position - 1]) if position else 0
        return Drawn(position, int(totals[position]) - below, best)

    def _others(self, scores: Scores, best: int) -> npt.NDArray[np.int64]:
        """The chances of all but the best, which has 0 here."""
        # Exact in float64, which takes a third of the time of whole numbers. A gap is below 2^32
        # and gamma at most 1e6, so that their product is below 2^53 (its rounding, where gamma is
        # not whole, is the same on every machine). 2^48 / s of a whole s below 2^53 is at least
        # 1 / s below the next whole number where it is none, and is rounded by less: no quotient
        # is rounded up to one.
        number, top = len(scores), int(scores[best])
        if self._is_whole:
            shares: npt.NDArray[np.float64] = scores * self._slope
            shares += top * self.gamma + number * ONE
        else:
            shares = np.floor((top - scores.astype(np.float64)) * self.gamma)
            shares += number * ONE
        np.divide(_TOP, shares, out=shares)
        chances = shares.astype(np.int64)
        if self._floor_p:
            for_number, least = self._least
            if for_number != number:
                least = np.array(self._floor_p // number)
                self._least = (number, least)
            np.maximum(chances, least, out=chances)
        chances[best] = 0
        return chances


def explorer(name: str, gamma: float, floor: float) -> Explorer:
    """The explorer that a placement names ("greedy" or "squarecb"; empty is greedy).

    Raises FormatError for a name or numbers that cannot be.
    """
    if name in ("", "greedy"):
        return Greedy()
    if name == "squarecb":
        return SquareCB(gamma, floor)
    raise FormatError(f"explorer {name!r} is not known; known are greedy and squarecb")


def splitmix64(state: int) -> int:
    """The number that a SplitMix64 generator in this state (uint64) gives next."""
    z = (state + _GOLDEN) & _MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return z ^ z >> 31


def draw_number(seed: int, slot: int) -> int:
    """The uniform number, 0 … 2^32 - 1, that decides slot `slot` under a uint64 seed."""
    return splitmix64((seed + slot * _GOLDEN) & _MASK) >> 32


def fixed_scores(values: Floats, worth: npt.NDArray[np.float64]) -> Scores:
    """Scores, int32[k] in 16.16 fixed point: value float32[k] times worth float64[k] (in 2^-16).

    What is not a number scores least, so that it is drawn last and never breaks a draw.
    """
    products = values * worth
    np.rint(products, out=products)
    # One sum shows that all of them are numbers, and small; in doubt each is looked at.
    if len(products) > _SUMMED_ALONE or not float(products.dot(products)) < _SMALL:
        np.fmax(products, SCORE_MIN, out=products)
        np.fmin(products, SCORE_MAX, out=products)
    return products.astype(np.int32)
