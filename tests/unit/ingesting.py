"""A fresh tenant to import into, and files in every format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from genome_server.home import Home, Tenant
from genome_server.ingest.describe import example_csv, example_jsonl, example_rows, example_yaml
from genome_server.ingest.importer import FileReport, import_file
from genome_server.ingest.kinds import KINDS
from genome_server.setup import set_up
from genome_server.store import Store

FORMATS = ("csv", "jsonl", "yaml", "parquet")
ORDER = tuple(KINDS)

Row = Mapping[str, Any]


@contextmanager
def new_tenant(root: Path) -> Iterator[tuple[Tenant, Store]]:
    """A tenant as `init` makes it, with its store open."""
    tenant = Home(root).tenant()
    set_up(tenant)
    store = tenant.open_store()
    try:
        yield tenant, store
    finally:
        store.close()


def run(tenant: Tenant, store: Store, kind: str, path: Path, **options: Any) -> FileReport:
    """Import a file and check that its rows add up."""
    report = import_file(tenant, store, KINDS[kind], path, **options)
    assert report.rows_in == report.new + report.changed + report.unchanged + report.rejected
    return report


def counts(report: FileReport) -> tuple[int, int, int, int]:
    """(new, changed, unchanged, rejected)."""
    return report.new, report.changed, report.unchanged, report.rejected


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows in the format of the path's extension (CSV by hand: see the tests)."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump([dict(row) for row in rows], sort_keys=False))
    else:
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
        pq.write_table(pa.table(columns), path)
    return path


def write_example(directory: Path, kind: str, format_: str) -> Path:
    """The published example of a kind, as a file."""
    chosen = KINDS[kind]
    path = directory / f"{kind}.{format_}"
    if format_ == "parquet":
        # Parquet has no objects without fields.
        rows = [{k: v for k, v in row.items() if v != {}} for row in example_rows(chosen)]
        return write(path, rows)
    text = {"csv": example_csv, "jsonl": example_jsonl, "yaml": example_yaml}[format_](chosen)
    path.write_text(text)
    return path


def import_examples(tenant: Tenant, store: Store, directory: Path, upto: str) -> None:
    """Import the examples of the kinds before `upto`, which may name what is in them."""
    for kind in ORDER[: ORDER.index(upto)]:
        run(tenant, store, kind, write_example(directory, kind, "jsonl"))
