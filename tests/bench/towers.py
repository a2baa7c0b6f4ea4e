"""Would the network that scores offers foretell the next category better than counts do?

Both know the same: what the customer did lately, for long, at such an hour and after the same
thing, what came last and before that, how long ago, the hour and the day. The towers learn it as
they learn offers: what came is a success, some categories drawn at random are failures, and what
they say of all categories is made a distribution. Only what lies before the test parts of
docs/foresee.md is looked at: learned up to the fitting part, asked about some of that.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from examples.datasets import DataSetMissing
from genome_server.foresee.columns import NOTHING, RECENCIES, Events, Ints
from genome_server.foresee.model import fit
from genome_server.foresee.opinions import FAST_HOURS, SLOW_HOURS, alike_hours
from genome_server.foresee.rivals import interval
from genome_server.learning.examples import Examples, ExamplesBuilder, OfferTable
from genome_server.learning.export import Probe
from genome_server.learning.train import score, train
from tests.bench import foresee_sets as sets
from tests.bench.figures import Figures

FAILURES: Final = 6
# Events that are learned from and asked about; of a short look, fewer.
LONG: Final = (40_000, 2_000)
SHORT: Final = (4_000, 400)
_STRONGEST: Final = 24
_TINY: Final = 1e-12

Array = npt.NDArray[Any]
Query = list[tuple[int, float, float]]


class _Words:
    """The markers: each namespace has a run of indices of its own."""

    def __init__(self, events: Events) -> None:
        states, symbols = events.states + 1, events.symbols
        self._sizes = [*[symbols] * 5, states, states, 24, 7, RECENCIES]
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        self.fields = np.repeat(np.arange(len(self._sizes)), self._sizes).astype(np.int32)

    def index(self, namespace: int, value: int) -> int:
        """The index of a value: 0 the category itself, 1 to 4 the own past, the rest the moment."""
        return int(self._starts[namespace]) + value


def _queries(events: Events, wanted: Array, words: _Words) -> dict[int, Query]:
    """What is known before each wanted event, by its row."""
    found: dict[int, Query] = {}
    alike, slots = alike_hours(), events.slot
    starts = events.starts()
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        for row in (begin + np.flatnonzero(wanted[begin:end])).tolist():
            past = np.arange(begin, row)
            there = (events.symbol[past] != NOTHING) & (
                events.occasion[past] < events.occasion[row]
            )
            past = past[there & (events.known[past] <= events.hour[row])]
            age = np.maximum(events.hour[row] - events.hour[past], 0)
            slow = np.exp2(-age / SLOW_HOURS)
            near = alike[slots[row], slots[past]]
            same = events.before[past] == events.before[row]
            query: Query = []
            pasts = (slow, np.exp2(-age / FAST_HOURS), slow * near, slow * same)
            for namespace, weights in enumerate(pasts, start=1):
                counts = np.bincount(events.symbol[past], weights, minlength=events.symbols)
                for value in np.argsort(-counts, kind="stable")[:_STRONGEST].tolist():
                    if counts[value] > 0:
                        strength = float(np.log2(1 + counts[value]))
                        query.append((words.index(namespace, value), strength, 0.0))
            query.extend(
                (words.index(namespace, value), 1.0, 1.0)
                for namespace, value in (
                    (5, int(events.before[row]) + 1),
                    (6, int(events.earlier[row]) + 1),
                    (7, int(slots[row]) % 24),
                    (8, int(slots[row]) // 24),
                    (9, int(events.recency[row])),
                )
            )
            found[row] = query
    return found


def _examples(events: Events, rows: Ints, queries: dict[int, Query], words: _Words) -> Examples:
    """What came, and categories drawn at random that did not."""
    rng = np.random.default_rng(0)
    builder = ExamplesBuilder()
    for row in rows.tolist():
        came = int(events.symbol[row])
        others = rng.integers(0, events.symbols - 1, FAILURES)
        others += others >= came
        for offer in (came, *others.tolist()):
            builder.add(
                queries[row], offer=offer, label=offer == came, propensity=1.0,
                person=int(events.who[row]), time_ms=int(events.hour[row]) * 3_600_000,
            )  # fmt: skip
    table = OfferTable.build({str(at): [(words.index(0, at), 1.0)] for at in range(events.symbols)})
    return builder.build(table, words.fields)


def _softened(logits: Array, happened: Ints) -> Array:
    """Distributions, as sure as is best with hindsight: float64[n, symbols]."""
    best: Array = np.zeros(0)
    least = np.inf
    for power in np.linspace(0.4, 1.6, 25):
        chances = np.exp(power * (logits - logits.max(axis=1, keepdims=True)))
        chances /= chances.sum(axis=1, keepdims=True)
        loss = -np.log(np.maximum(chances[np.arange(len(happened)), happened], _TINY)).mean()
        if loss < least:
            best, least = chances, loss
    return best


def _learned_and_asked(events: Events, cuts: sets.Cuts, form: tuple[int, int]) -> tuple[Ints, Ints]:
    there = events.symbol != NOTHING
    learned = np.flatnonzero(there & (events.hour <= cuts.fitting))
    newest = np.argsort(events.hour[learned], kind="stable")[-form[0] :]
    late = np.flatnonzero(there & (events.hour > cuts.fitting) & (events.hour <= cuts.test))
    return np.sort(learned[newest]), late[:: max(1, len(late) // form[1])]


def measure(one: sets.Set, cuts: sets.Cuts, figures: Figures) -> None:
    """Accuracy and log loss of both, and the interval of the difference of the losses."""
    events = one.events
    learned, asked = _learned_and_asked(events, cuts, LONG if figures.long else SHORT)
    wanted = np.zeros(len(events), bool)
    wanted[asked] = True
    hours = np.sort(events.hour[events.hour <= cuts.fitting])
    start = int(hours[round(0.8 * len(hours)) - 1])
    counts = fit(events, start, cuts.fitting, timed=one.timed).foretell(events, wanted)[1]
    words = _Words(events)
    both = wanted.copy()
    both[learned] = True
    queries = _queries(events, both, words)
    towers = train(_examples(events, learned, queries, words))
    categories = np.array([[words.index(0, at)] for at in range(events.symbols)])
    logits = []
    for row in asked.tolist():
        index, warm, _ = zip(*queries[row], strict=True)
        probe = Probe(
            np.array(index), np.array(warm, np.float32), categories,
            np.ones(categories.shape, np.float32),
        )  # fmt: skip
        said = np.clip(score(towers, probe).astype(float), 1e-7, 1 - 1e-7)
        logits.append(np.log(said / (1 - said)))
    happened = events.symbol[asked]
    told = {"counts": counts, "towers": _softened(np.array(logits), happened)}
    losses = {}
    figures.add(f"towers.{one.name}.cases", len(asked), "cases")
    for name, chances in told.items():
        right = chances.argmax(axis=1) == happened
        given = np.maximum(chances[np.arange(len(asked)), happened], _TINY)
        losses[name] = -np.log(given)
        prefix = f"towers.{one.name}"
        figures.add(f"{prefix}.accuracy_at_1.{name}", float(right.mean()), "share")
        figures.add(f"{prefix}.log_loss.{name}", float(losses[name].mean()), "nats")
    low, high = interval(losses["towers"] - losses["counts"], events.who[asked])
    figures.add(f"towers.{one.name}.counts_gain.low", low, "nats")
    figures.add(f"towers.{one.name}.counts_gain.high", high, "nats")


def run(figures: Figures) -> None:
    """The sets whose next category is foretold."""
    try:
        lines = sets.grocer_lines()
        one = sets.complete_journey(lines, "product_category", "complete_journey")
        measure(one, sets.cuts_of(one.events), figures)
        one = sets.foursquare()
        measure(one, sets.cuts_of(one.events), figures)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
