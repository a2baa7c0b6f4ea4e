"""An audience of 100,000 customers of a grocer on a device: its size, its loading, a lookup."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from edge_sdk.dna.columns import encode
from edge_sdk.store.genome_files import write_content
from edge_sdk.store.snapshot import Snapshot
from examples.datasets import DataSetMissing
from genome_edge.v1 import dna_pb2
from genome_server.learning.metrics import auc
from tests.bench import journey, segment, segment_grocer
from tests.bench.figures import Figures

CUSTOMERS = 100_000
_LOADS = 5
# More than anybody has.
_ALL = 4096
_LOOKUPS = 40_000
_DRAWS = 6


def run(figures: Figures) -> None:
    """Content in, mapped file out, opened; then customers at random. The fastest of five rounds."""
    try:
        lines = journey.read_lines()
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    parts = list(journey.customers(lines, CUSTOMERS))
    plain = encode(journey.columns_of(parts))
    with_ids = encode(journey.columns_of(parts, lookups=True))
    figures.add("snapshot.bytes_per_customer", len(plain) / CUSTOMERS, "B")
    figures.add("snapshot.with_lookup.bytes_per_customer", len(with_ids) / CUSTOMERS, "B")
    parts = list(journey.customers(lines, CUSTOMERS, distinctive=True))
    for name, lookups in (("", False), ("with_lookup.", True)):
        size = len(encode(journey.columns_of(parts, lookups=lookups)))
        figures.add(f"snapshot.distinctive.{name}bytes_per_customer", size / CUSTOMERS, "B")
    del parts
    lost(lines, figures)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "content").write_bytes(plain)
        seconds = []
        for _ in range(_LOADS):
            begun = time.perf_counter()
            files = write_content(folder, dna_pb2.Lineage(), folder / "content")
            snapshot = Snapshot.open(folder / files.snapshot)
            seconds.append(time.perf_counter() - begun)
        figures.add("snapshot.load_s", min(seconds), "s")
        subjects = [row.subject for row in snapshot]
        rounds = []
        for seed in range(_LOADS):
            wanted = random.Random(seed).choices(subjects, k=_LOOKUPS)
            begun = time.perf_counter()
            for subject in wanted:
                snapshot.lookup(subject)
            rounds.append(time.perf_counter() - begun)
    figures.add("snapshot.lookup_us", min(rounds) / _LOOKUPS * 1e6, "us")


def lost(lines: journey.Lines, figures: Figures) -> None:
    """What a device's markers in codes cost, of whole genomes: step by step, and in all."""
    found = journey.worth(lines, draws=_DRAWS)
    figures.add("snapshot.whole_auc", found["whole"].auc, "AUC")
    figures.add("snapshot.quantised.auc_lost", found["wire"].lost - found["pruned"].lost, "AUC")
    for name, arm in (
        ("pruned.", "pruned"),
        ("", "wire"),
        ("distinctive.pruned.", "distinctive"),
        ("distinctive.", "distinctive_wire"),
    ):
        figures.add(f"snapshot.{name}auc_lost", found[arm].lost, "AUC")
        figures.add(f"snapshot.{name}auc_lost.low", found[arm].low, "AUC")
        figures.add(f"snapshot.{name}auc_lost.high", found[arm].high, "AUC")
    # Who redeems a coupon, as `segment` asks in full: boosting on rows of these and of everything.
    whole = segment_grocer.coupon_cases(most=_ALL)
    judge = whole.judge
    label, person = whole.label[judge], whole.person[judge]
    best = segment.scores(whole)["genome"]
    figures.add("snapshot.coupon.whole_auc", auc(label, best) or 0.0, "AUC")
    for name, distinct in (("", False), ("distinctive.", True)):
        some = segment.scores(segment_grocer.coupon_cases(distinct=distinct))["genome"]
        gone = (auc(label, best) or 0.0) - (auc(label, some) or 0.0)
        low, high = segment.auc_difference(label, best, some, person)
        figures.add(f"snapshot.coupon.{name}auc_lost", gone, "AUC")
        figures.add(f"snapshot.coupon.{name}auc_lost.low", low, "AUC")
        figures.add(f"snapshot.coupon.{name}auc_lost.high", high, "AUC")
