"""Loyalty, signals, pages and links: what a row becomes, and that it counts once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.ingest.interactions import link_key
from genome_server.ingest.sources import (
    Holder,
    key_hash,
    points_step,
    signal_salience,
    words_of_key,
)
from genome_server.log import LogReader
from genome_server.store import Store
from tests.unit.ingesting import counts, new_tenant, run, write

TenantStore = tuple[Tenant, Store]
AT = "2026-03-01T18:05:00+01:00"
AT_MS = 1_772_384_700_000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[TenantStore]:
    with new_tenant(tmp_path / "home") as (tenant, store):
        run(tenant, store, "products", write(tmp_path / "p.jsonl", [{"id": "tea"}]))
        rows: list[dict[str, Any]] = [{"id": "1", "attributes": {"age": 40}}, {"id": "2"}]
        run(tenant, store, "customers", write(tmp_path / "c.jsonl", rows))
        yield tenant, store


def logged(tenant: Tenant) -> list[tuple[int, bytes, event_pb2.Event]]:
    with LogReader(tenant.log_path) as reader:
        return [(f.kind, f.subject, event_pb2.Event.FromString(f.body)) for f in reader.frames()]


def markers(store: Store, name: str, source: str = "app") -> list[str]:
    subject = store.subject_of(source, name)
    assert subject is not None
    customer = store.customer(subject)
    assert customer is not None
    return [marker for marker, _ in customer.markers]


# -- loyalty


def test_points_are_steps() -> None:
    found = [points_step(points) for points in (0, 99, 100, 199, 200, 499, 500, 999, 12_345)]
    assert found == [0, 0, 100, 100, 200, 200, 500, 500, 10_000]


@given(st.integers(0, 10**12))
def test_a_step_is_reached_and_the_next_is_not(points: int) -> None:
    step = points_step(points)
    following = 100 if step == 0 else step * 5 // 2 if str(step)[0] == "2" else step * 2
    assert step <= points < following


def test_the_newest_standing_replaces_the_one_before(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home

    def stands(at: str, **said: Any) -> tuple[int, int, int, int]:
        row = {"customer": "1", "at": f"2026-0{at}-01T00:00:00Z", **said}
        return counts(run(tenant, store, "loyalty", write(tmp_path / "l.jsonl", [row])))

    assert stands("3", tier="Silver", points=250) == (1, 0, 0, 0)
    assert markers(store, "1") == ["age:40", "tier:silver", "points:200"]
    assert stands("3", tier="Silver", points=250) == (0, 0, 1, 0)
    assert stands("2", tier="Gold") == (0, 0, 1, 0), "older than what is known"
    assert stands("4", tier="Gold") == (0, 1, 0, 0)
    assert markers(store, "1") == ["age:40", "tier:gold"]
    assert stands("5") == (0, 0, 0, 1), "it says nothing"


def test_loyalty_and_the_profile_leave_each_other_alone(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    rows = [{"customer": "9", "source": "club", "tier": "gold", "at": AT}]
    assert run(tenant, store, "loyalty", write(tmp_path / "l.jsonl", rows)).whole
    assert markers(store, "9", "club") == ["tier:gold"]
    people: list[dict[str, Any]] = [{"id": "9", "source": "club", "attributes": {"age": 50}}]
    run(tenant, store, "customers", write(tmp_path / "c.jsonl", people))
    assert markers(store, "9", "club") == ["age:50", "tier:gold"]
    subject = store.subject_of("club", "9")
    assert subject is not None
    store.set_consents(subject, 2)
    assert markers(store, "9", "club") == ["age:50", "tier:gold"]


def test_what_builds_derive_is_not_declared(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    rows: list[dict[str, Any]] = [
        {"id": "1", "attributes": {"insight": "spend-5"}},
        {"id": "2", "markers": ["insight:spend-5"]},
    ]
    report = run(tenant, store, "customers", write(tmp_path / "c.jsonl", rows))
    assert [one.column for one in report.rejects] == ["attributes.insight", "markers"]
    assert markers(store, "1") == ["age:40"]


# -- signals and pages


def test_salience_of_a_signal() -> None:
    assert signal_salience(None, 0) == 128
    assert signal_salience(-1.0, 0) == signal_salience(1.0, 0) == 256
    assert signal_salience(0.0, 0) == 64
    assert signal_salience(1.0, 1) == 320, "a doubling adds a quarter"
    assert signal_salience(1.0, 15) == 512
    assert signal_salience(1.0, 10**9) <= 4096


def test_a_signal_becomes_an_interaction(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    rows: list[dict[str, Any]] = [
        {"signal_id": "a", "customer": "1", "topic": ["Green Tea", "oolong"], "brand": "Acme",
         "community": "tea-lovers", "sentiment": 1, "platform": "forum", "time": AT},
        {"signal_id": "b", "customer": "2", "topic": ["oolong"], "sentiment": -0.5, "time": AT},
        {"customer": "2", "sentiment": 1, "time": AT},
        {"customer": "3", "topic": ["oolong"], "time": AT},
    ]  # fmt: skip
    path = write(tmp_path / "s.jsonl", rows)
    report = run(tenant, store, "signals", path)
    assert counts(report) == (2, 0, 0, 2)
    assert [one.column for one in report.rejects] == ["topic", "customer"]
    first, second = (event.interaction for _, _, event in logged(tenant))
    assert (first.kind, second.kind) == ("endorse", "criticise")
    said = [(one.marker, one.salience_q8) for one in first.dna]
    names = ["topic:green-tea", "topic:oolong", "brand:acme", "community:tea-lovers"]
    assert said == [(name, 256) for name in names]
    assert [(one.marker, one.salience_q8) for one in second.dna] == [("topic:oolong", 128)]
    assert "channel:forum" in first.context_markers
    assert counts(run(tenant, store, "signals", path)) == (0, 0, 2, 2)


def test_a_tenant_without_the_kinds_is_told_what_to_add(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    text = tenant.dna_path.read_text()
    kept = [line for line in text.splitlines() if not line.startswith("  endorse")]
    tenant.dna_path.write_text("\n".join(kept) + "\n")
    rows = [{"customer": "1", "topic": ["tea"], "time": AT}]
    report = run(tenant, store, "signals", write(tmp_path / "s.jsonl", rows))
    assert "`endorse: 0.5`" in report.rejects[0].cause


def test_a_visit_becomes_interactions(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    page = {"customer": "1", "session": "v", "time": AT}
    rows: list[dict[str, Any]] = [
        {**page, "step": 1, "dna": ["category:tea"], "dwell_ms": 7_000},
        {**page, "step": 2, "product": "tea", "action": "click", "channel": "app"},
        {**page, "step": 2, "product": "tea"},
        {**page, "step": 3, "product": "nope"},
    ]
    path = write(tmp_path / "b.jsonl", rows)
    report = run(tenant, store, "browsing", path)
    assert counts(report) == (2, 0, 0, 2)
    assert [one.column for one in report.rejects] == ["step", "product"]
    first, second = (event.interaction for _, _, event in logged(tenant))
    assert (first.kind, first.dwell_ms, second.kind) == ("browse", 7_000, "click")
    assert "channel:web" in first.context_markers
    assert "channel:app" in second.context_markers
    assert counts(run(tenant, store, "browsing", path)) == (0, 0, 2, 2)


# -- links


def linked(tenant: Tenant, store: Store) -> list[tuple[set[tuple[str, str]], bool, int]]:
    names = {subject: (source, name) for subject, source, name in store.external_ids()}
    return [
        (
            {names[subject], names[event.link.other_subject]},
            event.link.linked,
            event.time.wall_ms - AT_MS,
        )
        for kind, subject, event in logged(tenant)
        if kind == FrameKind.LINK
    ]


def test_a_link_is_an_event_said_once(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    rows: list[dict[str, Any]] = [
        {"customer": "1", "other": "77", "other_source": "club", "at": AT},
        {"customer": "77", "source": "club", "other": "1", "at": AT},
        {"customer": "1", "other": "77", "other_source": "club", "at": AT, "linked": False},
        {"customer": "1", "other": "1", "at": AT},
        {"customer": "1", "at": AT},
    ]
    path = write(tmp_path / "l.jsonl", rows)
    report = run(tenant, store, "links", path)
    assert counts(report) == (2, 0, 1, 2)
    both = {("app", "1"), ("club", "77")}
    assert linked(tenant, store) == [(both, True, 0), (both, False, 0)]
    assert markers(store, "1") == ["age:40"], "who was known is left alone"
    assert markers(store, "77", "club") == []
    assert counts(run(tenant, store, "links", path)) == (0, 0, 3, 2)
    assert len(linked(tenant, store)) == 2


def test_a_shared_key_links_and_giving_it_back_undoes(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home

    def say(seconds: int, customer: str, key: str, **more: Any) -> tuple[int, int, int, int]:
        at = f"2026-03-01T18:05:{seconds:02}+01:00"
        row = {"customer": customer, "key": key, "key_kind": "email", "at": at, **more}
        return counts(run(tenant, store, "links", write(tmp_path / "k.jsonl", [row])))

    assert say(1, "1", "Anna@Example.org ") == (1, 0, 0, 0)
    assert linked(tenant, store) == []
    assert say(2, "2", "anna@example.org") == (1, 0, 0, 0)
    assert say(2, "2", "anna@example.org") == (0, 0, 1, 0)
    assert say(3, "2", "other@example.org") == (1, 0, 0, 0)
    both = {("app", "1"), ("app", "2")}
    assert linked(tenant, store) == [(both, True, 2_000)]
    assert say(5, "2", "anna@example.org", linked=False) == (0, 1, 0, 0)
    assert say(4, "2", "anna@example.org") == (0, 0, 1, 0), "older than what is known"
    assert linked(tenant, store)[1:] == [(both, False, 5_000)]
    for path in (tenant.db_path, tenant.log_path):
        for file in path.parent.glob(f"{path.name}*"):
            content = file.read_bytes().lower()
            assert b"example.org" not in content, "the key is in no file"


def test_a_key_is_in_no_rejects_file(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    rows: list[dict[str, Any]] = [
        {"customer": "1", "key": "anna@example.org", "at": "yesterday"},
        {"customer": "1", "key": "b", "at": AT},
    ]
    report = run(tenant, store, "links", write(tmp_path / "k.jsonl", rows))
    assert report.rejected == 2
    assert "'b'" not in report.rejects[1].cause
    (kept,) = tenant.rejects_dir.iterdir()
    said = [json.loads(line)["row"] for line in kept.read_text().splitlines()]
    assert {row["key"] for row in said} == {"(left out)"}
    assert said[0]["customer"] == "1"


def test_a_key_of_very_many_tells_no_person(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    rows = [{"customer": f"n{i}", "key": "info@shop", "at": AT} for i in range(12)]
    report = run(tenant, store, "links", write(tmp_path / "k.jsonl", rows))
    assert counts(report) == (8, 0, 0, 4)
    assert len(linked(tenant, store)) == 8 * 7 // 2


def test_a_lost_secret_is_not_replaced(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = write(tmp_path / "k.jsonl", [{"customer": "1", "key": "abc", "at": AT}])
    run(tenant, store, "links", path)
    assert tenant.link_key_path.stat().st_mode & 0o777 == 0o600
    tenant.link_key_path.unlink()
    with pytest.raises(Refused, match="restore it"):
        run(tenant, store, "links", path)


def test_keys_of_the_erased_are_gone(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    rows = [{"customer": one, "key": "abc", "at": AT} for one in ("1", "2")]
    run(tenant, store, "links", write(tmp_path / "k.jsonl", rows))
    subject = store.subject_of("app", "1")
    assert subject is not None
    assert store.link_key_count() == 2
    store.erase_subject(subject)
    assert store.link_key_count() == 1


def test_hashes_of_keys() -> None:
    one = key_hash(b"s" * 32, "email", "a@b.c")
    assert len(one) == 16
    assert one == key_hash(b"s" * 32, "email", " A@B.C")
    assert one != key_hash(b"t" * 32, "email", "a@b.c")
    assert one != key_hash(b"s" * 32, "card", "a@b.c")
    assert key_hash(b"s" * 32, "card", "A") != key_hash(b"s" * 32, "card", "a")


def test_words_of_a_key() -> None:
    a, b, c = (Holder(bytes([n]) * 16, n, n != 3) for n in (1, 2, 3))
    assert [(w.other, w.linked, w.at_ms) for w in words_of_key(a, [b, c])] == [(b.subject, True, 2)]
    gone = Holder(a.subject, 9, False)
    assert [(w.linked, w.at_ms) for w in words_of_key(gone, [b, c])] == [(False, 9), (False, 9)]
    assert link_key(a.subject, b.subject, True, 5) == link_key(b.subject, a.subject, True, 5)
    assert link_key(a.subject, b.subject, True, 5) != link_key(a.subject, b.subject, False, 5)
