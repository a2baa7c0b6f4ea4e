"""Plays policies in several processes, and remembers what was played.

What a policy showed is kept under build/regret, under a digest of all the code that has a part in
it: a run that broke off goes on where it was, and changed code plays everything anew.
"""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from tests.bench.figures import ROOT
from tests.bench.regret_gated import GatedHouse
from tests.bench.regret_house import DEFAULT, GREEDY, NOTHING, ONLY_SEGMENTS, House
from tests.bench.regret_loop import Judge, Oracle, Policy, Random, play
from tests.bench.regret_wabbit import Setting, Wabbit, WabbitAtDevices
from tests.bench.world import coupon, rewards
from tests.bench.world.covariates import Covariates, Floats
from tests.bench.world.stream import make_stream
from tests.bench.world.truth import make_world

BEGIN_MS: Final = 1_772_409_600_000  # 2026-03-02, a Monday
PEOPLE, DEVICES = 300, 200
KEPT: Final = ROOT / "build" / "regret"
#: What the rival was set up with was found on the world of another seed, see docs/closed-loop.md.
BEST_OF_WABBIT: Final = Setting()
_CODE: Final = ("server/src", "edge_sdk/src", "tests/bench/world")
_PROCESSES: Final = 2

WORLDS: Final[Mapping[str, Callable[[], Covariates]]] = {
    "coupon": coupon.covariates,
    "rewards": rewards.covariates,
}
POLICIES: Final[Mapping[str, Callable[[Judge], Policy]]] = {
    "oracle": Oracle,
    "random": Random,
    "vw": lambda judge: Wabbit(judge, BEST_OF_WABBIT),
    "vw-at-devices": lambda judge: WabbitAtDevices(judge, BEST_OF_WABBIT),
    "ours": lambda judge: House(judge, DEFAULT),
    "segments": lambda judge: House(judge, DEFAULT, ONLY_SEGMENTS),
    "nothing": lambda judge: House(judge, DEFAULT, NOTHING),
    "gated": GatedHouse,
    "greedy": lambda judge: House(judge, GREEDY),
}


class Run(NamedTuple):
    """One policy on one stream."""

    world: str
    seed: int
    days: int
    per_day: int
    policy: str


def played(runs: Sequence[Run]) -> dict[Run, Floats]:
    """What each run lost in each moment, float64[n]. Raises DataSetMissing."""
    for world in dict.fromkeys(run.world for run in runs):
        WORLDS[world]()  # here, so that what is missing is said once
    code = _digest()
    # Each has one core; what else there is belongs to the other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    found: dict[Run, Floats] = {}
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        answers = pool.imap_unordered(functools.partial(_play, code), runs, chunksize=1)
        for run, lost in answers:
            found[run] = lost
            told = f"{run.world} seed {run.seed} {run.policy:<13} {1000 * lost.mean():8.1f}"
            print(f"    {len(found):>3} of {len(runs)}  {told}", flush=True)
    return {run: found[run] for run in runs}


@functools.lru_cache(maxsize=1)
def judge_of(world: str, seed: int, days: int, per_day: int) -> Judge:
    """The truth of a stream: the same for every policy."""
    made = make_world(WORLDS[world](), seed, BEGIN_MS, days)
    return Judge.of(make_stream(made, seed, per_day, PEOPLE, DEVICES))


def _play(code: str, run: Run) -> tuple[Run, Floats]:
    judge = judge_of(run.world, run.seed, run.days, run.per_day)
    name = "-".join(map(str, run))
    path = KEPT / f"{name}-{code}.npy"
    if path.exists():
        return run, judge.regret(np.load(path))
    shown = play(judge, POLICIES[run.policy](judge))
    KEPT.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npy")
    np.save(part, shown)
    part.replace(path)
    return run, judge.regret(shown)


def _digest() -> str:
    """Of the code that decides what is shown."""
    files = [path for folder in _CODE for path in (ROOT / folder).rglob("*.py")]
    files += (ROOT / "tests" / "bench").glob("regret*.py")
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
