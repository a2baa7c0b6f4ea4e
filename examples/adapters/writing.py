"""Writing import files: JSON Lines and CSV, whole or not at all, and the tally of an adapter."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.datasets import DataSetMissing

# A row of an import file: what the published JSON Schema of its kind describes.
Row = Mapping[str, Any]

# The order in which a fresh server takes the kinds: what is named before what names it.
IMPORT_ORDER = (
    "products", "contents", "places", "placements", "offers", "customers", "loyalty", "links",
    "signals", "browsing", "visits", "interactions",
)  # fmt: skip


@dataclass(frozen=True)
class Written:
    """What an adapter did: what it read (in words, with the number), and rows per file written."""

    folder: Path
    read: str
    files: Mapping[str, int]

    def in_import_order(self) -> list[tuple[str, Path]]:
        """(kind, file) pairs in the order in which a server can take them."""
        return [
            (kind, self.folder / name)
            for kind in IMPORT_ORDER
            for name in self.files
            if name.split(".")[0].split("-")[0] == kind
        ]

    def __str__(self) -> str:
        files = (f"{count:>8,} rows  {self.folder / name}" for name, count in self.files.items())
        return "\n".join((self.read, *files))


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """One JSON object per line; the number of rows."""
    count = 0
    whole = path.with_suffix(".part")
    with whole.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    whole.replace(path)
    return count


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    """CSV with a header; lists are joined by `|`. The number of rows."""
    count = 0
    whole = path.with_suffix(".part")
    with whole.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, fieldnames=list(columns))
        writer.writeheader()
        for row in rows:
            flat = {k: "|".join(v) if isinstance(v, list) else v for k, v in row.items()}
            writer.writerow(flat)
            count += 1
    whole.replace(path)
    return count


def adapter_main(
    name: str, description: str, write: Callable[[Path], Written], argv: Sequence[str] | None
) -> int:
    """Run an adapter as a command; 0 when written, 1 when a data set is not at hand."""
    parser = argparse.ArgumentParser(
        prog=f"python -m examples.adapters.{name}", description=description
    )
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    arguments = parser.parse_args(argv)
    try:
        print(write(arguments.out))
    except DataSetMissing as error:
        print(error, file=sys.stderr)
        return 1
    return 0
