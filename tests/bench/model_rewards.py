"""Starbucks: whether who receives an offer views and then completes it, grouped by customer.

Rules.
- What is known is known at receipt: the profile, the offer, and a genome of what was done, viewed
  and received before. Both are given the same; LightGBM as one table of numbers, and with how the
  genome meets the offer's DNA worked out for it.
- Five folds by customer, the setting chosen inside on a fifth of what is learned from.
- The short form takes 3,000 customers, those whose ids come first; LONG takes all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from genome_server.learning.examples import Examples, ExamplesBuilder, OfferTable
from genome_server.learning.metrics import auc
from genome_server.learning.train import Settings, predict, train
from tests.bench import segment_rewards
from tests.bench.figures import Figures
from tests.bench.segment import Array, Cases, auc_difference

FOLDS: Final = 5
SEED: Final = 1
_SHORT: Final = 3_000
_STEPS: Final = {
    "age": tuple(range(20, 95, 5)),
    "income": (40_000, 50_000, 60_000, 70_000, 80_000, 90_000, 100_000),
}
#: Quarters of years since 1970 in which people became members.
_QUARTERS: Final = range(175, 195)
_GENDERS: Final = ("f", "m", "o", "none")
_FACTS: Final = ("type", "reward", "difficulty", "duration")
_CHANNELS: Final = ("email", "mobile", "social", "web")
_OURS: Final = (Settings(), replace(Settings(), learning_rate=1e-3))
_THEIRS: Final[tuple[dict[str, Any], ...]] = (
    {"n_estimators": 300, "num_leaves": 15, "learning_rate": 0.03, "min_child_samples": 40},
    {"n_estimators": 600, "num_leaves": 7, "learning_rate": 0.03, "colsample_bytree": 0.3},
)

Says = Callable[[Any, Array, Array], Array]


def run(figures: Figures) -> None:
    """AUC of both and the interval of the difference. Raises DataSetMissing."""
    cases = segment_rewards.cases()
    chosen = np.arange(len(cases.label))
    if not figures.long:
        few = np.unique(cases.person)[:_SHORT]
        chosen = np.flatnonzero(np.isin(cases.person, few))
    examples = examples_of(cases, chosen)
    whole = np.concatenate([cases.genome, cases.profile, cases.thing], axis=1)[chosen]
    label, person = cases.label[chosen], cases.person[chosen]
    fold_of = cases.fold[chosen] % FOLDS

    def ours(setting: Settings, rows: Array, ask: Array) -> Array:
        return predict(train(examples, rows, setting), examples, ask, history=True)

    def theirs(setting: dict[str, Any], rows: Array, ask: Array) -> Array:
        import lightgbm

        model = lightgbm.LGBMClassifier(
            random_state=SEED, n_jobs=1, deterministic=True, verbose=-1, **setting
        )
        model.fit(whole[rows], label[rows])
        said: Array = np.asarray(model.predict_proba(whole[ask]))[:, 1]
        return said

    said = [
        judged(each, choices, label, person, fold_of)
        for each, choices in ((ours, _OURS), (theirs, _THEIRS))
    ]
    figures.add("model.starbucks.examples", len(label), "examples")
    figures.add("model.starbucks.ours_auc", auc(label, said[0]) or 0.0, "AUC")
    figures.add("model.starbucks.lightgbm_auc", auc(label, said[1]) or 0.0, "AUC")
    low, high = auc_difference(label, said[0], said[1], person)
    figures.add("model.starbucks.difference.low", low, "AUC")
    figures.add("model.starbucks.difference.high", high, "AUC")


def judged(
    says: Says, choices: Sequence[Any], label: Array, person: Array, fold_of: Array
) -> Array:
    """What one says of everybody, each asked of a model that never saw them, (n,)."""
    found = np.zeros(len(label))
    for fold in range(FOLDS):
        rows, ask = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        persons = np.random.default_rng([SEED, fold]).permutation(np.unique(person[rows]))
        out = np.isin(person[rows], persons[: len(persons) // FOLDS])
        inner = [auc(label[rows[out]], says(one, rows[~out], rows[out])) or 0.0 for one in choices]
        best = choices[int(np.argmax(inner))]
        found[ask] = says(best, rows, ask)
        print(f"  starbucks fold {fold}: {[round(one, 4) for one in inner]}", flush=True)
    return found


def examples_of(cases: Cases, rows: Array) -> Examples:
    """The cases `rows` as examples of the trainer, in the same order."""
    names: dict[str, int] = {f"genome:{i}": i for i in range(cases.genome.shape[1])}

    def index(name: str) -> int:
        return names.setdefault(name, len(names))

    offers: dict[str, list[tuple[int, float]]] = {}
    of_offer: dict[int, int] = {}
    for number in np.unique(cases.base[rows]).tolist():
        thing = cases.thing[rows[cases.base[rows] == number][0]]
        facts = [f"{name}:{value:g}" for name, value in zip(_FACTS, thing[1:5], strict=True)]
        channels = [
            f"channel:{name}" for name, has in zip(_CHANNELS, thing[5:], strict=True) if has
        ]
        dna = [f"offer:{number}", *facts, *channels]
        of_offer[number] = len(offers)
        offers[str(number)] = [(index(name), 1.0) for name in dna]
    _, persons = np.unique(cases.person[rows], return_inverse=True)
    builder = ExamplesBuilder()
    for place, row in enumerate(rows.tolist()):
        profile = [(index(name), 1.0, 1.0) for name in _profile(cases.profile[row])]
        genome = cases.genome[row]
        has = np.flatnonzero(genome)
        query = [*profile, *((int(at), float(genome[at]), 0.0) for at in has)]
        builder.add(
            query,
            offer=of_offer[int(cases.base[row])],
            label=bool(cases.label[row]),
            propensity=1.0,
            person=int(persons[place]),
            time_ms=place,
            of_person=len(query),
        )
    spaces: dict[str, int] = {}
    fields = [spaces.setdefault(name.split(":")[0], len(spaces)) for name in names]
    # Every column of a genome is a field of its own: one of them left out says little.
    width = cases.genome.shape[1]
    fields[:width] = range(len(spaces), len(spaces) + width)
    return builder.build(OfferTable.build(offers), np.array(fields, np.int32))


def _profile(said: Array) -> list[str]:
    age, gender, income, since = said.tolist()
    quarter = int(since // 91.3125)
    names = [f"gender:{_GENDERS[int(gender)]}", f"since:{int(since // 365)}"]
    names += [f"since-at-least:{step}" for step in _QUARTERS if quarter >= step]
    for name, value in (("age", age), ("income", income)):
        if np.isnan(value):
            names.append(f"{name}:none")
        else:
            names += [f"{name}-at-least:{step}" for step in _STEPS[name] if value >= step]
    return names
