"""Two models on a tenant's own examples: on those that neither has seen, where there are enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import Scorer
from edge_sdk.engine.scoring import open_scorer
from genome_server.errors import Refused
from genome_server.learning.enough import NEEDED, enough
from genome_server.learning.examples import Examples
from genome_server.learning.export import learned_until
from genome_server.learning.towers import Floats, Indices
from genome_server.models.paired import Figure, paired
from genome_server.models.shelf import Model

_STEP = 500


@dataclass(frozen=True)
class Compared:
    """Figures of two models A and B on the same examples.

    `since_ms`: only examples after this time (Unix) were taken, which neither has learned from;
    None where all were. `flattered` are the ids of models that may have learned from some of them.
    `figures` has "strangers" and "with_history", each with "auc", "log_loss", "calibration_error".
    """

    examples: int
    persons: int
    since_ms: int | None
    flattered: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Figure]]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """It as plain data."""
        return asdict(self)


def compare_models(
    a: Model,
    b: Model,
    examples: Examples,
    vocabulary: Vocabulary,
    advance: Callable[..., Any] = lambda *_, **__: None,
) -> Compared:
    """Measure two models. Raises Refused where there are too few examples, or a model is unfit."""
    learned = {one.id: learned_until(one.content) for one in (a, b)}
    known = [until for until in learned.values() if until is not None]
    newest = max(known, default=0)
    rows = np.flatnonzero(examples.time_ms > newest)
    since: int | None = newest
    notes = []
    if len(known) < 2 or not enough(examples, rows):
        if len(known) == 2:
            notes.append(f"only {len(rows):,} examples are newer than what the models learned from")
        rows, since = np.arange(len(examples)), None
    if not enough(examples, rows):
        raise Refused(f"too few examples to compare models on: {len(rows)}; {NEEDED}")
    oldest = int(examples.time_ms[rows].min())
    flattered = tuple(name for name, until in learned.items() if until is None or until >= oldest)
    for name in flattered:
        until = learned[name]
        notes.append(
            f"model {name} does not say up to when it learned: its figures may flatter it"
            if until is None
            else f"model {name} may have learned from some of these: its figures flatter it"
        )
    advance(0, total=4 * len(rows))
    label, person = examples.label[rows], examples.person[rows]
    figures = {}
    for name, history in (("strangers", False), ("with_history", True)):
        values = [
            values_of(
                open_scorer(one.content, vocabulary), examples, rows, advance, history=history
            )
            for one in (a, b)
        ]
        figures[name] = paired(label, values[0], values[1], person, examples.stands_for[rows])
    persons = len(np.unique(person))
    return Compared(len(rows), persons, since, flattered, figures, tuple(notes))


def values_of(
    scorer: Scorer,
    examples: Examples,
    rows: Indices,
    advance: Callable[..., Any] = lambda *_, **__: None,
    *,
    history: bool = True,
    without: npt.NDArray[np.bool_] | None = None,
) -> Floats:
    """What devices would make of the examples `rows`, float32 (n,).

    `history` says whether the person's own may be looked at; `without` bool (V,) takes markers out
    of the queries.
    """
    table = examples.offers
    vectors = scorer.vectors(
        [
            [(int(i), float(w)) for i, w in zip(index, weight, strict=True) if w]
            for index, weight in zip(table.index, table.weight, strict=True)
        ]
    )
    weights = examples.warm if history else examples.cold
    found = np.zeros(len(rows), np.float32)
    for at, row in enumerate(rows.tolist()):
        here = slice(examples.start[row], examples.start[row + 1])
        index, weight = examples.index[here], weights[here]
        kept = weight > 0 if without is None else (weight > 0) & ~without[index]
        offer = int(examples.offer[row])
        asked = index[kept].astype(np.int64)
        found[at] = scorer.values(asked, weight[kept], vectors[offer : offer + 1])[0]
        if at % _STEP == _STEP - 1:
            advance(_STEP)
    advance(len(rows) % _STEP)
    return found
