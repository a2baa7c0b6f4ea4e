"""What another policy would have earned: IPS, SNIPS, DM and DR, with intervals or a refusal.

The value of a policy is its reward by decision: the mean over decisions (each as often as it stands
for) of the sum over slots. With the weights w of `logged.weights`,

- *ips*: the mean of w r. Unbiased; it varies with the weights even where all rewards are alike.
- *snips*: for each slot the mean of r weighed by w, added up. Slightly biased, and steadier.
- *dm*: the mean of what a model expects. As good as the model: its interval says how far chance
  goes, and nothing about how wrong the model is.
- *dr*: dm, corrected by the mean of w (r - what the model predicted). Unbiased whatever the model
  says, and the steadier the better it is.

A difference of two policies is taken decision by decision: what both have in common is not counted
as doubt. docs/offpolicy.md says more, with sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from genome_server.offpolicy.intervals import (
    by_person,
    freedom,
    likely_means,
    student,
    widening,
)
from genome_server.offpolicy.logged import Floats, Ints, Logged, Policy, Slate, weights
from genome_server.offpolicy.needs import Lack, Needs, Overlap, lacks, overlap

CONFIDENCE = 0.95
_NEEDS = Needs()


@dataclass(frozen=True)
class Estimate:
    """A value by decision, or a difference of two, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """What a log says of a policy, or of one beside another.

    `estimates` is empty where there is too little to conclude, and `lacks` then says of what:
    nothing of it is to be guessed. Otherwise it has "ips" and "snips", and "dm" and "dr" where
    there is a model. `overlaps` tells of each policy that was asked about.
    """

    overlaps: tuple[Overlap, ...]
    lacks: tuple[Lack, ...]
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def concludes(self) -> bool:
        """Whether there is enough to say something."""
        return not self.lacks

    def not_worse(self, margin: float, by: str = "dr") -> bool | None:
        """Of a difference: whether it lies above -margin with all of its interval.

        `margin` >= 0 is in units of reward by decision. None where there is too little to conclude.
        Raises ValueError for a margin below 0 and for "dm", whose interval knows nothing of how
        wrong the model is, and KeyError for an estimate that there is not.
        """
        if not margin >= 0:
            raise ValueError(f"a margin is at least 0: {margin}")
        if by == "dm":
            raise ValueError("by its model alone nothing is shown to be no worse")
        return None if self.lacks else self.estimates[by].low >= -margin


class _Part(NamedTuple):
    """An estimate before its interval.

    It is `value` + the sum of `influence` float64[n], which is 0; what of that varies with rewards
    is the sum of `leverage` * `residual`, float64[n, K] each.
    """

    value: float
    influence: Floats
    leverage: Floats
    residual: Floats


def evaluate(
    logged: Logged,
    policy: Policy,
    *,
    slate: Slate = Slate.CUMULATIVE,
    needs: Needs = _NEEDS,
    confidence: float = CONFIDENCE,
) -> Answer:
    """The value by decision that a policy would have had. Raises ValueError for what cannot be."""
    person = _numbered(logged.person)
    parts, found = _parts(logged, person, policy, slate)
    return _answer(parts, person, (found,), needs, confidence)


def compare(
    logged: Logged,
    candidate: Policy,
    in_force: Policy,
    *,
    slate: Slate = Slate.CUMULATIVE,
    needs: Needs = _NEEDS,
    confidence: float = CONFIDENCE,
) -> Answer:
    """The candidate's value less that of the policy in force, both on the same decisions.

    The log may be of a third one. Models of both are needed for "dm" and "dr". Raises ValueError
    for what cannot be.
    """
    person = _numbered(logged.person)
    ours, of_ours = _parts(logged, person, candidate, slate)
    theirs, of_theirs = _parts(logged, person, in_force, slate)
    parts = {
        name: _Part(
            ours[name].value - theirs[name].value,
            ours[name].influence - theirs[name].influence,
            ours[name].leverage - theirs[name].leverage,
            (ours[name].residual + theirs[name].residual) / 2,
        )
        for name in ours.keys() & theirs.keys()
    }
    return _answer(parts, person, (of_ours, of_theirs), needs, confidence)


def _parts(
    logged: Logged, person: Ints, policy: Policy, slate: Slate
) -> tuple[dict[str, _Part], Overlap]:
    weight, before = weights(logged, policy, slate)
    share = logged.stands_for / logged.stands_for.sum()
    reward, each = logged.reward, share[:, None]
    parts = {}

    earned = (weight * reward).sum(axis=1)
    value = float(share @ earned)
    parts["ips"] = _Part(value, share * (earned - value), each * weight, reward)

    total = (each * weight).sum(axis=0)
    if (total > 0).all():
        normal = each * weight / total
        by_slot = (normal * reward).sum(axis=0)
        residual = reward - by_slot
        influence = (normal * residual).sum(axis=1)
        parts["snips"] = _Part(float(by_slot.sum()), influence, normal, residual)

    if policy.predicted is not None and policy.expected is not None:
        first = policy.expected[:, 0] if slate is Slate.CUMULATIVE else policy.expected.sum(axis=1)
        value = float(share @ first)
        none = np.zeros_like(reward)
        parts["dm"] = _Part(value, share * (first - value), none + each, none)
        residual = reward - policy.predicted
        told = (before * policy.expected + weight * residual).sum(axis=1)
        value = float(share @ told)
        if slate is Slate.CUMULATIVE:  # what a slot's value says of those behind it is their own
            residual[:, :-1] += policy.expected[:, 1:]
        parts["dr"] = _Part(value, share * (told - value), each * weight, residual)
    return parts, overlap(logged, person, weight)


def _answer(
    parts: Mapping[str, _Part],
    person: Ints,
    overlaps: tuple[Overlap, ...],
    needs: Needs,
    confidence: float,
) -> Answer:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1: {confidence}")
    said = dict.fromkeys(lack for each in overlaps for lack in lacks(each, needs))
    estimates = {}
    for name in ("ips", "snips", "dm", "dr"):
        if name in parts:
            found = _estimate(parts[name], person, confidence)
            if found is not None:
                estimates[name] = found
    if not {"ips", "snips"} <= estimates.keys():
        said[Lack("different contributions of persons", 1, 2)] = None
    return Answer(overlaps, tuple(said), {} if said else estimates)


def _estimate(part: _Part, person: Ints, confidence: float) -> Estimate | None:
    """The interval of a part; None where nothing varies, and so nothing is known of how much."""
    if not part.leverage.any() and not part.influence.any():
        return Estimate(part.value, part.value, part.value)  # two policies that do the same
    sums = by_person(person, part.influence)
    z = part.value + len(sums) * sums
    if len(sums) < 2 or np.ptp(z) <= 1e-12 * max(1.0, float(np.abs(z).max())):
        return None
    leverage = by_person(person, np.abs(part.leverage).sum(axis=1))
    quantile = student(confidence, freedom(leverage))
    low, high = likely_means(z, quantile**2 * widening(part.leverage, part.residual))
    return Estimate(part.value, low, high)


def _numbered(person: Ints) -> Ints:
    """Persons as numbers from 0, int64[n]."""
    return np.asarray(np.unique(person, return_inverse=True)[1].reshape(-1), np.int64)
