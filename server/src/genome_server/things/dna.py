"""The DNA of a product, an offer, a place or a piece of content, and where each marker is from.

    things = Things(settings, rarity)
    things.product(document)            # [(marker, salience_q8), ...]
    things.explain("product", document) # the same, with what is left out, as `Part`s

Free of I/O. Rules.

- A marker that is declared as DNA (`dna:`), and the kind of a place, are taken as they are.
- Others (brand, category, attributes, and what texts say) have their salience multiplied by their
  rarity, where that was learnt, and are left out where too few products have them. A thing that
  would be left without any keeps the most frequent of those.
- Where several say the same marker, declared DNA wins; else the greatest salience.
- An attribute that is read as a text gives what the rules find in it, if that is anything but
  plain words, in place of its own marker.
- A content's DNA is what its texts say and the mean of its products' DNA, weighed.
- Of a place's DNA, kinds of place (`place:…`) are at its cells; all of it imprints whoever did
  something with the place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from genome_server.ingest.dna import (
    Dna,
    attribute_markers,
    declared_dna,
    product_dna,
    product_parts,
)
from genome_server.things.rarity import Rarity
from genome_server.things.settings import ONE_Q8, Fields, Settings
from genome_server.things.text import VERSION, TextRules

Document = Mapping[str, Any]

MAX_FROM_PRODUCTS: Final = 32
"""Markers that a content has of its products: the strongest, and of equals by name."""


class Part(NamedTuple):
    """A marker of a thing: its salience in 1/256 before rarity and after (0: it is left out), the
    field it is from, the rule that found it ("declared" for what is written down), the words
    that say it, and how many products have it (None: not counted)."""

    marker: str
    before_q8: int
    salience_q8: int
    field: str
    rule: str
    said: str = ""
    products: int | None = None


class _Said(NamedTuple):
    marker: str
    salience_q8: int
    field: str
    rule: str
    said: str = ""
    fixed: bool = False


class Things:
    """The DNA of things under some settings. `product` gives the document of a product's id."""

    def __init__(
        self,
        settings: Settings | None = None,
        rarity: Rarity | None = None,
        product: Callable[[str], Document | None] = lambda _: None,
    ) -> None:
        self.settings = settings or Settings()
        self.rarity = rarity
        self._product = product
        brands = rarity.counts.brands if rarity is not None else ()
        self._rules = TextRules(self.settings.text, brands)

    @property
    def plain(self) -> bool:
        """Whether the DNA of products, offers and places is what is declared, and no more."""
        own = self.settings
        return self.rarity is None and not (own.products or own.offers or own.places)

    def digest(self) -> str:
        """Names what the DNA of things goes by; "" where that is the default and nothing learnt."""
        if self.rarity is None and replace(self.settings, said=False) == Settings():
            return ""
        counts = self.rarity.counts.digest if self.rarity is not None else ""
        text = f"{self.settings.to_json()}\n{counts}"
        return f"{VERSION}:{hashlib.sha256(text.encode()).hexdigest()}"

    # -- DNA

    def product(self, document: Document) -> Dna:
        """A product's DNA. Raises RowError with the field that is no marker."""
        return product_dna(document) if self.plain else _kept(self.explain("product", document))

    def offer(self, document: Document) -> Dna:
        """An offer's DNA. Raises RowError."""
        if not self.settings.offers:
            return declared_dna(document.get("dna"), "dna")
        return _kept(self.explain("offer", document))

    def place(self, document: Document) -> Dna:
        """A place's DNA. Raises RowError."""
        if not (self.settings.places or document.get("attributes") or document.get("dna")):
            return [(document["kind"], ONE_Q8)]
        return _kept(self.explain("place", document))

    def place_kinds(self, document: Document) -> Dna:
        """Those of a place's markers that say what kind of place it is: who is there is at one.
        Places on devices have no others; no salience is above 1.0. Raises RowError."""
        return [
            (marker, min(salience_q8, ONE_Q8))
            for marker, salience_q8 in self.place(document)
            if marker.startswith("place:")
        ]

    def content(self, document: Document) -> Dna:
        """The DNA of an e-mail or a page. Products that are not known add nothing. RowError."""
        return _kept(self.explain("content", document))

    def text(self, text: str) -> list[Part]:
        """What a text alone says, as a product's title."""
        return self._weighed(self._texts({"text": text}, {"text": ONE_Q8}))

    def explain(self, kind: str, document: Document) -> list[Part]:
        """Every marker of a document of a kind ("product", "offer", "place", "content"), those
        that are left out behind the others. Raises RowError."""
        said = getattr(self, f"_{kind}_says")(document)
        if kind != "content":
            return self._weighed(said)
        own = self._weighed(said)
        known = {part.marker for part in own if part.salience_q8}
        declared = {part.marker for part in own if part.field == "dna"}
        by_marker = {part.marker: part for part in own}
        for part in self._of_products(document):
            if part.marker in declared:
                continue
            before = by_marker.get(part.marker)
            if part.marker not in known or (before and before.salience_q8 < part.salience_q8):
                by_marker[part.marker] = part
        return sorted(by_marker.values(), key=lambda part: part.salience_q8 == 0)

    # -- what documents say

    def _product_says(self, document: Document) -> Iterator[_Said]:
        texts = dict(self._product_texts(document))
        found = [
            one
            for one in self._texts(texts, self.settings.products)
            if one.rule != "words" or not one.field.startswith("attributes.")
        ]
        spoken = {one.field for one in found if one.field.startswith("attributes.")}
        for field, marker, salience_q8 in product_parts(document):
            if field not in spoken:
                yield _Said(marker, salience_q8, field, "declared", fixed=field == "dna")
        yield from found

    def _product_texts(self, document: Document) -> Iterator[tuple[str, str]]:
        for field in self.settings.products:
            if field.startswith("attributes."):
                value = document.get("attributes", {}).get(field.removeprefix("attributes."))
            else:
                value = document.get(field)
            if value is not None:
                texts = value if isinstance(value, list) else [value]
                yield field, " , ".join(map(str, texts))

    def _offer_says(self, document: Document) -> Iterator[_Said]:
        yield from _declared(document)
        content = document.get("content") or {}
        yield from self._texts(
            {name: str(content[name]) for name in self.settings.offers if name in content},
            self.settings.offers,
        )

    def _place_says(self, document: Document) -> Iterator[_Said]:
        yield _Said(document["kind"], ONE_Q8, "kind", "declared", fixed=True)
        yield from _declared(document)
        yield from _attributes(document)
        texts = {name: document[name] for name in self.settings.places if document.get(name)}
        if "kind" in texts:
            texts["kind"] = texts["kind"].partition(":")[2].replace("-", " ")
        yield from self._texts(texts, self.settings.places)

    def _content_says(self, document: Document) -> Iterator[_Said]:
        yield from _declared(document)
        yield from _attributes(document)
        yield from self._texts(
            {name: document[name] for name in self.settings.contents if document.get(name)},
            self.settings.contents,
        )

    def _of_products(self, document: Document) -> list[Part]:
        """The mean of the DNA of a content's products, weighed."""
        names = dict.fromkeys(document.get("products") or ())
        sums: dict[str, int] = {}
        count = 0
        for name in names:
            product = self._product(name)
            if product is not None:
                count += 1
                for marker, salience_q8 in self.product(product):
                    sums[marker] = sums.get(marker, 0) + salience_q8
        weight = self.settings.products_q8
        mean = {
            marker: max(1, total * weight // (ONE_Q8 * count)) for marker, total in sums.items()
        }
        if not weight:
            return []
        strongest = sorted(mean.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_FROM_PRODUCTS]
        return [
            Part(marker, q8, q8, "products", "mean", "", self._count(marker))
            for marker, q8 in strongest
        ]

    def _texts(self, texts: Mapping[str, str], weights: Fields) -> Iterator[_Said]:
        if not texts:
            return
        smells = any(self._rules.smells(text) for text in texts.values())
        for field, text in texts.items():
            for found in self._rules.read(text, smells=smells):
                salience = max(1, found.salience_q8 * weights[field] // ONE_Q8)
                yield _Said(found.marker, salience, field, found.rule, found.said)

    # -- rarity

    def _count(self, marker: str) -> int | None:
        return self.rarity.count(marker) if self.rarity is not None else None

    def _weighed(self, said: Iterable[_Said]) -> list[Part]:
        best: dict[str, _Said] = {}
        for one in said:
            known = best.get(one.marker)
            if known is None or _precedes(one, known):
                best[one.marker] = one
        parts: list[Part] = []
        pruned: list[Part] = []
        for one in best.values():
            count = self._count(one.marker)
            salience = one.salience_q8
            if self.rarity is not None and not one.fixed:
                salience = max(1, salience * self.rarity.factor_q8(one.marker) // ONE_Q8)
                if self.rarity.prunes(one.marker):
                    salience = 0
            part = Part(one.marker, one.salience_q8, salience, *one[2:5], count)
            (parts if salience else pruned).append(part)
        if pruned and not parts:
            last = min(pruned, key=lambda part: (-(part.products or 0), part.marker))
            pruned.remove(last)
            parts.append(last._replace(salience_q8=last.before_q8))
        return parts + pruned


def _precedes(one: _Said, other: _Said) -> bool:
    """Whether one word on a marker counts rather than an earlier one."""
    if one.fixed or other.fixed:
        return one.fixed
    return one.salience_q8 > other.salience_q8


def _declared(document: Document) -> Iterator[_Said]:
    for marker, salience_q8 in declared_dna(document.get("dna"), "dna"):
        yield _Said(marker, salience_q8, "dna", "declared", fixed=True)


def _attributes(document: Document) -> Iterator[_Said]:
    for marker in attribute_markers(document.get("attributes", {})):
        yield _Said(marker, ONE_Q8, "attributes", "declared")


def _kept(parts: Iterable[Part]) -> Dna:
    return [(part.marker, part.salience_q8) for part in parts if part.salience_q8]
