"""Take the figures: `make bench`, or `make bench ONLY=decide`.

Each section prints a table and appends one JSON object per figure to build/results.jsonl. With
--write they also go into docs/benchmarks.md, a table for each section, as soon as it is done: what
is compared with each other is taken in one section.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import sys
from collections.abc import Mapping

from tests.bench.figures import ROOT, Figures, machine

SECTIONS = (
    "decide",
    "rivals",
    "during_sync",
    "cold",
    "sync",
    "audience",
    "workers",
    "fanout",
    "ingest",
    "bulk",
    "loop",
    "regret",
    "model",
    "places",
    "routine",
    "regions",
    "neighbours",
    "segments",
    "foresee",
    "towers",
    "segment",
    "things",
    "offpolicy",
    "value",
    "build",
)
#: What a section is taken with: our decisions beside those of what a user would pick instead.
TOGETHER = {"decide": ("decide", "rivals")}
DOCUMENT = ROOT / "docs" / "benchmarks.md"
START, END = "<!-- figures: start -->", "<!-- figures: end -->"
HEADING = "### "


def write(section: str, taken: Mapping[str, tuple[float, str]]) -> None:
    """Put the figures of a section in the place of those that docs/benchmarks.md has of it.

    Raises ValueError where the marks are not there.
    """
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(START)
    block, after = rest.split(END)
    tables = {part.partition("\n")[0]: part for part in block.split(HEADING)[1:]}
    today = dt.datetime.now(tz=dt.UTC).date()
    rows = "\n".join(f"| `{name}` | {value:g} | {unit} |" for name, (value, unit) in taken.items())
    head = f"{section}\n\n{today}, {machine()}\n\n| figure | value | unit |\n|---|---:|---|\n"
    tables[section] = f"{head}{rows}\n\n"
    block = "".join(HEADING + tables[name] for name in SECTIONS if name in tables)
    DOCUMENT.write_text(f"{before}{START}\n\n{block}{END}{after}", encoding="utf-8")


def wanted(only: str | None) -> tuple[str, ...]:
    """The sections of one that was asked for; all of them."""
    return TOGETHER.get(only, (only,)) if only else SECTIONS


def main() -> int:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, help="one section")
    parser.add_argument("--long", action="store_true", help="what takes many minutes, too")
    parser.add_argument(
        "--write", action="store_true", help="put what was taken into docs/benchmarks.md, too"
    )
    args = parser.parse_args()
    print(machine())
    for name in wanted(args.only):
        print(f"\n{name}", flush=True)
        figures = Figures(long=args.long)
        importlib.import_module(f"tests.bench.{name}").run(figures)
        if args.write:
            write(name, figures.taken)
    return 0


if __name__ == "__main__":
    sys.exit(main())
