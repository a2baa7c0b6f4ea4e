"""A text as tokens: words in lower case, numbers, and the signs that matter between them."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

MAX_CHARACTERS: Final = 16_384
MAX_TOKENS: Final = 2_000
"""What is read of one text; what is beyond says nothing."""

# No part of it can begin where another one ends, so that reading is linear in the text.
_TOKEN: Final = re.compile(
    r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+[.,]\d+|\.\d+|\d+)"
    r"|(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)*)"
    r"|(?P<sign>[^\w\s])"
)
_TAG: Final = re.compile(r"<[^<>]{0,2000}>")
_LONGEST_NUMBER: Final = 15


class Token(NamedTuple):
    """A word, number or sign; `number` where it is one."""

    text: str
    number: Fraction | None = None

    @property
    def is_word(self) -> bool:
        """Whether it is made of letters."""
        return self.number is None and self.text[0].isalpha()


def tokens_of(text: str) -> list[Token]:
    """The tokens of a text, without tags of HTML. `w/` is `with`, `w/o` is `without`."""
    plain = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS].replace("½", " 1/2")).casefold()
    plain = _TAG.sub(" ", plain) if "<" in plain else plain
    plain = plain.replace("⁄", "/").replace("w/o ", "without ").replace("w/", "with ")
    found = []
    for match in _TOKEN.finditer(plain):
        said = match.group()
        if match.lastgroup == "number":
            found.append(Token(said, _number(said)))
        elif match.lastgroup == "word":
            found.append(Token(said.replace("’", "'").removesuffix("'s")))
        else:
            found.append(Token(said))
        if len(found) == MAX_TOKENS:
            break
    return found


def _number(text: str) -> Fraction | None:
    if len(text) > _LONGEST_NUMBER:
        return None
    whole, comma, rest = text.partition(",")
    if comma and len(rest) == 3 and "." not in rest:
        return Fraction(whole + rest)
    if text.count(",") == 1 and "." not in text:
        return Fraction(f"{whole}.{rest}")
    return Fraction(text.replace(",", ""))


_NO_Y: Final = frozenset(("cookies", "brownies", "smoothies", "movies", "veggies", "quickies"))


@lru_cache(maxsize=50_000)
def singular(word: str) -> str:
    """An English plural as one: candles, berries, peaches; other words as they are."""
    if len(word) > 4 and word.endswith("ies") and word not in _NO_Y:
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("shes", "ches", "xes", "sses", "zes", "toes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
