"""The market on which we and the rivals are compared: customers with tastes, offers, moments.

Markers belong to topics. A customer is fond of three topics and has 20 to 64 markers, most of them
of these; an offer has four markers of one topic and one of another. What is going on makes some
topics more welcome. Whether somebody takes an offer is drawn from all this. Everybody learns from
the same examples and is told the same of a moment.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from math import exp
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary
from tests.bench.stage import PLACEMENT

OFFERS: Final = 1_000
MARKERS: Final = 240
TOPICS: Final = 24
CUSTOMERS: Final = 3_000
EXAMPLES: Final = 30_000
ACTIVITIES: Final = ("browse", "wait", "pay")
CONTEXT: Final = (*(f"activity:{name}" for name in ACTIVITIES), f"channel:{PLACEMENT}")

Floats = npt.NDArray[np.float32]


class Asks(NamedTuple):
    """What an offer asks of a moment; all of them are eligible in ours."""

    channels: tuple[str, ...]
    activities: tuple[str, ...]
    refused: str


def asks_of(number: int) -> Asks:
    """What an offer asks: a channel, an activity, and that something is not so."""
    return Asks((PLACEMENT,), ACTIVITIES, f"f{number % 8}")


@dataclass(frozen=True)
class Example:
    """One offer shown to one customer. `genome` has the weight of each marker by number."""

    customer: int
    activity: int
    offer: int
    taken: bool


@dataclass
class Market:
    """Everything that is drawn; the same seed gives the same one."""

    seed: int = 7
    genomes: list[dict[int, float]] = field(default_factory=list)
    offers: list[tuple[int, ...]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        for _ in range(CUSTOMERS):
            fond = rng.sample(range(TOPICS), 3)
            chosen: dict[int, float] = {}
            wanted = rng.randint(20, 64)
            while len(chosen) < wanted:
                topic = rng.choice(fond) if rng.random() < 0.6 else rng.randrange(TOPICS)
                chosen[_marker(rng, topic)] = round(rng.uniform(0.5, 3.0), 3)
            self.genomes.append(dict(sorted(chosen.items())))
        self._topics = [rng.sample(range(TOPICS), 2) for _ in range(OFFERS)]
        for main, other in self._topics:
            own = rng.sample(range(MARKERS // TOPICS), 4)
            markers = {main + TOPICS * n for n in own} | {_marker(rng, other)}
            self.offers.append(tuple(sorted(markers)))
        self._liked = [rng.gauss(0.0, 0.4) for _ in range(OFFERS)]
        self._welcome = [[rng.gauss(0.0, 0.8) for _ in range(TOPICS)] for _ in ACTIVITIES]
        self._fond = np.array([_fondness(genome) for genome in self.genomes])
        for _ in range(EXAMPLES):
            said = rng.randrange(CUSTOMERS), rng.randrange(len(ACTIVITIES)), rng.randrange(OFFERS)
            self.examples.append(Example(*said, rng.random() < self.chance(*said)))

    def chance(self, customer: int, activity: int, offer: int) -> float:
        """The truth: how likely it is that an offer is taken."""
        main, other = self._topics[offer]
        fond = self._fond[customer]
        pull = 9.0 * fond[main] + 4.0 * fond[other] + self._welcome[activity][main]
        return 1.0 / (1.0 + exp(2.2 - pull - self._liked[offer]))

    def is_test(self, example: Example) -> bool:
        """Whether an example is kept for measuring: by person, a fifth of them."""
        return example.customer % 5 == 0


def _marker(rng: random.Random, topic: int) -> int:
    return topic + TOPICS * rng.randrange(MARKERS // TOPICS)


def _fondness(genome: dict[int, float]) -> Floats:
    found = np.zeros(TOPICS, np.float32)
    for marker, weight in genome.items():
        found[marker % TOPICS] += weight
    found /= found.sum()
    return found


def vocabulary() -> Vocabulary:
    """Of the release: what moments say, and the markers of the market."""
    names = [*BUILTIN_MARKERS, *CONTEXT, *(f"m:{number}" for number in range(MARKERS))]
    return Vocabulary(bytes(range(16)), names)
