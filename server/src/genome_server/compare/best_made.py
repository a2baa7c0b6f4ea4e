"""The best customer genome of a tenant: its genomes beside what the log says of their worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genome_server.compare.best import TOP_SHARE, Best, best_of, closeness
from genome_server.compare.matrix import (
    Floats,
    Genomes,
    Ints,
    Matrix,
    carriers,
    matrix_of,
    rarity_of,
    raw_weights,
    weigh,
)
from genome_server.compare.segments import LEAST_PEOPLE
from genome_server.compare.spending import Worth, regions_of
from genome_server.store.rows import CONSENT_LEARNING


@dataclass(frozen=True, eq=False)
class Valued:
    """Genomes as weights, with the worth of each: what best genomes are made of and compared with.

    `weights` and `raw` are sparse matrices[n, markers] with a row for each of the n genomes: of
    length 1 (or empty), and the same before they were divided.
    """

    genomes: Genomes
    worth: Worth
    weights: Matrix
    raw: Matrix

    @classmethod
    def of(cls, genomes: Genomes, worth: Worth, size: int) -> Valued:
        """Weigh genomes over `size` markers; `worth` is of the same n. Rarity is of who agreed to
        learning. Raises IndexError for a marker that is not below `size`."""
        learners = genomes.agreed(CONSENT_LEARNING)
        rarity = rarity_of(len(learners), carriers(genomes, learners, size))
        columns = (genomes.starts, genomes.markers, genomes.strengths)
        weights, raw = weigh(*columns, rarity), raw_weights(*columns[1:], rarity)
        return cls(
            genomes,
            worth,
            matrix_of(genomes.starts, genomes.markers, weights, size),
            matrix_of(genomes.starts, genomes.markers, raw, size),
        )

    def best(
        self, rows: Ints | None = None, *, share: float = TOP_SHARE, least: int = LEAST_PEOPLE
    ) -> Best | None:
        """The best genome among those who agreed to learning (and are among `rows`, int64).

        The top `share` (0 to 1) by worth make it, at least `least`; None where these are too few.
        """
        learners = self.genomes.agreed(CONSENT_LEARNING)
        among = learners if rows is None else np.intersect1d(learners, rows)
        return best_of(self.weights, self.raw, among, self.worth.worth, share=share, least=least)

    def by_region(self, *, share: float = TOP_SHARE, least: int = LEAST_PEOPLE) -> dict[str, Best]:
        """The best genome of each region that has people enough, by its H3 cell as text."""
        homes: Mapping[str, Ints] = regions_of(self.worth.regions)
        found = {name: self.best(rows, share=share, least=least) for name, rows in homes.items()}
        return {name: best for name, best in found.items() if best is not None}

    def closeness(self, best: Best) -> Floats:
        """How close everybody is to a best genome, float64[n]."""
        return closeness(self.weights, best)

    def raw_row(self, row: int) -> tuple[npt.NDArray[np.int32], Floats]:
        """Markers of one row, ascending, and their weights before they are divided, float64[m]."""
        markers, _ = self.genomes.row(row)
        part = slice(int(self.genomes.starts[row]), int(self.genomes.starts[row + 1]))
        return markers, self.raw.data[part].astype(np.float64)
