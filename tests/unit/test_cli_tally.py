"""The tally of the log: counted on from where it ended, outcomes once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.cli import tally
from genome_server.cli.tally import count_log
from genome_server.home import Tenant
from genome_server.log import Committer
from genome_server.store import Store
from tests.unit.ingesting import new_tenant


@pytest.fixture
def home(tmp_path: Path) -> Iterator[tuple[Tenant, Store]]:
    with new_tenant(tmp_path / "home") as made:
        yield made


def append(tenant: Tenant, first: int, *bodies: tuple[FrameKind, bytes]) -> None:
    frames = b"".join(
        encode_frame(Frame(first + n, b"s" * 16, kind, 1, body))
        for n, (kind, body) in enumerate(bodies)
    )
    digest = hashlib.sha256(frames).digest()
    with Committer(tenant.log_path) as log:
        log.append_batch("d", b"e" * 16, 0, first, first + len(bodies) - 1, frames, digest)


def outcome(kind: str, event_id: str = "") -> tuple[FrameKind, bytes]:
    event = event_pb2.Event(outcome=event_pb2.Outcome(kind=kind, event_id=event_id))
    return FrameKind.OUTCOME, event.SerializeToString()


def test_no_log_is_nothing(home: tuple[Tenant, Store]) -> None:
    tenant, store = home
    assert count_log(store, tenant.dir / "none.sqlite").offset == 0
    assert count_log(store, tenant.log_path).kinds == {}


def test_outcomes_count_once_over_several_counts(
    home: tuple[Tenant, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, store = home
    monkeypatch.setattr(tally, "_STEP_EVENTS", 1)
    append(tenant, 1, outcome("redeem", "a"), outcome("redeem", "a"), outcome("view"))
    append(tenant, 4, (FrameKind.OUTCOME, b"\xff\xff"), (FrameKind.DECISION, b""))
    first = count_log(store, tenant.log_path)
    assert first.offset == 5
    assert first.kinds == {"outcomes": 4, "decisions": 1}
    assert first.outcomes == {"redeem": 1, "view": 1}
    append(tenant, 6, outcome("redeem", "a"), outcome("redeem", "b"), outcome("view"))
    second = count_log(store, tenant.log_path)
    assert second.offset == 8
    assert second.outcomes == {"redeem": 2, "view": 2}
    assert count_log(store, tenant.log_path) == second


def test_another_log_is_counted_from_its_start(home: tuple[Tenant, Store]) -> None:
    tenant, store = home
    append(tenant, 1, outcome("redeem", "a"))
    count_log(store, tenant.log_path)
    for file in tenant.dir.glob("log.sqlite*"):
        file.unlink()
    append(tenant, 1, outcome("redeem", "a"), outcome("redeem", "b"))
    assert count_log(store, tenant.log_path).outcomes == {"redeem": 2}


def test_a_kind_that_is_none_is_not_told_as_one(home: tuple[Tenant, Store]) -> None:
    """Devices pass on what apps say, and this ends up on somebody's terminal."""
    tenant, store = home
    append(tenant, 1, outcome("k" * 100_000), outcome("\x1b[2Jview", "a"), outcome(""))
    assert count_log(store, tenant.log_path).outcomes == {"(no kind)": 3}
