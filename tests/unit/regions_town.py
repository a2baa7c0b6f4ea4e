"""Crowds with a planted truth: regions whose people want different things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import h3.api.basic_int as h3
import numpy as np

from genome_server.regions.crowd import UNIT, Crowd, Whereabouts, whereabouts

NEW_YORK = h3.latlng_to_cell(40.72, -73.95, 5)

Place = Mapping[int, float]
"""Where somebody is: cells with weights."""


def located(places: Sequence[Place]) -> Whereabouts:
    """Whereabouts of people 0, 1, 2 …"""
    rows = [(p, c, w) for p, place in enumerate(places) for c, w in place.items()]
    return whereabouts(
        np.array([r[0] for r in rows], np.int64),
        np.array([r[1] for r in rows], np.uint64),
        np.array([r[2] for r in rows], np.float64),
    )


def crowd_of(genomes: Sequence[Mapping[str, float]], places: Sequence[Place]) -> Crowd:
    """A crowd of these genomes (marker: strength) at these places."""
    names = sorted({name for genome in genomes for name in genome})
    rows = [
        (person, names.index(name), round(strength * UNIT))
        for person, genome in enumerate(genomes)
        for name, strength in genome.items()
    ]
    columns = np.array(rows, np.int64).reshape(-1, 3)
    return Crowd(len(genomes), names, columns[:, 0], columns[:, 1], columns[:, 2], located(places))


def cells_around(count: int, resolution: int, apart: int = 3) -> list[int]:
    """So many cells of a resolution, some rings apart from each other."""
    middle = h3.cell_to_center_child(NEW_YORK, resolution)
    found = [middle]
    for k in range(1, 60):
        for cell in sorted(h3.grid_ring(middle, k * apart)):
            if len(found) == count:
                return found
            if all(h3.grid_distance(cell, other) >= apart for other in found):
                found.append(cell)
    raise AssertionError("too many cells")
