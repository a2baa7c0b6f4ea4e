"""Write docs/import-formats.md from the schemas of the import, or check that it is current.

python -m tools.import_formats            # write
python -m tools.import_formats --check    # exit 1 where the committed page differs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genome_server.bulk.kind import MOMENTS
from genome_server.ingest.describe import Field, example_csv, example_yaml, fields
from genome_server.ingest.kinds import KINDS, Kind

PAGE = Path(__file__).resolve().parent.parent / "docs" / "import-formats.md"

_HEAD = """\
# Import formats

<!-- Written by tools/import_formats.py from the schemas; do not edit. -->

`genome-server import KIND FILE…` takes eleven kinds of rows in four formats. The format is told by
the extension, or by `--format`. `genome-server schema KIND` prints the JSON Schema of a kind, and
`genome-server schema KIND --example csv|jsonl|yaml` an example with every field.

| format | extension | rows |
|---|---|---|
| CSV | `.csv` | RFC 4180 with a header, UTF-8, commas; nested fields by dots, lists by bars |
| JSON Lines | `.jsonl`, `.ndjson` | one object per line, UTF-8 |
| YAML | `.yaml`, `.yml` | a list of rows, or one document per row; `no`, `007` and days are text |
| Parquet | `.parquet`, `.pq` | columns as in CSV, or nested types |

## What holds for all of them

- **Good rows go in, bad ones are set aside.** Each bad row is reported by file, line (Parquet:
  row), column and cause, and kept in `rejects/KIND-TIME.jsonl` of the tenant as it was. The command
  then ends with 1. Rows in = new + changed + unchanged + rejected, always.
- **Twice is once.** Importing a file again changes nothing. A row with a known id and other values
  replaces what was known. Interactions count once by their `interaction_id`, also against what
  devices reported; one without an id is known by its content.
- **A column that is not known is an error** that names the nearest one, so that a typo loses
  nothing in silence. An empty cell or a null says nothing.
- **In CSV** a nested field is a column with a dot (`context.weather`), a list is cut at `|`, a
  marker with its salience is `claim:organic=0.5`, and what is deeper is JSON in a cell. `attr.age`
  is short for `attributes.age`.
- **Times** have an offset: `2026-03-01T18:05:00+01:00`. Those of an offer with a `zone` may leave
  it out.
- **What an offer teaches** is said by its placement: when it counts as shown, for how long
  something is credited to it, and what becomes of a purchase that names no decision
  ([outcomes](outcomes.md)).
- **Ids** may be numbers and are kept as text.
- **Coordinates** become H3 cells while a row is read, keys of links become keyed hashes. Neither is
  in any file of the server, the rejects included.

Import in this order: products, contents, places, placements, offers, customers, loyalty, links,
signals, browsing, visits, interactions. What is named must be known: an interaction with a product,
offer or customer that is not is set aside (`--create-customers` makes the customers, also for
signals, browsing and visits). [sources.md](sources.md) says what becomes of which.

The last kind, moments, is not imported: these are the rows of lists for `genome-server decide`, see
[bulk.md](bulk.md).
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(kind) for kind in (*KINDS.values(), MOMENTS))])


def _section(kind: Kind) -> str:
    rows = "\n".join(_row(field) for field in fields(kind))
    return f"""\
## {kind.name}

{kind.summary}

| column | takes | |
|---|---|---|
{rows}

```yaml
{example_yaml(kind).rstrip()}
```

The same in CSV:

```csv
{example_csv(kind).rstrip()}
```
"""


def _row(field: Field) -> str:
    need = "**required**. " if field.required else ""
    text = f"{need}{field.description}".replace("|", "\\|")
    return f"| `{field.name}` | {field.takes} | {text} |"


def main() -> int:
    """Exit 1 where --check finds a difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    arguments = parser.parse_args()
    text = page()
    if arguments.check:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE} is out of date; run: python -m tools.import_formats")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
