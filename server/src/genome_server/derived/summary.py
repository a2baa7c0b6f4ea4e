"""What is kept of one subject, so that everything derived follows from it.

All of it adds up: counts and sums are added, of days the first and the last stay. So what a person
comes to is the sum of their subjects', and undoing a link gives each back what was its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from edge_sdk.errors import FormatError

_COUNTS: Final = ("slots", "channels", "tenders", "homes")
_NUMBERS: Final = (
    "baskets",
    "first_day",
    "last_day",
    "spend_micros",
    "bought",
    "promoted",
    "price_q8",
    "priced",
)


@dataclass(slots=True)
class Summary:
    """One subject's purchases and habits. Days count from the Unix epoch, in UTC.

    `baskets` are days with a purchase, from `first_day` to `last_day`; `spend_micros` what was paid
    in the currency that is used most, less refunds. `bought` purchases, of which `promoted` with a
    coupon or the like; `price_q8` is the sum over `priced` of them of the doublings (in 1/256) from
    the median price of their category. `slots` counts days by part of the week and day, `channels`
    and `tenders` interactions and purchases, `homes` days by region (H3, resolution 5 or coarser).
    """

    baskets: int = 0
    first_day: int = 0
    last_day: int = 0
    spend_micros: int = 0
    bought: int = 0
    promoted: int = 0
    price_q8: int = 0
    priced: int = 0
    slots: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    tenders: dict[str, int] = field(default_factory=dict)
    homes: dict[str, int] = field(default_factory=dict)

    def merge(self, other: Summary) -> None:
        """Add everything that another subject of the same person comes to."""
        if other.baskets:
            firsts = [one.first_day for one in (self, other) if one.baskets]
            self.first_day = min(firsts)
            self.last_day = max(self.last_day, other.last_day) if self.baskets else other.last_day
        for name in ("baskets", "spend_micros", "bought", "promoted", "price_q8", "priced"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _COUNTS:
            mine: dict[str, int] = getattr(self, name)
            for key, count in getattr(other, name).items():
                mine[key] = mine.get(key, 0) + count

    def to_text(self) -> str:
        """Canonical: equal summaries give equal text; nothing at all gives none."""
        said = {name: getattr(self, name) for name in (*_NUMBERS, *_COUNTS)}
        kept = {name: value for name, value in said.items() if value}
        return json.dumps(kept, sort_keys=True, separators=(",", ":")) if kept else ""

    @classmethod
    def from_text(cls, text: str) -> Summary:
        """Read what `to_text` wrote. Raises FormatError."""
        made = cls()
        made.merge(_read(text))
        return made


@lru_cache(maxsize=4_096)
def _read(text: str) -> Summary:
    try:
        return Summary(**json.loads(text)) if text else Summary()
    except (ValueError, TypeError) as error:
        raise FormatError("what is derived of a customer is not readable") from error
