"""Groups of people that are large enough to be spoken of. Free of I/O.

Rules.
- A region is shown where at least `least` people are counted in it. Those of one parent that are
  too small are taken together as the rest of that parent; a parent that is too small with all
  that it holds goes to its own parent in the same way, up to `COARSEST`; what is left is withheld.
- A rest is never smaller than `least` either: else the parent less the regions that are shown
  would tell of the few. Where it were, the smallest child of that parent is taken in with all that
  it holds. The same goes for what is known no finer than the parent, and for what is withheld.
- So it depends on the people alone what is taken together, and the groups of one resolution are
  parts of those of a coarser one: no sum or difference of what is shown at several resolutions
  tells of fewer than `least`.
- A person who is in several regions counts once in each of them, and once in a rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from genome_server.regions.cells import Bools, Cells, Ints, parents, resolutions

COARSEST: Final = 3
"""A region is never wider than a cell of this resolution: where no more is known of somebody, what
they want is withheld."""


@dataclass(frozen=True, eq=False)
class Grouping:
    """Which cells are spoken of together.

    Each of `cell` (uint64[n], ascending) belongs to the group `group` (int64[n], -1: withheld);
    a group is the rest or the whole of `key` (uint64[m]) and has so many `people` (int64[m]).
    `partial` (bool[m]): what is shown apart lies inside. `withheld`: how many people are withheld.
    """

    cell: Cells
    group: Ints
    key: Cells
    people: Ints
    partial: Bools
    withheld: int

    def of(self, cells: Cells) -> Ints:
        """The group of each of some cells, all of which are in `cell`."""
        return self.group[np.searchsorted(self.cell, cells)]


class _Node:
    """Some cells, and the people in them."""

    __slots__ = ("cells", "people")

    def __init__(self, cells: list[int], people: Ints) -> None:
        self.cells = cells
        self.people = people

    def absorb(self, other: _Node) -> None:
        self.cells += other.cells
        self.people = np.union1d(self.people, other.people)


def group(person: Ints, cell: Cells, resolution: int, least: int) -> Grouping:
    """Group the cells in which people are: person int64[n], cell uint64[n] of at most `resolution`.

    A pair may stand several times. `resolution` is from `COARSEST` to 15, `least` a number of
    people. Without anybody the grouping is empty.
    """
    cells, begins, people = _by_cell(person, cell)
    ends = np.append(begins, len(people))[1:].tolist()
    open_ = {
        key: _Node([key], people[begin:end])
        for key, begin, end in zip(cells.tolist(), begins.tolist(), ends, strict=True)
    }
    levels = dict(zip(cells.tolist(), resolutions(cells).tolist(), strict=True))
    shown: dict[int, _Node] = {}
    for level in range(resolution, COARSEST - 1, -1):
        small = _settle([key for key in open_ if levels[key] == level], level, open_, shown, least)
        if level == COARSEST:
            break
        raised = parents(np.array(small, np.uint64), level - 1).tolist()
        for key, parent in zip(small, raised, strict=True):
            node = open_.pop(key)
            levels[parent] = level - 1
            if parent in open_:
                open_[parent].absorb(node)
            else:
                open_[parent] = node
    rest = _Node([], np.zeros(0, np.int64))
    for node in open_.values():
        rest.absorb(node)
    _fill(rest, _apart(shown, COARSEST), shown, least)
    return _grouping(cells, shown, rest)


def _by_cell(person: Ints, cell: Cells) -> tuple[Cells, Ints, Ints]:
    """The cells, where the people of each begin, and the people, each once in a cell."""
    order = np.lexsort((person, cell))
    person, cell = person[order], cell[order]
    fresh = np.ones(len(person), bool)
    fresh[1:] = (person[1:] != person[:-1]) | (cell[1:] != cell[:-1])
    person, cell = person[fresh], cell[fresh]
    cells, begins = np.unique(cell, return_index=True)
    return cells, begins.astype(np.int64), person


def _settle(
    keys: list[int], level: int, open_: dict[int, _Node], shown: dict[int, _Node], least: int
) -> list[int]:
    """Move those of the open nodes to the shown that are large enough; returns the others.

    One that is too small takes in what is shown apart inside it.
    """
    small = {key for key in keys if len(open_[key].people) < least}
    inside: dict[int, list[int]] = {key: [] for key in small}
    apart = np.array(list(shown), np.uint64)
    for key, parent in zip(apart.tolist(), parents(apart, level).tolist(), strict=True):
        if parent in small:
            inside[parent].append(key)
    for key in sorted(small):
        children = _apart(inside[key], level + 1)
        _fill(open_[key], children, shown, least)
    for key in keys:
        if len(open_[key].people) >= least:
            shown[key] = open_.pop(key)
    return [key for key in keys if key in open_]


def _apart(keys: Iterable[int], level: int) -> list[list[int]]:
    """Keys by the cell of this level in which they lie."""
    column = np.array(list(keys), np.uint64)
    children: dict[int, list[int]] = {}
    for key, child in zip(column.tolist(), parents(column, level).tolist(), strict=True):
        children.setdefault(child, []).append(key)
    return [children[child] for child in sorted(children)]


def _fill(rest: _Node, children: list[list[int]], shown: dict[int, _Node], least: int) -> None:
    """Take in whole children, the smallest first, until a rest of somebody is large enough."""
    if not 0 < len(rest.people) < least or not children:
        return
    wholes = []
    for keys in children:
        whole = _Node([], np.zeros(0, np.int64))
        for key in keys:
            whole.absorb(shown[key])
        wholes.append(whole)
    for at in sorted(range(len(wholes)), key=lambda at: (len(wholes[at].people), at)):
        rest.absorb(wholes[at])
        for key in children[at]:
            del shown[key]
        if len(rest.people) >= least:
            return


def _grouping(cells: Cells, shown: dict[int, _Node], rest: _Node) -> Grouping:
    keys = sorted(shown)
    group = np.full(len(cells), -1, np.int64)
    for number, key in enumerate(keys):
        group[np.searchsorted(cells, np.array(shown[key].cells, np.uint64))] = number
    key_column = np.array(keys, np.uint64)
    return Grouping(
        cells,
        group,
        key_column,
        np.array([len(shown[key].people) for key in keys], np.int64),
        _partial(key_column),
        len(rest.people),
    )


def _partial(keys: Cells) -> Bools:
    """Whether another key lies inside each of these."""
    levels = resolutions(keys)
    found = np.zeros(len(keys), bool)
    for level in np.unique(levels).tolist():
        inner = keys[levels > level]
        found |= (levels == level) & np.isin(keys, parents(inner, level))
    return found
