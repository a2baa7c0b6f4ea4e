"""The parts of a log's decisions that the gate looks at one by one. Free of I/O.

- the placements, where there are several;
- known customers and strangers; of the known those with a history of their own and those without;
- the commonest markers of moments;
- the commonest markers of profiles: what is known of a customer without any history.

Markers count that between 5 and 95 % of the decisions have, those of profiles where enough persons
have them to conclude anything. Few are taken: intervals hold for all parts together, so that each
one more makes all of them wider.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_sdk.dna.markers import Vocabulary
from genome_server.offpolicy.needs import Needs
from genome_server.offpolicy.past import Past

_MOMENTS: Final = 12
_PROFILES: Final = 8
_COMMON: Final = (0.05, 0.95)
_LEAST_PERSONS: Final = Needs().persons

Rows = NDArray[np.bool_]
#: Decisions bool[n] by the name of the part that they are in.
Parts = dict[str, Rows]


def parts_of(past: Sequence[Past], vocabulary: Vocabulary) -> Parts:
    """The parts of n decisions. No two of them are of the same decisions."""
    placement = np.array([one.record.placement for one in past])
    known = np.array([one.record.genome_used for one in past])
    returning = np.array([one.returning for one in past])
    parts: Parts = {}
    names = np.unique(placement).tolist()
    if len(names) > 1:
        parts = {f"placement {name}": placement == name for name in names}
    whose = {
        "known customers": known,
        "strangers": ~known,
        "customers with a history": known & returning,
        "customers without a history": known & ~returning,
    }
    parts |= {name: rows for name, rows in whose.items() if rows.any() and not rows.all()}
    parts |= _common([one.record.context_markers for one in past], _MOMENTS)
    stated = [[vocabulary.name(at) for at in one.profile] for one in past]
    persons: defaultdict[str, set[int]] = defaultdict(set)
    for one, markers in zip(past, stated, strict=True):
        for name in markers:
            persons[name].add(one.person)
    few = {name for name, who in persons.items() if len(who) < _LEAST_PERSONS}
    many = [[name for name in each if name not in few] for each in stated]
    for name, rows in _common(many, _PROFILES).items():
        parts[f"customers of {name}"] = rows
    return _distinct(parts)


def _common(markers: Sequence[Iterable[str]], most: int) -> Parts:
    """The commonest of the markers of n decisions, and which decisions have each."""
    sets = [frozenset(each) for each in markers]
    times = Counter(name for each in sets for name in each)
    low, high = (share * len(sets) for share in _COMMON)
    common = [name for name, number in times.items() if low <= number <= high]
    common.sort(key=lambda name: (-times[name], name))
    return {name: np.array([name in each for each in sets]) for name in common[:most]}


def _distinct(parts: Parts) -> Parts:
    """Of parts that have the same decisions the first: the same question is not asked twice."""
    seen: set[bytes] = set()
    found: Parts = {}
    for name, rows in parts.items():
        if (key := rows.tobytes()) not in seen:
            seen.add(key)
            found[name] = rows
    return found
