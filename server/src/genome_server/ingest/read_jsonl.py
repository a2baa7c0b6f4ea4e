"""JSON Lines: one object per line, UTF-8."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from genome_server.errors import ImportRefused
from genome_server.ingest.check import RowError
from genome_server.ingest.kinds import Kind
from genome_server.ingest.readers import RawRow, without_nulls
from genome_server.ingest.text import Line, read_lines


def read(path: Path, kind: Kind) -> Iterator[RawRow]:
    """The rows of a JSON Lines file. Raises ImportRefused."""
    first = True
    for line in read_lines(path):
        text = line.text.strip()
        if not text:
            continue
        if first:
            _check_first(path, kind, line, text)
            first = False
        yield _row(line, text)


def _check_first(path: Path, kind: Kind, line: Line, text: str) -> None:
    """What is no JSON Lines at all is refused at once, not line by line."""
    if text.startswith("["):
        raise ImportRefused(
            f"{path}:{line.number}: one JSON array; write one object per line instead"
        )
    if text == "{":
        raise ImportRefused(
            f"{path}:{line.number}: an object over several lines; write each {kind.name} object "
            "in one line"
        )


def _row(line: Line, text: str) -> RawRow:
    if line.bad:
        return RawRow(line.number, {}, text, RowError("", line.bad))
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        cause = f"is not JSON: {error.msg} at character {error.colno}"
        return RawRow(line.number, {}, text, RowError("", cause))
    except (_TwiceError, ValueError, RecursionError) as error:
        return RawRow(line.number, {}, text, RowError("", f"is not JSON: {error}"))
    if not isinstance(value, dict):
        return RawRow(line.number, {}, text, RowError("", "is no JSON object"))
    if "\\u" in text and not _encodes(value):
        return RawRow(line.number, {}, text, RowError("", "holds half a character (a surrogate)"))
    return RawRow(line.number, without_nulls(value), value)


def _encodes(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


class _TwiceError(Exception):
    """A name that stands twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"the name {twice!r} stands twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise _TwiceError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
