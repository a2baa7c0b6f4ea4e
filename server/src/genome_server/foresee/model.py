"""The forecaster: opinions, weighed by what was right lately, for any column of symbols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from genome_server.foresee.columns import NOTHING, Events, Ints
from genome_server.foresee.mixture import Mixture, fit_powers, fit_sureness, fit_weights
from genome_server.foresee.opinions import GROUPS, Asked, Crowd, ask, count_crowd

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Meet = Callable[[Ints], Floats]
"""From some rows of events, int64[n], to how well the genome before each of them meets each symbol:
float64[n, symbols], cosines from 0 (nothing in common) to 1."""

# Cases from which the pool is fitted: all opinions on all symbols are in memory at once.
_MOST_POOLED = 4_000
_TILTS = (0.0, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)


@dataclass(frozen=True, eq=False)
class Forecaster:
    """What was learned: the crowd, how opinions are weighed, how much the genome tilts.

    `tilt` is nats of log chance for each unit of a cosine, 0 to 32; 0: the genome says nothing.
    """

    crowd: Crowd
    mixture: Mixture
    tilt: float = 0.0

    def opinions(self, asked: Asked, meet: Meet | None) -> Floats:
        """All opinions, the genome's last where there is one: float64[n, opinions, symbols].

        `asked` are n cases of one customer; the rows that `meet` gets are those of the cases.
        """
        if meet is None:
            return asked.opinions
        genome = tilted(self.crowd.lately, meet(asked.rows), self.tilt)
        return np.concatenate([asked.opinions, genome[:, None]], axis=1)

    def foretell(
        self, events: Events, wanted: Mask, meet: Meet | None = None
    ) -> tuple[Ints, Floats]:
        """The wanted events' rows, int64[n], and a distribution for each, float64[n, symbols].

        `wanted` is bool[events]; rows ascend, and each distribution sums to 1. `meet` gets rows of
        `events`, and must be there where there was one in the fitting.
        """
        rows, found = [], []
        for asked in ask(events, self.crowd, wanted):
            rows.append(asked.rows)
            found.append(self.mixture.blend(self.opinions(asked, meet), asked.group))
        if not rows:
            return np.zeros(0, np.int64), np.zeros((0, self.crowd.symbols))
        return np.concatenate(rows), np.concatenate(found)


def tilted(popular: Floats, meets: Floats, tilt: float) -> Floats:
    """Popularity tilted towards what a genome meets: float64[n, symbols], rows sum to 1.

    `popular` is float64[symbols], `meets` float64[n, symbols] cosines, `tilt` nats for each unit.
    """
    logs = np.log(np.maximum(popular, 1e-12)) + tilt * meets
    chances: Floats = np.exp(logs - logs.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    return chances


def fit_tilt(popular: Floats, meets: Floats, happened: Ints) -> float:
    """How strongly genomes tilt the popularity, so that what happened was likeliest: a `tilt`.

    `popular` is float64[symbols], `meets` float64[n, symbols] cosines, `happened` int64[n] symbols.
    """
    best, least = 0.0, np.inf
    for tilt in _TILTS:
        given = tilted(popular, meets, tilt)[np.arange(len(happened)), happened]
        loss = float(-np.log(np.maximum(given, 1e-12)).mean()) if len(happened) else 0.0
        if loss < least:
            best, least = tilt, loss
    return best


def fit(
    events: Events, start: int, end: int, *, timed: bool, meet: Meet | None = None,
    sample: Mask | None = None,
) -> Forecaster:  # fmt: skip
    """Weigh opinions on what happened after the hour `start` and up to `end`, then count anew.

    Both are local hours since 1970. While opinions are weighed the crowd is that of `start`; the
    crowd of the forecaster is that of `end`. `timed`: the hour of what is asked about is known.
    `sample` bool[events] narrows what is asked; `meet` gets rows of `events`.
    """
    crowd = count_crowd(events, start, timed=timed)
    wanted = (events.hour > start) & (events.known <= end) & (events.symbol != NOTHING)
    if sample is not None:
        wanted &= sample
    happened = events.symbol
    tilt = 0.0
    if meet is not None:
        rows = np.flatnonzero(wanted)
        tilt = fit_tilt(crowd.lately, meet(rows), happened[rows])
    draft = Forecaster(crowd, Mixture(np.zeros((0, 0))), tilt)
    likely, groups = [], []
    for asked in ask(events, crowd, wanted):
        opinions = draft.opinions(asked, meet)
        likely.append(opinions[np.arange(len(asked.rows)), :, happened[asked.rows]])
        groups.append(asked.group)
    count = len(crowd.names) + (meet is not None)
    given = np.concatenate(likely) if likely else np.zeros((0, count))
    group = np.concatenate(groups) if groups else np.zeros(0, np.int64)
    mixture = Mixture(fit_weights(given, group, GROUPS))
    mixture = replace(
        mixture, powers=_powers(replace(draft, mixture=mixture), events, wanted, meet)
    )
    rows, chances = Forecaster(crowd, mixture, tilt).foretell(events, wanted, meet)
    mixture = replace(mixture, sureness=fit_sureness(chances, happened[rows], group, GROUPS))
    return Forecaster(count_crowd(events, end, timed=timed), mixture, tilt)


def _powers(draft: Forecaster, events: Events, wanted: Mask, meet: Meet | None) -> Floats:
    """The exponents of the pool, from some of the cases, evenly spread."""
    rows = np.flatnonzero(wanted)
    some = np.zeros(len(events), bool)
    some[rows[:: max(1, len(rows) // _MOST_POOLED)]] = True
    opinions, mixed, happened = [], [], []
    for asked in ask(events, draft.crowd, some):
        opinions.append(draft.opinions(asked, meet))
        mixed.append(draft.mixture.blend(opinions[-1], asked.group))
        happened.append(events.symbol[asked.rows])
    if not opinions:
        return np.append(np.zeros(len(draft.crowd.names) + (meet is not None)), 1.0)
    return fit_powers(np.concatenate(opinions), np.concatenate(mixed), np.concatenate(happened))
