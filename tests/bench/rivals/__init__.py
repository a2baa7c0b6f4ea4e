"""Our decision against the fastest fair set-up of what a user would pick instead.

1,000 offers, one core, side by side: in turns of a tenth of a second, so that whatever else the
machine does meets all of them, and by the processor time of the deciding thread. What each rival is
told, how it is set up and what it leaves out is said in docs/rivals.md and at the top of `models`
and `flags`. Ours is the whole call: eligibility, caps, scores, exploration, and a record written.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from edge_sdk.dna.markers import time_markers
from genome_server.learning.metrics import auc
from tests.bench.figures import Figures

#: Moments (a customer and an activity); turns, and how long each is at least.
MOMENTS: Final = 25
ROUNDS: Final = 8
TURN_NS: Final = 100_000_000


def run(figures: Figures) -> None:
    """Train, measure in a process of its own on one core, and take the figures."""
    here, there = multiprocessing.get_context("spawn").Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=_measure, args=(there,))
    child.start()
    there.close()
    with contextlib.suppress(EOFError):
        while True:
            figures.add(*here.recv())
    child.join()
    if child.exitcode:
        print("  left out: see above", file=sys.stderr)


def _measure(told: Any) -> None:
    from tests.bench import stage
    from tests.bench.rivals import flags, models, ours, taste

    now = datetime.now().astimezone()
    moment = time_markers(now.isoweekday(), now.hour)
    market = taste.Market()
    test = [one for one in market.examples if market.is_test(one)]
    mine = ours.Ours(market, moment)
    wabbit, trees = models.VowpalWabbit(market, moment), models.LightGbm(market, moment)
    import numpy as np

    taken = np.array([one.taken for one in test], np.float32)
    truth = np.array([market.chance(o.customer, o.activity, o.offer) for o in test], np.float32)
    for name, scores in (
        ("truth", truth),
        ("ours", mine.auc_scores(test)),
        ("vw", wabbit.auc_scores(test)),
        ("lightgbm", trees.auc_scores(test)),
    ):
        told.send((f"rivals.{name}_auc", auc(taken, scores) or 0.0, "AUC"))
    told.send(("rivals.lightgbm_trees", trees.booster.num_trees(), "trees"))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        edge = stack.enter_context(mine.open(Path(folder), MOMENTS))
        growthbook, launchdarkly = flags.GrowthBook(), flags.LaunchDarkly()
        stack.callback(launchdarkly.close)
        placement = stage.PLACEMENT
        prepared: dict[str, list[Any]] = {}
        for number in range(MOMENTS):
            activity = taste.ACTIVITIES[number % len(taste.ACTIVITIES)]
            genome = market.genomes[number]
            said = flags.attributes(genome, activity, moment)
            for name, made in {
                "ours": mine.prepared(edge, number, activity),
                "vw": wabbit.prepared(genome, activity),
                "lightgbm": trees.prepared(genome, activity),
                "growthbook": growthbook.prepared(said),
                "launchdarkly": launchdarkly.prepared(said),
            }.items():
                prepared.setdefault(name, []).append(made)
        calls: dict[str, Callable[[Any], object]] = {
            "ours": lambda asked: edge.decide(asked[0], placement, customer=asked[1]),
            "vw": wabbit.decide,
            "lightgbm": trees.decide,
            "growthbook": growthbook.decide,
            "launchdarkly": launchdarkly.decide,
        }
        with one_core():
            taken_ns = _in_turns(calls, prepared)
    middle = {name: statistics.median(times) for name, times in taken_ns.items()}
    for name, time_ns in middle.items():
        told.send((f"rivals.{name}.p50_us", time_ns / 1e3, "us"))
    for name, time_ns in middle.items():
        if name != "ours":
            told.send((f"decide.vs_{name}.ratio", time_ns / middle["ours"], "ratio"))
    told.close()


def _in_turns(
    calls: dict[str, Callable[[Any], object]], prepared: dict[str, list[Any]]
) -> dict[str, list[int]]:
    """Processor nanoseconds of every decision: one decides for a while, then the next one."""
    taken: dict[str, list[int]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            ends = time.thread_time_ns() + TURN_NS
            while time.thread_time_ns() < ends:
                for asked in prepared[name]:
                    started = time.thread_time_ns()
                    call(asked)
                    if turn:  # the first one is to warm up
                        taken[name].append(time.thread_time_ns() - started)
    return taken


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """The process on one core, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
