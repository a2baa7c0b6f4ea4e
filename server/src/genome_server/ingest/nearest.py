"""The nearest of many ids, quickly: for messages about one that is not known."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from edge_sdk.dna.markers import nearest_name

_SMALL = 2_000
_NEIGHBOURS = 50


class KnownIds:
    """Ids of one kind: whether one is known, and which known one is most like another.

    Comparing with tens of thousands takes seconds, so of many ids only those
    are looked at that begin or end alike.
    """

    def __init__(self, what: str, ids: Iterable[str]) -> None:
        self.what = what
        self._ids = set(ids)
        self._forward: list[str] | None = None
        self._backward: list[str] = []

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def unknown(self, name: str) -> str:
        """The sentence about an id that is not known."""
        near = self.nearest(name)
        if near is not None:
            return f"there is no {self.what} {name!r}; did you mean {near!r}?"
        hint = "" if self._ids else f"; no {self.what}s are imported yet"
        return f"there is no {self.what} {name!r}{hint}"

    def nearest(self, name: str) -> str | None:
        """The id that is most like this one; None where none is."""
        if len(self._ids) <= _SMALL:
            return nearest_name(name, self._ids)
        if self._forward is None:
            self._forward = sorted(self._ids)
            self._backward = sorted(one[::-1] for one in self._ids)
        alike = set(_around(self._forward, name))
        alike.update(one[::-1] for one in _around(self._backward, name[::-1]))
        return nearest_name(name, sorted(alike))


def _around(ordered: list[str], name: str) -> list[str]:
    at = bisect_left(ordered, name)
    return ordered[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]
