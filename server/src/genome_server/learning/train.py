"""Training: an ensemble of query towers on examples, in JAX.

Rules.
- The probabilities must stay calibrated, because offers are chosen by probability ×
  value: classes keep the balance that they have, and the loss is the plain log loss.
- A forest teaches beside the examples where there are enough persons, see `lessons`.
- Half of the time an example shows the person's profile without its history, so that
  one model serves lessons and those who have been here before.
- Whole namespaces are left out at random, so that no single field carries a decision; not where a
  forest teaches, whose lessons have seen to that.
- A marker that stands in fewer than `min_count` of the examples stays unknown (row 0).
- A person may have a marker of their own, which starts at zero and is left out at random. What
  is trained beside it has less reason to learn persons; a stranger has exactly zero of it. It is
  no part of the towers.
- Same examples, same settings, same machine: same weights.

How long to train depends on the data by a factor of ten: people repeat themselves, and a
model that trains too long learns people instead of what they have in common. So some
persons are held back at first, to see after how many steps it stops getting better for
people whom it does not know; then it trains for so many steps on everybody. The weights
that count are a running average, which stands still where single steps do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genome_server.learning import network
from genome_server.learning.correction import Correction
from genome_server.learning.examples import Examples
from genome_server.learning.export import Probe
from genome_server.learning.learner import CHUNK, Learner
from genome_server.learning.lessons import Forest
from genome_server.learning.metrics import log_loss
from genome_server.learning.settings import Settings as Settings
from genome_server.learning.towers import Floats, Indices, Towers
from genome_server.learning.unfinished import Unfinished

# Called with (steps done, steps in all) now and then. Most trainings end before all.
OnStep = Callable[[int, int], None]

# Steps between two looks at the persons held back.
_LOOK = 20
_MAX_HELD_BACK = 10_000
_MIN_HELD_BACK = 30
# Few say little about the length, and a training that is too long harms most where there is little
# to learn from: so many are held back, but no more than this share of all.
_ENOUGH_HELD_BACK = 150
_MOST_HELD_BACK = 0.35
_BETTER = 1e-4
_PREDICT_ROWS = 1024


def train(
    examples: Examples,
    rows: Indices | None = None,
    settings: Settings | None = None,
    on_step: OnStep | None = None,
    left: Unfinished | None = None,
    start: Towers | None = None,
) -> Towers:
    """Train on the examples `rows` (all by default). Raises ValueError where there are none.

    What is `left` of the same training that was broken off is gone on with. It goes on from the
    weights of `start`, see `warm`, or begins anew.
    """
    return train_with_persons(examples, rows, settings, on_step, left, start)[0]


def train_with_persons(
    examples: Examples,
    rows: Indices | None = None,
    settings: Settings | None = None,
    on_step: OnStep | None = None,
    left: Unfinished | None = None,
    start: Towers | None = None,
) -> tuple[Towers, Floats | None]:
    """Train as `train` does; return what the persons' own markers learned, too.

    That is float32 (persons + 1, members, width), row 0 for strangers: what `predict` takes as
    `persons`; None where nobody has a marker.
    """
    settings = settings or Settings()
    rows = np.arange(len(examples)) if rows is None else rows
    if not len(rows):
        raise ValueError("there is nothing to train on")
    size = settings.batch_size(len(rows))
    longest = _in_chunks(max(settings.epochs * len(rows) / size, settings.steps))

    def report(done: int) -> None:
        if on_step is not None:
            on_step(done, 2 * longest)

    kept, held_back = _split(examples, rows, settings)
    forest, lessons = None, None
    teaching = settings.teaching
    persons = len(np.unique(examples.person[rows]))
    enough = len(rows) >= teaching.least_examples and persons >= teaching.least_persons
    if teaching.trees and enough:
        seed, least = settings.seed, settings.min_count
        forest = Forest(examples, rows, held_back, teaching, least, seed)
    steps = _in_chunks(settings.steps)
    right: Correction | None = None
    if len(held_back):
        if forest is not None:
            lessons = forest.lessons(examples, kept, blind=True)
        learner = Learner(examples, kept, size, settings, lessons, start)
        look = max(_LOOK, _in_chunks(len(kept) / size / 2))
        search = None if left is None else left.part("length")
        steps, said = _best_length(
            learner, examples, held_back, look, longest, settings, report, search, start is not None
        )
        if forest is not None:
            label, weight = examples.label[held_back], examples.stands_for[held_back]
            twice = [np.tile(each.astype(np.float64), 2) for each in (label, weight)]
            # Without the shift: how often those few said yes is their own affair.
            right = replace(Correction.of(said, twice[0], twice[1]), shift=0.0)
    if forest is not None:
        lessons = forest.lessons(examples, rows, blind=False)
    learner = Learner(examples, rows, size, settings, lessons, start)
    last = None if left is None else left.load("training")
    for done in learner.run(steps, last):
        report(longest + done)
        if left is not None and left.due:
            left.save("training", learner.state(done))
    report(2 * longest)
    towers = learner.towers()
    return towers if right is None else right.towers(towers), learner.persons()


def predict(
    towers: Towers,
    examples: Examples,
    rows: Indices,
    *,
    history: bool,
    persons: Floats | None = None,
) -> Floats:
    """Return the probability of success of each of the examples `rows`, float32 (n,).

    `history` says whether the person's own history may be looked at; `persons` is what
    `train_with_persons` gave, for persons that were in the training.
    """
    params = network.params_of(towers)
    result = np.zeros(len(rows), np.float32)
    offers = network.embed_offers(
        params["offer_table"],
        towers.offer_row[examples.offers.index].astype(np.int32),
        examples.offers.weight,
    )
    for begin in range(0, len(rows), _PREDICT_ROWS):
        some = rows[begin : begin + _PREDICT_ROWS]
        # Padded to one shape, so that it compiles once.
        padded = np.concatenate([some, np.repeat(some[-1:], _PREDICT_ROWS - len(some))])
        batch = examples.batch(padded)
        weight = batch.warm if history else batch.cold
        rows_of_batch = towers.query_row[batch.index].astype(np.int32)
        own = None if persons is None else persons[examples.person[padded] + 1]
        values = network.probability(params, rows_of_batch, weight, offers[batch.offer], own)
        result[begin : begin + len(some)] = np.asarray(values)[: len(some)]
    return result


def score(towers: Towers, probe: Probe) -> Floats:
    """Return what the trainer says to one query and m offers, float32 (m,), to prove parity."""
    m, n = len(probe.offer_index), len(probe.query_index)
    # Padded to few shapes, so that it compiles seldom; weight 0 adds nothing.
    offers = _padded(probe.offer_index, _up(m, 32), _up(probe.offer_index.shape[1], 8))
    rows = _padded(probe.query_index[None], 1, _up(n, 64))
    values = network.probability_of_each(
        network.params_of(towers),
        towers.query_row[rows].astype(np.int32),
        _padded(probe.query_weight[None], *rows.shape),
        towers.offer_row[offers].astype(np.int32),
        _padded(probe.offer_weight, *offers.shape),
    )
    return np.asarray(values, np.float32)[:m]


def _best_length(
    learner: Learner,
    examples: Examples,
    held_back: Indices,
    look: int,
    longest: int,
    settings: Settings,
    report: Callable[[int], None],
    left: Unfinished | None = None,
    known: bool = False,
) -> tuple[int, NDArray[np.float64]]:
    """Return after how many steps the examples held back are predicted best, and what is said then.

    That is (2 · held back,): first of them as strangers. It looks every `look` steps;
    where the learner goes on from what was `known`, before the first, too.
    """
    label, weight = examples.label[held_back], examples.stands_for[held_back]
    best, best_loss, best_said = CHUNK, math.inf, np.full(2 * len(held_back), 0.5)
    last = None if left is None else left.load("search")
    if last is not None:
        best, best_loss, best_said = int(last["best"]), float(last["best_loss"]), last["best_said"]
        if "leaf0" not in last:  # it was over
            return best, best_said

    def asked() -> tuple[float, NDArray[np.float64]]:
        towers = learner.towers()
        persons = None if settings.hold_back_persons else learner.persons()
        said = [
            predict(towers, examples, held_back, history=history, persons=persons)
            for history in (False, True)
        ]
        loss = sum(log_loss(label, each, weight) for each in said)
        return loss, np.concatenate(said).astype(np.float64)

    if known and last is None:  # no step at all may be best
        best = 0
        best_loss, best_said = asked()
    for done in learner.run(longest, last):
        report(done)
        if done % look:
            continue
        loss, said = asked()
        if loss < best_loss - _BETTER:
            best, best_loss, best_said = done, loss, said
        elif done - best >= settings.patience * look:
            break
        if left is not None and left.due:
            found = {"best": best, "best_loss": best_loss, "best_said": best_said}
            left.save("search", {**learner.state(done), **_arrays(found)})
    if left is not None:
        found = {"best": best, "best_loss": best_loss, "best_said": best_said}
        left.save("search", _arrays(found))
    return best, best_said


def _arrays(values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(value) for name, value in values.items()}


def _split(examples: Examples, rows: Indices, settings: Settings) -> tuple[Indices, Indices]:
    """Return the rows to train on and those of persons held back; none where they are too few."""
    rng = np.random.default_rng(settings.seed)
    share = max(settings.held_back, min(_MOST_HELD_BACK, _ENOUGH_HELD_BACK / len(rows)))
    if not settings.hold_back_persons:
        held_back = np.sort(rng.choice(rows, int(len(rows) * share), replace=False))
        return np.setdiff1d(rows, held_back), held_back[:_MAX_HELD_BACK]
    persons = rng.permutation(np.unique(examples.person[rows]))
    chosen = persons[: int(len(persons) * share)]
    out = np.isin(examples.person[rows], chosen)
    held_back = rows[out][:_MAX_HELD_BACK]
    if len(held_back) < _MIN_HELD_BACK:
        return rows, rows[:0]
    return rows[~out], held_back


def _in_chunks(steps: float) -> int:
    return math.ceil(steps / CHUNK) * CHUNK


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _padded(array: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    return np.pad(array, ((0, rows - array.shape[0]), (0, columns - array.shape[1])))
