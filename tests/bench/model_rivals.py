"""The contenders for UCI coupon: each is a list of settings, and a way to learn with one.

As many settings for each, the best found by hand on the survey, and one of them chosen inside
each fold. Scores are probabilities. `rows` and `ask` are numbers of examples.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np

from examples.adapters import coupon
from genome_server.learning.lessons import Teaching
from genome_server.learning.train import Settings, predict, train_with_persons
from tests.bench.model_data import AFTER, Array, Data, summed_up, table

BY_PERSON: Final = "by_person"
RANDOM: Final = "random"


@dataclass(frozen=True)
class Task:
    """What is learned from and what is asked; `after`: the later answers, too."""

    data: Data
    split: str
    rows: Array
    ask: Array
    seed: int
    after: bool = False


class Contender(Protocol):
    """One that learns."""

    def choices(self, split: str) -> Sequence[Any]:
        """Return the settings that one is chosen from."""
        ...

    def __call__(self, setting: Any, task: Task) -> Mapping[str, Array]:
        """Return the scores of `ask` as "said", and those `after_N` where they are wanted."""
        ...


def asked_rows(task: Task) -> Array:
    """Which of the later answers are of persons that are asked."""
    persons = np.unique(task.data.examples.person[task.ask])
    return np.flatnonzero(np.isin(task.data.asked[0].person, persons))


class Ours:
    """The product's trainer.

    By person, strangers are asked: a profile and a moment. At random, a person of whom most answers
    are in the training: those are their genome (an example's own answer never), and their own
    marker is known, too.
    """

    _teaching = Teaching()
    _no_forest = Teaching(least_examples=1_000_000)
    _strangers = (
        Settings(),
        Settings(teaching=replace(_teaching, trees=160)),
        Settings(teaching=replace(_teaching, trees=160, lessons_per_example=8)),
    )
    _known = Settings(
        person_dropout=0.5, history_dropout=0.2, hold_back_persons=False, teaching=_no_forest
    )
    _known_persons = (
        replace(_known, weight_decay=1.0),
        replace(_known, weight_decay=0.5),
        replace(_known, weight_decay=1.0, person_dropout=0.3),
    )

    def choices(self, split: str) -> Sequence[Settings]:
        """Return the settings that one is chosen from."""
        return self._strangers if split == BY_PERSON else self._known_persons

    def __call__(self, setting: Settings, task: Task) -> Mapping[str, Array]:
        """Learn and say."""
        examples, known = task.data.examples, task.split == RANDOM
        setting = replace(setting, seed=task.seed)
        if known:
            inside = np.zeros(len(examples), bool)
            inside[task.rows] = True
            examples = task.data.pasts.everything(examples, inside)
        towers, persons = train_with_persons(examples, task.rows, setting)
        said = {"said": predict(towers, examples, task.ask, history=known, persons=persons)}
        if task.after:
            some = asked_rows(task)
            for count in AFTER:
                asked = task.data.asked[count]
                said[f"after_{count}"] = predict(towers, asked, some, history=True)
        return said


class LightGbm:
    """Boosted trees on the raw table; at random, where it helps, with the person as a column."""

    _calm: Final[dict[str, Any]] = {
        "colsample_bytree": 0.3, "subsample": 0.7, "subsample_freq": 1, "reg_lambda": 10.0,
    }  # fmt: skip
    _strangers: tuple[dict[str, Any], ...] = (
        {"n_estimators": 300, "num_leaves": 15, "learning_rate": 0.03, **_calm},
        {"n_estimators": 300, "num_leaves": 7, "learning_rate": 0.05, **_calm},
        {"n_estimators": 600, "num_leaves": 31, "learning_rate": 0.01, **_calm},
    )
    _known_persons: tuple[dict[str, Any], ...] = (
        {"n_estimators": 400, "num_leaves": 31, "learning_rate": 0.05},
        {"n_estimators": 600, "num_leaves": 63, "learning_rate": 0.05},
        {"n_estimators": 400, "num_leaves": 31, "learning_rate": 0.05, "person": True},
    )

    def choices(self, split: str) -> Sequence[dict[str, Any]]:
        """Return the settings that one is chosen from."""
        return self._strangers if split == BY_PERSON else self._known_persons

    def __call__(self, setting: dict[str, Any], task: Task) -> Mapping[str, Array]:
        """Learn and say."""
        known, codes = table(task.data.raw, one_hot=task.split == BY_PERSON)
        if setting.get("person"):
            setting = {name: value for name, value in setting.items() if name != "person"}
            codes = [*codes, known.shape[1]]
            person = task.data.examples.person[:, None].astype(float)
            known = np.concatenate([known, person], axis=1)
        return {"said": self._fit(setting, task, known, codes).predict_proba(known[task.ask])[:, 1]}

    def _fit(self, setting: dict[str, Any], task: Task, known: Array, codes: list[int]) -> Any:
        import lightgbm

        model = lightgbm.LGBMClassifier(
            random_state=task.seed, n_jobs=1, deterministic=True, verbose=-1, **setting
        )
        label = task.data.examples.label[task.rows]
        model.fit(known[task.rows], label, categorical_feature=codes or "auto")
        return model


class LightGbmWithHistory(LightGbm):
    """The same, given what the answers before say: how many, how many yes, and of which kind."""

    def __call__(self, setting: dict[str, Any], task: Task) -> Mapping[str, Array]:
        """Learn and say."""
        data = task.data
        known, _ = table(data.raw, one_hot=True)
        wanted = np.concatenate([task.rows, task.ask])
        past = np.full((len(known), summed_up(data, wanted[:1], [wanted[:0]]).shape[1]), np.nan)
        past[wanted] = summed_up(data, wanted, [data.before[row] for row in wanted.tolist()])
        whole = np.concatenate([known, past], axis=1)
        model = self._fit(setting, task, whole, [])
        said = {"said": model.predict_proba(whole[task.ask])[:, 1]}
        if task.after:
            some = data.asked_of[asked_rows(task)]
            for count in AFTER:
                newest = [self._newest(data, row, count) for row in some.tolist()]
                inputs = np.concatenate([known[some], summed_up(data, some, newest)], axis=1)
                said[f"after_{count}"] = model.predict_proba(inputs)[:, 1]
        return said

    def _newest(self, data: Data, row: int, count: int) -> Array:
        """The newest answers before the first of the two that are asked."""
        before = data.before[row][: max(AFTER)]
        return before[len(before) - count :]


class RandomForest:
    """A random forest on the raw table, coded one-hot."""

    _strangers: tuple[dict[str, Any], ...] = (
        {"max_features": 0.3, "min_samples_leaf": 4},
        {"max_features": 0.5, "min_samples_leaf": 6},
        {"max_features": 0.3, "min_samples_leaf": 8},
    )
    _known_persons: tuple[dict[str, Any], ...] = (
        {"max_features": "sqrt", "min_samples_leaf": 1},
        {"max_features": 0.3, "min_samples_leaf": 1},
        {"max_features": 0.3, "min_samples_leaf": 2},
    )

    def choices(self, split: str) -> Sequence[dict[str, Any]]:
        """Return the settings that one is chosen from."""
        return self._strangers if split == BY_PERSON else self._known_persons

    def __call__(self, setting: dict[str, Any], task: Task) -> Mapping[str, Array]:
        """Learn and say."""
        from sklearn.ensemble import RandomForestClassifier

        known = np.nan_to_num(table(task.data.raw, one_hot=True)[0], nan=-1.0)
        model = RandomForestClassifier(250, n_jobs=1, random_state=task.seed, **setting)
        model.fit(known[task.rows], task.data.examples.label[task.rows])
        return {"said": model.predict_proba(known[task.ask])[:, 1]}


class Wabbit:
    """Vowpal Wabbit: logistic regression with all pairs, several passes."""

    _settings: tuple[dict[str, Any], ...] = (
        {"l": 0.02, "l2": 1e-5, "passes": 6, "steps": True},
        {"l": 0.05, "l2": 1e-6, "passes": 6, "steps": False},
        {"l": 0.1, "l2": 1e-6, "passes": 8, "steps": False},
    )

    def choices(self, split: str) -> Sequence[dict[str, Any]]:
        """Return the settings that one is chosen from."""
        return self._settings

    def __call__(self, setting: dict[str, Any], task: Task) -> Mapping[str, Array]:
        """Learn and say."""
        import vowpalwabbit

        line = f"--loss_function logistic -b 20 -q :: -l {setting['l']} --l2 {setting['l2']}"
        model = vowpalwabbit.Workspace(f"{line} --link logistic --quiet --random_seed {task.seed}")
        person = task.split == RANDOM
        lines = [_line(row, steps=setting["steps"], person=person) for row in task.data.raw]
        label = np.where(task.data.examples.label > 0, 1, -1)
        order, draw = task.rows.tolist(), random.Random(task.seed)
        for _ in range(setting["passes"]):
            draw.shuffle(order)
            for row in order:
                model.learn(f"{label[row]} {lines[row]}")
        said = np.array([model.predict(lines[row]) for row in task.ask.tolist()])
        model.finish()
        return {"said": said}


def _line(row: Mapping[str, str], *, steps: bool, person: bool) -> str:
    who = [f"{name}_{_word(row[name])}" for name in coupon.PROFILE]
    if steps:
        said = coupon.customer(row)["markers"]
        who += [_word(marker) for marker in said]
    if person:
        who.append(f"u{row['person']}")
    when = [
        f"{name}_{_word(row[name])}"
        for name in ("destination", "passanger", "weather", "temperature", "time", "expiration",
                     "toCoupon_GEQ15min", "toCoupon_GEQ25min", "direction_same")
    ]  # fmt: skip
    return f"|p {' '.join(who)} |c {' '.join(when)} |o {_word(row['coupon'])}"


def _word(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in text)


CONTENDERS: Final[Mapping[str, Contender]] = {
    "ours": Ours(),
    "lightgbm": LightGbm(),
    "forest": RandomForest(),
    "vw": Wabbit(),
    "lightgbm_history": LightGbmWithHistory(),
}
