"""What the model is worth on UCI coupon: imported, built and trained as a person would do it.

See `model_nested` for how it is judged, `model_rivals` for who is. The short form takes one seed;
LONG takes five. Broken runs go on where they were.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
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
    """Parity of the file, what 8-bit strengths cost, and the time of 1,000 offers."""
    examples = data.examples
    fold_of = nested.folds_of(data, BY_PERSON, SEEDS[0])
    ask = np.flatnonzero(fold_of == 0)
    towers = train(examples, np.flatnonzero(fold_of != 0), Settings(seed=SEEDS[0]))
    model = tower_model(towers, ModelFacts(bytes(16), examples.vocabulary_size))
    count = _PROBES[figures.long]
    probes = chain(random_probes(examples, count, 1), real_probes(examples, 1000, 1))
    proof = prove_parity(model, lambda probe: score(towers, probe), probes)
    figures.add("model.parity.inputs", proof.probes, "inputs")
    figures.add("model.parity.max_difference", proof.max_difference, "probability")
    label = examples.label[ask]
    coarse = auc(label, predict(towers, examples, ask, history=True)) or 0.0
    fine = auc(label, predict(towers, in_floats(data), ask, history=True)) or 0.0
    figures.add("model.coupon.quantised.auc_difference", abs(coarse - fine), "AUC")
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


def in_floats(data: Data) -> Examples:
    """The examples with genomes whose strengths are not rounded and of which nothing is cut."""
    schema, vocabulary, builder = data.pasts.schema, data.pasts.vocabulary, ExamplesBuilder()
    for person, moment, profile, imprints in data.pasts.kept:
        hour = hour_of(moment.time_ms)
        told = [PendingImprint(hour, tuple(profile.items()))]
        for past in imprints:
            if past.visible_ms < moment.before_ms:
                votes = [(vocabulary.index(name), vote) for name, _, vote in past.votes]
                known = tuple((at, vote) for at, vote in votes if at is not None)
                told.append(PendingImprint(past.hour, known))
        warm = _features(Genome(None, schema, vocabulary, told), hour)
        cold = _features(Genome(None, schema, vocabulary, told[:1]), hour)
        query = [(at, warm.get(at, 0.0), cold.get(at, 0.0)) for at in sorted(warm)]
        of_person = len(query)
        for name in moment.context:
            index = vocabulary.index(name)
            if index is not None:
                query.append((index, 1.0, 1.0))
        ((row, label, propensity, _),) = moment.offered
        builder.add(
            query,
            offer=row,
            label=label,
            propensity=propensity,
            person=person,
            time_ms=moment.time_ms,
            of_person=of_person,
        )
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
