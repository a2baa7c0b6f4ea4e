"""Is depth of discount learned, and is it said whom showing helps only where it does?

Both in worlds that are made up, whose truth is known and whose seeds are 0, 1, 2 …

- A café with three ladders of five depths, from nothing to 40 % off, shown by lot to 1,500
  customers; half of them wait for discounts. Trained as a tenant would, on the steps of depth that
  offers get, and on one marker for each depth beside it; then 400 other customers come.
- A hold-out in which showing helps all alike, or a quarter of the customers more than the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from genome_server.learning.examples import Examples, ExamplesBuilder, OfferTable
from genome_server.learning.train import Settings, predict, train
from genome_server.value.pricing import depth_markers
from genome_server.value.uplift import People, learn
from tests.bench.figures import Figures

DEPTHS: Final = (0.0, 0.1, 0.2, 0.3, 0.4)
DRINKS: Final = ("latte", "tea", "cake")
SEEDS: Final = 5
_PRICE, _MARGIN = 5.0, 0.6
_PERSONS, _EACH, _OTHERS = 1_500, 4, 400

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def run(figures: Figures) -> None:
    """Take the figures."""
    _ladders(figures)
    _uplift(figures, "alike", trials=400, persons=2_000, shown=0.5, more=0.0)
    _uplift(figures, "alike_fifth_held", trials=400, persons=2_000, shown=0.8, more=0.0)
    _uplift(figures, "quarter_more", trials=40, persons=20_000, shown=0.9, more=0.12)


class Cafe:
    """Customers: who waits for discounts, and what they like; as strong as genomes say it."""

    def __init__(self, seed: int, persons: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.waits = self.rng.random(persons) < 0.5
        self.likes = self.rng.random((persons, len(DRINKS))) < 0.5
        self.strength = self.rng.uniform(0.3, 1.0, (persons, len(DRINKS) + 1))

    def chance(self) -> Floats:
        """The truth: float64[persons, drinks, depths]."""
        steep = np.where(self.waits, 7.0, 1.0)[:, None, None]
        logit = -2.2 + 1.2 * self.likes[:, :, None] + steep * np.array(DEPTHS)
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))

    def query(self, person: int) -> list[tuple[str, float]]:
        """The markers of a customer."""
        found = [
            (f"likes:{drink}", float(self.strength[person, place]))
            for place, drink in enumerate(DRINKS)
            if self.likes[person, place]
        ]
        if self.waits[person]:
            found.append(("tender:coupon", float(self.strength[person, -1])))
        return found


def _made_of(drink: str, depth: float, *, steps: bool) -> list[str]:
    marks = depth_markers(depth) if steps else [f"depth:{depth:.0%}"]
    return [f"product:{drink}", *marks]


def _examples(cafe: Cafe, rows: Sequence[tuple[int, int, bool]], *, steps: bool) -> Examples:
    """Examples of (person, offer, success)."""
    offers = {(drink, d): _made_of(drink, d, steps=steps) for drink in DRINKS for d in DEPTHS}
    names = sorted(
        {name for made_of in offers.values() for name in made_of}
        | {f"likes:{drink}" for drink in DRINKS}
        | {"tender:coupon"}
    )
    index = {name: place for place, name in enumerate(names)}
    table = OfferTable.build(
        {f"{drink} {d}": [(index[m], 1.0) for m in of] for (drink, d), of in offers.items()}
    )
    builder = ExamplesBuilder()
    for number, (person, offer, success) in enumerate(rows):
        query = [(index[name], weight, weight) for name, weight in cafe.query(person)]
        builder.add(
            query,
            offer=offer,
            label=success,
            propensity=1 / len(offers),
            person=person,
            time_ms=number,
        )
    namespaces = [name.partition(":")[0] for name in names]
    fields = [sorted(set(namespaces)).index(one) for one in namespaces]
    return builder.build(table, np.array(fields, np.int32))


def _ladders(figures: Figures) -> None:
    worth = _PRICE * (_MARGIN - np.array(DEPTHS))
    offers = len(DRINKS) * len(DEPTHS)
    found: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        cafe, others = Cafe(seed, _PERSONS), Cafe(1_000 + seed, _OTHERS)
        chance = cafe.chance().reshape(_PERSONS, offers)
        rows = []
        for person in range(_PERSONS):
            drawn = cafe.rng.integers(offers, size=_EACH).tolist()
            taken = (cafe.rng.random(_EACH) < chance[person, drawn]).tolist()
            rows += [(person, offer, took) for offer, took in zip(drawn, taken, strict=True)]
        asked = [(person, offer, False) for person in range(_OTHERS) for offer in range(offers)]
        left = others.chance() * worth
        found.setdefault("best_single_depth", []).append(float(left.mean((0, 1)).max()))
        found.setdefault("perfect", []).append(float(left.max(2).mean()))
        for coding in ("steps", "one_marker"):
            steps = coding == "steps"
            towers = train(_examples(cafe, rows, steps=steps), None, Settings(seed=seed))
            test = _examples(others, asked, steps=steps)
            told = predict(towers, test, np.arange(len(test)), history=True).reshape(left.shape)
            best = (told * worth).argmax(2)[..., None]
            picked = np.take_along_axis(left, best, 2)
            found.setdefault(f"{coding}.left", []).append(float(picked.mean()))
            falling = (np.diff(told, axis=2) < 0).any(2)
            found.setdefault(f"{coding}.falling", []).append(float(falling.mean()))
    for name, values in found.items():
        unit = "share" if name.endswith("falling") else "by showing"
        figures.add(f"value.ladder.{name}", float(np.mean(values)), unit)


def _uplift(
    figures: Figures, name: str, *, trials: int, persons: int, shown: float, more: float
) -> None:
    said = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        has: Flags = rng.random((persons, 30)) < rng.uniform(0.05, 0.5, 30)
        has[:, 0] = rng.random(persons) < 0.25
        bags = [[(int(m), 1.0) for m in np.flatnonzero(row)] for row in has]
        held = rng.random(persons) >= shown
        chance = 0.15 + 0.1 * has[:, 1] + ~held * (more * has[:, 0] if more else 0.05)
        done = (rng.random(persons) < chance).astype(np.float64)
        found = learn(People.of(bags, held, None, done), seed)
        said += found is not None and found.sure
    figures.add(f"value.uplift.{name}.said_share", said / trials, "share")
