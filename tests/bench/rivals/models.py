"""The rivals that score: Vowpal Wabbit and LightGBM, each trained on the market's examples.

Vowpal Wabbit: `--cb_explore_adf --squarecb` with crossed features of genome and offer, and of
moment and offer; the offers are parsed beforehand, and so is each customer's moment.

LightGBM: gradient boosted trees, stopped where a held back part gets no better; a column for every
marker of the genome, of the moment and of the offer, and what genome and offer share; the matrix is
there beforehand, and a decision fills in the customer's columns and predicts on one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from tests.bench.rivals.taste import MARKERS, OFFERS, Example, Floats, Market

_PASSES: Final = 2
_EXPLORING: Final = "--cb_explore_adf --squarecb"
_SCORING: Final = "--cb_adf"


class VowpalWabbit:
    """Chooses by SquareCB among all offers."""

    def __init__(self, market: Market, moment: Sequence[str], passes: int = _PASSES) -> None:
        self._market, self._moment = market, moment
        self._offers = [f"|o {' '.join(f'm{m}' for m in offer)}" for offer in market.offers]
        self._workspace = self._trained(_EXPLORING, passes)
        # Predicting changes nothing, so examples are parsed once and used again.
        self._actions = [self._parsed(offer) for offer in self._offers]

    def prepared(self, genome: dict[int, float], activity: str) -> Any:
        """A customer's moment, parsed."""
        return [self._parsed(self._shared(genome, activity)), *self._actions]

    def decide(self, prepared: Any) -> object:
        """The chance of each offer."""
        return self._workspace.predict(prepared)

    def auc_scores(self, examples: Sequence[Example]) -> Floats:
        """How likely it says that each is taken, by a model trained alike that gives scores."""
        workspace = self._trained(_SCORING, _PASSES)
        scores = [-workspace.predict(self._lines(one, labelled=False))[0] for one in examples]
        return np.array(scores, np.float32)

    def _trained(self, mode: str, passes: int) -> Any:
        import vowpalwabbit

        workspace = vowpalwabbit.Workspace(
            f"{mode} --cb_type mtr -q uo -q co -b 20 -l 0.02 --quiet"
        )
        for _ in range(passes):
            for one in self._market.examples:
                if not self._market.is_test(one):
                    workspace.learn(self._lines(one))
        return workspace

    def _parsed(self, line: str) -> Any:
        return self._workspace.parse([line])[0]

    def _lines(self, one: Example, *, labelled: bool = True) -> list[str]:
        said = f"0:{-int(one.taken)}:1 " if labelled else ""
        activity = ("browse", "wait", "pay")[one.activity]
        return [
            self._shared(self._market.genomes[one.customer], activity),
            said + self._offers[one.offer],
        ]

    def _shared(self, genome: dict[int, float], activity: str) -> str:
        weights = " ".join(f"m{marker}:{weight:.4g}" for marker, weight in genome.items())
        moment = " ".join(
            name.replace(":", "_") for name in (f"activity:{activity}", *self._moment)
        )
        return f"shared |u {weights} |c {moment}"


class LightGbm:
    """Scores every offer."""

    def __init__(self, market: Market, moment: Sequence[str]) -> None:
        import lightgbm

        self._market, self._columns = market, 2 * MARKERS + 4 + len(moment)
        self._offers = np.zeros((OFFERS, MARKERS), np.float32)
        for number, markers in enumerate(market.offers):
            self._offers[number, list(markers)] = 1.0
        learning = [one for one in market.examples if not market.is_test(one)]
        held = [one for one in learning if one.customer % 5 == 1]
        kept = [one for one in learning if one.customer % 5 != 1]
        settings = {
            "objective": "binary", "learning_rate": 0.05, "num_leaves": 31, "seed": 1,
            "min_data_in_leaf": 50, "feature_fraction": 0.5, "num_threads": 2, "verbosity": -1,
        }  # fmt: skip
        self.booster = lightgbm.train(
            settings,
            lightgbm.Dataset(self._rows(kept), [one.taken for one in kept]),
            1_000,
            [lightgbm.Dataset(self._rows(held), [one.taken for one in held])],
            callbacks=[lightgbm.early_stopping(50, verbose=False)],
        )
        self._matrix = np.zeros((OFFERS, self._columns), np.float32)
        self._matrix[:, MARKERS : 2 * MARKERS] = self._offers

    def prepared(self, genome: dict[int, float], activity: str) -> Floats:
        """The columns of a customer's moment: the genome, then what is going on."""
        said = np.zeros(self._columns - MARKERS - 1, np.float32)
        said[list(genome)] = list(genome.values())
        said[MARKERS + ("browse", "wait", "pay").index(activity)] = 1.0
        said[MARKERS + 3 :] = 1.0
        return said

    def decide(self, prepared: Floats) -> object:
        """The best offer."""
        matrix = self._matrix
        matrix[:, :MARKERS] = prepared[:MARKERS]
        matrix[:, 2 * MARKERS : -1] = prepared[MARKERS:]
        matrix[:, -1] = self._offers @ prepared[:MARKERS]
        return np.argmax(self.booster.predict(matrix, num_threads=1))

    def auc_scores(self, examples: Sequence[Example]) -> Floats:
        """How likely it says that each is taken."""
        return np.asarray(self.booster.predict(self._rows(examples)), np.float32)

    def _rows(self, examples: Sequence[Example]) -> Floats:
        rows = np.zeros((len(examples), self._columns), np.float32)
        for row, one in zip(rows, examples, strict=True):
            activity = ("browse", "wait", "pay")[one.activity]
            said = self.prepared(self._market.genomes[one.customer], activity)
            row[:MARKERS] = said[:MARKERS]
            row[MARKERS : 2 * MARKERS] = self._offers[one.offer]
            row[2 * MARKERS : -1] = said[MARKERS:]
            row[-1] = self._offers[one.offer] @ said[:MARKERS]
        return rows
