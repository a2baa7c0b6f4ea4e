"""Take the figures: `make bench`, or `make bench ONLY=decide`.

Each section prints a table and appends one JSON object per figure to build/results.jsonl. With
--write the figures also go into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import sys

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
    "model",
    "places",
    "routine",
    "regions",
    "neighbours",
    "segments",
    "foresee",
    "segment",
    "things",
    "build",
)
#: What a section is taken with: our decisions beside those of what a user would pick instead.
TOGETHER = {"decide": ("decide", "rivals")}
DOCUMENT = ROOT / "docs" / "benchmarks.md"
START, END = "<!-- figures: start -->", "<!-- figures: end -->"


def write(figures: Figures) -> None:
    """Put the figures of this run between the marks of docs/benchmarks.md."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    today = dt.datetime.now(tz=dt.UTC).date()
    rows = "\n".join(
        f"| `{name}` | {value:g} | {unit} |" for name, (value, unit) in figures.taken.items()
    )
    block = (
        f"{START}\n{today}, {machine()}\n\n| figure | value | unit |\n|---|---:|---|\n{rows}\n{END}"
    )
    DOCUMENT.write_text(before + block + after, encoding="utf-8")


def wanted(only: str | None) -> tuple[str, ...]:
    """The sections of one that was asked for; all of them."""
    return TOGETHER.get(only, (only,)) if only else SECTIONS


def main() -> int:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, help="one section")
    parser.add_argument("--long", action="store_true", help="what takes many minutes, too")
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmarks.md (all sections)"
    )
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write takes all sections; leave --only out")
    print(machine())
    figures = Figures(long=args.long)
    for name in wanted(args.only):
        print(f"\n{name}", flush=True)
        importlib.import_module(f"tests.bench.{name}").run(figures)
    if args.write:
        write(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
