"""What usually comes next: of the places of one customer, or of all customers of a device.

A habit counts symbols (kinds of place, cells) under what was so when they came: the hour on
working days and on week-ends, the part of the day on this day of the week, what came before, and
nothing at all. What is likely is a mixture of these, of one's own and of everybody's: a context
counts the more, the more was seen under it. Counts fade by half in sixty days: what is newer weighs
more, so that nothing has to be touched.

No input or output here, and no lock.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)

HALF_LIFE_DAYS: Final = 60.0
# How much each context says, from own and from everybody's, once enough was seen under it; with so
# many sightings it says half of that.
_OWN: Final = {"hour": 1.0, "day": 0.5, "after": 1.0, "all": 0.5}
_ALL: Final = {"hour": 0.15, "day": 0.0, "after": 0.15, "all": 0.05}
_HALF: Final = 2.0
# Neighbouring hours are nearly the same hour.
_BESIDE: Final = 0.5
#: Symbols under one context, of one customer and of everybody: the rarest go.
OWN_SYMBOLS: Final = 64
ALL_SYMBOLS: Final = 512
_MAX_CONTEXTS: Final = 1024


class When(NamedTuple):
    """A local time as habits see it: days since the epoch (a fraction), ISO weekday, hour."""

    days: float
    weekday: int
    hour: int

    @property
    def weekend(self) -> bool:
        """Whether it is Saturday or Sunday."""
        return self.weekday >= 6

    @property
    def part(self) -> int:
        """The part of the day: six of four hours, from 2 o'clock on."""
        return (self.hour - 2) % 24 // 4


class Habit(Generic[S]):
    """What comes when, and after what: up to `symbols` under each context. For one thread."""

    def __init__(self, symbols: int = OWN_SYMBOLS) -> None:
        self._symbols = symbols
        self._seen: dict[tuple[object, ...], dict[S, float]] = {}

    def note(self, symbol: S, when: When, before: S | None) -> None:
        """Something came, after `before` (None: after nothing that is known)."""
        grown = weight_at(when.days)
        self._add(("all",), symbol, grown)
        self._add(("day", when.weekday, when.part), symbol, grown)
        self._add(("hour", when.weekend, when.hour), symbol, grown)
        for beside in (when.hour - 1, when.hour + 1):
            self._add(("hour", when.weekend, beside % 24), symbol, grown * _BESIDE)
        if before is not None:
            self._add(("after", before), symbol, grown)

    def seen(self, when: When, before: S | None) -> Iterator[tuple[str, Mapping[S, float]]]:
        """What was seen under each context of a moment: its name, and grown weights by symbol."""
        contexts: tuple[tuple[object, ...], ...] = (
            ("hour", when.weekend, when.hour),
            ("day", when.weekday, when.part),
            ("after", before),
            ("all",),
        )
        for context in contexts:
            known = self._seen.get(context)
            if known:
                yield str(context[0]), known

    def sightings(self, symbol: S, days: float) -> float:
        """How often a symbol was seen, what is older counting less."""
        return self._seen.get(("all",), {}).get(symbol, 0.0) / weight_at(days)

    def more(self, other: Habit[S]) -> None:
        """Put in what another habit has seen."""
        for context, theirs in other._seen.items():
            for symbol, weight in theirs.items():
                self._add(context, symbol, weight)

    def less(self, other: Habit[S]) -> None:
        """Take out again what another habit has put in."""
        for context, theirs in other._seen.items():
            mine = self._seen.get(context, {})
            for symbol, weight in theirs.items():
                left = mine.get(symbol, 0.0) - weight
                if left > weight * 1e-9:
                    mine[symbol] = left
                else:
                    mine.pop(symbol, None)
            if not mine:
                self._seen.pop(context, None)

    def plain(self) -> list[list[Any]]:
        """What was seen as lists and numbers, which `from_plain` reads: for each context its name,
        what it is, and grown weights by symbol. What weighs next to nothing is left out."""
        heaviest = max((w for known in self._seen.values() for w in known.values()), default=0.0)
        return [
            [*context, {str(s): float(f"{w:.4g}") for s, w in known.items() if w > heaviest / 4096}]
            for context, known in self._seen.items()
        ]

    @staticmethod
    def from_plain(said: Iterable[list[Any]]) -> Habit[str]:
        """The habit that `plain` was made of. Raises ValueError or TypeError for what is none."""
        habit: Habit[str] = Habit()
        for *context, known in said:
            for symbol, weight in dict(known).items():
                habit._add(tuple(context), str(symbol), float(weight))
        return habit

    def _add(self, context: tuple[object, ...], symbol: S, grown: float) -> None:
        known = self._seen.get(context)
        if known is None:
            if len(self._seen) >= _MAX_CONTEXTS:
                weakest = min(self._seen, key=lambda one: max(self._seen[one].values()))
                del self._seen[weakest]
            known = self._seen[context] = {}
        known[symbol] = known.get(symbol, 0.0) + grown
        if len(known) > self._symbols:
            del known[min(known, key=known.__getitem__)]


def weight_at(days: float) -> float:
    """What a sighting weighs that many days after the epoch: twice as much every half-life."""
    return float(2.0 ** ((days - 14_600.0) / HALF_LIFE_DAYS))


def likely(
    own: Habit[S] | None, everybody: Habit[S] | None, when: When, before: S | None
) -> list[tuple[S, float]]:
    """What is likely now, with its probability, the likeliest first; they add up to at most 1."""
    now = weight_at(when.days)
    found: dict[S, float] = {}
    whole = 0.0
    for habit, weights in ((own, _OWN), (everybody, _ALL)):
        for context, known in habit.seen(when, before) if habit is not None else ():
            total = sum(known.values())
            share = weights[context] * total / (total + _HALF * now)
            whole += share
            for symbol, weight in known.items():
                found[symbol] = found.get(symbol, 0.0) + share * weight / total
    if not whole:
        return []
    ordered = sorted(found.items(), key=lambda one: -one[1])
    return [(symbol, weight / whole) for symbol, weight in ordered]
