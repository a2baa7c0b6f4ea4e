"""How much it takes for a model, or a figure by person, to mean something."""

from __future__ import annotations

from typing import Final

import numpy as np

from genome_server.learning.examples import Examples
from genome_server.learning.towers import Indices

MIN_EXAMPLES: Final = 50
MIN_OF_EACH_KIND: Final = 10
MIN_PERSONS: Final = 10
#: The same in words.
NEEDED: Final = (
    f"needed are {MIN_EXAMPLES} examples with {MIN_OF_EACH_KIND} of each kind, "
    f"of {MIN_PERSONS} persons"
)


def enough(examples: Examples, rows: Indices) -> bool:
    """Whether figures of the examples `rows`, or a model of them, mean something."""
    good = int((examples.label[rows] > 0).sum())
    return (
        len(rows) >= MIN_EXAMPLES
        and min(good, len(rows) - good) >= MIN_OF_EACH_KIND
        and len(np.unique(examples.person[rows])) >= MIN_PERSONS
    )
