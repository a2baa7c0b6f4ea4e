"""Training: an ensemble of query towers on examples, in JAX.

Rules.
- The probabilities must stay calibrated, because offers are chosen by probability ×
  value: classes keep the balance that they have, and the loss is the plain log loss.
- Half of the time an example shows the person's profile without its history, so that
  one model serves strangers and those who have been here before.
- Whole namespaces are left out at random: no single field carries a decision.
- A marker that stands in fewer than `min_count` of the examples stays unknown (row 0).
- Same examples, same settings, same machine: same weights.

All members of the ensemble see the same batches and differ in where they start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from genome_server.learning.examples import Batch, Examples
from genome_server.learning.export import Probe
from genome_server.learning.towers import Floats, Indices, Shape, Towers

Params = dict[str, jax.Array]
# Called with (steps done, steps in all) now and then.
OnStep = Callable[[int, int], None]

# Up to this many known markers a batch becomes a dense matrix: on a processor one big
# product beats gathering and scattering by an order of magnitude.
_DENSE_ROWS = 4096
# Steps between two returns from the compiled loop.
_CHUNK = 10
_PREDICT_ROWS = 1024


@dataclass(frozen=True)
class Settings:
    """How to train. The defaults were found on public data; see the decision record 0004."""

    seed: int = 0
    epochs: int = 20
    # The largest batch; small sets get smaller ones, so that an epoch has 12 steps or more.
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    field_dropout: float = 0.2
    history_dropout: float = 0.5
    min_count: int = 3
    query_scale: float = 0.05
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
    tables = _Tables.of(examples, rows, settings.min_count)
    size = settings.batch_size(len(rows))
    steps = math.ceil(settings.epochs * len(rows) / size / _CHUNK) * _CHUNK
    key, start = jax.random.split(jax.random.key(settings.seed))
    params = _initial(start, tables, settings)
    state = (params, _optimiser(settings).init(params), key)
    offers = tables.offers(examples)
    done = 0
    for chunk in _chunks(rows, size, steps, settings.seed):
        rates = settings.learning_rate * _cosine(np.arange(done, done + _CHUNK), steps)
        state = _run(
            state,
            jax.tree.map(jnp.asarray, _stacked(examples.batch(chunk.reshape(-1)), tables, _CHUNK)),
            jnp.asarray(rates, jnp.float32),
            offers,
            jnp.asarray(tables.field_of_row),
            settings=settings,
            fields=tables.fields,
        )
        done += _CHUNK
        if on_step is not None:
            on_step(done, steps)
    return tables.towers({name: np.asarray(value) for name, value in state[0].items()}, settings)


def predict(towers: Towers, examples: Examples, rows: Indices, *, history: bool) -> Floats:
    """Return the probability of success of each of the examples `rows`, float32 (n,).

    `history` says whether the person's own history may be looked at.
    """
    params = _params(towers)
    result = np.zeros(len(rows), np.float32)
    offer_rows = jnp.asarray(towers.offer_row[examples.offers.index], jnp.int32)
    offers = _embed_offers(params["offer_table"], offer_rows, jnp.asarray(examples.offers.weight))
    for begin in range(0, len(rows), _PREDICT_ROWS):
        some = rows[begin : begin + _PREDICT_ROWS]
        # Padded to one shape, so that it compiles once.
        padded = np.concatenate([some, np.repeat(some[-1:], _PREDICT_ROWS - len(some))])
        batch = examples.batch(padded)
        weight = batch.warm if history else batch.cold
        values = _value(
            params, towers.query_row[batch.index].astype(np.int32), weight, offers[batch.offer]
        )
        result[begin : begin + len(some)] = np.asarray(values)[: len(some)]
    return result


def score(towers: Towers, probe: Probe) -> Floats:
    """Return what the trainer says to one query and m offers, float32 (m,), to prove parity."""
    m, n = len(probe.offer_index), len(probe.query_index)
    # Padded to few shapes, so that it compiles seldom; weight 0 adds nothing.
    offers = _padded(probe.offer_index, -(-m // 32) * 32, -(-probe.offer_index.shape[1] // 8) * 8)
    worth = _padded(probe.offer_weight, *offers.shape)
    rows = towers.query_row[_padded(probe.query_index[None], 1, -(-n // 64) * 64)]
    weight = _padded(probe.query_weight[None], *rows.shape)
    values = _score(
        _params(towers),
        rows.astype(np.int32),
        weight,
        towers.offer_row[offers].astype(np.int32),
        worth,
    )
    return np.asarray(values, np.float32)[:m]


@jax.jit
def _score(params: Params, rows: Any, weight: Any, offer_rows: Any, worth: Any) -> jax.Array:
    offers = _embed_offers(params["offer_table"], offer_rows, worth)
    shape = (len(offer_rows), rows.shape[1])
    everywhere = (jnp.broadcast_to(rows, shape), jnp.broadcast_to(weight, shape))
    return jax.nn.sigmoid(_logits(params, *everywhere, offers).mean(-1))


def _padded(array: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    return np.pad(array, ((0, rows - array.shape[0]), (0, columns - array.shape[1])))


@dataclass(frozen=True)
class _Tables:
    """Which markers have rows of their own.

    The layout follows from all examples, so that every fold of an evaluation
    compiles to the same program; rows of markers that the training rows do not
    have stay zero, and `towers` forgets them.
    """

    query_row: Indices  # (V,)
    offer_row: Indices  # (V,)
    query_known: NDArray[np.bool_]  # (R + 1,)
    offer_known: NDArray[np.bool_]  # (S + 1,)
    field_of_row: NDArray[np.int32]  # (R + 1,)
    fields: int

    @classmethod
    def of(cls, examples: Examples, rows: Indices, min_count: int) -> _Tables:
        size = examples.vocabulary_size
        in_query, in_offers = _seen(examples, None), _offered(examples, None)
        query_row, offer_row = _numbered(in_query > 0), _numbered(in_offers > 0)
        query_known = np.concatenate([[False], _seen(examples, rows)[in_query > 0] >= min_count])
        offer_known = np.concatenate([[False], _offered(examples, rows)[in_offers > 0] > 0])
        markers = np.flatnonzero(in_query > 0)
        field_of_row = np.concatenate([[0], examples.fields[markers]]).astype(np.int32)
        fields = int(examples.fields.max(initial=0)) + 1 if size else 1
        return cls(query_row, offer_row, query_known, offer_known, field_of_row, fields)

    def offers(self, examples: Examples) -> tuple[jax.Array, jax.Array]:
        """Return the offer table in rows instead of markers, and its weights."""
        table = examples.offers
        return jnp.asarray(self.offer_row[table.index], jnp.int32), jnp.asarray(table.weight)

    def towers(self, params: dict[str, Floats], settings: Settings) -> Towers:
        """Return the trained weights with unknown markers sent to row 0."""
        return Towers(
            shape=settings.shape,
            query_row=np.where(self.query_known[self.query_row], self.query_row, 0),
            offer_row=np.where(self.offer_known[self.offer_row], self.offer_row, 0),
            **params,
        )


def _numbered(wanted: NDArray[np.bool_]) -> Indices:
    """Return 1, 2, 3 … for the wanted markers in order, 0 for the others."""
    return np.where(wanted, np.cumsum(wanted), 0).astype(np.int64)


def _seen(examples: Examples, rows: Indices | None) -> Indices:
    """Return in how many of the examples each marker stands on the query side, (V,)."""
    count = np.diff(examples.start)
    chosen = np.ones(len(count), bool)
    if rows is not None:
        chosen[:] = False
        chosen[rows] = True
    flat = examples.index[np.repeat(chosen, count)]
    return np.bincount(flat, minlength=examples.vocabulary_size)


def _offered(examples: Examples, rows: Indices | None) -> Indices:
    """Return in how many of the examples each marker stands on the offer side, (V,)."""
    table = examples.offers
    chosen = examples.offer if rows is None else examples.offer[rows]
    times = np.bincount(chosen, minlength=len(table.ids))
    inside = table.weight > 0
    weights = np.broadcast_to(times[:, None], table.index.shape)[inside]
    counted = np.bincount(table.index[inside], weights=weights, minlength=examples.vocabulary_size)
    return counted.astype(np.int64)


def _chunks(rows: Indices, size: int, steps: int, seed: int) -> Iterator[Indices]:
    """Yield (chunk, size) rows: one shuffled pass after the other, cut where a chunk is full."""
    rng = np.random.default_rng(seed)
    waiting = np.zeros(0, np.int64)
    for _ in range(steps // _CHUNK):
        while len(waiting) < _CHUNK * size:
            waiting = np.concatenate([waiting, rng.permutation(rows)])
        yield waiting[: _CHUNK * size].reshape(_CHUNK, size)
        waiting = waiting[_CHUNK * size :]


def _cosine(step: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.cos(np.pi * step / steps)))


def _stacked(batch: Batch, tables: _Tables, steps: int) -> tuple[NDArray[Any], ...]:
    rows = tables.query_row[batch.index].astype(np.int32)
    columns = (rows, batch.warm, batch.cold, batch.offer, batch.label)
    return tuple(column.reshape(steps, -1, *column.shape[1:]) for column in columns)


def _initial(key: jax.Array, tables: _Tables, settings: Settings) -> Params:
    shape = settings.shape
    e, w, h, d = shape.members, shape.width, shape.hidden, shape.dimension
    keys = jax.random.split(key, 4)

    def normal(at: int, *size: int, scale: float) -> jax.Array:
        return jax.random.normal(keys[at], size) * scale

    query = normal(0, len(tables.query_known), e, w, scale=settings.query_scale)
    offer = normal(1, len(tables.offer_known), e, d + 1, scale=settings.offer_scale)
    return {
        "query_table": query * tables.query_known[:, None, None],
        "query_bias": jnp.zeros((e, w)),
        "hidden_weight": normal(2, e, w, h, scale=(2 / w) ** 0.5),
        "hidden_bias": jnp.zeros((e, h)),
        "output_weight": normal(3, e, h, d + 1, scale=h**-0.5),
        "output_bias": jnp.zeros((e, d + 1)),
        "offer_table": offer * tables.offer_known[:, None, None],
    }


def _optimiser(settings: Settings) -> Any:
    """AdamW without its rate, which comes with every step."""
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(settings.weight_decay))


@partial(jax.jit, static_argnames=("settings", "fields"), donate_argnums=0)
def _run(
    state: Any,
    chunk: tuple[jax.Array, ...],
    rates: jax.Array,
    offers: tuple[jax.Array, jax.Array],
    field_of_row: jax.Array,
    *,
    settings: Settings,
    fields: int,
) -> Any:
    """Take one step for each batch of the chunk."""
    optimiser = _optimiser(settings)

    def step(state: Any, given: Any) -> tuple[Any, None]:
        params, memory, key = state
        (rows, warm, cold, offer, label), rate = given
        key, for_history, for_fields = jax.random.split(key, 3)
        n = rows.shape[0]
        strange = jax.random.bernoulli(for_history, settings.history_dropout, (n, 1))
        kept = jax.random.bernoulli(for_fields, 1 - settings.field_dropout, (n, fields))
        kept = jnp.take_along_axis(kept, field_of_row[rows], axis=1)
        weight = jnp.where(strange, cold, warm) * kept / (1 - settings.field_dropout)

        def loss(params: Params) -> jax.Array:
            embedded = _embed_offers(params["offer_table"], *offers)[offer]
            logits = _logits(params, rows, weight, embedded)
            # Summed over the members, which learn side by side.
            losses: jax.Array = optax.sigmoid_binary_cross_entropy(logits, label[:, None])
            return losses.mean(0).sum()

        updates, memory = optimiser.update(jax.grad(loss)(params), memory, params)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        # Row 0 stands for every unknown marker and must not learn from padding.
        for table in ("query_table", "offer_table"):
            params[table] = params[table].at[0].set(0)
        return (params, memory, key), None

    state, _ = jax.lax.scan(step, state, (chunk, rates))
    return state


def _embed_offers(table: jax.Array, rows: jax.Array, weight: jax.Array) -> jax.Array:
    """Return the weighted sums of offer embeddings, (m, members, dimension + 1)."""
    embedded: jax.Array = jnp.einsum("mwed,mw->med", table[rows], weight)
    return embedded


def _logits(params: Params, rows: jax.Array, weight: jax.Array, offers: jax.Array) -> jax.Array:
    """Return each member's log odds, (n, members); rows, weight (n, w), offers as embedded."""
    table = params["query_table"]
    if len(table) <= _DENSE_ROWS:
        n = rows.shape[0]
        dense = jnp.zeros((n, len(table))).at[jnp.arange(n)[:, None], rows].add(weight)
        sums = jnp.einsum("nr,rew->new", dense, table)
    else:
        sums = jnp.einsum("nkew,nk->new", table[rows], weight)
    wide = jax.nn.relu(sums + params["query_bias"])
    hidden = jax.nn.relu(
        jnp.einsum("new,ewh->neh", wide, params["hidden_weight"]) + params["hidden_bias"]
    )
    output = jnp.einsum("neh,ehd->ned", hidden, params["output_weight"]) + params["output_bias"]
    d = output.shape[-1] - 1
    logits: jax.Array = (
        (output[..., :d] * offers[..., :d]).sum(-1) + output[..., d] + offers[..., d]
    )
    return logits


@jax.jit
def _value(params: Params, rows: Any, weight: Any, offers: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(_logits(params, rows, weight, offers).mean(-1))


def _params(towers: Towers) -> Params:
    names = (
        "query_table", "query_bias", "hidden_weight", "hidden_bias",
        "output_weight", "output_bias", "offer_table",
    )  # fmt: skip
    return {name: jnp.asarray(getattr(towers, name)) for name in names}
