"""From rows of a list to what is asked: who, where it is shown, and the moment.

What the command says for all rows is there where a row says nothing; the attributes of both are
put together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge_sdk.context import Context
from edge_sdk.dna.genome import NOBODY
from edge_sdk.errors import UsageError as SdkUsageError
from genome_server.bulk.kind import MOMENTS, OF_THE_MOMENT
from genome_server.errors import UsageError
from genome_server.ingest.canonical import canonical
from genome_server.ingest.check import RowError, check
from genome_server.ingest.columns import Column, assemble, column_of, nearest_column
from genome_server.ingest.nearest import KnownIds
from genome_server.ingest.readers import RawRow
from genome_server.ingest.times import local_time

_POSITION: Final = frozenset({"cell", "lat", "lng"})
_REMEMBERED: Final = 10_000
# So many placements are named to who asked for another one.
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """One decision of a list. `line` is where it stands in it, from 1; `customer` is empty and
    `subject` NOBODY for nobody in particular."""

    line: int
    id: str
    source: str
    customer: str
    placement: str
    slots: int
    context: Context
    subject: bytes = NOBODY


@dataclass(frozen=True)
class ForAll:
    """What a command says for all rows of a list; `moment` are fields of the schema."""

    placement: str = ""
    slots: int = 1
    source: str = "app"
    moment: Mapping[str, Any] | None = None


def said_for_all(pairs: Sequence[str]) -> dict[str, Any]:
    """The fields of the moment from `FIELD=VALUE`, as the columns of a list are read.

    Raises UsageError.
    """
    columns: list[Column] = []
    cells: list[str] = []
    for pair in pairs:
        name, equals, cell = pair.partition("=")
        column = column_of(MOMENTS, name.strip())
        if not equals or not cell.strip():
            raise UsageError(f"{pair!r} is not FIELD=VALUE, such as channel=email")
        if column is None or column.path[0] not in OF_THE_MOMENT:
            hint = nearest_column(MOMENTS, name)
            raise UsageError(f"{name!r} is nothing that a moment has; {hint}")
        columns.append(column)
        cells.append(cell)
    said = assemble(columns, cells)
    try:
        check(MOMENTS, said)
        said = canonical(MOMENTS, said)
        _context(said)
    except RowError as error:
        raise UsageError(str(error)) from error
    return said


class MomentMaker:
    """Turns rows into what is asked, but for the subject."""

    def __init__(self, for_all: ForAll, placements: Sequence[str]) -> None:
        self._for_all = for_all
        self._moment = dict(for_all.moment or {})
        self._placements = KnownIds("placement", placements)
        self._there_are = _there_are(sorted(placements))
        # Most rows of a list are of few moments.
        self._known: dict[str, Context] = {}

    def check_placement(self, name: str) -> None:
        """Raise UsageError where there is no such placement."""
        if name not in self._placements:
            raise UsageError(self._no_placement(name))

    def _no_placement(self, name: str) -> str:
        return self._placements.unknown(name) + self._there_are

    def make(self, raw: RawRow) -> Asked:
        """What a row asks. Raises RowError."""
        if raw.error is not None:
            raise raw.error
        check(MOMENTS, raw.values)
        row = canonical(MOMENTS, raw.values)
        placement = row.get("placement", self._for_all.placement)
        if not placement:
            raise RowError("placement", "is missing, and --placement gives none for all rows")
        if placement not in self._placements:
            raise RowError("placement", self._no_placement(placement))
        return Asked(
            raw.line,
            row.get("id", ""),
            row.get("source", self._for_all.source),
            row.get("customer", ""),
            placement,
            row.get("slots", self._for_all.slots),
            self.context(row),
        )

    def context(self, row: Mapping[str, Any]) -> Context:
        """The moment of a row. Raises RowError."""
        said = {name: row[name] for name in OF_THE_MOMENT if name in row}
        merged = self._merged(said) if said else self._moment
        key = json.dumps(merged, sort_keys=True)
        known = self._known.get(key)
        if known is None:
            known = _context(merged)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = known
        return known

    def _merged(self, said: Mapping[str, Any]) -> dict[str, Any]:
        before = self._moment
        if not _POSITION.isdisjoint(said):  # a row has one position: its own
            before = {name: value for name, value in before.items() if name not in _POSITION}
        merged = {**before, **said}
        if "attributes" in before and "attributes" in said:
            merged["attributes"] = {**before["attributes"], **said["attributes"]}
        return merged


def _there_are(placements: Sequence[str]) -> str:
    """The placements that there are, as far as a sentence holds them."""
    if not placements:
        return ""
    more = len(placements) - _NAMED
    named = ", ".join(placements[:_NAMED])
    return f" (there are: {named}{f' and {more} more' if more > 0 else ''})"


def _context(said: Mapping[str, Any]) -> Context:
    fields = dict(said)
    if "time" in fields:
        fields["time"] = local_time("time", fields["time"])
    if "recent" in fields:
        fields["recent"] = [(one["activity"], one["ago_s"]) for one in fields["recent"]]
    try:
        return Context(**fields)
    except SdkUsageError as error:
        name, equals, _ = str(error).partition("=")
        field = name if equals and name in said else ""
        raise RowError(field or _named(str(error), said), str(error)) from error


def _named(message: str, said: Mapping[str, Any]) -> str:
    """The field that a message begins with, where it names one."""
    first = message.split(" ", 1)[0]
    return first if first in said else ""
