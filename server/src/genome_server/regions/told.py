"""What is told of a demand: shares as fine as numbers of people are told, no finer. Free of I/O.

Where all want something equally, a share is a count of people over another: by it the people of a
region, told as about 25, could be found out. So a share is told as if it were one (see
`compare.telling`): what so many people have of it, to the nearest five, divided by the sum of these
numbers over all regions, with the rest. Then nothing is told of equals but their rounded numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from genome_server.compare.telling import STEP, roughly
from genome_server.regions.cells import Floats, Ints
from genome_server.regions.demand import Demand


class Told(NamedTuple):
    """Columns of n regions, as those of the `Demand`, and m markers.

    `people` int64[n]; `share` float64[n], 0 to 1; `against` float64[n] is that divided by the
    region's share of all who have a place, nan where that is too small to be told; `parts`
    float64[n, m], nan where too few people have the marker. `withheld` is of `withheld_people`.
    """

    people: Ints
    share: Floats
    against: Floats
    parts: Floats
    withheld: float
    withheld_people: int


def told(demand: Demand) -> Told:
    """What may be told of a demand."""
    everybody = int(demand.people.sum()) + demand.withheld_people
    share, withheld = _shares(demand.share, demand.withheld, everybody)
    crowd, _ = _shares(demand.crowd, 1.0 - math.fsum(demand.crowd), demand.located)
    against = np.full(len(crowd), np.nan)
    np.divide(share, crowd, out=against, where=crowd > 0)
    parts = np.full(demand.parts.shape, np.nan)
    for at, weight in enumerate(demand.weights.values()):
        known = ~np.isnan(demand.parts[:, at])
        whole = demand.parts[known, at] / weight
        parts[known, at], _ = _shares(whole, 1.0 - math.fsum(whole), int(demand.carried[at]))
        parts[known, at] *= weight
    return Told(
        people=np.array([roughly(n) for n in demand.people.tolist()], np.int64),
        share=share,
        against=against,
        parts=parts,
        withheld=withheld,
        withheld_people=roughly(demand.withheld_people),
    )


def drawn_by(parts: Iterable[tuple[str, float]], share: float) -> list[tuple[str, float]]:
    """What drew a region's share, from its parts by marker: the share of each, the greatest first.

    Parts are rounded apart from the share that they add up to: none is more than all of it.
    """
    named = sorted(((n, p) for n, p in parts if p > 0), key=lambda pair: (-pair[1], pair[0]))
    whole = max(share, sum(part for _, part in named))
    return [(name, part / whole) for name, part in named]


def _shares(values: Floats, rest: float, people: int) -> tuple[Floats, float]:
    """Shares of so many people and what is left of 1, told: they add up to 1, or are all 0."""
    steps = [roughly(round(value * people)) for value in (*values.tolist(), max(rest, 0.0))]
    told = np.array(steps, np.float64) / max(sum(steps), STEP)
    return told[:-1], float(told[-1])
