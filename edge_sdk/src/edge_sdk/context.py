"""The moment of a decision, validated when it is built.

Rules.
- A context that exists is right: whatever cannot be is refused by the constructor with an
  `InvalidContext` that names the field, the value and what is allowed.
- Coordinates become a cell inside the constructor and are then forgotten. They are in no
  attribute, no repr, no pickle and no error message; the repr does not even show the cell, only
  the region around it.
- Nothing is guessed: what was not said is not there, and gives no marker.
- Time is local time, because "evening" is. A naive time is this machine's local time; none at all
  is the moment at which the decision is made, so that a context can be kept and used again.
"""

from __future__ import annotations

import math
import time as clock
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from itertools import islice
from numbers import Real
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from edge_sdk.arguments import is_text, is_whole
from edge_sdk.attributes import Scalar, attribute_marker, made_marker, read_attributes, wrong
from edge_sdk.config import LANGUAGE
from edge_sdk.dna.markers import STAGES, split, time_markers
from edge_sdk.engine.cells import (
    cell_from_latlng,
    format_cell,
    is_cell,
    parent,
    parse_cell,
    resolution,
)
from edge_sdk.errors import InvalidContext, InvalidMarker
from edge_sdk.values import dataclass

REGION_RESOLUTION: Final = 5
MAX_BASKET: Final = 256
MAX_RECENT: Final = 32
_MAX_TEXT: Final = 128
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_MINUTE_MS: Final = 60_000
# A minute, this machine's zone, and the weekday and hour there: a clock that is looked at many
# times a minute shows the same. Replaced whole.
_this_minute: tuple[int, tuple[str, str], int, int] = (-1, clock.tzname, 0, 0)


class LocalTime(NamedTuple):
    """A moment: Unix milliseconds, and the local ISO weekday (1 Monday … 7) and hour (0 … 23)."""

    ms: int
    weekday: int
    hour: int


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Context:
    """Where, when and in what the customer is.

    Give `lat` and `lng` in degrees, or `cell` (an H3 cell as a number or hex string, any
    resolution), or neither. `place`, `activity`, `channel` and `stage` ("before", "during",
    "after" a purchase) are words such as "hotel" or "flight-search"; a declared place wins over
    the place layer. `basket` holds product ids. `attributes` are free: `{"weather": "sunny"}`
    becomes the marker `weather:sunny`; a list of values becomes one marker each. `language` is
    what offers are shown in: BCP 47, such as "de" or "pt-BR"; without one it is the device's.
    `recent` is what went on before, as (activity, seconds ago): it counts the less the longer ago
    it was, and what a session or a known customer was doing here before is added to it.

    Raises InvalidContext.
    """

    cell: int | None = None
    place: str | None = None
    activity: str | None = None
    time: datetime | None = None
    channel: str | None = None
    basket: tuple[str, ...] = ()
    stage: str | None = None
    attributes: Mapping[str, Scalar | Sequence[Scalar]] = field(default_factory=dict, hash=False)
    language: str | None = None
    recent: tuple[tuple[str, float], ...] = ()
    #: The markers that the app declared: of the words, the attributes, the language.
    declared: tuple[str, ...] = field(init=False, compare=False)
    #: What went on before: markers, each with how many seconds ago that was.
    earlier: tuple[tuple[str, float], ...] = field(init=False, compare=False)
    #: Markers, each with its salience, that the device noticed and no app declared.
    noticed: tuple[tuple[str, float], ...] = field(init=False, compare=False)

    def __init__(
        self,
        *,
        lat: float | None = None,
        lng: float | None = None,
        cell: int | str | None = None,
        place: str | None = None,
        activity: str | None = None,
        time: datetime | None = None,
        channel: str | None = None,
        basket: Iterable[str] = (),
        stage: str | None = None,
        attributes: Mapping[str, Scalar | Sequence[Scalar]] | None = None,
        language: str | None = None,
        recent: Iterable[tuple[str, float]] = (),
    ) -> None:
        words = {"place": place, "activity": activity, "channel": channel, "stage": stage}
        said = {name: _word(name, value) for name, value in words.items() if value is not None}
        free = read_attributes(attributes)
        declared = list(said.values())
        for name, value in free.items():
            values = value if isinstance(value, tuple) else (value,)
            declared += [attribute_marker(name, item) for item in values]
        spoken = _language(language, free.get("language"))
        if spoken is not None:
            declared.append(made_marker("language", spoken))
        earlier = tuple(_recent(recent))
        put = object.__setattr__
        put(self, "cell", _cell(cell, lat, lng))
        for word in words:
            put(self, word, said[word][len(word) + 1 :] if word in said else None)
        put(self, "time", _time(time))
        put(self, "basket", _basket(basket))
        put(self, "attributes", MappingProxyType(free))
        put(self, "language", spoken)
        put(self, "recent", tuple((name[len(_ACTIVITY) :], ago_s) for name, ago_s in earlier))
        put(self, "declared", tuple(dict.fromkeys(declared)))
        put(self, "earlier", earlier)
        put(self, "noticed", ())

    def amid(
        self, earlier: Iterable[tuple[str, float]], noticed: Iterable[tuple[str, float]]
    ) -> Context:
        """This context, with more of what went on before and of what the device noticed."""
        return self._but(earlier=(*self.earlier, *earlier), noticed=(*self.noticed, *noticed))

    def at(self, time: datetime) -> Context:
        """This context at another time. Raises InvalidContext."""
        return self._but(time=_time(time))

    def _but(self, **changed: object) -> Context:
        other = object.__new__(Context)
        for name in self.__slots__:
            object.__setattr__(other, name, changed.get(name, getattr(self, name)))
        return other

    @property
    def region(self) -> str:
        """The coarse cell (resolution 5 or coarser) as a hex string; empty without a cell."""
        return region_of(self.cell)

    def local_time(self, now_ms: int) -> LocalTime:
        """When this is: the time that was given, or else `now_ms` in this machine's local time."""
        at = self.time
        if at is None:
            minute, zone, weekday, hour = _this_minute
            if minute != now_ms // _MINUTE_MS or zone is not clock.tzname:
                weekday, hour = _look_at_the_clock(now_ms)
            return LocalTime(now_ms, weekday, hour)
        return LocalTime(max(0, unix_ms(at)), at.isoweekday(), at.hour)

    def markers(self, now_ms: int | None = None) -> list[tuple[str, float]]:
        """The declared markers and those of the time, each with its salience (1.0)."""
        moment = self.local_time(int(clock.time() * 1000) if now_ms is None else now_ms)
        names = (*self.declared, *time_markers(moment.weekday, moment.hour))
        return [(name, 1.0) for name in names]

    def __repr__(self) -> str:
        said: dict[str, Any] = {
            "region": self.region or None,
            "place": self.place,
            "activity": self.activity,
            "time": self.time.isoformat() if self.time else None,
            "channel": self.channel,
            "basket": self.basket or None,
            "stage": self.stage,
            "attributes": dict(self.attributes) or None,
            "language": self.language,
            "recent": self.recent or None,
        }
        return f"Context({', '.join(f'{k}={v!r}' for k, v in said.items() if v is not None)})"

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {
            "cell": self.cell,
            "place": self.place,
            "activity": self.activity,
            "time": self.time,
            "channel": self.channel,
            "basket": self.basket,
            "stage": self.stage,
            "attributes": dict(self.attributes),
            "language": self.language,
            "recent": self.recent,
        }
        return _rebuild, (kept,)


def _look_at_the_clock(now_ms: int) -> tuple[int, int]:
    """The ISO weekday and hour in this machine's zone."""
    global _this_minute
    zone = clock.tzname
    local = clock.localtime(now_ms / 1000)
    _this_minute = (now_ms // _MINUTE_MS, zone, local.tm_wday + 1, local.tm_hour)
    return local.tm_wday + 1, local.tm_hour


def unix_ms(at: datetime) -> int:
    """Milliseconds since the Unix epoch, rounded down; a float of seconds would lose some."""
    return (at - _EPOCH) // _MILLISECOND


def region_of(cell: int | None) -> str:
    """The coarse region of a cell as it may be recorded and reported; empty without a cell."""
    if cell is None:
        return ""
    return format_cell(parent(cell, min(REGION_RESOLUTION, resolution(cell))))


def _rebuild(kept: dict[str, Any]) -> Context:
    return Context(**kept)


def _word(name: str, value: object) -> str:
    """The marker of a field that holds one word; `hotel` and `place:hotel` say the same."""
    allowed = f"a word of up to 120 characters, for example {_EXAMPLES[name]!r}"
    if not isinstance(value, str):
        raise wrong(name, value, allowed)
    try:
        made = made_marker(name, value.removeprefix(f"{name}:"))
    except InvalidMarker:
        raise wrong(name, value, allowed) from None
    if name == "stage" and split(made)[1] not in STAGES:
        raise wrong(name, value, f"one of {', '.join(STAGES)}")
    return made


def _recent(value: object) -> Iterator[tuple[str, float]]:
    """The markers of what went on before, each with how many seconds ago it was."""
    allowed = "pairs of an activity and how many seconds ago it was: [('flight-search', 300)]"
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise wrong("recent", value, allowed)
    for number, pair in enumerate(value):
        if number == MAX_RECENT:
            raise InvalidContext(f"recent holds more than {MAX_RECENT} activities")
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise wrong("recent", pair, allowed)
        activity, ago_s = pair
        if not isinstance(ago_s, int | float) or isinstance(ago_s, bool):
            raise wrong("recent", ago_s, allowed)
        if not 0 <= ago_s < _LONGEST_AGO_S:
            raise wrong("recent", ago_s, "seconds ago are not negative, and finite")
        yield _word("activity", activity), float(ago_s)


_ACTIVITY: Final = "activity:"
# A hundred years: what is longer ago is a mistake of the unit.
_LONGEST_AGO_S: Final = 3.2e9
_EXAMPLES: Final = {
    "place": "hotel",
    "activity": "flight-search",
    "channel": "kiosk",
    "stage": "before",
}


def _language(value: object, attribute: object) -> str | None:
    """The language that was said, in lower case; an attribute of that name will do."""
    if value is None:
        known = isinstance(attribute, str) and LANGUAGE.fullmatch(attribute)
        return attribute.lower() if isinstance(attribute, str) and known else None
    if not isinstance(value, str) or not LANGUAGE.fullmatch(value):
        raise wrong("language", value, "a BCP 47 tag, for example 'de' or 'pt-BR'")
    return value.lower()


def _cell(cell: int | str | None, lat: float | None, lng: float | None) -> int | None:
    if lat is not None or lng is not None:
        if lat is None or lng is None:
            raise InvalidContext("lat and lng belong together: give both, or a cell, or neither")
        if cell is not None:
            raise InvalidContext("give lat and lng, or a cell, not both")
        return cell_from_latlng(_degrees("lat", lat, 90), _degrees("lng", lng, 180))
    if cell is None:
        return None
    allowed = "an H3 cell as a number or hex string, for example '8a2a1072b59ffff'"
    if isinstance(cell, str):
        try:
            return parse_cell(cell)
        except InvalidContext:
            # Whoever writes coordinates here must not find them in the log.
            raise wrong("cell", cell if cell.isalnum() else (), allowed) from None
    if not is_whole(cell) or not is_cell(cell):
        raise wrong("cell", cell, allowed)
    return cell


def _degrees(name: str, value: object, limit: int) -> float:
    try:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        number = float(value) if is_number else math.nan  # type: ignore[arg-type]
    except OverflowError:
        number = math.nan
    if not -limit <= number <= limit:
        # The value stays out of the message: messages end up in logs.
        raise InvalidContext(f"{name} must be a number of degrees from -{limit} to {limit}")
    return number


def _time(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or not 1970 <= value.year < 9999:
        raise wrong("time", value, "a datetime; without a time zone it is local time")
    return value if value.tzinfo is not None else value.astimezone()


def _basket(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise wrong("basket", value, "a list of product ids")
    products = tuple(islice(value, MAX_BASKET + 1))
    if len(products) > MAX_BASKET:
        raise InvalidContext(f"basket holds {len(products)} products or more; at most {MAX_BASKET}")
    for product in products:
        if not is_text(product) or not 0 < len(product) <= _MAX_TEXT:
            raise wrong("basket", product, f"a product id of 1 to {_MAX_TEXT} characters")
    return products
