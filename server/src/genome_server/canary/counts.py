"""What devices did before the canary and since, and what the one lets expect of the other. Pure.

Rules.
- What a device lets expect is its own rate before, as far as it decided enough then: everybody's
  rate counts with it like so many decisions as bring ten successes; of what is earned, like so many
  as tell as much as ten successes of one worth.
- It is judged by value where what is shown is not all worth the same; and where it is, and each
  success is a loss: more of them are not better.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Final

from genome_server.canary.rules import Heard, Seen, Tally

_PRIOR_SUCCESSES: Final = 10.0
_SUCCESSES, _VALUE = 1, 4

_Expected = Callable[[str], float]


class Alike:
    """How many amounts of one size would tell as much as those that were added (Kish)."""

    def __init__(self) -> None:
        self._sum = self._squares = 0.0

    def add(self, amount: float, times: int = 1) -> None:
        """Add an amount, of either sign, so many times."""
        self._sum += times * abs(amount)
        self._squares += times * amount * amount

    @property
    def number(self) -> float:
        """How many; 0 where nothing was added but nothings."""
        return self._sum**2 / self._squares if self._squares else 0.0


class Counts:
    """Sums by device: decisions, successes, shown, unscored, and what was earned.

    `worths` of each offer that was shown are those that releases give it; `left_out` decisions are
    in no sum.
    """

    def __init__(self) -> None:
        self.of: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * 5)
        self.successes, self.earned = Alike(), Alike()
        self.worths: defaultdict[str, set[float]] = defaultdict(set)
        self.left_out = 0

    def add(
        self,
        device: str,
        stands_for: float,
        earned: Collection[float],
        *,
        shown: bool,
        unscored: bool,
    ) -> None:
        """Add a decision; `earned` has what each of its successes is worth."""
        value = sum(earned)
        sums = self.of[device]
        for place, amount in enumerate((True, bool(earned), shown, unscored, value)):
            sums[place] += stands_for * amount
        if earned:
            self.successes.add(stands_for)
            self.earned.add(stands_for * value)


def compared(before: Counts, since: Counts, of: Mapping[str, bool], heard: Heard) -> Seen:
    """What a look sees of these counts; `of` says of each device whether the canary is meant for
    it."""
    successes_of, value_of = _expectation(before)
    both: tuple[list[Tally], list[Tally]] = ([], [])
    for device, (decisions, successes, shown, unscored, value) in since.of.items():
        tally = Tally(
            decisions,
            successes,
            shown,
            unscored,
            expected=decisions * successes_of(device),
            value=value,
            expected_value=decisions * value_of(device),
        )
        both[not of[device]].append(tally)
    worths = set().union(*since.worths.values())
    by_value = len(worths) > 1 or min(worths, default=0.0) < 0
    repriced = sum(len(of_one) > 1 for of_one in since.worths.values())
    alike = since.earned.number if by_value else since.successes.number
    return Seen(*both, heard, alike, by_value, since.left_out, repriced)


def _expectation(before: Counts) -> tuple[_Expected, _Expected]:
    """The rate of success, and what a decision earns, that are expected of a device."""
    decisions, successes, _, _, value = map(sum, zip([0.0] * 5, *before.of.values(), strict=True))
    if not successes:
        return _nothing, _nothing  # nobody's past says anything
    rate = successes / decisions
    prior = _PRIOR_SUCCESSES / rate
    often = _drawn_together(before, _SUCCESSES, rate, prior)
    if not before.earned.number:
        return often, _nothing
    # Where worths differ it takes more successes to tell as much.
    prior *= before.successes.number / before.earned.number
    return often, _drawn_together(before, _VALUE, value / decisions, prior)


def _drawn_together(before: Counts, place: int, rate: float, prior: float) -> _Expected:
    """A device's own rate, drawn towards everybody's as by `prior` decisions."""

    def expected(device: str) -> float:
        mine = before.of.get(device)
        if mine is None:
            return rate
        return (mine[place] + prior * rate) / (mine[0] + prior)

    return expected


def _nothing(device: str) -> float:  # noqa: ARG001
    return 0.0
