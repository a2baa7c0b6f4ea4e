"""How to train: settings, and what was found to be good ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from genome_server.learning.lessons import Teaching
from genome_server.learning.towers import Shape


@dataclass(frozen=True)
class Settings:
    """How to train. The defaults were found on public data; see the decision record 0004.

    `epochs` bounds the search for the length of a training, `steps` is the length
    where there are too few persons to search with.
    """

    seed: int = 0
    epochs: int = 100
    steps: int = 300
    # Looks without getting better after which the search ends.
    patience: int = 5
    held_back: float = 0.15
    # The largest batch; small sets get smaller ones, so that an epoch has 12 steps or more.
    batch: int = 512
    learning_rate: float = 2e-3
    warm_up: int = 20
    average: float = 0.98
    weight_decay: float = 1.0
    field_dropout: float = 0.2
    history_dropout: float = 0.5
    # How often a person's own marker is left out; 1: nobody has one.
    person_dropout: float = 1.0
    teaching: Teaching = field(default_factory=Teaching)
    # Who is held back to find the length: persons, or examples at random, which flatters and
    # is right only where one will be asked about the persons of the training.
    hold_back_persons: bool = True
    min_count: int = 3
    query_scale: float = 0.1
    offer_scale: float = 0.3
    shape: Shape = field(default_factory=Shape)

    def batch_size(self, examples: int) -> int:
        """Return the batch size for so many examples: a power of two."""
        fitting = 1 << max(4, int(math.log2(max(examples, 1) / 12)))
        return min(self.batch, fitting)
