"""What trees may ask about an example: true or false, one column each.

Rules.
- Whether a marker is there, and whether it is stronger than a quarter, a half and three quarters of
  those who have it; of the markers that most examples have, `_MAX_COLUMNS` at the most.
- Whether the offer has a marker.
- How strongly the genome meets the offer and the moment, at a dozen strengths: see `kin`. A tree
  would need a split for each marker and each offer to ask that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.examples import Examples
from genome_server.learning.forest import Bools
from genome_server.learning.kin import Entries, meetings
from genome_server.learning.towers import Floats, Indices

_CUTS = (0.25, 0.5, 0.75)
_MEETING_CUTS = tuple(np.linspace(0.05, 0.95, 12).tolist())
_MAX_COLUMNS = 400


@dataclass(frozen=True)
class Columns:
    """The columns of a forest."""

    marker: Indices  # (c,)
    cut: Floats  # (c,)
    offers: Bools  # (m, d) of the offer table
    dna: Floats  # (m, V) saliences
    # Column of `meetings` and the strength to be above, (k,) each; none without kin.
    meeting: Indices
    meeting_cut: Floats

    @classmethod
    def of(cls, examples: Examples, rows: Indices, min_count: int) -> Columns:
        """Return the columns for the examples `rows`."""
        flat = flat_of(examples.start[rows], examples.start[rows + 1])
        index, weight = examples.index[flat], examples.warm[flat]
        index, weight = index[weight > 0], weight[weight > 0]
        count = np.bincount(index, minlength=examples.vocabulary_size)
        known = np.flatnonzero(count >= min_count)
        frequent = known[np.argsort(-count[known], kind="stable")][:_MAX_COLUMNS]
        marker, cut = list(frequent), [0.0] * len(frequent)
        order = np.argsort(index, kind="stable")
        ends = np.cumsum(count)
        for one in frequent:
            weights = np.sort(weight[order[ends[one] - count[one] : ends[one]]])
            for share in _CUTS:
                at = float(weights[int(len(weights) * share)]) * 0.99
                if weights[0] < at and at > cut[-1] * (marker[-1] == one):
                    marker.append(one)
                    cut.append(at)
        dna = _dna(examples)
        has = dna > 0
        chosen = np.flatnonzero(has.any(0) & ~has.all(0))[:_MAX_COLUMNS]
        entries = _entries(examples, rows, np.zeros(len(rows), bool))
        meeting, meeting_cut = _cuts(_meetings(examples, rows, entries, dna))
        return cls(
            np.array(marker, np.int64),
            np.array(cut, np.float32),
            has[:, chosen],
            dna,
            meeting,
            meeting_cut,
        )

    def table(self, examples: Examples, rows: Indices, cold: Bools) -> Bools:
        """Return the columns of the examples `rows`, (n, all); `cold` (n,): as a stranger."""
        place = np.full(examples.vocabulary_size, -1)
        markers = np.unique(self.marker)
        place[markers] = np.arange(len(markers))
        entries = _entries(examples, rows, cold)
        column = place[entries.marker]
        inside = column >= 0
        strength = np.zeros((len(rows), len(markers)), np.float32)
        np.add.at(strength, (entries.row[inside], column[inside]), entries.weight[inside])
        asked = strength[:, place[self.marker]] > self.cut
        met = _meetings(examples, rows, entries, self.dna)[:, self.meeting] > self.meeting_cut
        return np.concatenate([asked, self.offers[examples.offer[rows]], met], axis=1)


def flat_of(begin: Indices, end: Indices) -> NDArray[np.int64]:
    """Return all positions of the slices begin … end, one after the other."""
    count = end - begin
    before = np.cumsum(count) - count
    return np.repeat(begin - before, count) + np.arange(int(count.sum()))


def _entries(examples: Examples, rows: Indices, cold: Bools) -> Entries:
    begin, end = examples.start[rows], examples.start[rows + 1]
    flat = flat_of(begin, end)
    row = np.repeat(np.arange(len(rows)), end - begin)
    return Entries(
        row,
        examples.index[flat].astype(np.int64),
        np.where(cold[row], examples.cold[flat], examples.warm[flat]),
        flat - begin[row] < examples.of_person[rows][row],
    )


def _dna(examples: Examples) -> Floats:
    """Return the saliences of all offers, (m, V)."""
    table = examples.offers
    dna = np.zeros((len(table.ids), examples.vocabulary_size), np.float32)
    np.add.at(dna, (np.arange(len(dna))[:, None], table.index), table.weight)
    return dna


def _meetings(examples: Examples, rows: Indices, entries: Entries, dna: Floats) -> Floats:
    if examples.kin is None:
        return np.zeros((len(rows), 0), np.float32)
    return meetings(examples.kin, entries, examples.offer[rows].astype(np.int64), dna)


def _cuts(met: Floats) -> tuple[Indices, Floats]:
    """Return column and strength of what may be asked of meetings: between those that there are."""
    columns: list[int] = []
    cuts: list[float] = []
    for number, values in enumerate(met.T):
        some = values[values != 0]
        found = np.unique(np.quantile(some, _MEETING_CUTS)) if len(some) else np.zeros(0)
        columns += [number] * len(found)
        cuts += found.tolist()
    return np.array(columns, np.int64), np.array(cuts, np.float32)
