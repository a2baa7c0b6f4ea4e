"""Files that mean no good: what cannot be read costs its row, never the rows around it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import SubjectState
from genome_server.home import Tenant
from genome_server.ingest.importing import import_files
from genome_server.ingest.sinks import open_sink
from genome_server.log import LogReader
from genome_server.store import Store
from tests.unit.ingesting import counts, new_tenant, run, write

TenantStore = tuple[Tenant, Store]

NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])),
                     pa.py_buffer(b"\xff\xfeA")],
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Iterator[TenantStore]:
    with new_tenant(tmp_path / "home") as made:
        yield made


@pytest.mark.parametrize(
    "value",
    ["!!int abc", "!!int ''", "!!float abc", "!!bool maybe", "!!timestamp soon", "1" * 5_000],
)
def test_yaml_with_a_value_that_is_none_costs_its_row(
    tmp_path: Path, home: TenantStore, value: str
) -> None:
    path = tmp_path / "products.yaml"
    path.write_text(f"- id: before\n- id: {value}\n- id: after\n")
    report = run(*home, "products", path)
    assert counts(report) == (2, 0, 0, 1)
    assert report.rejects[0].line == 2
    assert "not what its tag says" in report.rejects[0].cause


@pytest.mark.parametrize(
    "column",
    [
        NOT_UTF8,
        pa.array([2**31 - 1, None], type=pa.date32()),
        pa.array([2**62, None], type=pa.timestamp("us")),
        pa.array([2**62, None], type=pa.duration("s")),
        pa.array([1, None], type=pa.timestamp("us", tz="Mars/Olympus")),
    ],
    ids=["text", "day", "time", "span", "zone"],
)
def test_parquet_with_a_value_that_is_none_costs_its_row(
    tmp_path: Path, home: TenantStore, column: pa.Array
) -> None:
    path = tmp_path / "products.parquet"
    pq.write_table(pa.table({"id": ["bad", "good"], "title": column}), path)
    report = run(*home, "products", path)
    assert counts(report) == (1, 0, 0, 1)
    (reject,) = report.rejects
    assert (reject.line, reject.column) == (1, "title")
    assert "that can be read" in reject.cause


def test_long_numbers_as_ids_stay_apart(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    keys = [Decimal(12345678901234567890), Decimal(12345678901234567891)]
    path = tmp_path / "products.parquet"
    pq.write_table(pa.table({"id": pa.array(keys, type=pa.decimal128(20, 0))}), path)
    assert counts(run(tenant, store, "products", path)) == (2, 0, 0, 0)
    pq.write_table(pa.table({"id": pa.array([1e16, 1e16 + 2])}), path)
    assert counts(run(tenant, store, "products", path)) == (2, 0, 0, 0)
    assert {name for name, _ in store.documents("product")} == {
        "12345678901234567890",
        "12345678901234567891",
        "10000000000000000",
        "10000000000000002",
    }


def test_an_id_of_too_many_digits_is_refused_like_one_of_too_many_letters(
    tmp_path: Path, home: TenantStore
) -> None:
    path = tmp_path / "products.jsonl"
    path.write_text('{"id": ' + "1" * 4_000 + '}\n{"id": "good"}\n')
    report = run(*home, "products", path)
    assert counts(report) == (1, 0, 0, 1)
    assert report.rejects[0].cause == "has 4,000 digits; 128 are allowed"


def test_a_huge_field_of_csv_is_called_that(tmp_path: Path, home: TenantStore) -> None:
    path = tmp_path / "products.csv"
    path.write_text("id,title\nbig," + "x" * 200_000 + "\ngood,fine\n")
    report = run(*home, "products", path)
    assert counts(report) == (1, 0, 0, 1)
    assert report.rejects[0].cause == "a field has more than 131,072 characters"


@pytest.mark.parametrize("stamp", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_an_offer_at_the_ends_of_time_costs_its_row(
    tmp_path: Path, home: TenantStore, stamp: str
) -> None:
    rows: list[dict[str, Any]] = [{"id": "odd", "valid": {"until": stamp}}, {"id": "good"}]
    report = run(*home, "offers", write(tmp_path / "offers.jsonl", rows))
    assert counts(report) == (1, 0, 0, 1)
    assert report.rejects[0].column == "valid.until"


def test_a_customer_of_tomorrow_is_refused(tmp_path: Path, home: TenantStore) -> None:
    rows = [{"id": "1", "consent": ["personalisation"], "updated": "2999-01-01T00:00:00+00:00"}]
    report = run(*home, "customers", write(tmp_path / "c.jsonl", rows))
    assert report.rejects[0].column == "updated"
    assert "future" in report.rejects[0].cause


def test_files_that_cannot_be_opened_do_not_stop_the_next(
    tmp_path: Path, home: TenantStore
) -> None:
    tenant, store = home
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    bad = [tmp_path / ("x" * 300 + ".csv"), pipe, Path("/dev/null")]
    good = tmp_path / "good.csv"
    good.write_text("id\ngood\n")
    outcome = import_files(tenant, store, "products", [*bad, good], format="csv")
    refused = [report.refused for report in outcome.reports]
    assert "too long" in str(refused[0])
    assert "pipe or a device" in str(refused[1])
    assert "pipe or a device" in str(refused[2])
    assert refused[3] is None
    assert outcome.total("new") == 1


def test_a_name_that_is_not_utf8_is_in_the_rejects_as_escapes(
    tmp_path: Path, home: TenantStore
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    path.write_text("id,title\nonly-one-cell\n")
    report = run(*home, "products", path)
    assert report.rejects_file is not None
    (line,) = report.rejects_file.read_text().splitlines()
    assert json.loads(line)["file"] == str(path)


def test_two_imports_of_one_file_at_once_count_each_row_once(
    tmp_path: Path, home: TenantStore
) -> None:
    tenant, store = home
    rows = [
        {
            "interaction_id": f"i{n}",
            "customer": "1",
            "kind": "buy",
            "dna": [{"marker": "claim:organic", "salience": 1.0}],
            "time": "2026-03-01T18:05:00+01:00",
        }
        for n in range(6)
    ]
    path = write(tmp_path / "i.jsonl", rows)
    one, two = (open_sink(tenant, store, "interactions", path, create=True) for _ in range(2))
    new = 0
    # Each takes its turn to be ahead of the other.
    for sink, first in ((one, 0), (two, 0), (two, 2), (one, 2), (one, 4), (two, 4)):
        prepared = [sink.prepare(row) for row in rows[first : first + 2]]
        new += sink.write(prepared).put.inserted
    one.close()
    two.close()
    assert new == 6
    with LogReader(tenant.log_path) as log:
        assert log.end() == 6


def test_a_log_that_was_lost_is_imported_again(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    row = {
        "interaction_id": "i1",
        "customer": "1",
        "kind": "buy",
        "dna": ["claim:organic"],
        "time": "2026-03-01T18:05:00+01:00",
    }
    path = write(tmp_path / "i.jsonl", [row])
    assert counts(run(tenant, store, "interactions", path, create_customers=True)) == (1, 0, 0, 0)
    for left in tenant.dir.glob("log.sqlite*"):
        left.unlink()
    assert counts(run(tenant, store, "interactions", path)) == (1, 0, 0, 0)
    assert counts(run(tenant, store, "interactions", path)) == (0, 0, 1, 0)


def test_a_log_that_was_lost_does_not_keep_genomes_from_growing(
    tmp_path: Path, home: TenantStore
) -> None:
    tenant, store = home
    rows = [
        {
            "interaction_id": f"i{n}",
            "customer": "1",
            "kind": "buy",
            "dna": [f"claim:c{n}"],
            "time": "2026-03-01T18:05:00+01:00",
        }
        for n in range(4)
    ]

    def take(count: int) -> list[str]:
        """Import the first of them and let a server notice; what the customer's genome holds."""
        path = write(tmp_path / f"{count}.jsonl", rows[:count])
        run(tenant, store, "interactions", path, create_customers=True)
        with closing(LiveConsumer(tenant)) as live:
            while live.catch_up():
                pass
        subject = store.subject_of("app", "1")
        assert subject is not None
        record = store.genome(subject)
        assert record is not None
        imprints = SubjectState.from_bytes(record.state).imprints
        vocabulary = store.vocabulary()
        return sorted(vocabulary.name(index) for index in imprints.values)

    assert take(3) == ["claim:c0", "claim:c1", "claim:c2"]
    for left in tenant.dir.glob("log.sqlite*"):
        left.unlink()
    assert take(1) == ["claim:c0"]
    assert take(2) == ["claim:c0", "claim:c1"]
    assert take(4) == ["claim:c0", "claim:c1", "claim:c2", "claim:c3"]
