"""A run over a list that is stopped goes on where it was, as the same run and no other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from genome_server.bulk import lists
from genome_server.bulk.results import write_part
from genome_server.bulk.work import Work
from genome_server.errors import Refused, UsageError
from genome_server.home import Tenant
from genome_server.log import Committer
from genome_server.releases.trust import TrustDesk
from genome_server.store.protocol import CustomerRow
from tests.serving import AGREED, publish_release
from tests.unit.lists import AT_MS, a_tenant, copied, decisions, go, receipts, rows

CUSTOMERS = tuple(f"c{n}" for n in range(25))


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return a_tenant(tmp_path / "home", CUSTOMERS)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "PART_ROWS", 4)


class Stopped(BaseException):
    """What stands for a power cut."""


def before_writing(monkeypatch: pytest.MonkeyPatch, stop: Callable[[int], None]) -> None:
    def stopping(path: Path, *given: Any) -> None:
        stop(int(path.stem))
        write_part(path, *given)

    monkeypatch.setattr("genome_server.bulk.keeping.write_part", stopping)


def before_logging(monkeypatch: pytest.MonkeyPatch, stop: Callable[[int], None]) -> None:
    real, calls = Committer.record, iter(range(1_000))

    def record(*given: Any) -> Any:
        stop(next(calls))
        return real(*given)

    monkeypatch.setattr(Committer, "record", record)


def before_joining(monkeypatch: pytest.MonkeyPatch, stop: Callable[[int], None]) -> None:
    monkeypatch.setattr("genome_server.bulk.keeping.join", lambda *_: stop(3))


def before_tidying(monkeypatch: pytest.MonkeyPatch, stop: Callable[[int], None]) -> None:
    monkeypatch.setattr(Work, "end", lambda _: stop(3))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("placement", ["screen", "feed"])
@pytest.mark.parametrize(
    ("where", "dry"),
    [
        (before_writing, False),
        (before_writing, True),
        (before_logging, False),
        (before_joining, False),
        (before_joining, True),
        (before_tidying, False),
    ],
)
def test_a_run_that_is_stopped_anywhere_goes_on_to_the_same_end(
    tenant: Tenant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Callable[..., None],
    placement: str,
    dry: bool,
) -> None:
    file = receipts(tmp_path / "receipts.csv")
    order = {"file": file, "placement": placement, "slots": 2, "budgets": ["mail=9"]}
    order |= {"at_ms": AT_MS, "dry_run": dry}
    other = copied(tenant, tmp_path / "other")
    through = go(other, tmp_path / "through.parquet", **order)

    def stop(part: int) -> None:
        if part == 3:
            raise Stopped

    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        where(patch, stop)
        with pytest.raises(Stopped):
            go(tenant, out, **order)
    with pytest.raises(Refused, match="--resume goes on"):
        go(tenant, out, **order)
    outcome = go(tenant, out, **order, resume=True)
    assert outcome.resumed >= 12
    assert out.read_bytes() == through.out.read_bytes()
    assert not out.with_name("out.parquet.run").exists()
    as_told = {**outcome.as_json(), **dict.fromkeys(("out", "resumed", "per_second"))}
    same = {**through.as_json(), **dict.fromkeys(("out", "resumed", "per_second"))}
    as_told.pop("rejects_file"), same.pop("rejects_file")
    assert as_told == same
    assert decisions(tenant) == decisions(other)
    assert len(decisions(tenant)) == (0 if dry else 23)


@pytest.mark.usefixtures("small_parts")
def test_a_segment_that_is_gone_on_with_is_the_one_it_was(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(part: int) -> None:
        if part == 2:
            raise Stopped

    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        before_writing(patch, stop)
        with pytest.raises(Stopped):
            go(tenant, out)
    with closing(tenant.open_store()) as store:
        order = sorted(one.subject for one in store.customers())
        names = {subject: name for subject, _, name in store.external_ids()}
        # One joins, one is erased, one agrees no longer.
        added = store.subjects_of("app", ["zoe"], create=True)["zoe"]
        store.put_customers([CustomerRow(added, (), AGREED)])
        store.erase_subject(order[-1])
        store.put_customers([CustomerRow(order[-2], (), 0)])
    TrustDesk(tenant, tenant.open_store()).pause(["once"])
    publish_release(tenant)
    outcome = go(tenant, out, resume=True)
    assert (outcome.rows_in, outcome.rejected, outcome.release) == (25, 1, 1)
    assert "no longer known" in outcome.rejects[0].cause
    found = rows(out)
    assert [row["customer"] for row in found] == [names[subject] for subject in order[:-1]]
    assert not found[-1]["genome_used"]
    assert found[-2]["genome_used"]
    assert all(row["offer"] == "once" for row in found[:8])
    assert all(row["offer"] != "once" for row in found[8:]), "it was stopped meanwhile"


@pytest.mark.usefixtures("small_parts")
def test_only_the_same_run_is_gone_on_with(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(part: int) -> None:
        if part == 2:
            raise Stopped

    file, out = receipts(tmp_path / "receipts.csv"), tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        before_writing(patch, stop)
        with pytest.raises(Stopped):
            go(tenant, out, file=file, at_ms=AT_MS)
    for other in ({"slots": 2}, {"budgets": ["mail=1"]}, {"moment": ["stage=after"]}):
        with pytest.raises(UsageError, match="with another"):
            go(tenant, out, file=file, resume=True, **other)
    with pytest.raises(UsageError, match="--at"):
        go(tenant, out, file=file, resume=True, at_ms=AT_MS + 1)
    with pytest.raises(UsageError, match="without --dry-run"):
        go(tenant, out, file=file, resume=True, dry_run=True)
    with pytest.raises(UsageError, match="another list"):
        go(tenant, out, file=receipts(tmp_path / "more.csv", 26), resume=True)
    part = tmp_path / "out.parquet.run" / "000000.parquet"
    whole = part.read_bytes()
    pq.write_table(pq.read_table(part).slice(1), part)
    with pytest.raises(Refused, match="is not what was logged"):
        go(tenant, out, file=file, resume=True)
    part.write_bytes(whole[:-9])
    with pytest.raises(Refused, match="is damaged"):
        go(tenant, out, file=file, resume=True)
    part.write_bytes(whole)
    assert go(tenant, out, file=file, resume=True).resumed == 8
    with pytest.raises(Refused, match="there already"):
        go(tenant, out, file=file, resume=True)
    out.unlink()
    with pytest.raises(Refused, match="is in the log"):
        go(tenant, out, file=file, at_ms=AT_MS)
