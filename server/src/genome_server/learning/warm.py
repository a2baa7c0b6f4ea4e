"""Going on from a model that was trained before: it learns what is new since, and no more.

Rules.
- New is what happened after the newest moment that the model knows, and what could still be
  answered then: the longest outcome window before it. What comes late with an older time waits for
  a training from scratch.
- It begins with the model's weights. Markers that the model did not know begin at zero: they change
  nothing until something is learned of them.
- Some of the new examples' persons are held back to find how long to learn, as always; where no
  step makes it better for them, the weights stay what they were and no model is made.
- Nothing pulls weights back to zero, no forest teaches and no old example is seen again: what was
  learned long ago fades only as far as what is new says otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from genome_server.learning.evaluate import Figures, figures_of, folds_by_person
from genome_server.learning.examples import Examples
from genome_server.learning.lessons import Teaching
from genome_server.learning.settings import Settings
from genome_server.learning.towers import Indices, Towers
from genome_server.learning.train import OnStep, predict, train


def settings_of(settings: Settings) -> Settings:
    """Return how to go on, where `settings` say how to train from scratch."""
    return replace(
        settings,
        learning_rate=5e-4,
        weight_decay=0.0,
        epochs=20,
        steps=60,
        teaching=Teaching(trees=0),
    )


def new_rows(examples: Examples, known_ms: int, window_ms: int) -> Indices:
    """Return the examples that a model which knows all until `known_ms` (Unix) has not learned."""
    return np.flatnonzero(examples.time_ms > known_ms - window_ms)


@dataclass(frozen=True)
class GoneOn:
    """What going on was worth: of a fifth of the persons, what is new, with the history of each.

    `before` is what the model says of them, `after` what one says that went on with the others;
    `asked` is how many examples they are asked about.
    """

    base: str
    examples: int
    persons: int
    asked: int
    before: Figures
    after: Figures

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)


def judge(
    examples: Examples,
    rows: Indices,
    start: Towers,
    base: str,
    settings: Settings,
    on_step: OnStep | None = None,
) -> GoneOn:
    """Say what going on from `start` (the model `base`) with the new examples `rows` is worth."""
    fold_of = folds_by_person(examples.person[rows], np.random.default_rng(settings.seed))
    asked, learned = rows[fold_of == 0], rows[fold_of != 0]
    gone = train(examples, learned, settings, on_step, start=start)
    label, person = examples.label[asked], examples.person[asked]
    weight = examples.stands_for[asked]

    def figures(towers: Towers) -> Figures:
        said = predict(towers, examples, asked, history=True)
        return figures_of(label, said, person, weight, settings.seed)

    persons = len(np.unique(examples.person[rows]))
    return GoneOn(base, len(rows), persons, len(asked), figures(start), figures(gone))
