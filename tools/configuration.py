"""Write the table of the SDK's settings in docs/configuration.md, or check it.

    python tools/configuration.py            # write
    python tools/configuration.py --check    # exit 1 where the page differs

The table comes from `edge_sdk.config.Config` and the `#:` comments above its fields.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from edge_sdk.config import PREFIX, Config

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "configuration.md"
SOURCE = ROOT / "edge_sdk" / "src" / "edge_sdk" / "config.py"
START, END = "<!-- settings: start -->", "<!-- settings: end -->"


def table() -> str:
    """One row for each field of Config. A field without a comment shares the one above."""
    rows = ["| variable | default | what it does |", "|---|---|---|"]
    comment: list[str] = []
    said = ""
    for line in SOURCE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"    #: (.*)", line):
            comment.append(match[1])
        elif match := re.match(r"    (\w+): [^=]+ = ", line):
            said = " ".join(comment) or said
            value = getattr(Config(), match[1])
            default = "none" if value is None else str(value)
            rows.append(f"| `{PREFIX}{match[1].upper()}` | {default} | {said} |")
            comment = []
    return "\n".join(rows)


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    args = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    fresh = f"{before}{START}\n{table()}\n{END}{after}"
    if args.check:
        if fresh != text:
            print("docs/configuration.md is out of date; run `make proto`")
            return 1
        return 0
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
