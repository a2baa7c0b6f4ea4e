"""What a forest teaches the towers: what it expects of people in moments that nobody had.

Rules.
- A lesson puts one person into another's moment, with what was offered there. Half of the
  lessons show the person as a stranger.
- What is expected of a person is said by trees that never saw theirs: a lesson tells what
  people like them do, and nothing that only they did.
- What trees expect is put right before it is taught, for strangers and for others: small
  forests say too little that is near 0 or 1.
- Strangers have trees of their own, so that every split of a tree is about what it may know.
- Boosted trees speak of strangers, too, and count as much as the forest: of people without a
  history they know more, and of others less. They also say nothing of persons whom they saw.
- Half of the trees see nobody who is held back, so that the length of a training can be
  found by people of whom neither trees nor towers know anything.
- A forest takes the examples of as many persons as fit into `_MAX_ROWS`.

Trees find what holds for few people better than towers do, and towers what holds for all; see
the decision record 0037. Devices know of no forest: what is exported are towers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.boosting import Boosting
from genome_server.learning.columns import Columns
from genome_server.learning.correction import Correction, least_of, log_odds
from genome_server.learning.examples import Examples
from genome_server.learning.forest import Bools, Growth, Reals, Tree, grow
from genome_server.learning.strangers import Strangers
from genome_server.learning.towers import Indices

_MAX_ROWS = 20_000
_MAX_LESSONS = 40_000
_ASKED_AT_ONCE = 8192


@dataclass(frozen=True)
class Teaching:
    """How a forest teaches. Fewer examples or persons than the least have no forest."""

    # Half of them for strangers; 0: nothing is taught.
    trees: int = 80
    growth: Growth = field(default_factory=Growth)
    boosting: Boosting = field(default_factory=Boosting)
    # Of the persons, those that a tree sees.
    persons: float = 0.5
    lessons_per_example: int = 4
    # Of a batch of the towers' training, what are lessons; the rest are real examples.
    share: float = 0.8
    # Of the towers, where a forest teaches.
    weight_decay: float = 0.3
    history_dropout: float = 0.3
    # Real examples leave no field out either: lessons keep single fields from deciding.
    field_dropout: float = 0.0
    least_examples: int = 1000
    least_persons: int = 50


class _Grown(NamedTuple):
    """A tree, the persons that it saw, whether as strangers, and nobody who is held back."""

    tree: Tree
    seen: Bools
    strange: bool
    blind: bool


class Forest:
    """Trees, each with the persons that it saw."""

    def __init__(
        self,
        examples: Examples,
        rows: Indices,
        held_back: Indices,
        teaching: Teaching,
        min_count: int,
        seed: int,
    ) -> None:
        """Grow on the examples `rows`; those of `held_back` are seen by half of the trees."""
        chosen = _some_persons(examples, rows, np.random.default_rng([seed, 37]))
        self._columns = columns = Columns.of(examples, chosen, min_count)
        person = examples.person[chosen]
        out = np.isin(person, examples.person[held_back])
        warm, cold = (
            columns.table(examples, chosen, np.full(len(chosen), strange))
            for strange in (False, True)
        )
        label = examples.label[chosen].astype(np.float64)
        weight = examples.stands_for[chosen].astype(np.float64)
        weight /= max(weight.mean(), 1e-12)
        self._least = least_of(label, weight)
        # By turns for those with a history and for strangers; the first half sees nobody held back.
        self._trees: list[_Grown] = []
        for number in range(teaching.trees):
            rng = np.random.default_rng([seed, 37, number])
            seen = rng.random(int(examples.person.max()) + 1) < teaching.persons
            blind = number < teaching.trees // 2
            if blind:
                seen[person[out]] = False
            own = np.flatnonzero(seen[person])
            strange = bool(number % 2)
            asked = (cold if strange else warm)[own]
            tree = grow(asked, label[own], weight[own], rng, teaching.growth)
            self._trees.append(_Grown(tree, seen, strange, blind))
        self._teaching = teaching
        self._seed = seed
        self._strangers: Strangers | None = None
        if teaching.boosting.rounds:
            self._strangers = Strangers.of(
                cold[:, : len(columns.marker)], columns.offers, examples.offer[chosen], person, out,
                label, weight, teaching.boosting, seed, persons=int(examples.person.max()) + 1,
            )  # fmt: skip
        self._right: list[Correction] = []
        for strange, asked in ((False, warm), (True, cold)):
            expected = self._expected(asked, examples.offer[chosen], person, strange=strange)
            told = np.isfinite(expected)
            self._right.append(Correction.of(expected[told], label[told], weight[told]))

    def lessons(self, examples: Examples, rows: Indices, *, blind: bool) -> Examples:
        """Return lessons of the persons and moments of `rows`; labels are what is expected.

        `blind`: only by the trees that saw nobody who is held back.
        """
        rng = np.random.default_rng([self._seed, 38, blind])
        many = min(self._teaching.lessons_per_example * len(rows), _MAX_LESSONS)
        who, when = rng.choice(rows, many), rng.choice(rows, many)
        strange = rng.random(many) < 0.5
        made = _joined(examples, who, when, strange)
        expected = np.zeros(many)
        for kind in (False, True):
            alike = np.flatnonzero(strange == kind)
            for some in np.array_split(alike, 1 + len(alike) // _ASKED_AT_ONCE):
                asked = self._columns.table(made, some, np.zeros(len(some), bool))
                whose, what = made.person[some], made.offer[some]
                expected[some] = self._expected(asked, what, whose, strange=kind, blind=blind)
        # Of whom every tree saw, nobody can speak: one in billions of persons.
        told = np.isfinite(expected)
        expected = np.where(told, expected, 0.5)
        ordinary, of_strangers = (right.chance(expected) for right in self._right)
        label = np.where(strange, of_strangers, ordinary)
        return replace(
            made,
            label=label.astype(np.float32),
            stands_for=told.astype(np.float32),
        )

    def _expected(
        self,
        asked: Bools,
        offer: NDArray[np.int32],
        person: NDArray[np.int32],
        *,
        strange: bool,
        blind: bool = False,
    ) -> Reals:
        """Return what trees that did not see them expect, (n,); NaN where all of a forest did."""
        total, count = np.zeros(len(asked)), np.zeros(len(asked))
        for grown in self._trees:
            if grown.strange == strange and (grown.blind or not blind):
                unseen = np.flatnonzero(~grown.seen[person])
                total[unseen] += grown.tree.say(asked[unseen])
                count[unseen] += 1
        expected = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        if not strange or self._strangers is None:
            return expected
        query = asked[:, : len(self._columns.marker)]
        boosted = self._strangers.say(query, offer, person, blind=blind)
        both = (log_odds(expected, self._least) + boosted) / 2
        return np.asarray(1 / (1 + np.exp(-both)))


def _joined(examples: Examples, who: Indices, when: Indices, cold: Bools) -> Examples:
    """Return examples with the person of `who`, and moment and offer of `when`, (n,) each."""
    first = examples.start[who]
    middle = examples.start[when] + examples.of_person[when]
    of_person = examples.of_person[who]
    count = of_person + examples.start[when + 1] - middle
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    row = np.repeat(np.arange(len(who)), count)
    at = np.arange(start[-1]) - start[row]
    flat = np.where(at < of_person[row], first[row] + at, middle[row] + at - of_person[row])
    weight = np.where(cold[row], examples.cold[flat], examples.warm[flat])
    return replace(
        examples,
        start=start,
        index=examples.index[flat],
        warm=weight,
        cold=weight,
        offer=examples.offer[when],
        label=examples.label[when],
        propensity=examples.propensity[when],
        stands_for=np.ones(len(who), np.float32),
        person=examples.person[who],
        time_ms=examples.time_ms[when],
        of_person=of_person,
    )


def _some_persons(examples: Examples, rows: Indices, rng: np.random.Generator) -> Indices:
    """Return the rows of as many persons, drawn at random, as fit."""
    if len(rows) <= _MAX_ROWS:
        return rows
    persons = rng.permutation(np.unique(examples.person[rows]))
    place = np.zeros(int(examples.person.max()) + 1, np.int64)
    place[persons] = np.arange(len(persons))
    order = np.argsort(place[examples.person[rows]], kind="stable")
    return np.sort(rows[order[:_MAX_ROWS]])
