"""What was said of a customer's consents, by whom and when. Free of I/O.

Two speak: a source states all purposes at once (an import), and a device or person says a word on
one purpose (an event of the log, or `set_consents`). Of all words on a purpose the latest counts,
the more careful one at a tie, in whatever order they arrive: so an event that was long on its way,
an import that comes after it and a log that is read again give the same consents. A statement
without a time is one millisecond later than what was known when it came, purpose by purpose.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Self

PURPOSES: Final = range(1, 31)
"""The numbers that a purpose can have: bits of a set of consents."""

Word = tuple[int, bool]
"""(Unix ms, whether it was granted)."""


@dataclass(frozen=True, slots=True)
class Words:
    """A source's last statement (a set of bits, or None) as of `stated_ms` (Unix; 0: nobody knows),
    and the last word on each purpose that there was one on: (purpose, Unix ms, granted)."""

    stated: int | None = None
    stated_ms: int = 0
    heard: tuple[tuple[int, int, bool], ...] = ()

    @classmethod
    def stored(cls, stated: int | None, stated_ms: int, text: str, known: tuple[int, int]) -> Self:
        """What `text` wrote; where that is empty, what `known` says: when the last word was (Unix
        ms, 0: none) and the consents that came of it. Earlier versions kept no more."""
        at_ms, consents = known
        return cls(stated, stated_ms, _heard(text) if text else _all(consents, at_ms))

    @property
    def text(self) -> str:
        """The words, without the statement, as a store keeps them."""
        return json.dumps(self.heard, separators=(",", ":"))

    @property
    def consents(self) -> int:
        """What they come to: a set of bits."""
        consents = self.stated or 0
        for purpose, at_ms, heard in self.heard:
            word, bit = (at_ms, heard), 1 << purpose
            if self.stated is not None:
                word = _later(word, (self.stated_ms, bool(self.stated & bit)))
            consents = consents | bit if word[1] else consents & ~bit
        return consents

    def after(self, said: Mapping[int, Word]) -> Self:
        """With words on some purposes, in whatever order they come."""
        heard = {purpose: (at_ms, granted) for purpose, at_ms, granted in self.heard}
        for purpose, word in said.items():
            heard[purpose] = _later(heard.get(purpose, word), word)
        return replace(self, heard=_sorted(heard))

    def restated(self, consents: int, at_ms: int) -> Self:
        """With what a source states, as of `at_ms` (0: not known, but after all known so far).

        Of two statements of one moment what both grant is granted. To state the same again without
        a time is no new statement: what was said since stands.
        """
        if at_ms:
            if self.stated is None or at_ms > self.stated_ms:
                return replace(self, stated=consents, stated_ms=at_ms)
            if at_ms == self.stated_ms:
                return replace(self, stated=consents & self.stated)
            return self
        if consents == self.stated:
            return self
        # On each purpose as late as need be and no later: it may be older than what is heard next.
        heard = tuple(
            (purpose, max(heard_ms, self.stated_ms) + 1, bool(consents >> purpose & 1))
            for purpose, heard_ms, _ in self.heard
        )
        return replace(self, stated=consents, stated_ms=self.stated_ms + 1, heard=heard)

    def refused(self, consents: int, at_ms: int) -> Self:
        """With what a statement as of `at_ms` refuses, and without what it grants.

        For one that may be older than a statement of which nobody knows the time.
        """
        said = everything(consents, at_ms)
        return self.after({purpose: word for purpose, word in said.items() if not word[1]})


def everything(consents: int, at_ms: int) -> dict[int, Word]:
    """A word on each purpose."""
    return {purpose: (at_ms, bool(consents >> purpose & 1)) for purpose in PURPOSES}


def _later(one: Word, other: Word) -> Word:
    """The word that counts."""
    return max(one, other, key=lambda word: (word[0], not word[1]))


def _sorted(heard: Mapping[int, Word]) -> tuple[tuple[int, int, bool], ...]:
    return tuple((purpose, *heard[purpose]) for purpose in sorted(heard))


@lru_cache(maxsize=1_024)
def _heard(text: str) -> tuple[tuple[int, int, bool], ...]:
    rows: Iterable[list[int]] = json.loads(text)
    return tuple((purpose, at_ms, bool(granted)) for purpose, at_ms, granted in rows)


@lru_cache(maxsize=1_024)
def _all(consents: int, at_ms: int) -> tuple[tuple[int, int, bool], ...]:
    return _sorted(everything(consents, at_ms)) if at_ms else ()
