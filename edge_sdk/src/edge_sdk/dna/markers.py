"""Markers, `namespace:value`, and the vocabulary that numbers them.

A marker is one attribute of anything that has DNA: `brand:acme`,
`claim:organic`, `place:hotel`. The namespace is `[a-z][a-z0-9-]*`; the value is
printable text of at most 120 characters without space at either end, and no
position on earth: those become cells and go nowhere. `marker()`
makes one out of what people write, `split()` takes one apart and refuses
everything else.

A vocabulary is append-only: an index once given never changes its meaning.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from edge_sdk.errors import InvalidMarker, UsageError
from edge_sdk.messages import dna_pb2

MAX_VALUE_LENGTH: Final = 120
LINEAGE_BYTES: Final = 16

_NAMESPACE: Final = re.compile(r"[a-z][a-z0-9-]*")
# Two decimal numbers side by side, as fine as a block of houses or finer.
_POSITION: Final = re.compile(r"-?\d{1,3}\.\d{3,}\D{1,3}?-?\d{1,3}\.\d{3,}")
_GAP: Final = re.compile(r"\s+")
_NAMESPACE_GAP: Final = re.compile(r"[\s_]+")

_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# The first hour of each part of the day, in local time.
_DAYPARTS: Final = (
    (0, "night"),
    (6, "morning"),
    (11, "midday"),
    (14, "afternoon"),
    (18, "evening"),
)
_DAYPART_OF_HOUR: Final = tuple(
    next(name for first, name in reversed(_DAYPARTS) if hour >= first) for hour in range(24)
)
_WEEKEND: Final = "weekend:yes"

STAGES: Final = ("before", "during", "after")

BUILTIN_MARKERS: Final = (
    *(f"daypart:{name}" for _, name in _DAYPARTS),
    *(f"weekday:{name}" for name in _WEEKDAYS),
    _WEEKEND,
    *(f"stage:{name}" for name in STAGES),
)
"""Markers that every moment can have; the first entries of every vocabulary."""


def marker(namespace: str, value: str) -> str:
    """Make a marker out of what people write: `Brand`, `Acme  Foods` is `brand:acme-foods`.

    Both parts are lower-cased and normalised (NFC); white space inside becomes
    `-`, and so does `_` in the namespace. Raises `InvalidMarker`.
    """
    ns = _NAMESPACE_GAP.sub("-", namespace.strip().lower())
    text = _GAP.sub("-", unicodedata.normalize("NFC", value).strip().lower())
    made = f"{ns}:{text}"
    split(made)
    return made


def split(marker: str) -> tuple[str, str]:
    """Take a marker apart into namespace and value. Raises `InvalidMarker`."""
    namespace, colon, value = marker.partition(":")
    if not colon:
        raise InvalidMarker(f"{marker!r} is not a marker: write namespace:value")
    if _NAMESPACE.fullmatch(namespace) is None:
        raise InvalidMarker(
            f"{marker!r} is not a marker: {namespace!r} must be lower-case letters, digits and -"
        )
    if not value or len(value) > MAX_VALUE_LENGTH:
        raise InvalidMarker(
            f"{marker!r} is not a marker: its value must have 1 to {MAX_VALUE_LENGTH} characters"
        )
    if not value.isprintable() or value[0] == " " or value[-1] == " ":
        raise InvalidMarker(
            f"{marker!r} is not a marker: its value holds control characters or space at an end"
        )
    if "." in value and _POSITION.search(value):
        # The value stays out of the message: messages end up in logs.
        raise InvalidMarker(
            f"a marker in {namespace!r} holds a position; those become cells and go nowhere else"
        )
    return namespace, value


def time_markers(iso_weekday: int, hour: int) -> tuple[str, ...]:
    """Markers of a local time: part of the day, day of the week, and the week-end.

    `iso_weekday` is 1 (Monday) to 7, `hour` 0 to 23. Raises `UsageError` beyond these.
    """
    if not (1 <= iso_weekday <= 7 and 0 <= hour <= 23):
        raise UsageError(f"no such local time: weekday {iso_weekday}, hour {hour}")
    day = (f"daypart:{_DAYPART_OF_HOUR[hour]}", f"weekday:{_WEEKDAYS[iso_weekday - 1]}")
    return (*day, _WEEKEND) if iso_weekday >= 6 else day


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, or None where none is like it."""
    import difflib  # only needed on the way to an error message

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return close[0] if close else None


class Vocabulary:
    """An append-only, numbered list of markers. Immutable: `extend` gives another one.

    `lineage` is 16 bytes that name the list: rows and models of another lineage
    number their markers otherwise. Raises `UsageError` for a wrong lineage or a
    marker that stands twice, `InvalidMarker` for what is not a marker.
    """

    __slots__ = ("__weakref__", "_index", "_markers", "lineage")

    def __init__(self, lineage: bytes, markers: Sequence[str]) -> None:
        if len(lineage) != LINEAGE_BYTES:
            raise UsageError(f"a lineage has {LINEAGE_BYTES} bytes, not {len(lineage)}")
        self.lineage = lineage
        self._markers = tuple(markers)
        self._index = {name: i for i, name in enumerate(self._markers)}
        if len(self._index) != len(self._markers):
            twice = next(m for i, m in enumerate(self._markers) if self._index[m] != i)
            raise UsageError(f"marker {twice!r} stands twice in the vocabulary")
        for name in self._markers:
            split(name)

    @classmethod
    def from_proto(cls, message: dna_pb2.Vocabulary) -> Vocabulary:
        """Read a vocabulary. Raises like the constructor."""
        return cls(message.lineage, message.markers)

    def to_proto(self) -> dna_pb2.Vocabulary:
        """The message that `from_proto` reads."""
        return dna_pb2.Vocabulary(lineage=self.lineage, markers=self._markers)

    def extend(self, markers: Iterable[str]) -> Vocabulary:
        """This vocabulary with the markers that it does not have yet after its own, in order."""
        new = [m for m in dict.fromkeys(markers) if m not in self._index]
        return Vocabulary(self.lineage, (*self._markers, *new)) if new else self

    @property
    def markers(self) -> tuple[str, ...]:
        """All markers; the position is the index."""
        return self._markers

    def index(self, marker: str) -> int | None:
        """The index of a marker, or None where it is not known."""
        return self._index.get(marker)

    def name(self, index: int) -> str:
        """The marker with this index. Raises `IndexError` beyond the list."""
        if index < 0:
            raise IndexError(index)
        return self._markers[index]

    def nearest(self, marker: str) -> str | None:
        """The known marker most like this one: of its namespace if there is any, else of all."""
        namespace = marker.partition(":")[0] + ":"
        same = [m for m in self._markers if m.startswith(namespace)]
        return nearest_name(marker, same) or nearest_name(marker, self._markers)

    def __contains__(self, marker: object) -> bool:
        return marker in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self._markers)

    def __len__(self) -> int:
        return len(self._markers)

    def __repr__(self) -> str:
        return f"Vocabulary({self.lineage.hex()}, {len(self)} markers)"
