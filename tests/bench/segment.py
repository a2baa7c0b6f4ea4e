"""Does the genome beat the segment? What is asked, and how, was stated first: docs/foresee.md.

Genomes are the product's own: the SDK's imprint, cut and quantised as devices get them, as of the
hour of the question, from what happened in an earlier hour.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.imprint import event_weight, explode, vote
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema, KindRule, default_schema
from examples.datasets import DataSetMissing
from genome_server.genomes.distinct import Counted, table
from genome_server.learning.history import History, PastImprint
from genome_server.learning.metrics import auc
from tests.bench.figures import Figures

HOUR_MS: Final = 3_600_000
FOLDS: Final = 5
SEED: Final = 0
DRAWS: Final = 1_000
_MIXED_IN: Final = 10.0

Array = npt.NDArray[Any]


def schema_of(landmark_hour: int) -> DnaSchema:
    """The default schema, with receiving and looking told apart from doing."""
    rules = default_schema(landmark_hour)
    kinds = [rule for rule in rules.kinds if rule.name != "view"]
    kinds.append(KindRule("receive", ONE_Q24 // 4, marker_prefix="got-"))
    kinds.append(KindRule("view", ONE_Q24, marker_prefix="seen-"))
    return replace(rules, kinds=tuple(kinds))


@dataclass(frozen=True)
class Did:
    """Something a person did in an hour (since 1970): its kind, amount and the DNA it imprints."""

    hour: int
    kind: str
    dna: tuple[tuple[str, int], ...]
    amount: float = 0.0


class Genomes:
    """The genomes of persons at moments of the past, by the product's own definitions."""

    def __init__(self, schema: DnaSchema, did: Mapping[Any, Sequence[Did]]) -> None:
        self._schema = schema
        self._given: dict[tuple[str, tuple[tuple[str, int], ...]], list[tuple[str, int, int]]] = {}
        self._did = did
        names: dict[str, None] = {}
        for events in did.values():
            for one in events:
                names.update(dict.fromkeys(name for name, _, _ in self._exploded(one)))
        self.vocabulary = Vocabulary(bytes(16), list(names))

    def _exploded(self, one: Did) -> list[tuple[str, int, int]]:
        key = one.kind, one.dna
        if key not in self._given:
            self._given[key] = explode(self._schema, one.kind, one.dna)
        return self._given[key]

    def distinct(self, before_hour: int) -> bytes:
        """Which markers tell apart, counted over what was done before an hour, as builds do."""
        past = [one for events in self._did.values() for one in events if one.hour < before_hour]
        times = Counter(name for one in past for name, _, _ in self._exploded(one))
        counts = [times[name] for name in self.vocabulary]
        return table(Counted(len(past), len(self._did), np.array(counts, np.int64)))

    def at(self, person: Any, hours: Sequence[int]) -> Iterable[dict[int, float]]:
        """Weights by marker index at each hour, which ascend; of what came in an earlier hour."""
        imprints = []
        for one in self._did.get(person, ()):
            weight = event_weight(self._schema, one.kind, round(one.amount * 1_000_000))
            votes = tuple((m, half, vote(weight, q8)) for m, q8, half in self._exploded(one))
            imprints.append(PastImprint(one.hour * HOUR_MS, one.hour, votes))
        history = History({}, imprints, self._schema, self.vocabulary)
        for hour in hours:
            found = history.features(hour * HOUR_MS, before_ms=hour * HOUR_MS)
            yield {marker: weight for marker, weight, _ in found if weight > 0}


@dataclass(frozen=True, eq=False)
class Cases:
    """n questions: who is asked about, whether it came so, what may be learned and what is judged.

    `thing` float[n, a] says what was offered, `profile` float[n, b] what is known of the person,
    `genome` float32[n, c] their genome and how it meets the thing. `base` int[n] is the thing whose
    rate is the popularity, `cell` int[n] the segment.
    """

    person: Array
    label: Array
    learn: Array
    judge: Array
    fold: Array
    thing: Array
    profile: Array
    genome: Array
    base: Array
    cell: Array


def fold_of(person: object) -> int:
    """The fold of a person."""
    digest = hashlib.sha256(f"foresee:{person}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % FOLDS


def scores(cases: Cases) -> dict[str, Array]:
    """What each way of judging says of the cases that are judged, float64[judged] by name."""
    inputs = {
        "profile": [cases.profile, cases.thing],
        "genome": [cases.genome, cases.thing],
        "genome_with_profile": [cases.genome, cases.profile, cases.thing],
    }
    tables = {
        name: np.concatenate([part.astype(np.float32) for part in parts], axis=1)
        for name, parts in inputs.items()
    }
    found = {name: np.full(len(cases.label), np.nan) for name in ("popularity", "segment", *tables)}
    for fold in range(FOLDS):
        learn = cases.learn & (cases.fold != fold)
        judge = cases.judge & (cases.fold == fold)
        if not judge.any():
            continue
        found["popularity"][judge] = rates(cases.base, cases.label, learn, judge)
        found["segment"][judge] = segment_rates(cases, learn, judge)
        for name, features in tables.items():
            found[name][judge] = boosted(features, cases.label, learn, judge)
    return {name: each[cases.judge] for name, each in found.items()}


def rates(base: Array, label: Array, learn: Array, judge: Array) -> Array:
    """The rate of each thing, with ten cases of everything's mixed in."""
    count = int(base.max()) + 1
    mean = label[learn].mean()
    good = np.bincount(base[learn], label[learn], minlength=count)
    all_ = np.bincount(base[learn], minlength=count)
    rate: Array = ((good + _MIXED_IN * mean) / (all_ + _MIXED_IN))[base[judge]]
    return rate


def segment_rates(cases: Cases, learn: Array, judge: Array) -> Array:
    """The rate of a thing in a segment, with ten cases of the thing's rate mixed in."""
    of_thing = rates(cases.base, cases.label, learn, np.ones(len(cases.label), bool))
    both = cases.cell * (int(cases.base.max()) + 1) + cases.base
    count = int(both.max()) + 1
    good = np.bincount(both[learn], cases.label[learn], minlength=count)
    all_ = np.bincount(both[learn], minlength=count)
    at = both[judge]
    rate: Array = (good[at] + _MIXED_IN * of_thing[judge]) / (all_[at] + _MIXED_IN)
    return rate


def boosted(table: Array, label: Array, learn: Array, judge: Array) -> Array:
    """What boosting that learned from some cases says of others. Nothing is tuned."""
    import lightgbm

    settings = {
        "objective": "binary", "num_leaves": 15, "learning_rate": 0.05, "min_data_in_leaf": 40,
        "num_threads": 1, "deterministic": True, "seed": SEED, "verbose": -1,
    }  # fmt: skip
    data = lightgbm.Dataset(table[learn], label[learn])
    return np.asarray(lightgbm.train(settings, data, 200).predict(table[judge]))


def auc_difference(label: Array, one: Array, other: Array, person: Array) -> tuple[float, float]:
    """The 95 % interval of the difference of two AUCs, by drawing persons with replacement."""
    _, group = np.unique(person, return_inverse=True)
    count = int(group.max()) + 1
    rng = np.random.default_rng(SEED)
    drawn = []
    weighed = [_Ranked(label, score) for score in (one, other)]
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(0, count, count), minlength=count)[group].astype(float)
        drawn.append(weighed[0].auc(times) - weighed[1].auc(times))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


class _Ranked:
    """A score put in order once, so that it can be asked for its AUC under many weights."""

    def __init__(self, label: Array, score: Array) -> None:
        values, self._at = np.unique(score, return_inverse=True)
        self._count, self._good = len(values), label > 0

    def auc(self, weight: Array) -> float:
        """Ties count half."""
        good = np.bincount(self._at, weight * self._good, minlength=self._count)
        bad = np.bincount(self._at, weight * ~self._good, minlength=self._count)
        below = np.cumsum(bad) - bad
        return float((good * (below + bad / 2)).sum() / (good.sum() * bad.sum()))


def compare(name: str, cases: Cases, figures: Figures) -> None:
    """AUC of every way, and the intervals of what the genome gains."""
    said = scores(cases)
    label, person = cases.label[cases.judge], cases.person[cases.judge]
    figures.add(f"segment.{name}.cases", len(label), "cases")
    figures.add(f"segment.{name}.rate", float(label.mean()), "share")
    for arm, score in said.items():
        figures.add(f"segment.{name}.{arm}_auc", auc(label, score) or 0.0, "AUC")
    for one, other in (
        ("genome", "profile"),
        ("genome", "segment"),
        ("genome", "popularity"),
        ("genome_with_profile", "profile"),
    ):
        low, high = auc_difference(label, said[one], said[other], person)
        figures.add(f"segment.{name}.{one}_over_{other}.low", low, "AUC")
        figures.add(f"segment.{name}.{one}_over_{other}.high", high, "AUC")


def dense(rows: Sequence[Mapping[int, float]], markers: Sequence[int]) -> Array:
    """Weights of some markers, float32[n, markers]."""
    column = {marker: i for i, marker in enumerate(markers)}
    table = np.zeros((len(rows), len(markers)), np.float32)
    for i, row in enumerate(rows):
        for marker, weight in row.items():
            if marker in column:
                table[i, column[marker]] = weight
    return table


def common(rows: Sequence[Mapping[int, float]], least: int) -> list[int]:
    """The markers that at least so many rows have, ascending."""
    counts: dict[int, int] = defaultdict(int)
    for row in rows:
        for marker in row:
            counts[marker] += 1
    return sorted(marker for marker, n in counts.items() if n >= least)


def run(figures: Figures) -> None:
    """Every set that is at hand."""
    from tests.bench import segment_grocer, segment_rewards

    try:
        compare("starbucks", segment_rewards.cases(), figures)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
    try:
        segment_grocer.next_category(figures)
        compare("coupons", segment_grocer.coupon_cases(), figures)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
