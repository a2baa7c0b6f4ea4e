"""From files to the store: every kind in every format, twice, with bad rows set aside."""

from __future__ import annotations

import itertools
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genome_server.dna_file import load_schema, profile_namespaces
from genome_server.errors import SchemaFileError
from genome_server.home import Tenant
from genome_server.ingest.importing import import_files
from genome_server.store import AudienceRow, CustomerRow, Store
from tests.unit.ingesting import (
    FORMATS,
    ORDER,
    counts,
    import_examples,
    new_tenant,
    run,
    write,
    write_example,
)

TenantStore = tuple[Tenant, Store]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[TenantStore]:
    with new_tenant(tmp_path / "home") as made:
        yield made


def rejects(tenant: Tenant) -> list[dict[str, object]]:
    (path,) = tenant.rejects_dir.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ORDER)
def test_the_example_of_every_kind_is_the_same_in_every_format(
    tmp_path: Path, home: TenantStore, kind: str
) -> None:
    tenant, store = home
    import_examples(tenant, store, tmp_path, upto=kind)
    first = run(tenant, store, kind, write_example(tmp_path, kind, FORMATS[0]))
    assert first.whole, first.rejects
    assert counts(first) == (first.rows_in, 0, 0, 0)
    for format_ in FORMATS:
        again = run(tenant, store, kind, write_example(tmp_path, kind, format_))
        assert counts(again) == (0, 0, first.rows_in, 0), format_


def test_a_changed_row_is_changed(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = write(tmp_path / "p.jsonl", [{"id": "a", "brand": "x"}, {"id": "b"}])
    run(tenant, store, "products", path)
    write(path, [{"id": "a", "brand": "y"}, {"id": "b"}, {"id": "c"}])
    assert counts(run(tenant, store, "products", path)) == (1, 1, 1, 0)
    assert store.document("product", "a") == {"id": "a", "brand": "y"}


def test_bad_rows_are_set_aside_and_good_ones_go_in(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = tmp_path / "p.csv"
    path.write_text(
        "id,brand,dna,attributes.claim\n"
        "a,acme,claim:x,\n"
        ",acme,,\n"
        "b,acme,not a marker,\n"
        "c,acme,claim:x=99,\n"
        "d,acme\n"
        "e,acme,,\n"
        "f," + "x" * 200 + ",,\n"
    )
    report = run(tenant, store, "products", path)
    assert counts(report) == (2, 0, 0, 5)
    assert not report.whole
    assert [(one.line, one.column) for one in report.rejects] == [
        (3, "id"),
        (4, "dna[0]"),
        (5, "dna[0].salience"),
        (6, "dna"),
        (8, "brand"),
    ]
    kept = rejects(tenant)
    assert [row["line"] for row in kept] == [3, 4, 5, 6, 8]
    assert kept[1]["row"] == {
        "id": "b",
        "brand": "acme",
        "dna": "not a marker",
        "attributes.claim": "",
    }
    assert kept[3]["row"] == "d,acme"
    assert kept[0]["file"] == str(path)
    assert [name for name, _ in store.documents("product")] == ["a", "e"]


def test_rejects_of_yaml_name_the_line_of_the_field(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = tmp_path / "p.yaml"
    path.write_text("- id: a\n- id: b\n  title: T\n  dna:\n  - nonsense\n")
    (reject,) = run(tenant, store, "products", path).rejects
    assert str(reject) == f"{path}:4: dna[0]: 'nonsense' is not a marker such as claim:organic"


def test_an_id_that_stands_twice(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    rows = [{"id": "a", "brand": "x"}, {"id": "a", "brand": "x"}, {"id": "a", "brand": "y"}]
    path = write(tmp_path / "p.jsonl", rows)
    report = run(tenant, store, "products", path)
    assert counts(report) == (1, 0, 1, 1)
    assert "line 1" in report.rejects[0].cause
    assert counts(run(tenant, store, "products", path)) == (0, 0, 2, 1), "nothing changes"


def test_a_file_that_breaks_off_leaves_what_was_read(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    whole = write(tmp_path / "a.parquet", [{"id": f"p{n}", "title": "t" * 9} for n in range(9_000)])
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    whole.write_bytes(content)
    report = run(tenant, store, "products", whole)
    assert report.refused is not None
    assert not report.whole
    assert store.document_count("product") == report.new


def test_one_refused_file_does_not_stop_the_next(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    (tmp_path / "bad.csv").write_text("nonsense\n1\n")
    good = write(tmp_path / "good.jsonl", [{"id": "a"}])
    outcome = import_files(tenant, store, "products", [tmp_path / "bad.csv", good])
    assert not outcome.whole
    assert outcome.as_json()["new"] == 1
    assert outcome.reports[0].refused is not None


# -- customers


def test_customers_become_profiles_with_consents(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = tmp_path / "c.csv"
    path.write_text(
        "id,source,attributes.age,attr.Interest,markers,consent\n"
        "1,,26,opera|Big  Bikes,vip:yes,personalisation|location\n"
        "2,till,,,,\n"
        "3,,,,,none\n"
    )
    assert run(tenant, store, "customers", path).whole
    subject = store.subject_of("app", "1")
    assert subject is not None
    assert store.customer(subject) == CustomerRow(
        subject,
        (("age:26", 256), ("interest:opera", 256), ("interest:big-bikes", 256), ("vip:yes", 256)),
        0b1010,
    )
    assert store.subject_of("till", "2") is not None
    assert store.subject_of("app", "2") is None
    assert profile_namespaces(store) == {"age", "interest", "vip"}
    assert {"age:26", "vip:yes"} <= set(store.vocabulary())
    assert store.audience_size("all") == 3
    schema = load_schema(tenant.dna_path, store)
    assert schema.profile_weight("age") == 1 << 24
    assert schema.half_life("age") == 0


def test_audiences_follow_their_rules(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    for name, rule in (("old", {"any_of": ["age:80"]}), ("ids", {"customers": ["2", "9"]})):
        store.put_audience(AudienceRow(name, rule))
    rows = [{"id": "1", "attributes": {"age": 80}}, {"id": "2", "attributes": {"age": 20}}]
    run(tenant, store, "customers", write(tmp_path / "c.jsonl", rows))
    assert {a.name: store.audience_size(a.name) for a in store.audiences()} == {
        "all": 2,
        "ids": 1,
        "old": 1,
    }
    rows[0]["attributes"] = {"age": 81}
    run(tenant, store, "customers", write(tmp_path / "c.jsonl", rows))
    assert store.audience_size("old") == 0


def test_customer_rows_that_are_wrong(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    rows: list[dict[str, object]] = [
        {"id": "1", "consent": ["personalization"]},
        {"id": "2", "consent": ["none", "learning"]},
        {"id": "3", "attributes": {"brand": "acme"}},
        {"id": "4", "markers": ["claim:organic"]},
        {"id": "5", "updated": "yesterday"},
        {"id": "6", "source": "The Till"},
        {"id": "7", "attributes": {"lat": 48.1}},
        {"id": "", "attributes": {}},
        {"id": "9", "attributes": {"x": {"y": 1}}},
    ]
    report = run(tenant, store, "customers", write(tmp_path / "c.jsonl", rows))
    said = {one.line: (one.column, one.cause) for one in report.rejects}
    assert said[1][0] == "consent[0]"
    assert "personalisation" in said[1][1]
    assert said[2][0] == "consent"
    assert said[3][0] == "attributes.brand"
    assert "favourite-brand" in said[3][1]
    assert said[4][0] == "markers"
    assert said[5][0] == "updated"
    assert said[6][0] == "source"
    assert set(said) == {1, 2, 3, 4, 5, 6, 8, 9}
    assert store.customer_count() == 1


def test_withdrawn_consent_survives_the_same_import(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    path = write(tmp_path / "c.jsonl", [{"id": "1", "consent": ["personalisation"]}])
    run(tenant, store, "customers", path)
    subject = store.subject_of("app", "1")
    assert subject is not None
    store.set_consents(subject, 0)
    assert counts(run(tenant, store, "customers", path)) == (0, 0, 1, 0)
    assert store.customer(subject) == CustomerRow(subject, (), 0)


def test_a_broken_dna_file_is_named(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    tenant.dna_path.write_text("landmark: soon\n")
    path = write(tmp_path / "c.jsonl", [{"id": "1"}])
    with pytest.raises(SchemaFileError, match=r"dna\.yaml"):
        run(tenant, store, "customers", path)


# -- places


def test_places_keep_cells_and_no_coordinates(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    lat, lng = 48.203125, 16.371094
    rows: list[dict[str, object]] = [
        {"id": "a", "kind": "hotel", "lat": lat, "lng": lng, "radius_m": 120},
        {"id": "b", "kind": "place:Cafe", "cells": ["8a2a100d2d57fff"], "salience": 0.5},
        {"id": "c", "kind": "hotel", "lat": 48.203126, "lng": 516.371094},
        {"id": "d", "kind": "hotel", "lat": lat},
        {"id": "e", "kind": "hotel", "latitude": 48.203127, "lng": lng},
        {"id": "f", "kind": "hotel", "lat": "48.203128 N", "lng": lng},
        {"id": "g", "kind": "hotel"},
        {"id": "h", "kind": "hotel", "cells": ["8a2a100d2d57fff"], "lat": lat, "lng": lng},
    ]
    path = write(tmp_path / "p.jsonl", rows)
    path.write_text(path.read_text() + '{"id": "i", "kind": "hotel", "lat": 48.203129, \n')
    report = run(tenant, store, "places", path)
    assert counts(report) == (2, 0, 0, 7)
    document = store.document("place", "a")
    assert document is not None
    assert document["kind"] == "place:hotel"
    assert max(document["saliences_q8"]) > 240
    assert min(document["saliences_q8"]) >= 64
    assert store.document("place", "b") == {
        "id": "b",
        "kind": "place:cafe",
        "cells": ["8a2a100d2d57fff"],
        "saliences_q8": [128],
    }
    for reject in report.rejects:
        assert "48.2031" not in str(reject)
        assert "16.371" not in str(reject)
    store.close()
    for file in tenant.dir.rglob("*"):
        if file.is_file():
            assert b"48.2031" not in file.read_bytes(), file
            assert b"16.371" not in file.read_bytes(), file


# -- arithmetic

_ROWS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"id": st.sampled_from("abcdef"), "brand": st.sampled_from(["x", "y", "", 3])}
        ),
        st.fixed_dictionaries({"id": st.sampled_from("abc"), "unknown": st.just(1)}),
        st.fixed_dictionaries({"brand": st.text(max_size=4)}),
        st.fixed_dictionaries({"id": st.text(max_size=3), "dna": st.lists(st.text(max_size=5))}),
    ),
    min_size=1,
    max_size=12,
)
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, TenantStore]]:
    root = tmp_path_factory.mktemp("shared")
    with new_tenant(root / "home") as made:
        yield root, made


@given(_ROWS, st.lists(st.sampled_from(["{", "", "[1]", "null", "{}"]), max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rows_in_are_rows_accounted_for(
    shared: tuple[Path, TenantStore], rows: list[dict[str, object]], noise: list[str]
) -> None:
    root, (tenant, store) = shared
    lines = [json.dumps(row) for row in rows] + noise
    path = root / f"{next(_NUMBERS)}.jsonl"
    path.write_text("\n".join(lines))
    before = store.document_count("product")
    first = run(tenant, store, "products", path)
    assert first.rows_in == sum(bool(line.strip()) for line in lines)
    assert store.document_count("product") == before + first.new
    again = run(tenant, store, "products", path)
    assert counts(again) == (0, 0, first.rows_in - first.rejected, first.rejected)
    if first.rejects_file is not None:
        assert first.rejects_file.read_text().count("\n") == first.rejected
