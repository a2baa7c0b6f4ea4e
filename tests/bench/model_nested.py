"""Nested cross-validation on UCI coupon: settings chosen inside, everybody paired by person.

Rules.
- Outer: five folds, by person or at random. Inner: a fifth of what is learned from is held out in
  the same way; the setting with the best AUC there is learned anew on all of it.
- What a fold gave is kept in build/model, under a name that changes with the code; a run that was
  broken off goes on from there.
- The figure of a contender is the mean over seeds of its AUC over all examples of a seed; the
  difference of two likewise. Its interval is by drawing persons, the same for all seeds and both.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import multiprocessing
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from examples.adapters import coupon
from genome_server.learning import (
    boosting,
    columns,
    correction,
    dataset,
    evaluate,
    examples,
    forest,
    history,
    kin,
    learner,
    lessons,
    network,
    settings,
    strangers,
    tables,
    towers,
    train,
)
from genome_server.learning.metrics import auc
from tests.bench import model_data, model_rivals
from tests.bench.figures import ROOT
from tests.bench.model_data import AFTER, Array, Data
from tests.bench.model_rivals import BY_PERSON, CONTENDERS, RANDOM, Task, asked_rows
from tests.bench.segment import _Ranked

FOLDS: Final = 5
KEPT: Final = ROOT / "build" / "model"
DRAWS: Final = 1000

_data: Data | None = None


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(inspect.getsource(part).encode())
    return digest.hexdigest()


# Of the code as it was loaded: somebody may change it while this runs.
_DATA: Final = (model_data, model_rivals, coupon, dataset, evaluate, examples, history)
_OURS: Final = (
    train, network, forest, boosting, strangers, lessons, correction, learner, settings, columns,
    kin, tables, towers,
)  # fmt: skip
_DIGEST: Final = _digest(*_DATA)
_OURS_DIGEST: Final = _digest(*_DATA, *_OURS)


@dataclass(frozen=True)
class Fold:
    """One contender in one fold."""

    contender: str
    split: str
    seed: int
    fold: int

    @property
    def file(self) -> Path:
        """Where its scores are kept."""
        digest = _OURS_DIGEST if self.contender == "ours" else _DIGEST
        name = f"{self.split}-{self.seed}-{self.fold}-{self.contender}-{digest[:12]}"
        return KEPT / f"{name}.npz"


def kept(data: Data) -> Data:
    """The data that folds were kept of; `data` where there are none yet.

    Ids are random, so persons of another home are in another order and their folds are others.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / f"data-{_DIGEST[:12]}.pickle"
    if file.exists():
        found: Data = pickle.loads(file.read_bytes())
        return found
    unfinished = file.with_suffix(".new")
    unfinished.write_bytes(pickle.dumps(data))
    unfinished.replace(file)
    return data


def folds_of(data: Data, split: str, seed: int) -> Array:
    """The fold of each example, (n,)."""
    rng = np.random.default_rng([seed, split == RANDOM])
    if split == BY_PERSON:
        return evaluate.folds_by_person(data.examples.person, rng)
    return rng.permutation(len(data.examples)) % FOLDS


def judge(data: Data, one: Fold) -> dict[str, Array]:
    """Choose inside, learn on all, say; with the number of the setting as "chosen"."""
    contender = CONTENDERS[one.contender]
    fold_of = folds_of(data, one.split, one.seed)
    rows, ask = np.flatnonzero(fold_of != one.fold), np.flatnonzero(fold_of == one.fold)
    rng = np.random.default_rng([one.seed, one.fold, 7])
    if one.split == BY_PERSON:
        persons = rng.permutation(np.unique(data.examples.person[rows]))
        out = np.isin(data.examples.person[rows], persons[: len(persons) // FOLDS])
    else:
        out = rng.random(len(rows)) < 1 / FOLDS
    label = data.examples.label[rows[out]]
    seed = one.seed * 100 + one.fold
    inner = Task(data, one.split, rows[~out], rows[out], seed)
    choices = contender.choices(one.split)
    found = [auc(label, contender(each, inner)["said"]) or 0.0 for each in choices]
    chosen = int(np.argmax(found))
    after = one.split == BY_PERSON and one.contender in ("ours", "lightgbm_history")
    said = contender(choices[chosen], Task(data, one.split, rows, ask, seed, after))
    return {**said, "rows": ask, "chosen": np.array(chosen), "inner": np.array(found)}


def wanted(seeds: Sequence[int]) -> list[Fold]:
    """All folds of all contenders, seed by seed."""
    return [
        Fold(contender, split, seed, fold)
        for seed in seeds
        for split in (BY_PERSON, RANDOM)
        for fold in range(FOLDS)
        for contender in CONTENDERS
        if split == BY_PERSON or contender != "lightgbm_history"
    ]


def run_all(data: Data, seeds: Sequence[int], *, workers: int) -> None:
    """Judge what is not kept yet, and keep it; one line for each fold."""
    KEPT.mkdir(parents=True, exist_ok=True)
    left = [one for one in wanted(seeds) if not one.file.exists()]
    print(f"  {len(wanted(seeds)) - len(left)} folds are kept, {len(left)} to go", flush=True)
    global _data
    _data = data
    if workers == 1:
        for number, one in enumerate(left, start=1):
            print(f"  {number}/{len(left)} {_kept(one)}", flush=True)
        return
    # Threads of JAX do not survive a fork: workers start anew and are given the data.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _given, (data,)) as pool:
        waiting = [pool.submit(_kept, one) for one in left]
        for number, done in enumerate(as_completed(waiting), start=1):
            print(f"  {number}/{len(left)} {done.result()}", flush=True)


def _given(data: Data) -> None:
    global _data
    _data = data
    os.nice(5)


def _kept(one: Fold) -> str:
    if _data is None:
        raise RuntimeError("there is no data")
    said = judge(_data, one)
    unfinished = one.file.with_suffix(".new")
    with unfinished.open("wb") as out:
        np.savez(out, **said)  # type: ignore[arg-type]  # NumPy 2.4 names only its own option
    unfinished.replace(one.file)
    label = _data.examples.label[said["rows"]]
    facts = {"chosen": int(said["chosen"]), "auc": round(auc(label, said["said"]) or 0.0, 4)}
    return f"{one.split} seed {one.seed} fold {one.fold} {one.contender}: {json.dumps(facts)}"


def scores(data: Data, contender: str, split: str, seeds: Sequence[int]) -> Array:
    """What one said of all examples, (seeds, n)."""
    found = np.zeros((len(seeds), len(data.examples)))
    for place, seed in enumerate(seeds):
        for fold in range(FOLDS):
            with np.load(Fold(contender, split, seed, fold).file) as kept:
                found[place, kept["rows"]] = kept["said"]
    return found


def scores_after(data: Data, contender: str, seeds: Sequence[int]) -> Mapping[int, Array]:
    """What one said of the later answers by how many own ones it knew, (seeds, asked)."""
    found = {count: np.zeros((len(seeds), len(data.asked_of))) for count in AFTER}
    for place, seed in enumerate(seeds):
        for fold in range(FOLDS):
            with np.load(Fold(contender, BY_PERSON, seed, fold).file) as kept:
                none = np.zeros(0, np.int64)
                some = asked_rows(Task(data, BY_PERSON, none, kept["rows"], seed))
                for count in AFTER:
                    found[count][place, some] = kept[f"after_{count}"]
    return found


def mean_auc(label: Array, said: Array) -> float:
    """The mean over seeds, (seeds, n)."""
    return float(np.mean([auc(label, each) or 0.0 for each in said]))


def difference(label: Array, person: Array, one: Array, other: Array) -> tuple[float, float]:
    """The 95 % interval of the difference of two mean AUCs, (seeds, n) each, by drawing persons."""
    _, group = np.unique(person, return_inverse=True)
    many = int(group.max()) + 1
    ranked = [(_Ranked(label, a), _Ranked(label, b)) for a, b in zip(one, other, strict=True)]
    drawn = [
        np.mean([a.auc(times) - b.auc(times) for a, b in ranked]) for times in _draws(many, group)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _draws(many: int, group: Array) -> Iterator[Array]:
    rng = np.random.default_rng(1)
    for _ in range(DRAWS):
        yield np.bincount(rng.integers(0, many, many), minlength=many)[group].astype(float)
