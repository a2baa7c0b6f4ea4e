"""Lists are decided whole: shared caps and budgets, logged once, resumed wherever they stopped."""

from __future__ import annotations

import csv
import json
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from edge_sdk import _posix
from edge_sdk.sync.keys import DeviceKey
from genome_server.errors import ImportRefused, Refused, UsageError
from genome_server.home import Home, Tenant
from genome_server.ingest.readers import read_rows
from genome_server.log import LogReader, verify_log
from genome_server.store.protocol import AudienceRow, CustomerRow
from tests.serving import AGREED, add_thin, info, offer, publish_release, serving, until
from tests.unit.lists import AT_MS, a_tenant, decisions, go, receipts, rows
from tests.unit.thin_clients import Thin

CUSTOMERS = tuple(f"c{n}" for n in range(25))


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return a_tenant(tmp_path / "home", CUSTOMERS)


def test_all_customers_get_what_is_best_within_caps(tenant: Tenant, tmp_path: Path) -> None:
    outcome = go(tenant, tmp_path / "out.parquet", slots=2, moment=["channel=email"])
    assert (outcome.rows_in, outcome.decided, outcome.genomes) == (25, 25, 25)
    found = rows(outcome.out)
    assert len(found) == 50
    assert {row["customer"] for row in found} == set(CUSTOMERS)
    counted = Counter(row["offer"] for row in found)
    assert counted["once"] == 25, "one for each customer"
    assert counted["few"] == 3, "three in all, for this is one device"
    assert [row["slot"] for row in found] == [0, 1] * 25
    assert found[0]["content"] == [("title", "Once")]
    assert found[0]["campaign"] == "mail"
    logged = decisions(tenant)
    assert [one.decision_id.hex() for one in logged] == [r["decision_id"] for r in found[::2]]
    for one, row in zip(logged, found[::2], strict=True):
        slot = one.slots[0]
        assert (slot.offer, slot.reason, slot.propensity) == (
            row["offer"],
            row["reason"],
            row["propensity"],
        )
        assert "channel:email" in one.context_markers
        assert one.genome_used
    assert not verify_log(tenant.log_path).faults
    # What the first list showed counts for the next.
    again = go(tenant, tmp_path / "again.parquet", slots=2)
    assert {"once", "few"}.isdisjoint(row["offer"] for row in rows(again.out))


def test_views_are_held_for_the_list_where_viewing_counts(tenant: Tenant, tmp_path: Path) -> None:
    first = go(tenant, tmp_path / "1.parquet", placement="feed", slots=2)
    assert Counter(row["offer"] for row in rows(first.out))["few"] == 3
    second = go(tenant, tmp_path / "2.parquet", placement="feed", slots=2)
    assert Counter(row["offer"] for row in rows(second.out))["few"] == 3, "nobody has viewed them"


def test_a_budget_is_shared_in_the_order_of_the_list(tenant: Tenant, tmp_path: Path) -> None:
    outcome = go(tenant, tmp_path / "out.parquet", slots=3, budgets=["mail=11", "spa=2"])
    assert outcome.budgets == {
        "campaign:mail": {"limit": 11, "left": 0},
        "offer:spa": {"limit": 2, "left": 0},
    }
    found = rows(outcome.out)
    lines = [row["line"] for row in found if row["campaign"] == "mail"]
    assert len(lines) == 11
    assert max(lines) <= 11
    assert Counter(row["offer"] for row in found)["spa"] == 2


def test_rows_are_moments_and_bad_ones_are_set_aside(tenant: Tenant, tmp_path: Path) -> None:
    file = receipts(tmp_path / "receipts.csv")
    outcome = go(tenant, tmp_path / "out.csv", file=file)
    assert (outcome.rows_in, outcome.decided, outcome.rejected) == (25, 23, 2)
    assert not outcome.whole
    assert [(one.line, one.column) for one in outcome.rejects] == [(7, "customer"), (10, "stage")]
    assert "no customer 'nobody'" in outcome.rejects[0].cause
    assert outcome.rejects_file is not None
    kept = [json.loads(line) for line in outcome.rejects_file.read_text().splitlines()]
    assert [one["line"] for one in kept] == [7, 10]
    assert kept[0]["file"] == str(file)
    with outcome.out.open() as opened:
        found = list(csv.DictReader(opened))
    assert len(found) == 23
    by_id = {row["id"]: row for row in found}
    assert by_id["r0"]["customer"] == ""
    assert by_id["r0"]["line"] == "2"
    assert by_id["r0"]["offer"] == "mill", "the basket has something of the mill"
    assert json.loads(by_id["r0"]["content"]) == {"title": "Mill"}
    by_decision = {one.decision_id.hex(): one for one in decisions(tenant)}
    for name, marker in (("r0", "stage:after"), ("r1", "stage:before"), ("r3", "weather:rainy")):
        assert marker in by_decision[by_id[name]["decision_id"]].context_markers


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "yaml"])
def test_every_format_says_the_same(tenant: Tenant, tmp_path: Path, ending: str) -> None:
    from tests.unit.ingesting import write

    said: list[dict[str, Any]] = [
        {"customer": "c1", "basket": ["bread"], "stage": "before"},
        {"customer": "c2", "slots": 2},
        {"customer": "c2", "placement": "nowhere"},
    ]
    outcome = go(tenant, tmp_path / "out.parquet", file=write(tmp_path / f"l.{ending}", said))
    assert [row["offer"] for row in rows(outcome.out)][:2] == ["mill", "once"]
    assert len(rows(outcome.out)) == 3
    assert "no placement 'nowhere' (there are: " in outcome.rejects[0].cause


def test_what_holds_for_all_rows_is_what_a_row_does_not_say(tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("customer,stage,attr.weather\nc1,,sunny\nc2,before,\n")
    go(tenant, tmp_path / "o.parquet", file=file, moment=["stage=after", "attr.mood=good"])
    first, second = decisions(tenant)
    assert {"stage:after", "weather:sunny", "mood:good"} <= set(first.context_markers)
    assert {"stage:before", "mood:good"} <= set(second.context_markers)
    assert "stage:after" not in second.context_markers


def test_a_dry_run_decides_the_same_and_logs_nothing(tenant: Tenant, tmp_path: Path) -> None:
    dry = go(tenant, tmp_path / "dry.parquet", slots=2, dry_run=True, at_ms=AT_MS)
    assert not dry.logged
    assert decisions(tenant) == []
    done = go(tenant, tmp_path / "done.parquet", slots=2, at_ms=AT_MS)
    assert dry.out.read_bytes() == done.out.read_bytes()
    assert len(decisions(tenant)) == 25


def test_a_file_that_breaks_off_is_decided_as_far_as_it_goes(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = read_rows

    def broken(*given: Any) -> Any:
        for number, raw in enumerate(real(*given)):
            if number == 7:
                raise ImportRefused("the disk is gone")
            yield raw

    file = receipts(tmp_path / "receipts.csv")
    monkeypatch.setattr("genome_server.bulk.lists.read_rows", broken)
    outcome = go(tenant, tmp_path / "out.parquet", file=file)
    assert outcome.refused == "the disk is gone"
    assert outcome.rows_in == 7
    assert len(rows(outcome.out)) == outcome.decided == 6


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"placement": ""}, "--placement is missing"),
        ({"placement": "scren"}, "did you mean 'screen'"),
        ({"audience": "al"}, "no audience 'al'; there are: all"),
        ({"audience": "all", "markers": ["brand:acme"]}, "name one list"),
        ({"moment": ["weather=rainy"]}, "nothing that a moment has"),
        ({"moment": ["stage"]}, "is not FIELD=VALUE"),
        ({"moment": ["stage=later"]}, "stage"),
        ({"moment": ["time=yesterday"]}, "no time|not a time"),
        ({"moment": ["customer=c1"]}, "nothing that a moment has"),
        ({"at_ms": AT_MS + 10**9}, "--at lies ahead"),
        ({"reporter": "nobody"}, "no audience 'nobody'"),
        ({"budgets": ["mail"]}, "is no budget"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    tenant: Tenant, tmp_path: Path, said: dict[str, Any], error: str
) -> None:
    with pytest.raises((UsageError, Refused), match=error):
        go(tenant, tmp_path / "out.parquet", **said)
    assert list(tmp_path.glob("out*")) == []
    assert decisions(tenant) == []


def test_only_one_run_at_a_time(tenant: Tenant, tmp_path: Path) -> None:
    lock = _posix.FileLock.try_acquire(tenant.dir / "decide.lock")
    assert lock is not None
    with pytest.raises(Refused, match="under way"):
        go(tenant, tmp_path / "out.parquet")
    lock.release()
    assert go(tenant, tmp_path / "out.parquet").whole


def test_segments(tenant: Tenant, tmp_path: Path) -> None:
    with closing(tenant.open_store()) as store:
        subjects = store.subjects_of("app", ["c3", "c4"])
        store.put_customers([CustomerRow(subjects["c3"], (("brand:mill", 256),), AGREED)])
        store.put_audience(AudienceRow("two", {"customers": ["c3", "c4"]}))
        store.set_members("two", subjects.values())
    out = tmp_path / "m.parquet"
    assert go(tenant, out, markers=["brand:mill"]).decided == 1
    assert rows(out)[0]["customer"] == "c3"
    assert go(tenant, tmp_path / "a.parquet", audience="two").decided == 2


def test_who_is_held_out_is_shown_nothing_and_spends_nothing(tmp_path: Path) -> None:
    tenant = a_tenant(tmp_path / "home", CUSTOMERS)
    with closing(tenant.open_store()) as store:
        quiet = {"id": "quiet", "slots": 1, "explorer": "greedy", "holdout": 0.5}
        store.put_documents("placement", [("quiet", quiet)])
        store.put_documents("offer", [offer("free", "service:free", placements=["quiet"])])
    publish_release(tenant)
    outcome = go(tenant, tmp_path / "out.parquet", placement="quiet", budgets=["mail=25"])
    held = [row for row in rows(outcome.out) if row["reason"] == "HELD_OUT"]
    assert 0 < len(held) < 25
    assert all(row["offer"] is None and row["propensity"] == 1.0 for row in held)
    assert {row["customer"] for row in held} == {
        row["customer"]
        for row in rows(go(tenant, tmp_path / "again.parquet", placement="quiet").out)
        if row["reason"] == "HELD_OUT"
    }


def test_what_follows_can_be_reported(tenant: Tenant, tmp_path: Path) -> None:
    first = rows(go(tenant, tmp_path / "out.parquet").out)[0]
    home = tenant.dir.parent.parent
    token = add_thin(tenant)
    with serving(Home(home)) as house, grpc.insecure_channel(house.address) as channel:
        thin = Thin(channel, token)
        assert thin.outcome(first["decision_id"], "click")
        with pytest.raises(grpc.RpcError) as refused:
            thin.outcome("00" * 16, "click")
        assert info(refused.value).reason == "UNKNOWN_DECISION"
        # What a list showed counts when the server decides next.
        answer = thin.decide("screen", customer=first["customer"])
        assert answer.slots[0].offer != "once"


def test_the_log_remembers_each_part(tenant: Tenant, tmp_path: Path) -> None:
    outcome = go(tenant, tmp_path / "out.parquet")
    with closing(LogReader(tenant.log_path)) as reader:
        key = b"list\0" + bytes.fromhex(outcome.run) + bytes(4)
        assert reader.kept(key, outcome.at_ms) is not None


def test_nothing_is_published(tmp_path: Path) -> None:
    from tests.serving import make_home

    tenant = make_home(tmp_path / "home").tenant("default")
    assert DeviceKey.load(tenant.release_key_path)
    with pytest.raises(Refused, match="genome-server publish"):
        go(tenant, tmp_path / "out.parquet")


def test_a_server_that_runs_counts_what_a_list_shows(tenant: Tenant, tmp_path: Path) -> None:
    token = add_thin(tenant)
    home = Home(tenant.dir.parent.parent)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        thin = Thin(channel, token)
        assert thin.decide("screen", customer="c1").slots[0].offer == "once"
        found = rows(go(tenant, tmp_path / "out.parquet").out)
        by_customer = {row["customer"]: row["offer"] for row in found}
        assert by_customer.pop("c1") != "once", "the list knows what the server has shown"
        assert set(by_customer.values()) == {"once"}
        until(
            lambda: thin.decide("screen", customer="c2").slots[0].offer not in ("once", ""),
            "the server knows what the list has shown",
        )
