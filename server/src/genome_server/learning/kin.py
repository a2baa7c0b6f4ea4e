"""Which markers of a genome speak of an offer's DNA, and of what goes on.

Who redeemed a coupon for coffee has `coupon:coffee`, or, where the kind has a prefix, another
marker that means it: `not-coupon:coffee`. Where kinds imprint parts of the moment `beside` the
DNA, too, a genome may hold as much about the company or the hour of now.

`Kin` says which is which by index; `meetings` says how strongly each example's genome meets its
offer and its moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema
from genome_server.learning.towers import Floats, Indices

Ints = NDArray[np.int64]
# A namespace of the moment that kinds do not imprint is met by nobody.
_NONE = -1


@dataclass(frozen=True)
class Kin:
    """The markers that mean others, by prefix. V is the size of the vocabulary."""

    # (p, V): the marker that this one is with the prefix of some kind; -1: none.
    of: Ints
    # (p,): what doing it says of the thing: 1 it was wanted, -1 it was not.
    sign: Ints
    # (V,): of the moment's markers, the number of the namespace that kinds imprint; -1: they do not
    met: Ints

    @classmethod
    def build(cls, schema: DnaSchema, vocabulary: Vocabulary) -> Kin:
        """Return the kin of all markers under the prefixes of the schema's kinds."""
        labels: dict[str, int] = {}
        beside: dict[str, int] = {}
        for kind in schema.kinds:
            labels[kind.marker_prefix] = labels.get(kind.marker_prefix, 0) + kind.label
            for namespace in kind.beside:
                beside.setdefault(namespace, len(beside))
        names = list(vocabulary)
        return cls(
            np.array([_stripped(names, vocabulary, prefix) for prefix in labels], np.int64),
            np.array([-1 if label < 0 else 1 for label in labels.values()], np.int64),
            np.array([beside.get(name.partition(":")[0], _NONE) for name in names], np.int64),
        )


def _stripped(names: Iterable[str], vocabulary: Vocabulary, prefix: str) -> list[int]:
    """Return of each name the index of what is left without the prefix, -1 where nothing is."""
    found = [vocabulary.index(name.removeprefix(prefix)) for name in names]
    return [
        number if number is not None and name.startswith(prefix) else -1
        for number, name in zip(found, names, strict=True)
    ]


@dataclass(frozen=True)
class Entries:
    """Query markers of n examples, flat: of which example, which marker, how strong, of whom."""

    row: Indices
    marker: Indices
    weight: Floats
    of_person: NDArray[np.bool_]  # else of the moment


def meetings(kin: Kin, entries: Entries, offer: Indices, dna: Floats) -> Floats:
    """Return how strongly each example's genome meets its offer and its moment, (n, c).

    `offer` (n,) is the row of `dna` (m, V): saliences. For each prefix, and for what was wanted
    less what was not, there is a column for the offer and one for each namespace of moments.
    """
    n = len(offer)
    namespaces = int(kin.met.max(initial=_NONE)) + 1
    width = 1 + namespaces
    each = np.zeros((len(kin.of), n, width))
    vocabulary = len(kin.met)
    moment = ~entries.of_person & (kin.met[entries.marker] != _NONE)
    now = np.unique(entries.row[moment] * vocabulary + entries.marker[moment])
    for number, base in enumerate(kin.of):
        meant = base[entries.marker]
        some = entries.of_person & (meant >= 0)
        row, thing, weight = entries.row[some], meant[some], entries.weight[some]
        salience = dna[offer[row], thing]
        each[number, :, 0] = np.bincount(row, weight * salience, n)
        met = kin.met[thing]
        here = (met != _NONE) & np.isin(row * vocabulary + thing, now)
        np.add.at(each[number], (row[here], 1 + met[here]), weight[here])
    balance = np.einsum("p,pnc->nc", kin.sign, each)
    return np.concatenate([*each, balance], axis=1).astype(np.float32)
