"""Lines of a UTF-8 text file, with the few wrong encodings that people really have."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from genome_server.errors import ImportRefused

_FOREIGN = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_PROBE_BYTES = 1 << 20


class Line(NamedTuple):
    """A physical line with its ending; `bad` says why `text` is only an approximation."""

    number: int
    text: str
    bad: str | None


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file, counted from 1, without a byte order mark.

    A line that is not UTF-8 comes with `bad` set. Raises ImportRefused where
    the file as a whole is in another encoding or is no text.
    """
    with path.open("rb") as file:
        start = file.read(_PROBE_BYTES)
        _check_start(path, start)
        file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
        for number, line in enumerate(file, start=1):
            try:
                yield Line(number, line.decode("utf-8"), None)
            except UnicodeDecodeError as error:
                column = len(line[: error.start].decode("utf-8")) + 1
                yield Line(
                    number,
                    line.decode("cp1252", errors="replace"),
                    f"is not UTF-8 (byte 0x{line[error.start]:02x} at character {column}; "
                    "perhaps the file is Windows-1252): save the file as UTF-8",
                )


def _check_start(path: Path, start: bytes) -> None:
    for mark, name in _FOREIGN.items():
        if start.startswith(mark):
            raise ImportRefused(f"{path}: the file is {name}; save it as UTF-8")
    if start.startswith(b"PAR1"):
        raise ImportRefused(f"{path}: this is a Parquet file; give --format parquet")
    if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ImportRefused(f"{path}: this is a spreadsheet or archive; save it as CSV")
    if start.startswith(b"\x1f\x8b"):
        raise ImportRefused(f"{path}: this is a gzip archive; unpack it first")
    if b"\x00" in start:
        raise ImportRefused(f"{path}: this is no text file (or UTF-16 without its mark)")
    if b"\n" not in start and b"\r" in start:
        raise ImportRefused(f"{path}: lines end in CR alone; save it with LF or CRLF")
