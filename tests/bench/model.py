"""What the model is worth on UCI coupon: imported, built and trained as a person would do it.

See `model_nested` for how it is judged, `model_rivals` for who is. The short form takes one seed;
LONG takes five. Broken runs go on where they were.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from edge_sdk.dna.genome import Genome, PendingImprint
from edge_sdk.dna.imprint import hour_of
from examples.datasets import DataSetMissing
from genome_server.learning.examples import Examples, ExamplesBuilder
from genome_server.learning.export import (
    ModelFacts,
    open_session,
    prove_parity,
    tower_model,
)
from genome_server.learning.history import History
from genome_server.learning.metrics import auc, auc_interval, calibration_error
from genome_server.learning.probes import random_probes, real_probes
from genome_server.learning.train import Settings, predict, score, train
from tests.bench import model_nested as nested
from tests.bench import model_rewards
from tests.bench.figures import Figures, durations
from tests.bench.model_data import AFTER, Array, Data, load
from tests.bench.model_rivals import BY_PERSON, RANDOM

SEEDS: Final = (1, 2, 3, 4, 5)
_RIVALS: Final = ("lightgbm", "forest", "vw")
_OFFERS: Final = 1000
# Strengths of four bits, as new tenants have them, and of eight.
_QUANTISERS: Final = {2: "quantised", 1: "quantised_8_bits"}
_PROBES: Final = {False: 3_200, True: 100_000}


def run(figures: Figures) -> None:
    """AUC by person and at random beside the rivals', after own answers, and what a model costs."""
    with tempfile.TemporaryDirectory() as name:
        try:
            data, house = load(Path(name))
        except DataSetMissing as missing:
            print(f"  left out: {missing}")
            return
        report = house.server_json("train", "--seed", str(SEEDS[0]))
    figures.add("model.coupon.train_s", sum(report["seconds"].values()), "s")
    figures.add("model.coupon.onnx_kb", report["bytes"] / 1000, "KB")
    data = nested.kept(data)
    costs(data, figures)
    seeds = SEEDS if figures.long else SEEDS[:1]
    nested.run_all(data, seeds, workers=len(os.sched_getaffinity(0)) if figures.long else 1)
    figures.add("model.coupon.seeds", len(seeds), "seeds")
    for split in (BY_PERSON, RANDOM):
        beside(data, split, seeds, figures)
    after(data, seeds, figures)
    try:
        model_rewards.run(figures)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")


def beside(data: Data, split: str, seeds: Sequence[int], figures: Figures) -> None:
    """Our mean AUC, theirs, and the intervals of the differences."""
    label, person = data.examples.label, data.examples.person
    name = f"model.coupon.{split}"
    ours = nested.scores(data, "ours", split, seeds)
    figures.add(f"{name}.ours_auc", nested.mean_auc(label, ours), "AUC")
    error = float(np.mean([calibration_error(label, each) for each in ours]))
    figures.add(f"{name}.ours_ece", error, "share")
    for rival in _RIVALS:
        theirs = nested.scores(data, rival, split, seeds)
        figures.add(f"{name}.{rival}_auc", nested.mean_auc(label, theirs), "AUC")
        low, high = nested.difference(label, person, ours, theirs)
        figures.add(f"{name}.over_{rival}.difference.low", low, "AUC")
        figures.add(f"{name}.over_{rival}.difference.high", high, "AUC")


def after(data: Data, seeds: Sequence[int], figures: Figures) -> None:
    """AUC by person after so many own answers: the same answers, asked of who has given that many.

    After 0 is a stranger with a profile. LightGBM is given the same answers.
    """
    label, person = data.asked[0].label, data.asked[0].person
    ours = nested.scores_after(data, "ours", seeds)
    theirs = nested.scores_after(data, "lightgbm_history", seeds)
    figures.add("model.coupon.by_person.asked", len(label), "answers")
    figures.add("model.coupon.by_person.asked_persons", len(np.unique(person)), "persons")
    for known in AFTER:
        name = f"model.coupon.by_person.after_{known}"
        figures.add(f"{name}.ours_auc", nested.mean_auc(label, ours[known]), "AUC")
        low, high = auc_interval(label, ours[known][0], person) or (0.0, 0.0)
        figures.add(f"{name}.ours_auc.low", low, "AUC")
        figures.add(f"{name}.ours_auc.high", high, "AUC")
        figures.add(f"{name}.lightgbm_auc", nested.mean_auc(label, theirs[known]), "AUC")
        low, high = nested.difference(label, person, ours[known], theirs[known])
        figures.add(f"{name}.over_lightgbm.difference.low", low, "AUC")
        figures.add(f"{name}.over_lightgbm.difference.high", high, "AUC")
        if known:
            low, high = nested.difference(label, person, ours[known], ours[0])
            figures.add(f"{name}.gain.low", low, "AUC")
            figures.add(f"{name}.gain.high", high, "AUC")


def costs(data: Data, figures: Figures) -> None:
    """Parity of the file, the time of 1,000 offers, and what rounded strengths cost."""
    examples = data.examples
    fold_of = nested.folds_of(data, BY_PERSON, SEEDS[0])
    towers = train(examples, np.flatnonzero(fold_of != 0), Settings(seed=SEEDS[0]))
    model = tower_model(towers, ModelFacts(bytes(16), examples.vocabulary_size))
    count = _PROBES[figures.long]
    probes = chain(random_probes(examples, count, 1), real_probes(examples, 1000, 1))
    proof = prove_parity(model, lambda probe: score(towers, probe), probes)
    figures.add("model.parity.inputs", proof.probes, "inputs")
    figures.add("model.parity.max_difference", proof.max_difference, "probability")
    session = open_session(model)
    width = towers.shape.vector
    rng = np.random.default_rng(1)
    inputs = {
        "query_index": examples.index[: examples.start[1]].astype(np.int64),
        "query_weight": examples.warm[: examples.start[1]],
        "offer_index": np.zeros((0, 0), np.int64),
        "offer_weight": np.zeros((0, 0), np.float32),
        "offer_vector": rng.standard_normal((_OFFERS, width)).astype(np.float32),
    }
    taken = durations(lambda _: session.run(["value"], inputs), 5000)
    figures.quantiles("model.score.1000", taken)
    fine = in_floats(data)
    for quantiser, name in _QUANTISERS.items():
        as_kept, as_floats = judged_by(rounded(data, quantiser), fine, fold_of)
        figures.add(f"model.coupon.{name}.auc", as_kept, "AUC")
        figures.add(f"model.coupon.{name}.auc_difference", abs(as_kept - as_floats), "AUC")


def judged_by(examples: Examples, fine: Examples, fold_of: Array) -> tuple[float, float]:
    """AUC with history of models of `examples`, by person: asked of those, and of `fine`."""
    said = np.zeros((2, len(examples)))
    for fold in range(nested.FOLDS):
        ask = np.flatnonzero(fold_of == fold)
        towers = train(examples, np.flatnonzero(fold_of != fold), Settings(seed=SEEDS[0]))
        for row, asked in zip(said, (examples, fine), strict=True):
            row[ask] = predict(towers, asked, ask, history=True)
    as_kept, as_floats = (auc(examples.label, row) or 0.0 for row in said)
    return as_kept, as_floats


def rounded(data: Data, quantiser: int) -> Examples:
    """The examples with genomes as rows of this quantiser hold them."""
    schema = replace(data.pasts.schema, quantiser=quantiser)
    vocabulary, builder = data.pasts.vocabulary, ExamplesBuilder()
    for past in data.pasts.kept:
        history = History(past.profile, past.imprints, schema, vocabulary)
        moment = past.moment
        query = history.features(moment.time_ms, before_ms=moment.before_ms)
        past.add_to(builder, query, vocabulary)
    examples = data.examples
    return builder.build(examples.offers, examples.fields, examples.kin)


def in_floats(data: Data) -> Examples:
    """The examples with genomes whose strengths are not rounded and of which nothing is cut."""
    schema, vocabulary, builder = data.pasts.schema, data.pasts.vocabulary, ExamplesBuilder()
    for kept in data.pasts.kept:
        moment = kept.moment
        hour = hour_of(moment.time_ms)
        told = [PendingImprint(hour, tuple(kept.profile.items()))]
        for past in kept.imprints:
            if past.visible_ms < moment.before_ms:
                votes = [(vocabulary.index(name), vote) for name, _, vote in past.votes]
                known = tuple((at, vote) for at, vote in votes if at is not None)
                told.append(PendingImprint(past.hour, known))
        warm = _features(Genome(None, schema, vocabulary, told), hour)
        cold = _features(Genome(None, schema, vocabulary, told[:1]), hour)
        query = [(at, warm.get(at, 0.0), cold.get(at, 0.0)) for at in sorted(warm)]
        kept.add_to(builder, query, vocabulary)
    return builder.build(data.examples.offers, data.examples.fields, data.examples.kin)


def _features(genome: Genome, hour: int) -> dict[int, float]:
    indices, weights = genome.features(hour)
    return dict(zip(indices.tolist(), weights.tolist(), strict=True))


def chosen(seeds: Sequence[int]) -> str:
    """Which settings were chosen how often, as JSON: for whoever asks what was tuned."""
    counts: dict[str, dict[int, int]] = {}
    for one in nested.wanted(seeds):
        with np.load(one.file) as kept:
            times = counts.setdefault(f"{one.split}.{one.contender}", {})
            number = int(kept["chosen"])
            times[number] = times.get(number, 0) + 1
    return json.dumps(counts)


__all__ = ["Array", "chosen", "run"]
