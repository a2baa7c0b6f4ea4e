"""What the model is worth on UCI coupon: imported, built and trained as a person would do it."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from edge_sdk.dna.schema import HOUR_MS
from examples.adapters import coupon
from examples.datasets import DataSetMissing
from genome_server.home import Home
from genome_server.learning import evaluate, job
from genome_server.learning.dataset import _Life, _Loader
from genome_server.learning.metrics import auc, auc_interval
from genome_server.learning.survey import survey
from genome_server.learning.train import Settings, predict, train
from genome_server.log import LogReader
from tests.bench.figures import Figures
from tests.bench.segment import auc_difference
from tests.e2e.house import House

SEED: Final = 1
#: Own answers that are known where the same later ones are asked.
AFTER: Final = (0, 2, 5, 10, 20)
_ASKED: Final = 2


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


class Asked(_Loader):
    """Of each person the two answers after the 20th, as they look after `known` of those before.

    What is known are the newest ones before the first of the two. Who gave fewer than 21 answers is
    asked nothing. So all numbers of own answers are measured by the same questions.
    """

    known = 0

    def _learn(self, life: _Life) -> None:
        answers = sorted(life.told, key=lambda one: one.at_ms)
        asked = answers[max(AFTER) : max(AFTER) + _ASKED]
        if not asked:
            self._number += 1  # persons keep their numbers
            return
        imprints = sorted(life.imprints, key=lambda one: one[1].visible_ms)
        hour_ms = asked[0].at_ms // HOUR_MS * HOUR_MS
        before = [one for one in imprints if one[1].visible_ms < hour_ms]
        if len(before) < max(AFTER):
            raise ValueError("an answer that left no imprint, or two in one hour")
        super()._learn(_Life(before[len(before) - self.known :], asked, life.ids))


def after(home: Path, figures: Figures) -> None:
    """AUC by person after so many own answers: the same answers, asked of who has given that many.

    After 0 is a stranger with a profile. Folds and trainings are those of `genome-server train`
    with the same seed. Intervals are by drawing persons; those of gains are paired.
    """
    tenant = Home(home).tenant()
    now_ms = time.time_ns() // 1_000_000
    with closing(tenant.open_store()) as store:
        examples, _, vocabulary = job._gather(tenant, store, now_ms, job._silence)
        asked = {}
        with LogReader(tenant.log_path) as log:
            sources = job.sources_of(store, log)
            found = survey(sources)
            for known in AFTER:
                loader = Asked(sources, found, vocabulary, now_ms)
                loader.known = known
                asked[known], _ = loader.run(None)
    settings = Settings(seed=SEED)
    fold_of = evaluate._folds_by_person(examples, np.random.default_rng(SEED))
    of_person = np.zeros(int(examples.person.max()) + 1, np.int64)
    of_person[examples.person] = fold_of
    said = {known: np.zeros(len(some)) for known, some in asked.items()}
    for fold in range(evaluate.FOLDS):
        learn = np.flatnonzero(fold_of != fold)
        towers = train(examples, learn, replace(settings, seed=SEED + fold))
        for known, some in asked.items():
            rows = np.flatnonzero(of_person[some.person] == fold)
            said[known][rows] = predict(towers, some, rows, history=True)
    label, person = asked[0].label, asked[0].person
    figures.add("model.coupon.by_person.asked", len(label), "answers")
    figures.add("model.coupon.by_person.asked_persons", len(np.unique(person)), "persons")
    for known, chances in said.items():
        name = f"model.coupon.by_person.after_{known}"
        figures.add(f"{name}.ours_auc", auc(label, chances) or 0.0, "AUC")
        low, high = auc_interval(label, chances, person) or (0.0, 0.0)
        figures.add(f"{name}.ours_auc.low", low, "AUC")
        figures.add(f"{name}.ours_auc.high", high, "AUC")
        if known:
            low, high = auc_difference(label, chances, said[0], person)
            figures.add(f"{name}.gain.low", low, "AUC")
            figures.add(f"{name}.gain.high", high, "AUC")
