"""The towers as a JAX program: what they say, and one step of learning.

Everything here is a pure function of arrays. Members of the ensemble are one more
dimension: they see the same batches and differ in where they start.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genome_server.learning.tables import Tables
from genome_server.learning.towers import Shape, Towers

Params = dict[str, jax.Array]

# Up to this many known markers a batch becomes a dense matrix: on a processor one big
# product beats gathering and scattering by an order of magnitude.
_DENSE_ROWS = 4096


class Rules(NamedTuple):
    """What one step of learning depends on besides its data. Hashable: part of the program."""

    weight_decay: float
    field_dropout: float
    history_dropout: float
    person_dropout: float
    average: float
    fields: int


class State(NamedTuple):
    """Where learning stands: weights, their running average, the optimiser's memory, chance."""

    params: Params
    average: Params
    memory: Any
    key: jax.Array
    step: jax.Array


class Steps(NamedTuple):
    """Batches for s steps: rows, warm and cold weights (s, n, w); offer, label (1, 0, or what a
    teacher expects), how many examples each stands for, person (0: a stranger), and whether it
    is a lesson, of which nothing is left out (s, n)."""

    rows: Any
    warm: Any
    cold: Any
    offer: Any
    label: Any
    stands_for: Any
    person: Any
    lesson: Any


def start(
    seed: int,
    shape: Shape,
    tables: Tables,
    rules: Rules,
    query_scale: float,
    offer_scale: float,
    persons: int = 0,
    known: Mapping[str, Any] | None = None,
) -> State:
    """Return where learning starts. Rows of unknown markers are zero and stay so.

    At the start every offer is worth the same to everybody: the vector of a query and the biases
    are zero. A model of few examples would rank by what was drawn here else.
    So many persons have a marker of their own, which starts at zero. With weights that are `known`
    it starts from them.
    """
    key, chance = jax.random.split(jax.random.key(seed))
    keys = jax.random.split(key, 3)
    e, w, h, d = shape.members, shape.width, shape.hidden, shape.dimension
    query = jax.random.normal(keys[0], (len(tables.query_known), e, w)) * query_scale
    offer = jax.random.normal(keys[1], (len(tables.offer_known), e, d + 1)) * offer_scale
    params = {
        "query_table": query * tables.query_known[:, None, None],
        "query_bias": jnp.zeros((e, w)),
        "hidden_weight": jax.random.normal(keys[2], (e, w, h)) * (2 / w) ** 0.5,
        "hidden_bias": jnp.zeros((e, h)),
        "output_weight": jnp.zeros((e, h, d + 1)),
        "output_bias": jnp.zeros((e, d + 1)),
        "offer_table": (offer * tables.offer_known[:, None, None]).at[..., d].set(0),
    }
    if known is not None:
        params = {name: jnp.asarray(known[name]) for name in params}
    if persons:
        params["persons"] = jnp.zeros((persons + 1, e, w))
    average = jax.tree.map(jnp.copy, params)
    return State(params, average, _optimiser(rules).init(params), chance, jnp.zeros(()))


@partial(jax.jit, static_argnames="rules", donate_argnums=0)
def learn(
    state: State,
    steps: Steps,
    rates: jax.Array,
    offers: tuple[jax.Array, jax.Array],
    field_of_row: jax.Array,
    *,
    rules: Rules,
) -> State:
    """Take one step for each batch; `rates` (s,), `offers` the table as (rows, weight) (m, w)."""
    optimiser = _optimiser(rules)

    def step(state: State, given: tuple[Steps, jax.Array]) -> tuple[State, None]:
        batch, rate = given
        key, for_history, for_fields, for_person = jax.random.split(state.key, 4)
        n = batch.rows.shape[0]
        strange = jax.random.bernoulli(for_history, rules.history_dropout, (n, 1))
        kept = jax.random.bernoulli(for_fields, 1 - rules.field_dropout, (n, rules.fields))
        kept = jnp.take_along_axis(kept, field_of_row[batch.rows], axis=1)
        kept = jnp.where(batch.lesson[:, None], 1.0, kept / (1 - rules.field_dropout))
        weight = jnp.where(strange, batch.cold, batch.warm) * kept

        shown = jax.random.bernoulli(for_person, 1 - rules.person_dropout, (n, 1, 1))

        def loss(params: Params) -> jax.Array:
            embedded = embed_offers(params["offer_table"], *offers)[batch.offer]
            own = None
            if "persons" in params:
                own = params["persons"][batch.person] * shown / (1 - rules.person_dropout)
            said = logits(params, batch.rows, weight, embedded, own)
            losses: jax.Array = optax.sigmoid_binary_cross_entropy(said, batch.label[:, None])
            weighed: jax.Array = (losses * batch.stands_for[:, None]).mean(0)
            # Summed over the members, which learn side by side.
            return weighed.sum()

        updates, memory = optimiser.update(jax.grad(loss)(state.params), state.memory, state.params)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        # Row 0 stands for every unknown marker and must not learn from padding.
        for table in params.keys() & {"query_table", "offer_table", "persons"}:
            params[table] = params[table].at[0].set(0)
        # The average forgets fast at first, when there is little worth remembering.
        share = 1 - jnp.minimum(rules.average, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda a, p: a + share * (p - a), state.average, params)
        return State(params, average, memory, key, state.step + 1), None

    state, _ = jax.lax.scan(step, state, (steps, rates))
    return state


@jax.jit
def probability(params: Params, rows: Any, weight: Any, offers: Any, own: Any = None) -> jax.Array:
    """Return the probability of success, (n,); rows, weight (n, w), offers as embedded.

    `own` is what the persons' own markers add, (n, members, width).
    """
    return jax.nn.sigmoid(logits(params, rows, weight, offers, own).mean(-1))


@jax.jit
def probability_of_each(
    params: Params, rows: Any, weight: Any, offer_rows: Any, offer_weight: Any
) -> jax.Array:
    """Return the probability of success of m offers for one query; rows, weight (1, w)."""
    offers = embed_offers(params["offer_table"], offer_rows, offer_weight)
    shape = (len(offer_rows), rows.shape[1])
    everywhere = (jnp.broadcast_to(rows, shape), jnp.broadcast_to(weight, shape))
    return jax.nn.sigmoid(logits(params, *everywhere, offers).mean(-1))


@jax.jit
def embed_offers(table: jax.Array, rows: Any, weight: Any) -> jax.Array:
    """Return the weighted sums of offer embeddings, (m, members, dimension + 1)."""
    embedded: jax.Array = jnp.einsum("mwed,mw->med", table[rows], weight)
    return embedded


def logits(
    params: Params, rows: jax.Array, weight: jax.Array, offers: jax.Array, own: Any = None
) -> jax.Array:
    """Return each member's log odds, (n, members); rows, weight (n, w), offers as embedded."""
    table = params["query_table"]
    if len(table) <= _DENSE_ROWS:
        n = rows.shape[0]
        dense = jnp.zeros((n, len(table))).at[jnp.arange(n)[:, None], rows].add(weight)
        sums = jnp.einsum("nr,rew->new", dense, table)
    else:
        sums = jnp.einsum("nkew,nk->new", table[rows], weight)
    if own is not None:
        sums = sums + own
    wide = jax.nn.relu(sums + params["query_bias"])
    hidden = jax.nn.relu(
        jnp.einsum("new,ewh->neh", wide, params["hidden_weight"]) + params["hidden_bias"]
    )
    output = jnp.einsum("neh,ehd->ned", hidden, params["output_weight"]) + params["output_bias"]
    d = output.shape[-1] - 1
    said: jax.Array = (output[..., :d] * offers[..., :d]).sum(-1) + output[..., d] + offers[..., d]
    return said


def params_of(towers: Towers) -> Params:
    """Return the weights of towers as a program takes them."""
    names = (
        "query_table", "query_bias", "hidden_weight", "hidden_bias",
        "output_weight", "output_bias", "offer_table",
    )  # fmt: skip
    return {name: jnp.asarray(getattr(towers, name)) for name in names}


def weights_of(params: Params) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the weights of a program as `Tables.towers` takes them."""
    return {name: np.asarray(value, np.float32) for name, value in params.items()}


def _optimiser(rules: Rules) -> Any:
    """AdamW without its rate, which comes with every step."""
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(rules.weight_decay))
