"""From the interactions of many subjects, in columns, to a summary of each. Free of I/O.

Rules.
- A purchase is an interaction of a kind in which money counts. A basket is what one subject bought
  on one day.
- Money is added up by the rules of `genome_server.doings.money`.
- A price is the amount by the quantity (one where none is said). It is compared with the median of
  its category where that has at least `LEAST_PRICES` prices, in doublings.
- At home is where somebody is in the evening and at night.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.imprint import ilog2_q8
from genome_server.derived.summary import Summary
from genome_server.doings.money import that_counts, usual_currency

_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]

LEAST_PRICES: Final = 5
"""Prices that a category's median is made of, at least."""
_DAYS: Final = 1 << 20
_NAMES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Interactions:
    """n interactions of m subjects, each column of length n; -1 stands for nothing said.

    `subject` is a number from 0 to m - 1; `day` counts from the Unix epoch; `amount` is in
    millionths and `quantity` in thousandths. `currency`, `category`, `slot`, `channel`, `tender`
    and `region` are numbers of names; those of all but the category are listed.
    """

    subjects: int
    subject: _Ints
    day: _Ints
    bought: _Flags
    promoted: _Flags
    at_home: _Flags
    amount: _Ints
    quantity: _Ints
    currency: _Ints
    category: _Ints
    slot: _Ints
    channel: _Ints
    tender: _Ints
    region: _Ints
    currencies: Sequence[str]
    slots: Sequence[str]
    channels: Sequence[str]
    tenders: Sequence[str]
    regions: Sequence[str]


def summarise(told: Interactions) -> list[Summary]:
    """The summary of each subject, by its number."""
    made = [Summary() for _ in range(told.subjects)]
    usual = usual_currency(told.currency, told.bought & (told.amount != 0), told.currencies)
    _purchases(told, usual, made)
    _prices(told, usual, made)
    everything = np.ones(len(told.subject), bool)
    _counted(made, "slots", told.slots, *_by_day(told, told.slot, told.bought))
    _counted(made, "channels", told.channels, *_each(told, told.channel, everything))
    _counted(made, "tenders", told.tenders, *_each(told, told.tender, told.bought))
    _counted(made, "homes", told.regions, *_by_day(told, told.region, told.at_home))
    return made


def _purchases(told: Interactions, usual: int, made: list[Summary]) -> None:
    subject, day = told.subject[told.bought], told.day[told.bought]
    keys = np.unique(subject * _DAYS + day)
    who, days = keys // _DAYS, keys % _DAYS
    for number, basket_day in zip(who.tolist(), days.tolist(), strict=True):
        one = made[number]
        one.first_day = one.first_day if one.baskets else basket_day
        one.last_day = basket_day
        one.baskets += 1
    paid = told.bought & (told.amount != 0)
    paid = that_counts(told.currency, paid, usual)
    spend = np.zeros(told.subjects, np.int64)
    np.add.at(spend, told.subject[paid], told.amount[paid])
    bought = np.bincount(subject, minlength=told.subjects)
    promoted = np.bincount(told.subject[told.bought & told.promoted], minlength=told.subjects)
    columns = (spend.tolist(), bought.tolist(), promoted.tolist())
    for one, paid_micros, count, with_coupon in zip(made, *columns, strict=True):
        one.spend_micros, one.bought, one.promoted = paid_micros, count, with_coupon


def _prices(told: Interactions, usual: int, made: list[Summary]) -> None:
    rows = np.flatnonzero(told.bought & (told.amount > 0) & (told.category >= 0))
    if not len(rows):
        return
    quantity = np.where(told.quantity[rows] > 0, told.quantity[rows], 1000)
    # Prices of one currency alone can be compared.
    currency = np.where(told.currency[rows] < 0, usual, told.currency[rows])
    group = told.category[rows] * _NAMES + currency + 1
    unit = np.maximum(told.amount[rows] // quantity, 1)
    order = np.lexsort((unit, group))
    group, unit, subject = group[order], unit[order], told.subject[rows][order]
    _, begin, count = np.unique(group, return_index=True, return_counts=True)
    median = np.repeat(unit[begin + (count - 1) // 2], count)
    enough = np.repeat(count >= LEAST_PRICES, count)
    doublings = _log2(unit[enough]) - _log2(median[enough])
    total = np.zeros(told.subjects, np.int64)
    np.add.at(total, subject[enough], doublings)
    priced = np.bincount(subject[enough], minlength=told.subjects)
    for one, price_q8, number in zip(made, total.tolist(), priced.tolist(), strict=True):
        one.price_q8, one.priced = price_q8, number


def _log2(values: _Ints) -> _Ints:
    different, where = np.unique(values, return_inverse=True)
    found = np.array([ilog2_q8(value) for value in different.tolist()], np.int64)
    return found[where]


def _each(told: Interactions, names: _Ints, wanted: _Flags) -> tuple[_Ints, _Ints]:
    """(subject, name) of each row that is wanted and says one."""
    rows = wanted & (names >= 0)
    return told.subject[rows], names[rows]


def _by_day(told: Interactions, names: _Ints, wanted: _Flags) -> tuple[_Ints, _Ints]:
    """(subject, name) of each day on which a wanted row says it."""
    subject, name = _each(told, names, wanted)
    day = told.day[wanted & (names >= 0)]
    pairs, where = np.unique(subject * _NAMES + name, return_inverse=True)
    days = np.unique(where.astype(np.int64) * _DAYS + day)
    kept = pairs[days // _DAYS]
    return kept // _NAMES, kept % _NAMES


def _counted(
    made: list[Summary], field: str, names: Sequence[str], subject: _Ints, name: _Ints
) -> None:
    keys, counts = np.unique(subject * _NAMES + name, return_counts=True)
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        number, place = divmod(key, _NAMES)
        getattr(made[number], field)[names[place]] = count
