"""How many products have a marker, and what its rarity makes of its salience. Free of I/O.

A marker that every product has tells nothing apart; one that a single product has connects it with
no other. `learn` counts the products of a catalogue by marker; `Rarity` makes of a count a factor
in 1/256 and says what is left out. Integers only: every machine finds the same.

    factor = floor + (1 - floor) * min(1, log2(products / count) / log2(full_at))

This is of products, and goes into what is imprinted. `compare.matrix.rarity_of` is another
statistic: how rare a marker is among people, as a float, and only where genomes are compared.

A marker that was not counted (its product came later) counts fully until the next `dna learn`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from edge_sdk.dna.imprint import ilog2_q8
from edge_sdk.dna.markers import split
from genome_server.things.settings import ONE_Q8, RaritySettings

FORMAT: Final = 1
_BRAND: Final = "brand:"
_SHORTEST_BRAND: Final = 3


@dataclass(frozen=True)
class Counts:
    """What `genome-server dna learn` counted: the products, and by marker how many have it.

    `brands` are the names of the catalogue's brands that texts are searched for.
    """

    products: int
    markers: Mapping[str, int]
    brands: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Canonical: equal counts give equal text."""
        data = {
            "format": FORMAT,
            "products": self.products,
            "brands": sorted(self.brands),
            "markers": self.markers,
        }
        return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Counts:
        """Read what `to_json` wrote. Raises ValueError for a format that is not known."""
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"the counted markers are of format {data['format']}, not {FORMAT}")
        return cls(data["products"], data["markers"], tuple(data["brands"]))

    @cached_property
    def digest(self) -> str:
        """Names these counts."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def learn(dna: Iterable[Iterable[str]], brands: Iterable[str] = ()) -> Counts:
    """Count the products by marker; `dna` gives the markers of each, as they are before rarity."""
    counted: Counter[str] = Counter()
    products = 0
    for markers in dna:
        products += 1
        counted.update(set(markers))
    return Counts(products, dict(sorted(counted.items())), tuple(sorted(brands)))


def brands_of(dna: Iterable[Iterable[str]], least: int) -> list[str]:
    """The brands that at least so many products declare, as texts say them. Numbers are none."""
    counted = Counter(
        marker for markers in dna for marker in set(markers) if marker.startswith(_BRAND)
    )
    names = (
        marker.removeprefix(_BRAND).replace("-", " ")
        for marker, count in counted.items()
        if count >= least
    )
    return sorted(
        name
        for name in names
        if len(name) >= _SHORTEST_BRAND and not name.replace(" ", "").isdigit()
    )


class Rarity:
    """Counts under some settings: the factor of each marker. None of it changes."""

    def __init__(self, counts: Counts, settings: RaritySettings) -> None:
        self.counts = counts
        self._settings = settings
        self._all = ilog2_q8(max(counts.products, 1))
        self._full = ilog2_q8(settings.full_at)

    def count(self, marker: str) -> int | None:
        """How many products have a marker; None for one that was not counted."""
        return self.counts.markers.get(marker)

    def factor_q8(self, marker: str) -> int:
        """What a salience is multiplied by, in 1/256: `floor_q8` … 256."""
        count = self.count(marker)
        if count is None:
            return ONE_Q8
        halvings = max(self._all - ilog2_q8(count), 0)
        floor = self._settings.floor_q8
        return min(ONE_Q8, floor + (ONE_Q8 - floor) * halvings // self._full)

    def prunes(self, marker: str) -> bool:
        """Whether a marker is left out, since too few products have it."""
        count = self.count(marker)
        return count is not None and count < self._settings.least(split(marker)[0])
