"""Sizes and counts that a text says: `22 LB` is `size:10kg`, `6/12 OZ` also `pack:6`.

Sizes become metric and keep two digits, so that what is the same to a customer is the same marker:
a pound, 16 ounces and 454 grams are all `size:450g`. Arithmetic is exact, in fractions.

An ounce is taken for a weight unless the text says `FL OZ`. A number that no shelf could bear (an
article number that stands before its unit) says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import gcd
from typing import Final, NamedTuple

from genome_server.things.tokens import Token

_MOST_PIECES: Final = 1_000
_DIGITS: Final = 100
_HALVES: Final = frozenset((2, 3, 4, 8))
_TIMES: Final = frozenset(("x", "×", "*", "/"))


class Amount(NamedTuple):
    """A marker's namespace and value, and the tokens [begin, end) that say it."""

    namespace: str
    value: str
    begin: int
    end: int


class _Unit(NamedTuple):
    """What one of a unit is in the base of its kind: g, ml, mm, cm² or pieces."""

    base: str
    factor: Fraction


def _units() -> dict[str, _Unit]:
    table = {
        ("g", "1"): "g gr gm grm gram grams",
        ("g", "1/1000"): "mg",
        ("g", "1000"): "kg kgs kilo kilos kilogram kilograms",
        ("g", "45359237/100000"): "lb lbs pound pounds",
        ("g", "45359237/1600000"): "oz ozs ounce ounces",
        ("ml", "1"): "ml mls millilitre millilitres milliliter milliliters",
        ("ml", "10"): "cl",
        ("ml", "100"): "dl",
        ("ml", "1000"): "l lt ltr ltrs liter liters litre litres",
        ("ml", "473176473/16000000"): "floz",
        ("ml", "473176473/1000000"): "pt pint pints",
        ("ml", "473176473/500000"): "qt qts quart quarts",
        ("ml", "473176473/125000"): "ga gal gals gallon gallons",
        ("mm", "1"): "mm",
        ("mm", "10"): "cm",
        ("mm", "1000"): "m meter meters metre metres",
        ("mm", "127/5"): "in inch inches",
        ("mm", "1524/5"): "ft foot feet",
        ("mm", "4572/5"): "yd yds yard yards",
        ("cm2", "14516100/15625"): "sqft",
        ("pack", "1"): "ct cnt count pk pks pack packs pc pcs piece pieces roll rolls tablet "
        "tablets tabs capsule capsules caps caplets softgels sheets pads pouches wipes stem stems",
        ("pack", "12"): "dz doz dozen",
        ("loads", "1"): "ld lds load loads",
    }
    found = {}
    for (base, factor), names in table.items():
        over, _, under = factor.partition("/")
        unit = _Unit(base, Fraction(over) / Fraction(under or "1"))
        found.update(dict.fromkeys(names.split(), unit))
    return found


UNITS: Final = _units()
#: The least and the most, in the base, that is believed; and the larger unit with its factor.
_BOUNDS: Final = {
    "g": (Fraction(1, 1000), 1_000_000, ("mg", "g", "kg")),
    "ml": (Fraction(1), 1_000_000, ("ml", "ml", "l")),
    "mm": (Fraction(1), 1_000_000, ("mm", "mm", "m")),
    "cm2": (Fraction(1), 10_000_000, ("cm2", "cm2", "m2")),
}


def amounts(tokens: Sequence[Token]) -> Iterator[Amount]:
    """The amounts that a text's tokens say, from left to right. Linear in the tokens."""
    at = 0
    while at < len(tokens):
        found = _pack_of(tokens, at) or _measure(tokens, at)
        if found is None:
            at += 1
            continue
        yield from found
        at = found[-1].end


def _pack_of(tokens: Sequence[Token], at: int) -> list[Amount] | None:
    """`pack of 6`, `set of 4`, `box of 12`."""
    words = [token.text for token in tokens[at : at + 2]]
    if words not in (["pack", "of"], ["set", "of"], ["box", "of"]) or at + 2 >= len(tokens):
        return None
    pieces = _pieces(tokens[at + 2].number)
    return None if pieces is None else [Amount("pack", str(pieces), at, at + 3)]


def _measure(tokens: Sequence[Token], at: int) -> list[Amount] | None:
    """A number with its unit, perhaps so many times, perhaps followed by a smaller one."""
    begin = at
    first = _number(tokens, at)
    if first is None:
        return None
    value, at = first
    times = None
    sign = tokens[at].text if at < len(tokens) else ""
    second = _number(tokens, at + 1) if sign in _TIMES or sign == "-" else None
    if second is not None:
        times, (value, at) = _pieces(value), second
        if times is None or (sign == "-" and value >= times):
            return None  # a range, or nothing that there could be so many of
    unit = _unit(tokens, at)
    if unit is None:
        return None
    rule, at = unit
    if rule.base in ("pack", "loads"):
        pieces = _pieces(value * rule.factor * (times or 1))
        return None if pieces in (None, 1) else [Amount(rule.base, str(pieces), begin, at)]
    total = value * rule.factor
    more, at = _rest(tokens, at, rule)
    said = _spelled(rule.base, total + more)
    if said is None:
        return None
    found = [Amount("size", said, begin, at)]
    if times is not None and times > 1 and rule.base in ("g", "ml"):
        found.insert(0, Amount("pack", str(times), begin, at))
    return found


def _rest(tokens: Sequence[Token], at: int, larger: _Unit) -> tuple[Fraction, int]:
    """The smaller unit of `2 LB 3 OZ`, and where it ends."""
    second = _number(tokens, at)
    unit = _unit(tokens, second[1]) if second else None
    if second is None or unit is None:
        return Fraction(0), at
    rule, end = unit
    if rule.base != larger.base or rule.factor >= larger.factor:
        return Fraction(0), at
    return second[0] * rule.factor, end


def _number(tokens: Sequence[Token], at: int) -> tuple[Fraction, int] | None:
    """A number at a place, with its fraction: 12, 1.5, 1/2, 8 1/4; and where it ends."""
    whole = tokens[at].number if at < len(tokens) else None
    if whole is None:
        return None
    half = _fraction(tokens, at)
    if half is not None:
        return half, at + 3
    half = _fraction(tokens, at + 1) if whole.denominator == 1 else None
    if half is not None and half < 1:
        return whole + half, at + 4
    return whole, at + 1


def _fraction(tokens: Sequence[Token], at: int) -> Fraction | None:
    """1/2, 3/4, 5/8; not 6/12, which is six of twelve."""
    if at + 2 >= len(tokens) or tokens[at + 1].text != "/":
        return None
    over, under = tokens[at].number, tokens[at + 2].number
    if over is None or under is None or {over.denominator, under.denominator} != {1}:
        return None
    if under not in _HALVES or over >= under or gcd(int(over), int(under)) > 1:
        return None
    return over / under


def _unit(tokens: Sequence[Token], at: int) -> tuple[_Unit, int] | None:
    if at < len(tokens) and tokens[at].text == "-":
        at += 1  # 6-pack
    words = [token.text for token in tokens[at : at + 4]]
    if not words:
        return None
    for said, name in (
        (["fl", "oz"], "floz"),
        (["fluid", "ounces"], "floz"),
        (["fluid", "ounce"], "floz"),
        (["sq", "ft"], "sqft"),
        (["square", "feet"], "sqft"),
    ):
        if words[:2] == said:
            return UNITS[name], at + 2
    if words[:4] == ["fl", ".", "oz", "."] or words[:3] == ["fl", ".", "oz"]:
        return UNITS["floz"], at + 3
    unit = UNITS.get(words[0])
    if unit is None:
        return None
    if words[0] == "in" and len(words) > 1 and tokens[at + 1].number is not None:
        return None  # 3 in 1
    return unit, at + 1


def _pieces(value: Fraction | None) -> int | None:
    if value is None or value.denominator != 1 or not 1 <= value <= _MOST_PIECES:
        return None
    return int(value)


def _spelled(base: str, value: Fraction) -> str | None:
    """An amount in two digits: 9979 g is 10kg, 453.6 g is 450g. None for what is not believed."""
    least, most, (small, plain, large) = _BOUNDS[base]
    if not least <= value <= most:
        return None
    thousand = 10_000 if base == "cm2" else 1_000
    if value < 1 and base == "g":
        return _two_digits(value * 1_000) + small
    rounded = Fraction(_two_digits(value))
    if rounded >= thousand:
        return _two_digits(rounded / thousand) + large
    return _plain(rounded) + plain


def _two_digits(value: Fraction) -> str:
    """A positive number in at most two digits that count, halves up."""
    step = Fraction(1, 10)
    while value / step >= _DIGITS:
        step *= 10
    while value / step < _DIGITS / 10:
        step /= 10
    return _plain((value / step + Fraction(1, 2)).__floor__() * step)


def _plain(value: Fraction) -> str:
    """A decimal fraction without zeros at its end."""
    if value.denominator == 1:
        return str(value.numerator)
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
    digits = str((value * 10**places).numerator).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}"
