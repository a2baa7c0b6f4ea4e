"""Rules over text: which markers a title, a description or a subject says. Free of I/O.

    rules = TextRules(TextSettings(), brands=("acme",))
    rules.read("Acme ICE - CRUSHED/CUBED, 22 LB")
    # brand:acme, form:crushed, form:cubed, size:10kg, word:ice

Theory. A text becomes tokens (see `tokens`); every rule looks for phrases, lists of words, or
short patterns of words, and never for a regular expression: a rule takes at most its own length at
each token, so that no rule and no text can make it slow. Of the phrases of one rule the longest
wins, from left to right, so that `sugar free` is not `sugar`; what a negation stands before
(`non organic`) is not said. Plurals of English are understood.

Built-in rules, each under its name, which `without` and `salience` in dna.yaml
go by:

- brand    brands of the catalogue that a text names, and those that the settings list
- size     amounts in metric units, two digits, see `amounts`
- pack     how many there are, and `loads`
- claim    organic, gluten-free, sugar-free, ...
- flavour  vanilla, lemon, ...; and
- scent    the same where the text speaks of something that smells, besides lavender, musk, ...
- form     crushed, sliced, frozen, ...
- words    every other word that says something, weakly, as `word:...`
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from genome_server.things import words
from genome_server.things.amounts import UNITS, amounts
from genome_server.things.tokens import Token, singular, tokens_of

VERSION: Final = 1
"""Grows when the same text gives other markers than before: genomes are then built anew."""

BUILT_IN: Final[Mapping[str, int]] = {
    "brand": 256,
    "size": 128,
    "pack": 128,
    "claim": 256,
    "flavour": 192,
    "scent": 192,
    "form": 128,
    "words": 64,
}
"""The built-in rules and the salience in 1/256 that their markers have unless settings say so."""

MAX_ITEMS: Final = 8
"""Words of one pattern."""
MAX_MARKERS: Final = 32
"""Markers that one text gives; the most salient are kept, and of equals those that come first."""

_LONGEST_WORD: Final = 40
_CAPTURES: Final = ("{number}", "{word}")


class Found(NamedTuple):
    """A marker that a text says, its salience in 1/256, the rule, and the words that say it."""

    marker: str
    salience_q8: int
    rule: str
    said: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the settings: markers `namespace:value` for phrases, or for a pattern of words.

    `phrases` gives values by the words that say them. `pattern` is up to eight words: a word,
    several (`a|b`), a beginning (`choc*`), one that may be missing (`fresh?`), `{number}` or
    `{word}`; the value is `value`, else what stood for `{number}` or `{word}`.
    """

    name: str
    namespace: str
    salience_q8: int = 256
    phrases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pattern: tuple[str, ...] = ()
    value: str = ""


@dataclass(frozen=True, slots=True)
class TextSettings:
    """What the section `text` of dna.yaml says of rules; saliences in 1/256."""

    off: frozenset[str] = frozenset()
    salience_q8: Mapping[str, int] = field(default_factory=dict)
    brands: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


class _Hit(NamedTuple):
    begin: int
    end: int
    value: str


class Phrases:
    """Values by the phrases that say them; the longest wins, from left to right."""

    def __init__(self, said: Iterator[tuple[str, str]]) -> None:
        self._by_first: dict[str, dict[tuple[str, ...], str]] = {}
        for phrase, value in said:
            parts = tuple(singular(token.text) for token in _plain(tokens_of(phrase)))
            if parts:
                self._by_first.setdefault(parts[0], {}).setdefault(parts, value)
        self._lengths = {
            first: sorted({len(parts) for parts in found}, reverse=True)
            for first, found in self._by_first.items()
        }

    def find(self, spelled: Sequence[str]) -> Iterator[_Hit]:
        """What these words, in the singular, say."""
        at = 0
        while at < len(spelled):
            end = at + 1
            for length in self._lengths.get(spelled[at], ()):
                value = self._by_first[spelled[at]].get(tuple(spelled[at : at + length]))
                if value is not None:
                    end = at + length
                    if not (at and spelled[at - 1] in words.NEGATIONS):
                        yield _Hit(at, end, value)
                    break
            at = end


class TextRules:
    """The rules of some settings, ready to read texts. `brands` are those of the catalogue.

    It remembers what it read, so that a catalogue's titles are cheap. Raises nothing: a text that
    no rule knows says nothing.
    """

    def __init__(self, settings: TextSettings, brands: Collection[str] = ()) -> None:
        self._on = {name for name in BUILT_IN if name not in settings.off}
        self._salience = {**BUILT_IN, **settings.salience_q8}
        self._lists = {
            "claim": Phrases(_said(words.CLAIMS)),
            "form": Phrases(_said(words.FORMS)),
            "brand": Phrases((name, name) for name in [*settings.brands, *sorted(brands)]),
        }
        self._aromas = Phrases(_said(words.AROMAS))
        self._scents = Phrases(_said({**words.SCENTS, **words.AROMAS}))
        self._rules = [
            (rule, Phrases((p, value) for value, phrases in rule.phrases for p in phrases))
            for rule in settings.rules
        ]
        self._read = lru_cache(maxsize=20_000)(self._read_anew)

    def smells(self, text: str) -> bool:
        """Whether a text speaks of something that smells."""
        return any(token.text in words.SMELLING for token in tokens_of(text))

    def read(self, text: str, *, smells: bool | None = None) -> tuple[Found, ...]:
        """The markers that a text says, each once, in the order of the rules.

        `smells` says whether its thing smells (None: where the text says so itself).
        """
        return self._read(text, self.smells(text) if smells is None else smells)

    def _read_anew(self, text: str, smells: bool) -> tuple[Found, ...]:
        tokens = tokens_of(text)
        plain = _plain(tokens)
        spelled = [singular(token.text) for token in plain]
        used: set[int] = set()
        found: dict[str, Found] = {}
        for rule, namespace, salience_q8, hits in self._hits(plain, spelled, smells):
            for hit in hits:
                used.update(range(hit.begin, hit.end))
                said = " ".join(token.text for token in plain[hit.begin : hit.end])
                marker = f"{namespace}:{hit.value.replace(' ', '-')}"
                if marker not in found or found[marker].salience_q8 < salience_q8:
                    found[marker] = Found(marker, salience_q8, rule, said)
        for one in (*self._amounts(tokens), *self._others(plain, spelled, used)):
            found.setdefault(one.marker, one)
        kept = list(found.values())
        if len(kept) > MAX_MARKERS:
            kept = sorted(kept, key=lambda one: -one.salience_q8)[:MAX_MARKERS]
        return tuple(kept)

    def _hits(
        self, plain: Sequence[Token], spelled: Sequence[str], smells: bool
    ) -> Iterator[tuple[str, str, int, Iterator[_Hit]]]:
        """By rule: its name, namespace and salience, and what it finds."""
        for rule, phrases in self._rules:
            hits = _match(rule, plain) if rule.pattern else phrases.find(spelled)
            yield rule.name, rule.namespace, rule.salience_q8, hits
        aroma, aromas = ("scent", self._scents) if smells else ("flavour", self._aromas)
        for name, phrases in {**self._lists, aroma: aromas}.items():
            if name in self._on:
                yield name, name, self._salience[name], phrases.find(spelled)

    def _others(
        self, plain: Sequence[Token], spelled: Sequence[str], used: set[int]
    ) -> Iterator[Found]:
        """The words that no rule has used."""
        if "words" not in self._on:
            return
        for at, token in enumerate(plain):
            denied = at > 0 and spelled[at - 1] in words.NEGATIONS
            if at not in used and not denied and _says_something(token):
                yield Found(f"word:{spelled[at]}", self._salience["words"], "words", token.text)

    def _amounts(self, tokens: Sequence[Token]) -> Iterator[Found]:
        for said in amounts(tokens):
            rule = "size" if said.namespace == "size" else "pack"
            if rule in self._on:
                text = " ".join(token.text for token in tokens[said.begin : said.end])
                marker = f"{said.namespace}:{said.value}"
                yield Found(marker, self._salience[rule], rule, text)


def _said(lexicon: words.Lexicon) -> Iterator[tuple[str, str]]:
    return ((phrase, value) for value, phrases in lexicon.items() for phrase in phrases)


def _plain(tokens: Sequence[Token]) -> list[Token]:
    """Words and numbers; a per cent sign belongs to the number before it, and a sentence's end, a
    comma or a bracket parts phrases (as a word that none has)."""
    found: list[Token] = []
    for token in tokens:
        if token.number is not None or token.is_word:
            found.append(token)
        elif token.text == "%" and found and found[-1].number is not None:
            found[-1] = Token(found[-1].text + "%")
        elif token.text in ",;:.()/!?|" and found and found[-1].text != "/":
            found.append(_PARTED)
    return found


_PARTED: Final = Token("/")


def _says_something(token: Token) -> bool:
    return (
        token.is_word
        and 2 < len(token.text) <= _LONGEST_WORD
        and token.text not in words.STOP
        and token.text not in words.NEGATIONS
        and token.text not in UNITS
    )


def _match(rule: Rule, plain: Sequence[Token]) -> Iterator[_Hit]:
    """Where a pattern matches, from left to right, without overlaps."""
    at = 0
    while at < len(plain):
        hit = _match_at(rule, plain, at)
        if hit is not None:
            yield hit
        at = hit.end if hit is not None else at + 1


def _match_at(rule: Rule, plain: Sequence[Token], begin: int) -> _Hit | None:
    """The longest match that begins here. All ways are followed at once: there are at most as
    many as the pattern has words."""
    ways: dict[int, str] = {0: ""}
    best = None
    at = begin
    while ways:
        for item in range(len(rule.pattern)):
            if item in ways and rule.pattern[item].endswith("?"):
                ways.setdefault(item + 1, ways[item])
        if len(rule.pattern) in ways and at > begin:
            value = rule.value or ways[len(rule.pattern)]
            best = _Hit(begin, at, value) if value else best
        if at == len(plain):
            break
        ways = {
            item + 1: captured or _captured(rule.pattern[item], plain[at])
            for item, captured in sorted(ways.items(), reverse=True)
            if item < len(rule.pattern) and _fits(rule.pattern[item], plain[at])
        }
        at += 1
    return best


def _fits(item: str, token: Token) -> bool:
    wanted = item.removesuffix("?")
    if wanted in _CAPTURES:
        return token.number is not None if wanted == "{number}" else token.is_word
    return any(
        token.text.startswith(one[:-1]) if one.endswith("*") else one in (token.text, _one(token))
        for one in wanted.split("|")
    )


def _one(token: Token) -> str:
    return singular(token.text)


def _captured(item: str, token: Token) -> str:
    return token.text[:_LONGEST_WORD] if item.removesuffix("?") in _CAPTURES else ""
