"""Interactions into the log: each once, whatever is imported again, and however it is stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.home import Tenant
from genome_server.ingest.interactions import LogSink
from genome_server.log import Committer, LogReader
from genome_server.store import Store
from tests.unit.ingesting import counts, new_tenant, run, write

TenantStore = tuple[Tenant, Store]
AT = "2026-03-01T18:05:00+01:00"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[TenantStore]:
    with new_tenant(tmp_path / "home") as (tenant, store):
        run(tenant, store, "products", write(tmp_path / "p.jsonl", [{"id": "tea"}, {"id": "milk"}]))
        run(tenant, store, "offers", write(tmp_path / "o.jsonl", [{"id": "taxi"}]))
        run(tenant, store, "customers", write(tmp_path / "c.jsonl", [{"id": "1"}, {"id": "2"}]))
        places = [{"id": "h", "kind": "hotel", "cells": ["892a100d2d7ffff"]}]
        run(tenant, store, "places", write(tmp_path / "l.jsonl", places))
        yield tenant, store


def row(number: int | None = None, **more: Any) -> dict[str, Any]:
    made = {"customer": "1", "kind": "buy", "product": "tea", "time": AT, **more}
    return made if number is None else {"interaction_id": f"i{number}", **made}


def logged(tenant: Tenant) -> list[tuple[Frame, event_pb2.Interaction]]:
    with LogReader(tenant.log_path) as reader:
        frames = list(reader.frames())
    return [
        (
            Frame(f.sequence, f.subject, f.kind, f.time_ms, f.body),
            event_pb2.Event.FromString(f.body).interaction,
        )
        for f in frames
    ]


def test_a_row_becomes_an_event(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    context = {"activity": "Flight  Search", "weather": "rainy", "stage": "before"}
    rows = [
        row(1, amount=12.9, currency="EUR", quantity=1.5, tender="card", dwell_ms=70,
            cell="8a2a100d2d57fff", context=context),
        row(2, product=None, offer="taxi", customer=2, context={"place": "bar"},
            cell="8a2a100d2d57fff"),
        row(3, product=None, dna={"claim:organic": 0.5}),
    ]  # fmt: skip
    assert run(tenant, store, "interactions", write(tmp_path / "i.jsonl", rows)).whole
    (first, bought), (second, offered), (_, explicit) = logged(tenant)
    assert first.kind == FrameKind.INTERACTION
    assert first.time_ms == 1_772_384_700_000
    assert first.subject == store.subject_of("app", "1")
    assert second.subject == store.subject_of("app", "2")
    assert (bought.product, bought.amount_micros, bought.currency) == ("tea", 12_900_000, "EUR")
    assert (bought.quantity_milli, bought.tender, bought.dwell_ms) == (1_500, "card", 70)
    assert list(bought.context_markers) == [
        "activity:flight-search",
        "stage:before",
        "weather:rainy",
        "daypart:evening",
        "weekday:sunday",
        "weekend:yes",
        "place:hotel",
    ]
    assert bought.region == "852a100ffffffff"
    assert "place:hotel" not in offered.context_markers, "a declared place wins"
    assert "place:bar" in offered.context_markers
    assert [(item.marker, item.salience_q8) for item in explicit.dna] == [("claim:organic", 128)]
    assert {"weather:rainy", "claim:organic", "daypart:evening"} <= set(store.vocabulary())
    assert b"8a2a100d2d57fff" not in tenant.log_path.read_bytes(), "only the region is kept"


def test_twice_is_once(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = write(tmp_path / "i.jsonl", [row(n) for n in range(50)] + [row(7), row(7, kind="view")])
    report = run(tenant, store, "interactions", path)
    assert counts(report) == (50, 0, 1, 1)
    assert "line 8" in report.rejects[0].cause
    assert counts(run(tenant, store, "interactions", path)) == (0, 0, 51, 1)
    assert len(logged(tenant)) == 50


def test_another_file_with_some_of_the_same(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    run(tenant, store, "interactions", write(tmp_path / "a.jsonl", [row(n) for n in range(30)]))
    more = write(tmp_path / "b.yaml", [row(n) for n in range(20, 40)])
    assert counts(run(tenant, store, "interactions", more)) == (10, 0, 10, 0)
    assert {i.interaction_id for _, i in logged(tenant)} == {f"i{n}" for n in range(40)}
    assert len(logged(tenant)) == 40


def test_rows_without_an_id_are_known_by_content_and_occurrence(
    tmp_path: Path, home: TenantStore
) -> None:
    tenant, store = home
    path = write(tmp_path / "i.jsonl", [row(), row(), row(kind="view")])
    assert counts(run(tenant, store, "interactions", path)) == (3, 0, 0, 0), "twice bought is two"
    assert counts(run(tenant, store, "interactions", path)) == (0, 0, 3, 0)
    write(path, [row(), row(), row(kind="view"), row()])
    assert counts(run(tenant, store, "interactions", path)) == (1, 0, 3, 0)


def test_what_a_device_reported_is_not_imported_again(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    subject = store.subject_of("app", "1")
    assert subject is not None
    body = event_pb2.Event(
        interaction=event_pb2.Interaction(interaction_id="i3", kind="buy", product="tea")
    ).SerializeToString()
    frame = encode_frame(Frame(1, subject, FrameKind.INTERACTION, 1, body))
    with Committer(tenant.log_path) as log:
        log.append_batch("d1", b"e" * 16, 0, 1, 1, frame, hashlib.sha256(frame).digest())
    path = write(tmp_path / "i.jsonl", [row(n) for n in range(5)])
    assert counts(run(tenant, store, "interactions", path)) == (4, 0, 1, 0)


def test_stopped_between_the_log_and_the_list_of_ids(
    tmp_path: Path, home: TenantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, store = home
    path = write(tmp_path / "i.jsonl", [row(n) for n in range(10)])
    commit = LogSink._commit

    def commit_and_die(self: LogSink, frames: list[bytes]) -> None:
        commit(self, frames)
        raise KeyboardInterrupt

    monkeypatch.setattr(LogSink, "_commit", commit_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(tenant, store, "interactions", path)
    assert store.seen_interactions([], "log") == set()
    monkeypatch.undo()
    assert counts(run(tenant, store, "interactions", path)) == (0, 0, 10, 0)
    assert len(logged(tenant)) == 10


def test_a_file_whose_bad_rows_were_mended_elsewhere(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = write(tmp_path / "i.jsonl", [row(1), row(2, product="coffee"), row(3)])
    report = run(tenant, store, "interactions", path)
    assert counts(report) == (2, 0, 0, 1)
    assert report.rejects[0].cause.startswith("there is no product 'coffee'")
    run(tenant, store, "products", write(tmp_path / "p2.jsonl", [{"id": "coffee"}]))
    assert counts(run(tenant, store, "interactions", path)) == (1, 0, 2, 0)
    assert [frame.sequence for frame, _ in logged(tenant)] == [1, 2, 3]


def test_customers_who_are_not_known(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = write(tmp_path / "i.jsonl", [row(1), row(2, customer="11"), row(3, source="till")])
    report = run(tenant, store, "interactions", path)
    assert counts(report) == (1, 0, 0, 2)
    assert report.rejects[0].column == "customer"
    assert "'11'" in report.rejects[0].cause
    assert "--create-customers" in report.rejects[0].cause
    made = run(tenant, store, "interactions", path, create_customers=True)
    assert counts(made) == (2, 0, 1, 0)
    subject = store.subject_of("app", "11")
    assert subject is not None
    customer = store.customer(subject)
    assert customer is not None
    assert customer.consents == 0, "nobody is taken to agree"
    assert store.audience_size("all") == 4


@pytest.mark.parametrize(
    ("more", "column", "says"),
    [
        ({"product": "tee"}, "product", "did you mean 'tea'?"),
        ({"product": None, "offer": "taxy"}, "offer", "did you mean 'taxi'?"),
        ({"offer": "taxi"}, "offer", "exclude each other"),
        ({"kind": "bye"}, "kind", "did you mean 'buy'?"),
        ({"time": "2026-03-01 18:05"}, "time", "with its offset"),
        ({"time": "soon"}, "time", "with its offset"),
        ({"time": "2999-01-01T00:00:00Z"}, "time", "future"),
        ({"time": "1960-01-01T00:00:00Z"}, "time", "1970"),
        ({"amount": "12,90"}, "amount", "a number"),
        ({"currency": "euro"}, "currency", "EUR"),
        ({"cell": "8a2a100d2d57ffe"}, "cell", "H3 cell"),
        ({"context": {"stage": "later"}}, "context.stage", "before, during, after"),
        ({"context": {"lat": 48.2}}, "context", "lat"),
        ({"context": {"basket": "x"}}, "context", "basket"),
        ({"dwell_ms": -1}, "dwell_ms", "0 or more"),
        ({"custommer": "1"}, "custommer", "did you mean 'customer'?"),
    ],
)
def test_rows_that_are_wrong(
    tmp_path: Path, home: TenantStore, more: dict[str, Any], column: str, says: str
) -> None:
    tenant, store = home
    made = {key: value for key, value in row(1, **more).items() if value is not None}
    report = run(tenant, store, "interactions", write(tmp_path / "i.jsonl", [made, row(2)]))
    assert counts(report) == (1, 0, 0, 1)
    assert report.rejects[0].column == column
    assert says in report.rejects[0].cause
    assert report.rejects_file is not None
    assert "48.2" not in report.rejects_file.read_text()


def test_many_rows_in_chunks(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = tmp_path / "i.csv"
    lines = (f"n{n},{n % 2 + 1},view,milk,{AT}" for n in range(5_000))
    path.write_text("interaction_id,customer,kind,product,time\n" + "\n".join(lines))
    assert counts(run(tenant, store, "interactions", path)) == (5_000, 0, 0, 0)
    with LogReader(tenant.log_path) as reader:
        assert reader.end() == 5_000
        assert {batch.device for batch in reader.batches()} == {"import"}
    assert counts(run(tenant, store, "interactions", path)) == (0, 0, 5_000, 0)
