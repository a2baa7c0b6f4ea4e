"""Training: an ensemble of query towers on examples, in JAX.

Rules.
- The probabilities must stay calibrated, because offers are chosen by probability ×
  value: classes keep the balance that they have, and the loss is the plain log loss.
- Half of the time an example shows the person's profile without its history, so that
  one model serves strangers and those who have been here before.
- Whole namespaces are left out at random: no single field carries a decision.
- A marker that stands in fewer than `min_count` of the examples stays unknown (row 0).
- Same examples, same settings, same machine: same weights.

How long to train depends on the data by a factor of ten: people repeat themselves, and a
model that trains too long learns people instead of what they have in common. So some
persons are held back at first, to see after how many steps it stops getting better for
people whom it does not know; then it trains for so many steps on everybody. The weights
that count are a running average, which stands still where single steps do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from genome_server.learning import network
from genome_server.learning.examples import Examples
from genome_server.learning.export import Probe
from genome_server.learning.metrics import log_loss
from genome_server.learning.tables import Tables
from genome_server.learning.towers import Floats, Indices, Shape, Towers

# Called with (steps done, steps in all) now and then. Most trainings end before all.
OnStep = Callable[[int, int], None]

# Steps between two returns from the compiled loop, and between two looks at the persons
# held back.
_CHUNK = 10
_LOOK = 20
_MAX_HELD_BACK = 10_000
_MIN_HELD_BACK = 30
_BETTER = 1e-4
_PREDICT_ROWS = 1024


@dataclass(frozen=True)
class Settings:
    """How to train. The defaults were found on public data; see the decision record 0004.

    `epochs` bounds the search for the length of a training, `steps` is the length
    where there are too few persons to search with.
    """

    seed: int = 0
    epochs: int = 100
    steps: int = 300
    # Looks without getting better after which the search ends.
    patience: int = 5
    held_back: float = 0.15
    # The largest batch; small sets get smaller ones, so that an epoch has 12 steps or more.
    batch: int = 512
    learning_rate: float = 2e-3
    warm_up: int = 20
    average: float = 0.98
    weight_decay: float = 1.0
    field_dropout: float = 0.2
    history_dropout: float = 0.5
    min_count: int = 3
    query_scale: float = 0.1
    offer_scale: float = 0.3
    shape: Shape = field(default_factory=Shape)

    def batch_size(self, examples: int) -> int:
        """Return the batch size for so many examples: a power of two."""
        fitting = 1 << max(4, int(math.log2(max(examples, 1) / 12)))
        return min(self.batch, fitting)


def train(
    examples: Examples,
    rows: Indices | None = None,
    settings: Settings | None = None,
    on_step: OnStep | None = None,
) -> Towers:
    """Train on the examples `rows` (all by default). Raises ValueError where there are none."""
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
    steps = _in_chunks(settings.steps)
    if len(held_back):
        steps = _best_length(examples, kept, held_back, size, longest, settings, report)
    learner = _Learner(examples, rows, size, settings)
    for done in learner.run(steps):
        report(longest + done)
    report(2 * longest)
    return learner.towers()


def predict(towers: Towers, examples: Examples, rows: Indices, *, history: bool) -> Floats:
    """Return the probability of success of each of the examples `rows`, float32 (n,).

    `history` says whether the person's own history may be looked at.
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
        values = network.probability(params, rows_of_batch, weight, offers[batch.offer])
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


class _Learner:
    """One training on some examples, as many steps as one likes."""

    def __init__(self, examples: Examples, rows: Indices, size: int, settings: Settings) -> None:
        self._examples = examples
        self._settings = settings
        self._tables = tables = Tables.of(examples, rows, settings.min_count)
        self._rules = network.Rules(
            settings.weight_decay,
            settings.field_dropout,
            settings.history_dropout,
            settings.average,
            tables.fields,
        )
        self._offers = (
            jnp.asarray(tables.offer_row[examples.offers.index], jnp.int32),
            jnp.asarray(examples.offers.weight),
        )
        self._field_of_row = jnp.asarray(tables.field_of_row)
        self._chunks = _chunks(rows, size, settings.seed)
        self._state = network.start(
            settings.seed,
            settings.shape,
            tables,
            self._rules,
            settings.query_scale,
            settings.offer_scale,
        )

    def run(self, steps: int) -> Iterator[int]:
        """Take this many steps, a multiple of a chunk; yields how many are done now and then."""
        for done in range(0, steps, _CHUNK):
            rise = (np.arange(done, done + _CHUNK) + 1) / self._settings.warm_up
            rates = self._settings.learning_rate * np.minimum(rise, 1.0)
            self._state = network.learn(
                self._state,
                self._steps(next(self._chunks)),
                jnp.asarray(rates, jnp.float32),
                self._offers,
                self._field_of_row,
                rules=self._rules,
            )
            yield done + _CHUNK

    def towers(self) -> Towers:
        """Return what was learned so far."""
        weights = network.weights_of(self._state.average)
        return self._tables.towers(self._settings.shape, weights)

    def _steps(self, chunk: Indices) -> network.Steps:
        batch = self._examples.batch(chunk.reshape(-1))
        rows = self._tables.query_row[batch.index].astype(np.int32)
        columns = (rows, batch.warm, batch.cold, batch.offer, batch.label, batch.stands_for)
        shaped = [column.reshape(*chunk.shape, *column.shape[1:]) for column in columns]
        return network.Steps(*jax.tree.map(jnp.asarray, shaped))


def _best_length(
    examples: Examples,
    rows: Indices,
    held_back: Indices,
    size: int,
    longest: int,
    settings: Settings,
    report: Callable[[int], None],
) -> int:
    """Return after how many steps on `rows` the examples held back are predicted best."""
    learner = _Learner(examples, rows, size, settings)
    label, weight = examples.label[held_back], examples.stands_for[held_back]
    best, best_loss = _CHUNK, math.inf
    look = max(_LOOK, _in_chunks(len(rows) / size / 2))
    for done in learner.run(longest):
        report(done)
        if done % look:
            continue
        towers = learner.towers()
        loss = sum(
            log_loss(label, predict(towers, examples, held_back, history=history), weight)
            for history in (False, True)
        )
        if loss < best_loss - _BETTER:
            best, best_loss = done, loss
        elif done - best >= settings.patience * look:
            break
    return best


def _split(examples: Examples, rows: Indices, settings: Settings) -> tuple[Indices, Indices]:
    """Return the rows to train on and those of persons held back; none where they are too few."""
    rng = np.random.default_rng(settings.seed)
    persons = rng.permutation(np.unique(examples.person[rows]))
    chosen = persons[: int(len(persons) * settings.held_back)]
    out = np.isin(examples.person[rows], chosen)
    held_back = rows[out][:_MAX_HELD_BACK]
    if len(held_back) < _MIN_HELD_BACK:
        return rows, rows[:0]
    return rows[~out], held_back


def _chunks(rows: Indices, size: int, seed: int) -> Iterator[Indices]:
    """Yield (chunk, size) rows without end: one shuffled pass after the other."""
    rng = np.random.default_rng(seed)
    waiting = np.zeros(0, np.int64)
    while True:
        while len(waiting) < _CHUNK * size:
            waiting = np.concatenate([waiting, rng.permutation(rows)])
        yield waiting[: _CHUNK * size].reshape(_CHUNK, size)
        waiting = waiting[_CHUNK * size :]


def _in_chunks(steps: float) -> int:
    return math.ceil(steps / _CHUNK) * _CHUNK


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _padded(array: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    return np.pad(array, ((0, rows - array.shape[0]), (0, columns - array.shape[1])))
