"""How many markers of one namespace a row may hold, in columns. Free of I/O.

`max_markers` of a namespace keeps one that says much (pages, words of texts) from taking the places
of the others. It is a rule of reading, like the 64 of a row: what is kept of a customer is whole,
so sums, their order, and links are none of its concern.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema

_Ints = npt.NDArray[np.int64]
_NONE: Final = 0


class Quotas(NamedTuple):
    """The limits of a schema under a vocabulary.

    `group` has the number of each marker's namespace among those that have a limit, from 1; 0 for
    the others. `most` has the limits by that number.
    """

    group: _Ints
    most: _Ints

    def fitting(self, rows: _Ints, markers: _Ints, ranks: npt.NDArray[Any]) -> _Ints:
        """Positions of the entries that stay, ascending: of a namespace those that rank highest.

        Entries are ordered by row and marker, each once; of equal ranks the smaller marker stays.
        """
        group = self.group[markers]
        limited = np.flatnonzero(group)
        if not len(limited):
            return np.arange(len(rows))
        group = group[limited]
        keys = rows[limited] * len(self.most) + group
        order = np.lexsort((-ranks[limited], keys))
        keys = keys[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        place = np.arange(len(keys)) - np.repeat(first, np.diff(first, append=len(keys)))
        stays = np.ones(len(rows), bool)
        stays[limited[order[place >= self.most[group[order]]]]] = False
        return np.flatnonzero(stays)


def quotas_of(schema: DnaSchema, vocabulary: Vocabulary) -> Quotas | None:
    """The limits; None where no namespace has one."""
    return _quotas(tuple(schema.quotas.items()), vocabulary) if schema.quotas else None


@lru_cache(maxsize=2)
def _quotas(limits: tuple[tuple[str, int], ...], vocabulary: Vocabulary) -> Quotas:
    numbers = {name: number for number, (name, _) in enumerate(limits, start=1)}
    group = np.fromiter(
        (numbers.get(name[: name.index(":")], _NONE) for name in vocabulary),
        np.int64,
        len(vocabulary),
    )
    return Quotas(group, np.array([0, *(most for _, most in limits)], np.int64))
