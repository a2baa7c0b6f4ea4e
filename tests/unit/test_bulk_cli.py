"""`genome-server decide` as a person calls it, its page, and the same decisions one by one."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import Result

from genome_edge.v1 import decision_pb2
from genome_server.bulk.moments import ForAll, MomentMaker, said_for_all
from genome_server.bulk.order import Order
from genome_server.bulk.results import SCHEMA
from genome_server.bulk.run import decide_list
from genome_server.home import Home, Tenant
from genome_server.ingest.readers import RawRow
from genome_server.store.protocol import AudienceRow, CustomerRow
from tests.serving import AGREED, add_thin, offer, publish_release, serving
from tests.unit.lists import a_tenant, copied, decisions, go, receipts, rows
from tests.unit.server_shell import Shell
from tests.unit.thin_clients import Thin

PAGE = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text(encoding="utf-8")
CELL = "8a2a100d2d57fff"


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return a_tenant(tmp_path / "home")


def call(tenant: Tenant, *arguments: object, code: int = 0) -> Result:
    return Shell(tenant.dir.parents[2], made=False).call(*arguments, code=code)


def test_the_page_does_what_it_says(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(tenant.open_store()) as store:
        said = {"slots": 2, "explorer": "greedy"}
        names = ("receipt", "newsletter")
        store.put_documents("placement", [(name, {"id": name, **said}) for name in names])
        store.put_documents("product", [(f"p-{n}", {"brand": n}) for n in ("espresso", "milk")])
        spring = offer("bulbs", "service:bulbs", campaign="spring")
        store.put_documents("offer", [spring, offer("spa-day", "service:spa")])
        subject = store.subjects_of("app", ["c-1001"], create=True)["c-1001"]
        store.put_customers([CustomerRow(subject, (), AGREED)])
        store.put_audience(AudienceRow("members", {"all": True}))
        store.set_members("members", [one.subject for one in store.customers()])
    publish_release(tenant)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    commands = re.findall(r"\$ ((?:.*\\\n)*.*)\n((?:[^$].*\n)*)", block)
    assert len(commands) == 3
    for line, printed in commands:
        words = shlex.split(line.replace("\\\n", ""))
        if words[0] == "cat":
            Path(words[1]).write_text(printed)
            continue
        told = call(tenant, *words[1:]).stdout
        # What differs from machine to machine and from time to time.
        same = re.compile(r"\d+ rows a second|release \d+, as of [^;]*")
        if printed:
            assert same.sub("", told) == same.sub("", printed)
    assert Path("mails.csv").read_text().startswith(",".join(SCHEMA.names))
    columns = re.findall(r"^\| ((?:`\w+`(?:, )?)+)", PAGE, re.MULTILINE)
    assert re.findall(r"\w+", " ".join(columns)) == SCHEMA.names


def test_what_is_told_and_how_it_ends(tenant: Tenant, tmp_path: Path) -> None:
    file = receipts(tmp_path / "receipts.csv")
    where = ("--placement", "screen")
    done = call(tenant, "decide", file, *where, "--out", tmp_path / "a.csv", code=1)
    assert f"{file}:10: stage: " in done.stderr
    assert "25 rows in = " in done.stdout
    assert "set aside in " in done.stdout
    told = json.loads(
        call(tenant, "decide", "--all", *where, "--out", tmp_path / "b.parquet", "--json").stdout
    )
    assert told["decided"] == told["rows_in"] == 3
    assert told["logged"] is True
    assert set(told["reasons"]) == {"CHOSEN"}
    for wrong in (
        ("decide", "--all", *where),
        ("decide", "--all", *where, "--out", tmp_path / "c.xlsx"),
        ("decide", "--all", *where, "--out", tmp_path / "none" / "c.csv"),
        ("decide", *where, "--out", tmp_path / "c.csv"),
        ("decide", "--all", *where, "--out", tmp_path / "c.csv", "--at", "noon"),
    ):
        call(tenant, *wrong, code=2)
    call(tenant, "decide", "--all", *where, "--out", tmp_path / "b.parquet", code=1)
    nobody = ("--marker", "loves:tea", "--marker", "loves:cake")
    told = call(tenant, "decide", *nobody, *where, "--out", tmp_path / "d.csv").stderr
    assert "note: no customer has the profile marker 'loves:tea' or 'loves:cake'" in told
    call(tenant, "decide", tmp_path / "no.csv", *where, "--out", tmp_path / "c.csv", code=1)
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o600


def test_progress_adds_up(tenant: Tenant, tmp_path: Path) -> None:
    steps: list[int] = []
    totals: list[int | None] = []

    def advance(count: int = 1, *, total: int | None = None) -> None:
        steps.append(count)
        totals.append(total)

    file = receipts(tmp_path / "receipts.csv")
    with closing(tenant.open_store()) as store:
        decide_list(tenant, store, Order(tmp_path / "o.csv", file, placement="screen"), advance)
    assert sum(steps) == 25
    assert totals[0] == 25


def test_coordinates_are_in_no_file(tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("customer,lat,lng\nann,48.2082,16.3738\nbob,48.2082,\nann,91.5,16.3738\n")
    outcome = go(tenant, tmp_path / "o.csv", file=file)
    assert (outcome.decided, outcome.rejected) == (1, 2)
    assert [one.column for one in outcome.rejects] == ["lat", "lat"]
    assert decisions(tenant)[0].region
    assert outcome.rejects_file is not None
    kept = outcome.rejects_file.read_text() + outcome.out.read_text()
    assert json.loads(kept.splitlines()[0])["row"]["lat"] == "(left out)"
    for number in ("48.2082", "16.3738", "91.5"):
        assert number not in kept
        assert not any(number in str(one) for one in outcome.rejects)


def test_a_row_is_the_moment_that_it_says(tenant: Tenant) -> None:
    said = said_for_all(["channel=email", "recent=[]", f"cell={CELL}", "time=2026-03-01T08:00Z"])
    maker = MomentMaker(ForAll("screen", 2, "app", said), ["screen"])
    row: dict[str, Any] = {
        "customer": 7,
        "lat": 48.2,
        "lng": 16.37,
        "recent": [{"activity": "flight-search", "ago_s": 300}],
        "attributes": {"weather": ["rainy", "cold"]},
        "language": "pt-BR",
    }
    asked = maker.make(RawRow(3, row, row))
    context = asked.context
    assert (asked.line, asked.customer, asked.slots) == (3, "7", 2)
    assert context.recent == (("flight-search", 300.0),)
    assert context.language == "pt-br"
    assert {"channel:email", "weather:rainy", "weather:cold"} <= set(context.declared)
    assert context.cell not in (None, int(CELL, 16)), "its own position, and not that of all"
    assert context.time is not None
    assert context.time.isoformat() == "2026-03-01T08:00:00+00:00"
    same = maker.make(RawRow(4, dict(row), row))
    assert same.context is context, "a moment that comes again is made once"


def test_a_list_decides_what_is_decided_one_by_one(tenant: Tenant, tmp_path: Path) -> None:
    moments = [
        {"customer": who, "basket": basket, "stage": stage}
        for who in ("ann", "bob", "eve", "ann")
        for basket in (["bread"], ["soap"], [])
        for stage in ("before", "after")
    ]
    file = tmp_path / "list.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in moments))
    other = copied(tenant, tmp_path / "other")
    found = rows(go(tenant, tmp_path / "o.parquet", file=file, slots=2).out)
    token = add_thin(other)
    with (
        serving(Home(other.dir.parent.parent)) as house,
        grpc.insecure_channel(house.address) as channel,
    ):
        thin = Thin(channel, token)
        for number, one in enumerate(moments):
            moment = decision_pb2.Moment(basket=one["basket"], stage=str(one["stage"]))
            answer = thin.decide("screen", slots=2, customer=str(one["customer"]), moment=moment)
            mine = found[2 * number : 2 * number + 2]
            assert [(slot.offer, slot.reason) for slot in answer.slots] == [
                (row["offer"], row["reason"]) for row in mine
            ], number
            assert [slot.score for slot in answer.slots] == pytest.approx(
                [row["score"] for row in mine]
            )
    assert {row["offer"] for row in found} >= {"mill", "after", "once", "few", "taxi"}
