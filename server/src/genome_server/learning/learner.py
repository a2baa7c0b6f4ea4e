"""One training as it goes: batches in, weights out; it can be left and gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from genome_server.learning import network
from genome_server.learning.examples import Examples
from genome_server.learning.settings import Settings
from genome_server.learning.tables import Tables
from genome_server.learning.towers import Floats, Indices, Towers
from genome_server.learning.unfinished import Arrays

#: Steps between two returns from the compiled loop.
CHUNK: Final = 10


class Learner:
    """One training on some examples and lessons, as many steps as one likes."""

    def __init__(
        self,
        examples: Examples,
        rows: Indices,
        size: int,
        settings: Settings,
        lessons: Examples | None = None,
        start: Towers | None = None,
    ) -> None:
        self._examples = examples
        self._lessons = lessons
        self._settings = settings
        self._shape = settings.shape if start is None else start.shape
        self._tables = tables = Tables.of(examples, rows, settings.min_count, start)
        manner = settings if lessons is None else settings.teaching
        self._rules = network.Rules(
            manner.weight_decay,
            manner.field_dropout,
            manner.history_dropout,
            settings.person_dropout,
            settings.average,
            tables.fields,
        )
        self._offers = (
            jnp.asarray(tables.offer_row[examples.offers.index], jnp.int32),
            jnp.asarray(examples.offers.weight),
        )
        self._field_of_row = jnp.asarray(tables.field_of_row)
        taught = 0 if lessons is None else int(size * settings.teaching.share)
        self._chunks = _chunks(rows, size - taught, settings.seed)
        self._taught: Iterator[Indices] = iter(())
        if lessons is not None:
            self._taught = _chunks(np.arange(len(lessons)), taught, settings.seed + 1)
        known = 0 if settings.person_dropout >= 1 else int(examples.person.max()) + 1
        self._state = network.start(
            settings.seed,
            self._shape,
            tables,
            self._rules,
            settings.query_scale,
            settings.offer_scale,
            known,
            None if start is None else tables.weights_in(start),
        )

    def run(self, steps: int, state: Arrays | None = None) -> Iterator[int]:
        """Take this many steps, a multiple of a chunk; yields how many are done now and then.

        With a `state` that was saved it goes on after it.
        """
        begin = 0
        if state is not None:
            begin = int(state["done"])
            self._restore(state)
        for done in range(begin, steps, CHUNK):
            rise = (np.arange(done, done + CHUNK) + 1) / self._settings.warm_up
            rates = self._settings.learning_rate * np.minimum(rise, 1.0)
            self._state = network.learn(
                self._state,
                self._steps(),
                jnp.asarray(rates, jnp.float32),
                self._offers,
                self._field_of_row,
                rules=self._rules,
            )
            yield done + CHUNK

    def state(self, done: int) -> dict[str, NDArray[Any]]:
        """Return all that is needed to go on after `done` steps, for `run`."""
        state = self._state._replace(key=jax.random.key_data(self._state.key))
        leaves = jax.tree.leaves(state)
        kept = {f"leaf{number}": np.asarray(leaf) for number, leaf in enumerate(leaves)}
        return {"done": np.array(done), **kept}

    def _restore(self, state: Arrays) -> None:
        now = self._state._replace(key=jax.random.key_data(self._state.key))
        leaves, shape = jax.tree.flatten(now)
        kept = [jnp.asarray(state[f"leaf{number}"]) for number in range(len(leaves))]
        again = jax.tree.unflatten(shape, kept)
        self._state = again._replace(key=jax.random.wrap_key_data(again.key))
        for _ in range(int(state["done"]) // CHUNK):
            next(self._chunks)
            next(self._taught, None)

    def towers(self) -> Towers:
        """Return what was learned so far."""
        weights = network.weights_of(self._state.average)
        weights.pop("persons", None)
        return self._tables.towers(self._shape, weights)

    def persons(self) -> Floats | None:
        """Return what the persons' own markers learned so far, see `train_with_persons`."""
        return network.weights_of(self._state.average).get("persons")

    def _steps(self) -> network.Steps:
        columns = self._columns(self._examples, next(self._chunks), lessons=False)
        if self._lessons is not None:
            taught = self._columns(self._lessons, next(self._taught), lessons=True)
            columns = tuple(
                np.concatenate(pair, axis=1) for pair in zip(columns, taught, strict=True)
            )
        return network.Steps(*jax.tree.map(jnp.asarray, columns))

    def _columns(
        self, examples: Examples, chunk: Indices, *, lessons: bool
    ) -> tuple[NDArray[Any], ...]:
        batch = examples.batch(chunk.reshape(-1), self._examples.joint_width)
        rows = self._tables.query_row[batch.index].astype(np.int32)
        person = np.zeros(len(rows), np.int32)
        if not lessons:
            person = examples.person[chunk.reshape(-1)] + 1
        lesson = np.full(len(rows), lessons)
        columns = (
            rows, batch.warm, batch.cold, batch.offer, batch.label, batch.stands_for, person,
            lesson,
        )  # fmt: skip
        return tuple(column.reshape(*chunk.shape, *column.shape[1:]) for column in columns)


def _chunks(rows: Indices, size: int, seed: int) -> Iterator[Indices]:
    """Yield (chunk, size) rows without end: one shuffled pass after the other."""
    rng = np.random.default_rng(seed)
    waiting = np.zeros(0, np.int64)
    while True:
        while len(waiting) < CHUNK * size:
            waiting = np.concatenate([waiting, rng.permutation(rows)])
        yield waiting[: CHUNK * size].reshape(CHUNK, size)
        waiting = waiting[CHUNK * size :]
