"""What counts as money that a customer paid, for everything that adds it up. Free of I/O.

Rules.
- Money is paid in a doing whose kind has a money weight in the DNA schema (buy, redeem): the amount
  of an interaction, or the value of an outcome. None is no payment. What comes twice counts once,
  as everywhere (see `reading`).
- A negative amount is a refund and is taken off. So somebody may have paid less than nothing.
- Amounts of several currencies cannot be added: the one that most payments are in counts, of equals
  the first by name, and the others are left out. What names no currency, as outcomes never do, is
  in the tenant's own, which is taken to be that one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.schema import DnaSchema

_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


def money_kinds(schema: DnaSchema) -> frozenset[str]:
    """The kinds in which money counts."""
    return frozenset(rule.name for rule in schema.kinds if rule.money_weight_q24 > 0)


def usual_currency(currency: _Ints, payment: _Flags, names: Sequence[str]) -> int:
    """The currency that counts, by its number; -1 where no payment names one.

    `currency` int64[n] are numbers of `names`, -1 for none; `payment` bool[n] says what is one.
    """
    said = currency[payment & (currency >= 0)]
    if not len(said):
        return -1
    counts = np.bincount(said, minlength=len(names)).tolist()
    return min(range(len(names)), key=lambda number: (-counts[number], names[number]))


def that_counts(currency: _Ints, payment: _Flags, usual: int) -> _Flags:
    """Which payments are in the currency that counts, bool[n]."""
    counted: _Flags = payment & ((currency == usual) | (currency < 0))
    return counted
