"""From summaries to markers: levels that the population teaches, and habits. Free of I/O.

Rules.
- Levels run from 1 to 5. Their limits are the fifths of the customers who have enough of what is
  counted, learnt at a build and kept until the next; fewer than `LEAST_PEOPLE` customers teach
  nothing, and have none.
- Recency goes by the day of the last purchase and not by how long it is ago: a day that passes
  changes nobody's level.
- A habit (part of the week, channel, tender, home) is what stands out: it has at least
  `HABIT_SHARE` of at least `HABIT_COUNT`. Of equals the first by name.
- A life-stage follows from the attributes `age` and `children` alone. Of minors nothing is said.
- Only subjects who agreed to personalisation count, and the home region only those who agreed to
  its being known, too.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_sdk.errors import FormatError
from genome_server.derived.summary import Summary
from genome_server.store.rows import CONSENT_LOCATION, CONSENT_PERSONALISATION, CustomerRow

NAMESPACE: Final = "insight"
"""The namespace of every derived marker; it is a profile's, and nobody else may use it."""

LEAST_PEOPLE: Final = 20
HABIT_COUNT: Final = 5
HABIT_SHARE: Final = 0.4
_LEAST_PURCHASES: Final = 3
_LEAST_BASKETS: Final = 4
_LEVELS: Final = 5
_ONE: Final = 256
_SHARE: Final = 1 << 16

#: What can be asked for in dna.yaml, and what it says.
NAMES: Final[Mapping[str, str]] = {
    "rfm": "recency, frequency and spend, 1 to 5 each",
    "price": "price level against the median of each category, 1 to 5",
    "promotion": "share of purchases with a coupon or the like, 1 to 5",
    "rhythm": "how far apart baskets lie: daily, weekly … rarely",
    "routine": "the part of the week and day in which most is bought",
    "channel": "the channel that most interactions come by",
    "tender": "the way in which most purchases are paid",
    "life-stage": "from age and children: young-adult, adult, midlife, senior, family",
    "home": "the region of evenings and nights; needs the consent to location",
}

# Days between baskets, on average, up to which a rhythm has its name.
_RHYTHMS: Final = ((2, "daily"), (10, "weekly"), (20, "fortnightly"), (45, "monthly"),
                   (120, "quarterly"))  # fmt: skip
_RARELY: Final = "rarely"
_AGES: Final = ((18, 25, "young-adult"), (26, 39, "adult"), (40, 59, "midlife"),
                (60, 120, "senior"))  # fmt: skip

Facts = tuple[tuple[str, int], ...]

_MEASURES: Final[Mapping[str, tuple[str, Callable[[Summary], int | None]]]] = {
    "recency": ("rfm", lambda s: s.last_day if s.baskets else None),
    "frequency": ("rfm", lambda s: s.baskets or None),
    "spend": ("rfm", lambda s: max(s.spend_micros, 0) or None),
    "price": (
        "price",
        lambda s: s.price_q8 // s.priced if s.priced >= _LEAST_PURCHASES else None,
    ),
    "promotion": (
        "promotion",
        lambda s: s.promoted * _SHARE // s.bought if s.bought >= _LEAST_PURCHASES else None,
    ),
}
"""Of each level: what asks for it, and what is measured."""

_HABITS: Final = {
    "routine": "slots",
    "channel": "channels",
    "tender": "tenders",
    "home": "homes",
}


@dataclass(frozen=True)
class Insights:
    """What a build derives, and the limits that it learnt for that."""

    names: tuple[str, ...]
    limits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def learn(cls, names: Iterable[str], summaries: Iterable[Summary]) -> Insights:
        """From the summaries of all who count."""
        asked = tuple(sorted(set(names)))
        measured: dict[str, list[int]] = {}
        for summary in summaries:
            for level, value in _measured(asked, summary):
                measured.setdefault(level, []).append(value)
        limits = {
            level: _fifths(values)
            for level, values in sorted(measured.items())
            if len(values) >= LEAST_PEOPLE
        }
        return cls(asked, limits)

    def facts(self, customers: Sequence[CustomerRow]) -> Facts:
        """The derived markers, with salience in 1/256, of a person's subjects together."""
        agreed = _agreed(customers)
        if not agreed:
            return ()
        profile = [name for one in agreed for name, _ in one.markers]
        values = self._values(_together(agreed), profile)
        return tuple((f"{NAMESPACE}:{value}", _ONE) for value in values)

    def home(self, customers: Sequence[CustomerRow]) -> str:
        """The region where a person lives whose subjects these are; empty where none is derived."""
        return _habit(_together(_agreed(customers)).homes) if "home" in self.names else ""

    def _values(self, total: Summary, profile: Sequence[str]) -> Iterator[str]:
        for level, value in _measured(self.names, total):
            limits = self.limits.get(level)
            if limits is not None:
                yield f"{level}-{1 + bisect_left(limits, value)}"
        if "rhythm" in self.names and total.baskets >= _LEAST_BASKETS:
            yield f"rhythm-{_rhythm(total)}"
        for habit, counts in _HABITS.items():
            if habit in self.names:
                found = _habit(getattr(total, counts))
                if found:
                    yield f"{habit}-{found}"
        if "life-stage" in self.names:
            yield from (f"life-stage-{stage}" for stage in _life_stages(profile))

    def vocabulary(self, summaries: Iterable[Summary]) -> list[str]:
        """Every marker that these people can have, alone or linked, until the next build."""
        values = [f"{level}-{n}" for level in _MEASURES for n in range(1, _LEVELS + 1)]
        values += [f"rhythm-{name}" for _, name in _RHYTHMS]
        values.append(f"rhythm-{_RARELY}")
        values += [f"life-stage-{name}" for *_, name in _AGES]
        values.append("life-stage-family")
        seen = {
            f"{habit}-{name}"
            for summary in summaries
            for habit, counts in _HABITS.items()
            if habit in self.names
            for name in getattr(summary, counts)
        }
        return [f"{NAMESPACE}:{value}" for value in (*values, *sorted(seen))]

    def to_text(self) -> str:
        """As it is kept between builds."""
        return json.dumps({"names": self.names, "limits": self.limits}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Insights:
        """Read what `to_text` wrote. Raises FormatError."""
        try:
            said = json.loads(text)
            limits = {str(k): tuple(map(int, v)) for k, v in said["limits"].items()}
            return cls(tuple(said["names"]), limits)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FormatError("the limits of what is derived are not readable") from error


def _agreed(customers: Sequence[CustomerRow]) -> list[CustomerRow]:
    return [one for one in customers if (one.consents or 0) & CONSENT_PERSONALISATION]


def _together(agreed: Sequence[CustomerRow]) -> Summary:
    total = Summary()
    for one in agreed:
        if one.insight:
            part = Summary.from_text(one.insight)
            if not (one.consents or 0) & CONSENT_LOCATION:
                part.homes.clear()
            total.merge(part)
    return total


def _measured(names: Sequence[str], summary: Summary) -> Iterator[tuple[str, int]]:
    for level, (name, measure) in _MEASURES.items():
        value = measure(summary) if name in names else None
        if value is not None:
            yield level, value


def _fifths(values: list[int]) -> tuple[int, ...]:
    """The values above which a higher level begins, four of them."""
    ordered = sorted(values)
    return tuple(ordered[len(ordered) * part // _LEVELS - 1] for part in range(1, _LEVELS))


def _rhythm(total: Summary) -> str:
    days = (total.last_day - total.first_day) // (total.baskets - 1)
    return next((name for most, name in _RHYTHMS if days <= most), _RARELY)


def _habit(counts: Mapping[str, int]) -> str:
    """What stands out; empty where nothing does."""
    total = sum(counts.values())
    if total < HABIT_COUNT:
        return ""
    name, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return name if count >= HABIT_SHARE * total else ""


def _life_stages(profile: Sequence[str]) -> list[str]:
    ages = {int(v) for n, _, v in (m.partition(":") for m in profile) if n == "age" and _whole(v)}
    if len(ages) != 1 or min(ages) < _AGES[0][0]:
        return []
    (age,) = ages
    stages = [name for low, high, name in _AGES if low <= age <= high]
    children = {v for n, _, v in (m.partition(":") for m in profile) if n == "children"}
    if any(v in ("yes", "true") or (_whole(v) and int(v) > 0) for v in children):
        stages.append("family")
    return stages


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3
