"""Logged decisions as columns, and what another policy would have done in them. Free of I/O.

A decision fills up to K slots, one after the other. Of each slot there is the chance with which it
got what it got, *given the slots before it*: that of the policy that decided, and that of the
policy that is asked about. A slot that stayed empty has the chance 1 in both and no reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Slate(Enum):
    """Which offers of a decision the reward of a slot may depend on, and so how it is weighed.

    With one slot all three are the same. JOINT: on all of them; a reward is weighed by the ratio of
    the chances of the whole slate. CUMULATIVE: on its own and those before it, as where people read
    from the top; by the ratio of the chances up to its slot. INDEPENDENT: on its own alone; by the
    ratio of its own slot, whose chances must then be those *whatever the slots before hold*.
    """

    JOINT = "joint"
    CUMULATIVE = "cumulative"
    INDEPENDENT = "independent"


@dataclass(frozen=True)
class Logged:
    """n decisions of K slots each, as they were made.

    `reward` and `chance` are float64[n, K], chances in (0, 1]. `person` int64[n] is equal for the
    decisions of one person; nobody in particular is alone each time. `stands_for` float64[n] says
    how many decisions each one stands for, where a device could not keep all of them
    (`learning.thinned`); 1 elsewhere. Raises ValueError where the columns cannot be.
    """

    reward: Floats
    chance: Floats
    person: Ints
    stands_for: Floats

    def __post_init__(self) -> None:
        if self.reward.ndim != 2 or not self.reward.size:
            raise ValueError("rewards are float64[decisions, slots], with at least one of each")
        if self.chance.shape != self.reward.shape:
            raise ValueError("there is one chance for each reward")
        if self.person.shape != self.stands_for.shape or len(self.person) != len(self.reward):
            raise ValueError("there is one person and one number it stands for by decision")
        _finite("rewards", self.reward)
        _chances("of what was shown", self.chance)
        if not (self.chance > 0).all():
            raise ValueError("what was shown cannot have had no chance")
        _finite("numbers that decisions stand for", self.stands_for)
        if not (self.stands_for > 0).all():
            raise ValueError("a decision stands for more than none")

    def __len__(self) -> int:
        return len(self.reward)

    def rows(self, kept: npt.NDArray[np.bool_]) -> Logged:
        """Some of the decisions, bool[n]."""
        return Logged(
            self.reward[kept], self.chance[kept], self.person[kept], self.stands_for[kept]
        )


@dataclass(frozen=True)
class Policy:
    """What another policy would have done in the same decisions.

    `chance` float64[n, K]: with which chance it would have put into each slot what was shown there,
    given that the slots before held what they held. The other two are a model's (both, or None):
    `predicted` float64[n, K] of what was shown, and `expected` float64[n, K], the mean of
    `predicted` over what this policy would have put into the slot. What they foretell is

    - INDEPENDENT: the reward of the slot; `expected` whatever the slots before hold;
    - JOINT: as INDEPENDENT, where `predicted` may know the whole slate and `expected` is its mean
      over the policy's slates;
    - CUMULATIVE: all reward from this slot on, given the slots before; `expected` is what
      `predicted` is on average over what the policy would have put into this slot after those.
    """

    chance: Floats
    predicted: Floats | None = None
    expected: Floats | None = None

    def __post_init__(self) -> None:
        _chances("of the policy", self.chance)
        if (self.predicted is None) != (self.expected is None):
            raise ValueError("a model gives both: what it predicts and what it expects")
        for values in (self.predicted, self.expected):
            if values is not None:
                if values.shape != self.chance.shape:
                    raise ValueError("a model gives one value for each slot")
                _finite("a model's values", values)

    def rows(self, kept: npt.NDArray[np.bool_]) -> Policy:
        """What it would have done in some of the decisions, bool[n]."""
        if self.predicted is None or self.expected is None:
            return Policy(self.chance[kept])
        return Policy(self.chance[kept], self.predicted[kept], self.expected[kept])


def weights(logged: Logged, policy: Policy, slate: Slate) -> tuple[Floats, Floats]:
    """The weights of the rewards and those of what a model expects, float64[n, K] each.

    Under the logging policy the mean of each is 1 where it shows, however rarely, all that the
    other one shows. Raises ValueError where the columns do not belong together.
    """
    if policy.chance.shape != logged.chance.shape:
        raise ValueError("the policy's chances are of other decisions")
    ratio: Floats = policy.chance / logged.chance
    if slate is Slate.INDEPENDENT:
        return ratio, np.ones_like(ratio)
    upto: Floats = np.multiply.accumulate(ratio, axis=1)
    if slate is Slate.JOINT:
        return np.repeat(upto[:, -1:], ratio.shape[1], axis=1), np.ones_like(ratio)
    before: Floats = np.concatenate([np.ones((len(ratio), 1)), upto[:, :-1]], axis=1)
    return upto, before


def _chances(whose: str, chance: Floats) -> None:
    if not ((chance >= 0) & (chance <= 1)).all():
        raise ValueError(f"chances {whose} lie between 0 and 1")


def _finite(what: str, values: Floats) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{what} are numbers")
