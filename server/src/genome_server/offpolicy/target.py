"""Decisions of a log done again: by the model that made them, and by those that are asked about.

Free of I/O: releases and scorers are brought along.

Theory of operation. A reported decision holds its release, its moment, the offers that were left to
choose from, and for each slot the offer, its score and its chance. It holds neither the genome nor
the other offers' scores. With the genome of `past` all of them can be worked out again, and whether
that is the genome that the device had shows in what was recorded: only decisions whose scores *and*
chances come out as they were are asked about (`rebuild`). The others, where a device was behind or
ahead of the log, are counted by reason.

Then any policy is asked with which chance it would have put into each slot what was put there,
given what the slots before held (`ask`). Offers, their worth and their DNA are those of the
decision's own release; explorers are the policy's. Nobody is asked what else could have been shown:
the offers are those that the device had.

What cannot be done again: a decision under a placement that asks for a least worth, where what was
worth less under the model in force is not recorded; a slot behind the first where a cap over a
campaign left less room than there were slots (its chance does not come out, and so it is counted).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import (
    ONE,
    Explorer,
    Indices,
    P,
    Scorer,
    Scores,
    explorer,
    fixed_scores,
)
from edge_sdk.engine.policy import Floats as Weights
from edge_sdk.engine.record import candidate_rows
from edge_sdk.engine.release import Release, Scoring
from edge_sdk.errors import FormatError, TrustError, UsageError
from genome_edge.v1 import event_pb2
from genome_server.offpolicy.direct import FOLDS, cell_means
from genome_server.offpolicy.logged import Floats, Ints, Logged, Policy
from genome_server.offpolicy.past import Past

#: How far a score may be off that is worked out again, as a share of what the offer is worth.
SCORE_TOLERANCE: Final = 1e-4
#: And a chance, as a share of itself.
CHANCE_TOLERANCE: Final = 0.01
#: Why a decision is not asked about that could not have been another.
NO_CHOICE: Final = "it had no choice"

Features = tuple[tuple[Indices, Weights], ...]


class Draw(NamedTuple):
    """A slot: the positions among the candidates that were left, int64[j], and what was drawn, as a
    place in those."""

    pool: npt.NDArray[np.int64]
    drawn: int


class Rebuilt(NamedTuple):
    """A decision whose record comes out again: its release, its candidates (rows int32[k] of the
    release's catalogue), what a device knew, and its slots as far as something was drawn."""

    past: Past
    release: Release
    rows: npt.NDArray[np.int32]
    features: Features
    draws: tuple[Draw, ...]


@dataclass(frozen=True)
class Asked:
    """A policy: its models, one of which is asked about each person (`Past.fold` modulo their
    number), and the explorers of its placements by id; elsewhere that of the decision counts."""

    scorers: Sequence[Scorer]
    explorers: Mapping[str, Explorer]


@dataclass(frozen=True)
class Said:
    """What a policy would have done in n decisions.

    `share` float64[offers] is how many decisions' slots each offer would have filled, and `left` in
    how many decisions it could have been shown, both as often as a decision stands for. `share_in`
    and `left_in` float64[parts, offers] are the same of each part that was asked about.
    """

    policy: Policy
    share: Floats
    left: Floats
    share_in: Floats
    left_in: Floats


class Decisions:
    """Rebuilt decisions as columns: what estimators and policies are asked with.

    `offers` are the ids of all that could be shown, by number; `logged` as in `logged.Logged`, with
    the reward of a success being what the offer was worth.

    In a placement of `joint` all slots' rewards stand in the last slot: what a cascade weighs by
    the chances up to there is weighed by those of the whole slate, whatever the order of effects.
    """

    def __init__(
        self,
        rebuilt: Sequence[Rebuilt],
        vocabulary: Vocabulary,
        joint: Collection[str] = (),
    ) -> None:
        if not rebuilt:
            raise ValueError("there is no decision")
        self.rebuilt = rebuilt
        self.vocabulary = vocabulary
        self._scorings: dict[tuple[int, int], Scoring] = {}
        numbers: dict[str, int] = {}
        self._number: dict[int, Ints] = {}
        for one in rebuilt:
            release = one.release
            if id(release) not in self._number:
                ids = release.catalogue.ids
                self._number[id(release)] = np.array(
                    [numbers.setdefault(name, len(numbers)) for name in ids], np.int64
                )
        self.offers = tuple(numbers)
        self.at_ms = np.array([one.past.at_ms for one in rebuilt], np.int64)
        self.slots = max(len(one.draws) for one in rebuilt)
        shape = (len(rebuilt), self.slots)
        reward, chance = np.zeros(shape), np.ones(shape)
        self.shown = np.full(shape, -1, np.int64)
        for at, one in enumerate(rebuilt):
            for slot, draw in enumerate(one.draws):
                row = int(one.rows[draw.pool[draw.drawn]])
                record = one.past.record.slots[slot]
                self.shown[at, slot] = self._number[id(one.release)][row]
                chance[at, slot] = record.propensity
                if one.past.success[slot]:
                    reward[at, slot] = one.release.catalogue.worth[row] / ONE
        self.joint = np.array([one.past.record.placement in joint for one in rebuilt], bool)
        last = np.array([len(one.draws) - 1 for one in rebuilt])
        whole = np.where(np.arange(self.slots) == last[:, None], reward.sum(axis=1)[:, None], 0.0)
        reward = np.where(self.joint[:, None], whole, reward)
        person = np.array([one.past.person for one in rebuilt], np.int64)
        stands_for = np.array([one.past.stands_for for one in rebuilt], np.float64)
        self.logged = Logged(reward, chance, person, stands_for)
        self._means = self._expectations()

    def __len__(self) -> int:
        return len(self.rebuilt)

    def ask(
        self,
        asked: Asked,
        advance: Callable[[int], object] = lambda _: None,
        parts: Sequence[npt.NDArray[np.bool_]] = (),
    ) -> Said:
        """What a policy would have done; `parts` are bool[n] each, and may overlap.

        Raises TrustError where a model cannot value an offer.
        """
        n = len(self)
        chance = np.ones((n, self.slots))
        predicted, expected = np.zeros((n, self.slots)), np.zeros((n, self.slots))
        share, left = np.zeros(len(self.offers)), np.zeros(len(self.offers))
        share_in, left_in = np.zeros((2, len(parts), len(self.offers)))
        member = np.array(parts, bool).reshape(len(parts), n)
        for at, one in enumerate(self.rebuilt):
            scorer = asked.scorers[one.past.fold % len(asked.scorers)]
            record = one.past.record
            explores = asked.explorers.get(record.placement) or _explorer(record)
            number = self._number[id(one.release)][one.rows]
            scores = scores_of(one, self._scoring(scorer, one.release))
            left[number] += one.past.stands_for
            among_parts = np.flatnonzero(member[:, at])[:, None]
            left_in[among_parts, number] += one.past.stands_for
            for slot, draw in enumerate(one.draws):
                odds = explores.distribution(scores[draw.pool]) / P
                chance[at, slot] = odds[draw.drawn]
                among = number[draw.pool]
                share[among] += one.past.stands_for * odds
                share_in[among_parts, among] += one.past.stands_for * odds
                if self._means is not None:
                    fold, mean = self._means
                    told = mean[fold[at], slot * len(self.offers) + among]
                    predicted[at, slot] = told[draw.drawn]
                    expected[at, slot] = odds @ told
            if at % 500 == 499:
                advance(500)
        advance(n % 500)
        if self._means is None:
            return Said(Policy(chance), share, left, share_in, left_in)
        return Said(Policy(chance, predicted, expected), share, left, share_in, left_in)

    def _scoring(self, scorer: Scorer, release: Release) -> Scoring:
        key = (id(scorer), id(release))
        known = self._scorings.get(key)
        if known is None:
            known = self._scorings[key] = scoring_of(scorer, release, self.vocabulary)
        return known

    def _expectations(self) -> tuple[Ints, Floats] | None:
        """The fold of each decision, and by slot and offer the mean of what follows from the slot
        on, as the other folds have it; None where there are too few persons."""
        logged = self.logged
        if len(np.unique(logged.person)) < FOLDS:
            return None
        at, slot = np.nonzero(self.shown >= 0)
        onwards = np.cumsum(logged.reward[:, ::-1], axis=1)[:, ::-1]
        cells = len(self.offers)
        found = cell_means(
            slot * cells + self.shown[at, slot],
            onwards[at, slot],
            logged.person[at],
            logged.stands_for[at],
            cells=self.slots * cells,
        )
        fold = np.zeros(len(self), np.int64)
        fold[at] = found.fold
        return fold, found.mean


def rebuild(
    past: Sequence[Past],
    release_of: Callable[[int], Release | None],
    vocabulary: Vocabulary,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[list[Rebuilt], Counter[str], list[Rebuilt]]:
    """The decisions that come out again, and why the others do not; `release_of` gives a release by
    its version (None: it is gone). Decisions without a choice are among the others, and so are the
    last: those that come out of placements that ask for a least worth, of which it is known what
    they chose from and not what was worth less."""
    kept: list[Rebuilt] = []
    choosy: list[Rebuilt] = []
    why: Counter[str] = Counter()
    for number, one in enumerate(past):
        found = _rebuilt(one, release_of(int(one.record.release_version)), vocabulary)
        if isinstance(found, str):
            why[found] += 1
        elif _choosy(found.release, one):
            why["its placement asks for a least worth"] += 1
            choosy.append(found)
        else:
            kept.append(found)
        if number % 500 == 499:
            advance(500)
    advance(len(past) % 500)
    return kept, why, choosy


def scoring_of(scorer: Scorer, release: Release, vocabulary: Vocabulary) -> Scoring:
    """A model beside the vectors of a release's offers, by today's vocabulary."""
    dna = []
    for offer in release.catalogue.offers:
        pairs = ((vocabulary.index(m.marker), m.salience_q8 / 256) for m in offer.dna)
        dna.append([(at, weight) for at, weight in pairs if at is not None])
    return Scoring(scorer, np.ascontiguousarray(scorer.vectors(dna), np.float32))


def scores_of(one: Rebuilt, scoring: Scoring) -> Scores:
    """The scores of a decision's candidates, int32[k]."""
    doubles = scoring.doubles(one.features, scoring.vectors[one.rows])
    return fixed_scores(doubles, one.release.catalogue.worth[one.rows] / 2)


def _choosy(release: Release, past: Past) -> bool:
    """Whether a decision's placement asked for a least worth."""
    slate = release.placements[past.record.placement].slate
    return slate is not None and slate.least is not None


def _rebuilt(past: Past, release: Release | None, vocabulary: Vocabulary) -> Rebuilt | str:
    """A decision done again, or why it does not come out."""
    record = past.record
    if release is None:
        return "its release is gone"
    placement = release.placements.get(record.placement)
    if placement is None:
        return "its release does not have its placement"
    try:
        rows = candidate_rows(record)
        explores = _explorer(record)
        scoring = release.scoring
    except (UsageError, FormatError):
        return "its record cannot be read"
    except TrustError:
        return "its model cannot be opened"
    if not len(rows) or rows[-1] >= len(release.catalogue):
        return "its record names offers that its release does not have"
    draws = _draws(release, record, rows, placement.slate.most if placement.slate else 0)
    if draws is None:
        return "it shows what was not to choose from"
    if all(len(draw.pool) == 1 for draw in draws) and not _choosy(release, past):
        return NO_CHOICE
    genome = (past.genome,) if record.genome_used else ()
    one = Rebuilt(past, release, rows, (*genome, _moment(record, vocabulary)), draws)
    scores = scores_of(one, scoring)
    for slot, draw in zip(record.slots, draws, strict=False):
        found = scores[draw.pool]
        worth = abs(float(release.catalogue.worth[rows[draw.pool[draw.drawn]]]))
        if abs(int(found[draw.drawn]) - slot.score) > max(1.0, SCORE_TOLERANCE * worth):
            return "its score does not come out: the device knew something else"
        chance = int(explores.distribution(found)[draw.drawn]) / P
        if abs(chance - slot.propensity) > CHANCE_TOLERANCE * slot.propensity:
            return "its chance does not come out: the device knew something else"
    return one


def _draws(
    release: Release, record: event_pb2.DecisionRecord, rows: npt.NDArray[np.int32], most: int
) -> tuple[Draw, ...] | None:
    """From what each slot drew, by the rules of `edge_sdk.engine.slates`; None where what is shown
    was not among it."""
    catalogue = release.catalogue
    priorities, groups = catalogue.priorities[rows], catalogue.groups[rows]
    categories = catalogue.categories[rows]
    left = np.ones(len(rows), bool)
    shown: Counter[int] = Counter()
    draws = []
    for slot in record.slots:
        if not slot.offer:
            break
        pool = np.flatnonzero(left)
        if not len(pool):
            return None
        pool = pool[priorities[pool] == priorities[pool].max()]
        row = catalogue.row_of.get(slot.offer)
        drawn = np.flatnonzero(rows[pool] == row) if row is not None else pool[:0]
        if not len(drawn) or not 0 < slot.propensity <= 1:
            return None
        draws.append(Draw(pool, int(drawn[0])))
        position = int(pool[drawn[0]])
        left[position] = False
        if groups[position]:
            left &= groups != groups[position]
        if most and categories[position]:
            category = int(categories[position])
            shown[category] += 1
            if shown[category] >= most:
                left &= categories != category
    return tuple(draws) or None


def _moment(record: event_pb2.DecisionRecord, vocabulary: Vocabulary) -> tuple[Indices, Weights]:
    """The moment's markers and how strong they were."""
    names = record.context_markers
    said = record.context_saliences_q8 or [256] * len(names)
    pairs = [
        (index, salience_q8 / 256)
        for name, salience_q8 in zip(names, said, strict=False)
        if (index := vocabulary.index(name)) is not None
    ]
    return (
        np.array([index for index, _ in pairs], np.int64),
        np.array([weight for _, weight in pairs], np.float32),
    )


def _explorer(record: event_pb2.DecisionRecord) -> Explorer:
    return explorer(record.explorer, record.gamma, record.floor)
