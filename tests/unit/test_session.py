"""A visit: strangers and known customers come and go, and nothing of them stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import (
    EdgeClient,
    IdentifyResult,
    Purpose,
    RefusedError,
    UnreachableError,
    UsageError,
)
from edge_sdk.dna.genome import NOBODY, block_from_rows
from edge_sdk.outbox.frames import Frame, iter_frames
from edge_sdk.outbox.queue import Outbox
from edge_sdk.plugins import Identified
from genome_edge.v1 import dna_pb2, event_pb2
from tests.unit.device_client import FAST, MOMENT, events, kinds, store_of
from tests.unit.device_town import Town, customer, filled, row, subject, until


@dataclass
class Server:
    """What `identify` answers, and when."""

    answer: Callable[[], Identified | None]
    asked: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    def __call__(self, store: Any, config: Any, token: str, lineage: Any, timeout: float) -> Any:
        self.asked.append(token)
        self.open.wait(10)
        return self.answer()


def visitor(number: int = 77, ttl_s: int = 60, **more: Any) -> Identified:
    town = Town()
    made = row(number, town=town, **more)
    return Identified(subject(number), block_from_rows(town.lineage, [made]), ttl_s)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(visitor)
    made.open.set()
    monkeypatch.setattr("edge_sdk.sync.updater.identify", made)
    return made


def frames(edge: EdgeClient) -> list[Frame]:
    edge.flush(0)
    outbox = Outbox(store_of(edge))
    found: list[Frame] = []
    while (batch := outbox.next_batch()) is not None:
        found += iter_frames(batch.frames)
        outbox.ack(batch, batch.last_sequence, batch.last_sequence, b"log")
    return found


def score(visit: Any, **more: Any) -> float:
    decision = visit.decide(MOMENT, "lobby", **more)
    return float(decision.slots[0].score)


# Strangers -------------------------------------------------------------------------------------


def test_what_a_stranger_does_counts_within_the_visit_only(edge: EdgeClient) -> None:
    idle = score(edge)
    with edge.session() as visit:
        assert score(visit) == idle
        visit.imprint("buy", product="poems")
        told = visit.decide(MOMENT, "lobby")
        assert told.genome_used
        assert told.slots[0].score != idle
    with edge.session() as visit:
        assert score(visit) == idle
    assert score(edge) == idle


def test_a_stranger_gets_a_provisional_subject_with_the_first_thing_done(edge: EdgeClient) -> None:
    with edge.session() as visit:
        visit.decide(MOMENT, "lobby")
        visit.imprint("view", product="poems")
        visit.imprint("buy", product="poems")
        visit.decide(MOMENT, "lobby")
    with edge.session() as visit:
        visit.imprint("view", product="poems")
    before, viewed, bought, after, other = (frame.subject for frame in frames(edge))
    assert before == NOBODY
    assert viewed == bought == after != NOBODY
    assert other not in (NOBODY, viewed)


def test_nothing_of_a_visit_is_on_disk_but_what_is_reported(edge: EdgeClient) -> None:
    with edge.session() as visit:
        visit.imprint("buy", product="poems")
        decision = visit.decide(MOMENT, "lobby")
        visit.report(decision, "click")
    edge.report(decision, "dismiss")
    edge.flush(0)
    with store_of(edge).read() as connection:
        assert connection.execute("SELECT count(*) FROM pending").fetchone() == (0,)
        (records,) = connection.execute("SELECT records FROM ring").fetchone()
    (kept,) = (event_pb2.Event.FromString(frame.body).decision for frame in iter_frames(records))
    assert kept.genome_used
    assert not kept.genome_indices
    assert not kept.genome_weights


# Identification --------------------------------------------------------------------------------


def test_a_customer_of_this_device_is_local(edge: EdgeClient, server: Server) -> None:
    with edge.session() as visit:
        assert visit.identify(customer(1)) is IdentifyResult.LOCAL
        assert score(visit) == score(edge, customer=customer(1))
        assert visit.identify(subject(2).hex()) is IdentifyResult.LOCAL
        assert score(visit) == score(edge, customer=customer(2))
    assert server.asked == []


def test_a_customer_can_be_named_when_the_visit_begins(edge: EdgeClient) -> None:
    with edge.session(customer(1)) as visit:
        assert visit.decide(MOMENT, "lobby").genome_used
        visit.imprint("buy", product="poems")
        assert "category:book" in (edge.genome(customer(1)) or {}), "the device holds the genome"
    with edge.session("nobody we know") as visit:
        decision = visit.decide(MOMENT, "lobby")
        assert not decision.genome_used
        assert decision.unknown


def test_a_genome_is_fetched_for_the_visit(edge: EdgeClient, server: Server) -> None:
    idle = score(edge)
    with edge.session() as visit:
        assert visit.identify("token") is IdentifyResult.FETCHED
        decision = visit.decide(MOMENT, "lobby")
        assert decision.genome_used
        assert decision.slots[0].score != idle
        visit.report(decision, "click")
        visit.imprint("buy", product="poems")
        assert edge.genome(subject(77).hex()) is None
    assert server.asked == ["token"]
    assert [frame.subject for frame in frames(edge)] == [NOBODY, *[subject(77)] * 3]
    with edge.session() as visit:
        assert score(visit) == idle
    for file in store_of(edge).path.rglob("*"):
        assert not file.is_file() or b"token" not in file.read_bytes(), file


def test_consent_counts_in_a_visit_too(edge: EdgeClient, server: Server) -> None:
    server.answer = lambda: visitor(consents=0)
    with edge.session() as visit:
        visit.imprint("buy", product="poems")
        assert visit.decide(MOMENT, "lobby").genome_used, "a stranger's visit"
        assert visit.identify("token") is IdentifyResult.FETCHED
        assert not visit.decide(MOMENT, "lobby").genome_used, "who it is did not agree"
    server.answer = lambda: Identified(subject(78), None, 60)
    with edge.session() as visit:
        assert visit.identify("token") is IdentifyResult.FETCHED
        assert not visit.decide(MOMENT, "lobby").genome_used
    server.answer = visitor
    edge.set_consent(subject(77).hex(), Purpose.PERSONALISATION, False)
    with edge.session() as visit:
        visit.identify("token")
        assert not visit.decide(MOMENT, "lobby").genome_used, "withdrawn here a moment ago"


def test_what_a_stranger_did_goes_to_who_it_is(edge: EdgeClient, server: Server) -> None:
    with edge.session() as visit:
        visit.identify("token")
        alone = score(visit)
    with edge.session() as visit:
        visit.imprint("buy", product="poems")
        visit.identify("token")
        assert score(visit) != alone, "it still counts"
    (imprint, link) = (
        (frame, event_pb2.Event.FromString(frame.body))
        for frame in frames(edge)
        if event_pb2.Event.FromString(frame.body).WhichOneof("payload") != "decision"
    )
    assert link[1].link.other_subject == imprint[0].subject
    assert link[0].subject == subject(77)
    assert link[1].link.linked


def test_a_stranger_who_is_local_is_linked(edge: EdgeClient) -> None:
    with edge.session() as visit:
        visit.imprint("buy", product="poems")
        visit.identify(customer(1))
        visit.imprint("view", product="poems")
    assert kinds(edge) == ["interaction", "link", "interaction"]


def test_an_answer_that_takes_long_counts_when_it_comes(edge: EdgeClient, server: Server) -> None:
    server.open.clear()
    with edge.session() as visit:
        assert visit.identify("token", timeout=0.05) is IdentifyResult.PENDING
        assert not visit.decide(MOMENT, "lobby").genome_used
        server.open.set()
        until(lambda: visit.decide(MOMENT, "lobby").genome_used)


def test_an_answer_after_the_visit_is_dropped(edge: EdgeClient, server: Server) -> None:
    server.open.clear()
    with edge.session() as visit:
        visit.identify("token", timeout=0.05)
        visit.wipe()
        server.open.set()
        until(lambda: not any(t.name == "genome-edge-identify" for t in threading.enumerate()))
        assert not visit.decide(MOMENT, "lobby").genome_used


def test_what_the_server_says_otherwise(
    edge: EdgeClient, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: Exception) -> Callable[[], Identified | None]:
        def answer() -> Identified | None:
            raise error

        return answer

    with edge.session() as visit:
        server.answer = lambda: None
        assert visit.identify("token") is IdentifyResult.UNKNOWN
        server.answer = fail(UnreachableError("no answer"))
        assert visit.identify("token") is IdentifyResult.OFFLINE
        server.answer = fail(RefusedError("CREDENTIAL_REVOKED"))
        assert visit.identify("token") is IdentifyResult.OFFLINE
        assert not visit.decide(MOMENT, "lobby").genome_used
        with pytest.raises(UsageError):
            visit.identify("")


@pytest.mark.parametrize(
    "answer",
    [
        5,
        Identified(b"short", None, 60),
        Identified(NOBODY, None, 60),
        Identified(subject(77), None, float("nan")),  # type: ignore[arg-type]
        Identified(subject(77), dna_pb2.GenomeBlock(), 60),
        Identified(subject(77), dna_pb2.GenomeBlock(counts=[5]), 60),
    ],
)
def test_an_answer_that_is_none_changes_nothing(
    edge: EdgeClient, server: Server, answer: Any
) -> None:
    server.answer = lambda: answer
    with edge.session() as visit:
        assert visit.identify("token", timeout=5) is IdentifyResult.OFFLINE
        visit.imprint("view", product="poems")
    assert kinds(edge) == ["interaction"]


def test_without_enrolment_nobody_can_be_asked(edge: EdgeClient) -> None:
    with edge.session() as visit:
        assert visit.identify("token", timeout=5) is IdentifyResult.OFFLINE


def test_what_was_fetched_ends_with_its_time(edge: EdgeClient, server: Server) -> None:
    server.answer = lambda: visitor(ttl_s=0)
    with edge.session() as visit:
        assert visit.identify("token") is IdentifyResult.FETCHED
        assert not visit.decide(MOMENT, "lobby").genome_used
        visit.imprint("view", product="poems")
    assert subject(77) not in {frame.subject for frame in frames(edge)}


def test_a_row_of_another_lineage_is_not_read(edge: EdgeClient, server: Server) -> None:
    other = Town(schema_epoch=9)
    made = row(77, town=other)
    server.answer = lambda: Identified(subject(77), block_from_rows(other.lineage, [made]), 60)
    with edge.session() as visit:
        assert visit.identify("token") is IdentifyResult.FETCHED
        decision = visit.decide(MOMENT, "lobby")
        assert decision.slots[0].score == score(edge)


# Ends ------------------------------------------------------------------------------------------


def test_a_wipe_leaves_nothing_in_memory(edge: EdgeClient, server: Server) -> None:
    visit = edge.session()
    visit.imprint("buy", product="poems")
    visit.identify("token")
    visit.decide(MOMENT, "lobby")
    held = visit._visit
    visit.wipe()
    assert (held.row, held.done, held.made, held.fetched, held.local) == (
        None,
        (),
        None,
        None,
        None,
    )
    assert visit._visit.subject == NOBODY


def test_caps_of_a_stranger_end_with_the_visit(tmp_path: Path) -> None:
    capped = (
        {"id": "taxi", "value": 9.0, "caps": [{"count": "view", "limit": 1, "window_hours": 1}]},
        {"id": "train", "value": 1.0},
    )
    filled(tmp_path / "store", Town(offers=capped))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        for _ in range(2):
            with edge.session() as visit:
                visit.imprint("view", product="poems")
                seen = [visit.decide(MOMENT, "lobby").offer for _ in range(2)]
                assert [offer.id for offer in seen if offer] == ["taxi", "train"]
        edge.flush(0)
        with store_of(edge).read() as connection:
            assert connection.execute("SELECT count(*) FROM caps").fetchone() == (0,)


def test_a_redemption_in_a_visit(edge: EdgeClient, server: Server) -> None:
    with edge.session() as visit:
        visit.identify("token")
        decision = visit.decide(MOMENT, "lobby")
        assert visit.redeem(decision)
        assert not visit.redeem(decision)
    said = [e for e in events(edge) if e.HasField("outcome")]
    assert [e.outcome.kind for e in said] == ["redeem"]
