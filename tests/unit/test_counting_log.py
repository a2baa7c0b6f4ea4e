"""From the log to the store: what counts for caps is read once, kept, and had by devices."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_rules import CapRow
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.counting import consumer
from genome_server.counting.consumer import Counters, read_anew
from genome_server.genomes.build import build
from genome_server.genomes.events import FUTURE_MS
from genome_server.genomes.live import LiveConsumer
from genome_server.home import Tenant
from genome_server.log import Committer, LogReader
from genome_server.services.live import WithCounters
from genome_server.store import AudienceRow, CustomerRow
from genome_server.store.sqlite import SqliteStore
from tests.serving import AGREED, make_home, now_ms, offer, publish_release
from tests.unit.cap_events import ANN, BOB, CLAIM, EVE, REAL, bought, decision, outcome

# The store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore.open(tmp_path / "tenant.sqlite")) as made:
        for name in ("all", "lobby"):
            made.put_audience(AudienceRow(name, {"none": True}))
        made.put_customers(CustomerRow(one, (), AGREED) for one in (ANN, BOB, EVE))
        made.set_members("all", [ANN, BOB])
        made.set_members("lobby", [BOB])
        yield made


def away(subject: bytes, claim: bytes, at_ms: int = 5) -> CapRow:
    return CapRow(subject, "taxi", "view", at_ms, claim, elsewhere=True)


def claims(found: tuple[list[CapRow], int]) -> list[bytes]:
    return [row.claim for row in found[0]]


def test_events_after_a_stamp_for_members(store: SqliteStore) -> None:
    store.add_cap_events([away(ANN, b"1"), away(BOB, b"1"), away(EVE, b"2")])
    store.add_cap_events([away(ANN, b"1", 9), away(ANN, b"3")])
    rows, through = store.cap_changes("all", 0, 100)
    assert rows == [away(ANN, b"1"), away(BOB, b"1"), away(ANN, b"3")]
    assert through == store.newest_stamp()
    assert claims(store.cap_changes("all", through, 100)) == []
    assert claims(store.cap_changes("lobby", 0, 100)) == [b"1"]
    before = store.cap_stamps()
    assert set(before) == {"all", "lobby"}
    store.add_cap_events([away(BOB, b"4")])
    assert claims(store.cap_changes("lobby", through, 100)) == [b"4"]
    assert all(stamp > before[name] for name, stamp in store.cap_stamps().items())
    store.add_cap_events([away(EVE, b"5")])
    assert store.cap_stamps()["all"] < store.newest_stamp(), "nobody there has to hear of it"


def test_who_may_be_held_comes_with_everything(store: SqliteStore) -> None:
    store.add_cap_events([away(ANN, b"1"), away(ANN, b"2"), away(EVE, b"3")])
    at = store.newest_stamp()
    store.set_consents(ANN, 0)
    assert claims(store.cap_changes("all", 0, 100)) == []
    store.set_consents(ANN, AGREED)
    assert sorted(claims(store.cap_changes("all", at, 100))) == [b"1", b"2"]
    assert store.cap_stamps()["all"] > at
    at = store.newest_stamp()
    store.set_consents(ANN, AGREED)  # nothing new
    assert claims(store.cap_changes("all", at, 100)) == []
    store.set_members("lobby", [BOB, EVE])
    assert claims(store.cap_changes("lobby", at, 100)) == [b"3"]
    store.erase_subject(EVE)
    assert list(store.cap_events_of([EVE])) == []


def test_pages_lose_nothing(store: SqliteStore) -> None:
    store.add_cap_events([away(BOB, n.to_bytes(2, "big")) for n in range(7)])
    store.add_cap_events([away(ANN, n.to_bytes(2, "big")) for n in range(7)])
    store.set_members("lobby", [ANN, BOB])  # all of Ann's have one stamp
    found: list[bytes] = []
    after, rounds = 0, 0
    while True:
        rows, through = store.cap_changes("lobby", after, 9)
        found += [row.subject + row.claim for row in rows]
        after, rounds = through, rounds + 1
        if through == store.newest_stamp():
            break
    assert len(found) == len(set(found)) == 14
    assert rounds == 2
    store.drop_cap_events(store.cap_events_of([ANN]))
    assert store.cap_subjects(b"", 9) == [BOB]
    assert store.cap_subjects(BOB, 9) == []
    assert store.crowded_caps([ANN, BOB], 6) == [BOB]
    store.clear_cap_events()
    assert store.cap_subjects(b"", 9) == []


# The consumer


@dataclass
class Street:
    """A tenant and its log, to which devices report."""

    tenant: Tenant
    said: dict[str, int] = field(default_factory=dict)

    def report(self, device: str, *events: tuple[bytes, int, event_pb2.Event | bytes]) -> None:
        first = self.said.get(device, 0) + 1
        frames = b"".join(
            encode_frame(
                Frame(
                    first + i,
                    subject,
                    kind,
                    now_ms(),
                    body if isinstance(body, bytes) else body.SerializeToString(),
                )
            )
            for i, (subject, kind, body) in enumerate(events)
        )
        last = self.said[device] = first + len(events) - 1
        digest = hashlib.sha256(frames).digest()
        with Committer(self.tenant.log_path) as log:
            log.append_batch(device, bytes(16), 0, first, last, frames, digest)

    def genomes(self) -> None:
        with closing(LiveConsumer(self.tenant)) as live:
            while live.catch_up():
                pass

    def count(self) -> int:
        with closing(Counters(self.tenant)) as counters:
            read = 0
            while more := counters.catch_up(3):
                read += more
            return read

    def rows(self, *subjects: bytes) -> set[tuple[bytes, str, str]]:
        with closing(self.tenant.open_store()) as store:
            found = store.cap_events_of(subjects or (ANN, BOB, EVE))
            return {(row.subject, row.offer, row.kind) for row in found}


def street_of(root: Path, **taxi: Any) -> Street:
    tenant = make_home(root).tenant("default")
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [offer("taxi", "service:taxi", **taxi)])
    Committer(tenant.log_path).close()
    publish_release(tenant)
    return Street(tenant)


@pytest.fixture
def street(tmp_path: Path) -> Street:
    return street_of(tmp_path, caps=[{"limit": 3}], stop_after={"convert": True})


DECISION, OUTCOME = int(FrameKind.DECISION), int(FrameKind.OUTCOME)
INTERACTION, LINK = int(FrameKind.INTERACTION), int(FrameKind.LINK)


def linked(other: bytes, *, together: bool = True) -> event_pb2.Event:
    said = event_pb2.SubjectLink(other_subject=other, linked=together)
    return event_pb2.Event(time=REAL, link=said)


def test_what_devices_report_counts_once(street: Street) -> None:
    ahead = decision("screen")
    ahead.time.wall_ms = now_ms() + 10 * FUTURE_MS
    street.report("a", (ANN, DECISION, ahead), (NOBODY, DECISION, decision("screen")))
    street.report("b", (ANN, INTERACTION, bought()), (BOB, INTERACTION, bought(kind="view")))
    street.report("b", (BOB, OUTCOME, outcome("buy")), (BOB, DECISION, b"\xff\xff"))
    assert street.count() == 0, "never ahead of the genomes"
    street.genomes()
    assert street.count() == 6
    found = {(ANN, "taxi", "view"), (ANN, "taxi", "convert"), (BOB, "taxi", "convert")}
    assert street.rows() == found
    with closing(street.tenant.open_store()) as store:
        (row,) = (row for row in store.cap_events_of([ANN]) if row.kind == "view")
        assert row.claim == CLAIM
        assert row.at_ms <= now_ms() + FUTURE_MS
    street.report("c", (ANN, OUTCOME, outcome("buy")), (ANN, OUTCOME, outcome("click")))
    street.genomes()
    assert street.count() == 2
    assert street.count() == 0
    with closing(street.tenant.open_store()) as store:
        assert len(list(store.cap_events_of([ANN]))) == 3, "two kinds of success of one slot"


def in_an_audience(street: Street, *subjects: bytes) -> None:
    with closing(street.tenant.open_store()) as store:
        store.put_audience(AudienceRow("those", {"none": True}))
        store.put_customers(CustomerRow(one, (), AGREED) for one in subjects)
        store.set_members("those", subjects)


def test_one_person_under_two_subjects(street: Street) -> None:
    in_an_audience(street, ANN, BOB, EVE)
    street.report("a", (ANN, DECISION, decision("screen")))
    street.genomes()
    street.count()
    street.report("b", (BOB, LINK, linked(ANN)), (EVE, LINK, linked(BOB)))
    street.genomes()
    street.count()
    assert {subject for subject, *_ in street.rows()} == {ANN, BOB, EVE}
    street.report("b", (EVE, OUTCOME, outcome("buy")))
    street.genomes()
    street.count()
    assert {s for s, _, kind in street.rows() if kind == "convert"} == {ANN, BOB, EVE}
    apart = linked(BOB, together=False)
    apart.time.wall_ms = 9
    street.report("b", (EVE, LINK, apart), (EVE, INTERACTION, bought()))
    street.genomes()
    street.count()
    with closing(street.tenant.open_store()) as store:
        assert len(list(store.cap_events_of([EVE]))) == 3
        assert len(list(store.cap_events_of([ANN]))) == 2, "nobody of that person any more"


def test_a_person_of_many_visits(street: Street) -> None:
    """Their visits count for them, and nothing is kept for visits that nobody can ask for."""
    in_an_audience(street, ANN)
    visits = [bytes([9, n]) * 8 for n in range(9)]
    for n, visit in enumerate(visits):
        shown = decision("screen")
        shown.decision.decision_id = bytes([n]) * 16
        street.report("a", (visit, DECISION, shown), (ANN, LINK, linked(visit)))
    street.report("b", (ANN, INTERACTION, bought()))
    street.genomes()
    street.count()
    with closing(street.tenant.open_store()) as store:
        assert len(list(store.cap_events_of([ANN]))) == 10
        assert len(list(store.cap_events_of(visits))) == 9, "what was said of them themselves"
    # Who is linked through a visit has what all of the person did.
    in_an_audience(street, ANN, BOB)
    street.report("b", (BOB, LINK, linked(visits[0])))
    street.genomes()
    street.count()
    with closing(street.tenant.open_store()) as store:
        assert len(list(store.cap_events_of([BOB]))) == 10


def test_another_log_is_read_from_its_beginning(street: Street) -> None:
    street.report("a", (ANN, DECISION, decision("screen")))
    street.genomes()
    street.count()
    for file in street.tenant.dir.glob(f"{street.tenant.log_path.name}*"):
        file.unlink()
    street.said.clear()
    street.report("a", (BOB, DECISION, decision("screen")))
    street.genomes()
    street.count()
    assert street.rows() == {(BOB, "taxi", "view")}


def test_events_are_kept_while_they_matter(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "MOST_EVENTS", 2)
    many = [decision("screen") for _ in range(4)]
    for number, one in enumerate(many):
        one.decision.decision_id = bytes([number]) * 16
        one.time.wall_ms = number
    street.report("a", *((ANN, DECISION, one) for one in many))
    street.genomes()
    street.count()
    with closing(street.tenant.open_store()) as store:
        assert sorted(row.at_ms for row in store.cap_events_of([ANN])) == [2, 3]
        # A release that asks for less, and a look through everybody.
        hourly = [{"limit": 1, "window_hours": 1}]
        store.put_documents("offer", [offer("taxi", "service:taxi", caps=hourly)])
    publish_release(street.tenant)
    street.count()
    assert street.rows() == set()


def test_a_release_that_cannot_be_read_asks_for_nothing(
    street: Street, caplog: pytest.LogCaptureFixture
) -> None:
    for part in street.tenant.parts_dir.iterdir():
        part.write_bytes(b"broken")
    street.report("a", (ANN, DECISION, decision("screen")))
    street.genomes()
    with caplog.at_level(logging.ERROR):
        assert street.count() == 1
    assert street.rows() == set()
    assert "what release 1 counts cannot be read" in caplog.text


def test_its_troubles_hold_up_no_genome(caplog: pytest.LogCaptureFixture) -> None:
    class Genomes:
        closed = False

        def catch_up(self, max_events: int) -> int:
            return max_events

        def close(self) -> None:
            self.closed = True

    class Broken(Genomes):
        tried = 0

        def catch_up(self, max_events: int) -> int:
            self.tried += 1
            raise OSError("no more room")

    genomes, broken = Genomes(), Broken()
    both = WithCounters(genomes, lambda: broken, "default")
    assert [both.catch_up(5), both.catch_up(6)] == [5, 6]
    assert broken.tried == 1, "not at once again"
    assert "what counts for caps is not kept current" in caplog.text
    both.close()
    assert genomes.closed
    assert broken.closed


def test_a_build_leaves_it_as_it_is(street: Street) -> None:
    street.report("a", (ANN, DECISION, decision("screen")))
    street.genomes()
    street.count()
    with closing(street.tenant.open_store()) as store, LogReader(street.tenant.log_path) as log:
        build(store, log, street.tenant.dna_path)
        assert street.count() == 0
        read_anew(store)
    assert street.count() == 1
    assert street.rows() == {(ANN, "taxi", "view")}


def test_who_comes_back_to_an_audience_brings_what_counts(store: SqliteStore) -> None:
    store.set_members("lobby", [ANN, BOB])
    store.add_cap_events([away(ANN, b"1"), away(BOB, b"2")])
    before = store.cap_stamps()["lobby"]
    store.set_members("lobby", [BOB])
    store.set_members("lobby", [ANN, BOB])  # the audience has a stamp already
    assert store.cap_stamps()["lobby"] > before
