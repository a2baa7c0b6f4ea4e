"""What the model is worth on UCI coupon: imported, built and trained as a person would do it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from examples.adapters import coupon
from examples.datasets import DataSetMissing
from tests.bench.figures import Figures
from tests.e2e.house import House


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
        report = house.server_json("train", "--seed", "1")
    for split in ("by_person", "random"):
        found = report[f"auc_{split}"]
        figures.add(f"model.coupon.{split}.ours_auc", found["cold"], "AUC")
        figures.add(f"model.coupon.{split}.with_history.ours_auc", found["history"], "AUC")
    figures.add("model.coupon.train_s", sum(report["seconds"].values()), "s")
