"""What a model learns from: moments, what was offered in them, and how it ended.

An example is one offer in one moment. The query side, who and when, is a ragged
list of (marker, weight) with two weights for each marker: `warm` as the device
would have had it, `cold` for the same person without a history of their own. Who comes
first, when after it. The offer side is a row of a table, because few offers stand behind
many examples.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.kin import Kin
from genome_server.learning.towers import Floats, Indices


@dataclass(frozen=True)
class OfferTable:
    """The DNA of m offers against the vocabulary, padded to w markers with weight 0."""

    ids: tuple[str, ...]
    index: Indices  # (m, w)
    weight: Floats  # (m, w)

    @classmethod
    def build(cls, offers: Mapping[str, Sequence[tuple[int, float]]]) -> OfferTable:
        """Make a table out of (marker index, weight) pairs by offer id, in the order given."""
        width = max((len(dna) for dna in offers.values()), default=0)
        index = np.zeros((len(offers), width), np.int64)
        weight = np.zeros((len(offers), width), np.float32)
        for row, dna in enumerate(offers.values()):
            for column, (marker, salience) in enumerate(dna):
                index[row, column] = marker
                weight[row, column] = salience
        return cls(tuple(offers), index, weight)


@dataclass(frozen=True)
class Batch:
    """Some examples, padded to a common number of query markers with weight 0."""

    index: NDArray[np.int32]  # (n, w)
    warm: Floats  # (n, w)
    cold: Floats  # (n, w)
    offer: NDArray[np.int32]  # (n,) row of the offer table
    label: Floats  # (n,) 0 or 1
    stands_for: Floats  # (n,)


@dataclass(frozen=True)
class Examples:
    """n examples. The query of example i is the slice start[i] … start[i + 1]."""

    start: Indices  # (n + 1,)
    index: NDArray[np.int32]  # vocabulary indices
    warm: Floats
    cold: Floats
    offer: NDArray[np.int32]  # (n,) row of `offers`
    label: Floats  # (n,) 1 success, 0 none
    propensity: Floats  # (n,) with which the offer was chosen; 1 where nobody chose
    stands_for: Floats  # (n,) examples like it, where a device could not keep all; else 1
    person: NDArray[np.int32]  # (n,) equal for examples of one person; nobody is alone each time
    time_ms: Indices  # (n,) of the moment, Unix milliseconds
    of_person: NDArray[np.int32]  # (n,) how many of a query's markers, the first, say who it is
    offers: OfferTable
    fields: NDArray[np.int32]  # (V,) number of each marker's namespace
    kin: Kin | None = None  # which markers mean others; None: each means itself alone

    def __len__(self) -> int:
        return len(self.label)

    @property
    def vocabulary_size(self) -> int:
        """V: markers that the indices count."""
        return len(self.fields)

    @property
    def width(self) -> int:
        """The most query markers that an example has."""
        return int(np.diff(self.start).max(initial=0))

    @property
    def newest_ms(self) -> int:
        """Time of the newest example; 0 where there is none."""
        return int(self.time_ms.max(initial=0))

    @property
    def with_history(self) -> NDArray[np.bool_]:
        """Which examples know more of the person than a stranger's profile would say, (n,)."""
        differs = np.concatenate([[0], np.cumsum(self.warm != self.cold)])
        return np.asarray(differs[self.start[1:]] > differs[self.start[:-1]])

    @property
    def joint_width(self) -> int:
        """The most query markers that one's person and another's moment have together."""
        moment = np.diff(self.start) - self.of_person
        return int(self.of_person.max(initial=0) + moment.max(initial=0))

    def batch(self, rows: Indices, width: int | None = None) -> Batch:
        """Return the examples `rows`, padded to `width`; by default to their own."""
        begin, count = self.start[rows], self.start[rows + 1] - self.start[rows]
        column = np.arange(self.width if width is None else width)
        inside = column < count[:, None]
        at = np.where(inside, begin[:, None] + column, 0)

        # With one entry behind the last, even no markers at all can be gathered from.
        def pad(flat: NDArray[Any]) -> NDArray[Any]:
            return np.where(inside, np.append(flat, flat.dtype.type(0))[at], flat.dtype.type(0))

        markers = (pad(self.index), pad(self.warm), pad(self.cold))
        return Batch(*markers, self.offer[rows], self.label[rows], self.stands_for[rows])


class ExamplesBuilder:
    """Collects examples one by one in flat columns: about 12 bytes for each marker."""

    def __init__(self) -> None:
        self._start = array("q", [0])
        self._index = array("i")
        self._warm = array("f")
        self._cold = array("f")
        self._offer = array("i")
        self._label = array("f")
        self._propensity = array("f")
        self._stands_for = array("f")
        self._person = array("i")
        self._time = array("q")
        self._of_person = array("i")

    def __len__(self) -> int:
        return len(self._label)

    def add(
        self,
        query: Iterable[tuple[int, float, float]],
        *,
        offer: int,
        label: bool,
        propensity: float,
        person: int,
        time_ms: int,
        stands_for: float = 1.0,
        of_person: int = 0,
    ) -> None:
        """Add one example; `query` holds (marker index, warm weight, cold weight).

        The first `of_person` of them say who it is, the others when.
        """
        for index, warm, cold in query:
            self._index.append(index)
            self._warm.append(warm)
            self._cold.append(cold)
        self._start.append(len(self._index))
        self._offer.append(offer)
        self._label.append(float(label))
        self._propensity.append(propensity)
        self._stands_for.append(stands_for)
        self._person.append(person)
        self._time.append(time_ms)
        self._of_person.append(of_person)

    def build(
        self, offers: OfferTable, fields: NDArray[np.int32], kin: Kin | None = None
    ) -> Examples:
        """Return what was added, in order of time (of equal times, in order of addition)."""
        start = np.array(self._start, np.int64)
        time_ms = np.array(self._time, np.int64)
        order = np.argsort(time_ms, kind="stable")
        count = np.diff(start)[order]
        sorted_start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        flat = np.repeat(start[:-1][order] - sorted_start[:-1], count) + np.arange(sorted_start[-1])
        return Examples(
            start=sorted_start,
            index=np.array(self._index, np.int32)[flat],
            warm=np.array(self._warm, np.float32)[flat],
            cold=np.array(self._cold, np.float32)[flat],
            offer=np.array(self._offer, np.int32)[order],
            label=np.array(self._label, np.float32)[order],
            propensity=np.array(self._propensity, np.float32)[order],
            stands_for=np.array(self._stands_for, np.float32)[order],
            person=np.array(self._person, np.int32)[order],
            time_ms=time_ms[order],
            of_person=np.array(self._of_person, np.int32)[order],
            offers=offers,
            fields=fields,
            kin=kin,
        )
