"""How rarely an offer may be shown under a candidate before it is starved. Free of I/O.

SquareCB gives each of A candidates `floor` / A at the least, which falls as offers are added: 0.001
among 10 under the default floor, 0.00017 among 60. What is shown as often as that is still tried,
on purpose as rarely as that, and whichever model is asked. So in each decision the bound is half of
what the floor guarantees there, and `NEVER` at most. A floor below the default (`FLOOR`), or none,
keeps nothing tried: there the bound is `NEVER`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from edge_sdk.engine.policy import Explorer, explorer
from genome_server.gate.parts import Rows
from genome_server.offpolicy.logged import Floats
from genome_server.offpolicy.target import Decisions, Rebuilt
from genome_server.releases.exploring import FLOOR

#: What is shown in a smaller share of the decisions is practically never shown, whatever explores.
NEVER: Final = 0.001
#: Chances are whole numbers of 2^-32, and a floor's is rounded down.
_PART: Final = 0.5


def least_shares(
    decisions: Decisions, explorers: Mapping[str, Explorer], parts: Sequence[Rows] = ()
) -> Floats:
    """The bounds of all offers, float64[1 + parts, offers]: over all decisions, and over each of
    the parts, bool[n] each. The mean over the decisions in which an offer could be shown; 0 where
    there is none. `explorers` are the candidate's by placement; elsewhere that of the decision
    counts."""
    total, left = np.zeros((2, 1 + len(parts), len(decisions.offers)))
    member = np.array([np.ones(len(decisions), bool), *parts])
    at_offer = {name: at for at, name in enumerate(decisions.offers)}
    numbers: dict[int, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
    for at, one in enumerate(decisions.rebuilt):
        record, ids = one.past.record, one.release.catalogue.ids
        if id(one.release) not in numbers:
            numbers[id(one.release)] = np.array([at_offer[name] for name in ids], np.int64)
        explores = explorers.get(record.placement) or explorer(
            record.explorer, record.gamma, record.floor
        )
        among = np.flatnonzero(member[:, at])[:, None]
        number = numbers[id(one.release)][one.rows]
        total[among, number] += one.past.stands_for * _bounds(one, explores.floor)
        left[among, number] += one.past.stands_for
    return np.asarray(np.divide(total, left, out=np.zeros_like(total), where=left > 0))


def _bounds(one: Rebuilt, floor: float) -> Floats:
    """The bounds in one decision, of its candidates: float64[k]."""
    if floor < FLOOR:
        return np.full(len(one.rows), NEVER)
    guaranteed = np.zeros(len(one.rows))
    for draw in one.draws:
        guaranteed[draw.pool] += floor / len(draw.pool)
    return np.minimum(NEVER, _PART * guaranteed)
