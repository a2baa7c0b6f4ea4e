"""Small worlds in which the true value of a policy is known, for the drill `estimates`.

A person is of a segment, which policies see, and has a taste, which nobody sees; who likes more
comes more often. A decision is made in a moment. Everything is finite: values are summed over all
segments, tastes, moments and slates, not drawn. The chances of slates are those of the SDK's own
SquareCB, slot after slot among what is left, as `edge_sdk.engine.slates` draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.engine.policy import ONE, P, SquareCB
from genome_server.offpolicy.logged import Logged, Policy

Array = npt.NDArray[Any]
#: What is to come from each slot on: of what was shown there, and on average; as `Chances`.
Model = tuple[list[Array], list[Array]]

SEGMENTS: Final = 6
MOMENTS: Final = 4
TASTES: Final = np.array([0.4, 1.6])
_TASTE_SHARES: Final = np.array([0.6, 0.4])
_COMES: Final = np.array([2.0, 5.0])  # decisions of a person on average, by taste
_THINNED: Final = 0.2  # of the persons' devices keep every other decision
_SAME_BEFORE: Final = 0.3  # what is left of a click where a slot before showed the same category
_LOWER: Final = 0.7  # and for each slot further down


class Regime(NamedTuple):
    """What a world is like: clicks by shown offer, how far the policies are apart, persons in a
    log, offers and slots of a decision."""

    name: str
    rate: float
    strong: bool
    persons: int
    offers: int = 10
    slots: int = 1


class Chances(NamedTuple):
    """A policy by visible context x and the slots so far: for slot k float64[x, a_1 ... a_k]."""

    of_slot: list[Array]


@dataclass(frozen=True)
class Drawn:
    """A log, and what the target and the policy that made the log would have done in it."""

    logged: Logged
    target: Policy
    itself: Policy


class World:
    """One world: its people, its two policies and their true values by decision."""

    def __init__(self, regime: Regime, rng: np.random.Generator) -> None:
        self._regime = regime
        contexts, offers = SEGMENTS * MOMENTS, regime.offers
        likes = np.exp(rng.normal(0.0, 0.6, (contexts, offers)))
        self._segments = rng.dirichlet(np.full(SEGMENTS, 5.0))
        self._moments = rng.dirichlet(np.full(MOMENTS, 5.0))
        category = rng.integers(0, 3, offers)
        slates = _slates(offers, regime.slots)
        kinds = category[slates]
        again = [(kinds[:, :k] == kinds[:, k : k + 1]).any(1) for k in range(regime.slots)]
        same = [np.where(seen, _SAME_BEFORE, 1.0) * _LOWER**k for k, seen in enumerate(again)]
        scale = regime.rate / (likes.mean() * float(_TASTE_SHARES @ TASTES))
        # Chance of a click by taste, context and slate, for each slot.
        self._click = [
            np.minimum(scale * TASTES[:, None, None] * likes[:, slates[:, k]] * same[k], 0.95)
            for k in range(regime.slots)
        ]
        # What models believe: nothing of tastes, little of slates.
        believed = likes * np.exp(rng.normal(0.0, 0.5, likes.shape))
        better = likes * np.exp(rng.normal(0.0, 0.3, likes.shape))
        close = believed * np.exp(rng.normal(0.0, 0.25, likes.shape))
        self._slates = slates
        self._log = _policy(believed, SquareCB(20.0, 0.1), regime.slots)
        self._target = (
            _policy(better, SquareCB(100.0, 0.02), regime.slots)
            if regime.strong
            else _policy(close, SquareCB(30.0, 0.1), regime.slots)
        )
        model = 0.8 * scale * likes * np.exp(rng.normal(0.0, 0.4, likes.shape))
        self._model_target = _foreseen(model, self._target)
        self._model_log = _foreseen(model, self._log)
        self.truth = self._value(self._target)
        self.truth_of_log = self._value(self._log)

    def _value(self, policy: Chances) -> float:
        """The reward by decision, exactly: over persons by how often they come."""
        chance = np.ones((SEGMENTS * MOMENTS, len(self._slates)))
        for k, of_slot in enumerate(policy.of_slot):
            chance = chance * of_slot[(slice(None), *self._slates[:, : k + 1].T)]
        earned = sum((chance * click).sum(-1) for click in self._click)  # (taste, context)
        comes = _TASTE_SHARES * _COMES
        where = np.outer(self._segments, self._moments).ravel()
        return float((comes / comes.sum()) @ (np.asarray(earned) @ where))

    def draw(self, rng: np.random.Generator) -> Drawn:
        """A log of some persons under the logging policy."""
        regime = self._regime
        number = regime.persons
        segment = rng.choice(SEGMENTS, number, p=self._segments)
        taste = rng.choice(len(TASTES), number, p=_TASTE_SHARES)
        person = np.repeat(np.arange(number), rng.geometric(1.0 / _COMES[taste]))
        thinned = rng.random(number) < _THINNED
        person = person[~thinned[person] | (rng.random(len(person)) < 0.5)]
        context = segment[person] * MOMENTS + rng.choice(MOMENTS, len(person), p=self._moments)
        taken: list[Array] = []
        for of_slot in self._log.of_slot:
            totals = np.cumsum(of_slot, axis=-1)[(context, *taken)]
            drawn = (rng.random(len(person))[:, None] >= totals).sum(1)
            taken.append(np.minimum(drawn, regime.offers - 1))
        number_of = np.full((regime.offers,) * regime.slots, -1)
        number_of[tuple(self._slates.T)] = np.arange(len(self._slates))
        slate = number_of[tuple(taken)]
        rate = np.stack([click[taste[person], context, slate] for click in self._click], 1)
        return Drawn(
            Logged(
                (rng.random(rate.shape) < rate).astype(float),
                _looked_up(self._log.of_slot, context, taken),
                person,
                np.where(thinned[person], 2.0, 1.0),
            ),
            self._said(self._target, self._model_target, context, taken),
            self._said(self._log, self._model_log, context, taken),
        )

    @staticmethod
    def _said(policy: Chances, model: Model, context: Array, taken: list[Array]) -> Policy:
        predicted, expected = model
        return Policy(
            _looked_up(policy.of_slot, context, taken),
            _looked_up(predicted, context, taken),
            np.stack([each[(context, *taken[:k])] for k, each in enumerate(expected)], 1),
        )


def _slates(offers: int, slots: int) -> Array:
    return np.array(list(permutations(range(offers), slots)))


def _looked_up(tables: list[Array], context: Array, taken: list[Array]) -> Array:
    return np.stack([each[(context, *taken[: k + 1])] for k, each in enumerate(tables)], 1)


def _policy(scores: Array, explorer: SquareCB, slots: int) -> Chances:
    """SquareCB on scores float64[x, offers], slot after slot among what is left."""
    contexts, offers = scores.shape
    fixed = np.rint(scores / scores.mean() * ONE).astype(np.int32)
    found = []
    for k in range(slots):
        chance: Array = np.zeros([contexts, *[offers] * (k + 1)])
        for x, before in _prefixes(contexts, offers, k):
            left = np.setdiff1d(np.arange(offers), before)
            where: Any = (x, *before, left)
            chance[where] = explorer.distribution(fixed[x, left]) / P
        found.append(chance)
    return Chances(found)


def _prefixes(contexts: int, offers: int, slots: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    for x in range(contexts):
        for before in permutations(range(offers), slots):
            yield x, before


def _foreseen(model: Array, policy: Chances) -> Model:
    """What a model float64[x, offers] of single offers says is to come from each slot on."""
    predicted: list[Array] = []
    expected: list[Array] = []
    later: Array = np.zeros(1)
    for k in reversed(range(len(policy.of_slot))):
        here: Array = model.reshape([len(model), *[1] * k, model.shape[1]]) * _LOWER**k
        known = np.broadcast_to(here, policy.of_slot[k].shape) + later
        mean = (policy.of_slot[k] * known).sum(-1)
        predicted.insert(0, known)
        expected.insert(0, mean)
        later = mean
    return predicted, expected
