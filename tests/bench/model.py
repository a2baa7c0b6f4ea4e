"""What the model is worth on UCI coupon: imported, built and trained as a person would do it."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from examples.adapters import coupon
from examples.datasets import DataSetMissing
from genome_server.home import Home
from genome_server.learning import evaluate, job
from genome_server.learning.metrics import auc
from genome_server.learning.train import Settings, predict, train
from tests.bench.figures import Figures
from tests.e2e.house import House

SEED: Final = 1
#: Own interactions from which on a figure counts, up to where the next one begins.
AFTER: Final = (0, 2, 5, 10, 20)


def run(figures: Figures) -> None:
    """AUC of persons that the model has never seen, and of a random split: five folds each."""
    with tempfile.TemporaryDirectory() as name:
        house = House(Path(name))
        try:
            written = coupon.write(house.root / "coupon")
        except DataSetMissing as missing:
            print(f"  left out: {missing}")
            return
        house.server("init")
        for kind, file in written.in_import_order():
            house.server("import", kind, file)
        house.server("build")
        report = house.server_json("train", "--seed", str(SEED))
        after(house.home, figures)
    for split in ("by_person", "random"):
        found = report[f"auc_{split}"]
        figures.add(f"model.coupon.{split}.ours_auc", found["cold"], "AUC")
        figures.add(f"model.coupon.{split}.with_history.ours_auc", found["history"], "AUC")
    figures.add("model.coupon.train_s", sum(report["seconds"].values()), "s")


def ranks(person: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """How many examples of the same person stand before each, int64[n]."""
    order = np.argsort(person, kind="stable")
    first = np.searchsorted(person[order], person[order])
    found = np.empty(len(person), np.int64)
    found[order] = np.arange(len(person)) - first
    return found


def after(home: Path, figures: Figures) -> None:
    """AUC by person by how many own interactions there are; a stranger's on the same answers.

    Folds and trainings are those of `genome-server train` with the same seed.
    """
    tenant = Home(home).tenant()
    with closing(tenant.open_store()) as store:
        examples, _, _ = job._gather(tenant, store, time.time_ns() // 1_000_000, job._silence)
    settings = Settings(seed=SEED)
    fold_of = evaluate._folds_by_person(examples, np.random.default_rng(SEED))
    said = {history: np.zeros(len(examples)) for history in (True, False)}
    for fold in range(evaluate.FOLDS):
        learn, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        towers = train(examples, learn, replace(settings, seed=SEED + fold))
        for history, chances in said.items():
            chances[test] = predict(towers, examples, test, history=history)
    before = ranks(examples.person)
    for low, high in zip(AFTER, (*AFTER[1:], None), strict=True):
        rows = (before >= low) & (before < high if high is not None else True)
        for name, history in (("ours", True), ("stranger", False)):
            found = auc(examples.label[rows], said[history][rows])
            figures.add(f"model.coupon.by_person.after_{low}.{name}_auc", found or 0.0, "AUC")
