"""Whether a model can tell where it is wrong: measured where the truth is known.

A log of the default policy on a stream; models trained on its first decisions and asked about
all offers that are there in the moments after them. Of each measure of uncertainty: how often the
true log odds lie within 1.96 deviations, the factor that makes deviations right on average, how
often they do then, and how it goes together with the error. docs/adr/0038 has what came out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from genome_server.learning import job, network
from genome_server.learning.examples import Examples
from genome_server.learning.towers import Towers
from genome_server.learning.train import Settings, train
from tests.bench.figures import Figures
from tests.bench.regret_house import House
from tests.bench.regret_loop import Judge, play
from tests.bench.world.covariates import Floats, Ints
from tests.bench.world.truth import DAY_MS

SIZES: Final = (700, 1400, 2800)
NEXT: Final = 700
PRIORS: Final = (1.0, 10.0)
_WITHIN: Final = 1.96


@dataclass
class Kept(House):
    """Ours; what it learned from is there when the stream is over."""

    examples: Examples | None = None

    def close(self) -> None:
        """Hear the last answers, read the whole log, and end it."""
        self._now_ms = self.judge.stream.world.end_ms + 8 * DAY_MS
        for device in range(len(self._devices)):
            self.sync(device, self._now_ms)
        with closing(self._tenant.open_store()) as store:
            self._build(store)
            self.examples, _, _ = job._gather(self._tenant, store, self._now_ms, job._silence)
        super().close()


def run(figures: Figures, judge: Judge) -> None:
    """Play a stream and measure; prints, and adds a figure for each measure and size."""
    house = Kept(judge)
    play(judge, house)
    if house.examples is None:
        raise RuntimeError("the stream ended without a log")
    moments = moments_of(judge, house.examples)
    for size in SIZES:
        for name, value, unit in measured(judge, house.examples, moments, size):
            figures.add(f"regret.sure.{size}.{name}", value, unit)


def moments_of(judge: Judge, examples: Examples) -> Ints:
    """The moment of the stream that each example is of, int64[n]."""
    at: dict[int, list[int]] = {}
    for moment, ms in enumerate(judge.stream.at_ms.tolist()):
        at.setdefault(ms, []).append(moment)
    return np.array([at[ms].pop(0) for ms in examples.time_ms.tolist()], np.int64)


def measured(
    judge: Judge, examples: Examples, moments: Ints, size: int
) -> Iterator[tuple[str, float, str]]:
    """Figures of a model of the first `size` examples, asked about those after them."""
    learned, asked = np.arange(size), np.arange(size, min(size + NEXT, len(examples)))
    towers = train(examples, learned, Settings())
    logits, features = _answers(towers, examples, asked)
    own_logits, own = _answers(towers, examples, learned)
    there = judge.there[moments[asked]]
    chances = judge.chances[moments[asked]][there]
    error = logits.mean(-1)[there] - np.log(chances / (1 - chances))
    times = np.broadcast_to(
        np.bincount(examples.offer[learned], minlength=there.shape[1]), there.shape
    )
    shown = times[there] > 0
    yield "error", _root(error), "log odds"
    if not shown.all():
        yield "error_never_shown", _root(error[~shown]), "log odds"
    took = examples.label[learned].mean()
    constant = np.log(took / (1 - took)) - np.log(chances / (1 - chances))
    yield "error_of_one_chance", _root(constant), "log odds"
    at = learned, examples.offer[learned]
    chance = 1 / (1 + np.exp(-own_logits.mean(-1)[at]))
    deviations = {
        "ensemble": logits.std(-1, ddof=1)[there],
        "counts": 1 / np.sqrt(times[there] + 1),
    }
    for prior in PRIORS:
        rows = own[at]
        precision = (rows * (chance * (1 - chance))[:, None]).T @ rows + prior * np.eye(
            rows.shape[1]
        )
        spread = np.einsum(
            "ni,ij,nj->n", features[there], np.linalg.inv(precision), features[there]
        )
        deviations[f"last_layer_{prior:g}"] = np.sqrt(spread)
    for name, deviation in deviations.items():
        factor = _root(error) / _root(deviation)
        yield f"{name}.holds", float((abs(error) <= _WITHIN * deviation).mean()), "share"
        yield f"{name}.factor", factor, "ratio"
        yield (
            f"{name}.holds_scaled",
            float((abs(error) <= _WITHIN * factor * deviation).mean()),
            "share",
        )
        yield f"{name}.rank", float(scipy.stats.spearmanr(deviation, abs(error))[0]), "correlation"


def _answers(towers: Towers, examples: Examples, rows: Ints) -> tuple[Floats, Floats]:
    """Each member's log odds of every offer, [n, offers, members], and what they are the sum of:
    the products of query and offer, [n, offers, members * (d + 2)], as parts of the mean."""
    params = network.params_of(towers)
    batch = examples.batch(rows)
    known = towers.query_row[batch.index].astype(np.int32)
    sums = jnp.einsum("nkew,nk->new", params["query_table"][known], batch.warm)
    wide = jax.nn.relu(sums + params["query_bias"])
    hidden = jnp.einsum("new,ewh->neh", wide, params["hidden_weight"]) + params["hidden_bias"]
    query = jnp.einsum("neh,ehd->ned", jax.nn.relu(hidden), params["output_weight"])
    query += params["output_bias"]
    offers = network.embed_offers(
        params["offer_table"],
        towers.offer_row[examples.offers.index].astype(np.int32),
        examples.offers.weight,
    )
    d = query.shape[-1] - 1
    products = query[:, None, :, :d] * offers[None, :, :, :d]
    each: Any = (*products.shape[:3], 1)
    biases = [
        jnp.broadcast_to(query[:, None, :, d:], each),
        jnp.broadcast_to(offers[None, :, :, d:], each),
    ]
    parts = np.asarray(jnp.concatenate([products, *biases], -1), np.float64)
    return parts.sum(-1), parts.reshape(*parts.shape[:2], -1) / parts.shape[2]


def _root(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))
