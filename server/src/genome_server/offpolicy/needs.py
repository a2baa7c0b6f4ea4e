"""What a log must hold before anything is concluded from it. Free of I/O.

An estimate from few persons, or from few that matter, has an interval like any other, and looks as
sure. So below these thresholds there is none: there is only what is there and what is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genome_server.offpolicy.intervals import by_person
from genome_server.offpolicy.logged import Floats, Ints, Logged


@dataclass(frozen=True)
class Needs:
    """The thresholds; `make drill ONLY=estimates` shows that intervals hold above these.

    `persons`: the least effective number of persons, (sum of v)^2 / sum of v^2 of their weights v.
    `answers`: the least effective number of decided slots whose reward is not the most common one
    (of clicks, where few click): by the weights, how many there are likely to be, see `Overlap`.
    `errors`: by how many standard errors the mean weight may differ from 1.
    """

    persons: float = 50.0
    answers: float = 10.0
    errors: float = 4.0


#: To see what would have been said; nothing is refused but what has no interval at all.
NOTHING = Needs(persons=0.0, answers=0.0, errors=float("inf"))


@dataclass(frozen=True)
class Lack:
    """Something that there is too little of, in words, with what there is and what is needed."""

    what: str
    there: float
    needed: float

    def __str__(self) -> str:
        return f"{self.what}: {self.there:.4g}, needed {self.needed:.4g}"


@dataclass(frozen=True)
class Overlap:
    """How much of a log speaks of another policy.

    `effective_decisions` and `effective_persons` are (sum of v)^2 / sum of v^2 of the weights v;
    `effective_answers` is the first times the share, by weight, of the answers that are not the
    most common one: not how many were seen with which weights, because with few of them those with
    large weights are missing. `largest_weight` is a decision's, where 1 is the mean that there
    should be; `largest_share` is a person's, of all; `mean_weight` is what the mean is.
    """

    decisions: int
    persons: int
    effective_decisions: float
    effective_persons: float
    effective_answers: float
    largest_weight: float
    largest_share: float
    mean_weight: float
    errors_off: float


def overlap(logged: Logged, person: Ints, weight: Floats) -> Overlap:
    """What weights float64[n, K] leave of a log; `person` int64[n] counts from 0.

    Of the slots the one in which least is left counts.
    """
    counts = logged.stands_for
    worst = min(range(weight.shape[1]), key=lambda k: _effective(counts * weight[:, k]))
    mine = weight[:, worst]
    said = counts * mine
    people, alike = by_person(person, said), by_person(person, counts)
    total = float(said.sum())
    mean = total / float(counts.sum())
    spread = float(np.sqrt(((people - mean * alike) ** 2).sum())) / float(counts.sum())
    unusual = _unusual(logged.reward)
    answers = (counts[:, None] * weight * unusual).sum(axis=0) / np.maximum(
        (counts[:, None] * weight).sum(axis=0), np.finfo(float).tiny
    )
    within = [_effective(counts * weight[:, k]) for k in range(weight.shape[1])]
    return Overlap(
        decisions=len(logged),
        persons=len(people),
        effective_decisions=_effective(said),
        effective_persons=_effective(people),
        effective_answers=float((answers * within).sum()),
        largest_weight=float(weight.max()),
        largest_share=float(people.max()) / total if total else 0.0,
        mean_weight=mean,
        errors_off=abs(mean - 1.0) / spread if spread > 0 else (0.0 if mean == 1.0 else np.inf),
    )


def lacks(found: Overlap, needs: Needs) -> tuple[Lack, ...]:
    """What a log has too little of."""
    said = []
    if found.effective_persons < needs.persons:
        said.append(Lack("effective number of persons", found.effective_persons, needs.persons))
    if found.effective_answers < needs.answers:
        said.append(Lack("effective number of answers", found.effective_answers, needs.answers))
    if found.errors_off > needs.errors:
        what = (
            "standard errors of the mean weight from 1 (chances are not those that were drawn by,"
            " or the policy shows what was never shown)"
        )
        said.append(Lack(what, found.errors_off, needs.errors))
    return tuple(said)


def _effective(said: Floats) -> float:
    squares = float((said**2).sum())
    return float(said.sum()) ** 2 / squares if squares else 0.0


def _unusual(reward: Floats) -> Floats:
    """1 where a slot's reward is not the most common one of that slot, float64[n, K]."""
    found = np.empty_like(reward)
    for k in range(reward.shape[1]):
        values, times = np.unique(reward[:, k], return_counts=True)
        found[:, k] = reward[:, k] != values[times.argmax()]
    return found
