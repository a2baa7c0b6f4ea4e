"""From the log to cap events: what counts, for whom, how long, and what devices lack of it."""

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
from edge_sdk.engine.cap_rules import CapRow, rules_of
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from edge_sdk.runtime.claiming import claim_of
from genome_edge.v1 import event_pb2
from genome_server.counting import consumer
from genome_server.counting.consumer import Counters, read_anew
from genome_server.counting.rules import Counting, outdated, rows_of
from genome_server.genomes.build import build
from genome_server.genomes.events import FUTURE_MS
from genome_server.genomes.live import LiveConsumer
from genome_server.home import Tenant
from genome_server.log import Committer, LogReader
from genome_server.services.live import WithCounters
from genome_server.store import AudienceRow, CustomerRow
from genome_server.store.sqlite import SqliteStore
from tests.serving import AGREED, make_home, now_ms, offer, publish_release
from tests.unit.device_town import Town

ANN, BOB, EVE = (bytes([n]) * 16 for n in (1, 2, 3))
MADE = bytes(range(16))
CLAIM = claim_of(MADE, 0)
HOUR = 3_600_000
CAP = {"caps": [{"limit": 1}]}
REAL = event_pb2.EventTime(wall_ms=5, offset_known=True)
SCREEN = {"id": "screen", "slots": 2}
FEED = {"id": "feed", "slots": 2, "shown": "view"}


def counting(*offers: dict[str, Any]) -> Counting:
    rules = rules_of([offer_from_document({"id": "taxi", **one}) for one in offers])
    placements = [placement_from_document(one) for one in (SCREEN, FEED)]
    return Counting(rules, placements, Town().schema)


def decision(placement: str, **slot: str) -> event_pb2.Event:
    said: dict[str, Any] = {"offer": "taxi", "reason": "RANKED", **slot}
    record = event_pb2.DecisionRecord(
        decision_id=MADE, placement=placement, slots=[event_pb2.SlotRecord(**said)]
    )
    return event_pb2.Event(time=REAL, decision=record)


def outcome(kind: str, placement: str = "screen", offer: str = "taxi") -> event_pb2.Event:
    said = event_pb2.Outcome(
        decision_id=MADE, kind=kind, placement=placement, offer=offer, event_id=kind
    )
    return event_pb2.Event(time=REAL, outcome=said)


def bought(**said: Any) -> event_pb2.Event:
    done = {"interaction_id": "i", "kind": "buy", "offer": "taxi", **said}
    return event_pb2.Event(time=REAL, interaction=event_pb2.Interaction(**done))


ALL = {
    "caps": [{"limit": 1}, {"limit": 1, "count": "redeem"}],
    "stop_after": {"convert": True, "dismiss": True},
}


@pytest.mark.parametrize(
    ("event", "kinds"),
    [
        (decision("screen"), {"view"}),
        (decision("feed"), set()),
        (decision("screen", reason="HOUSE"), set()),
        (decision("screen", reason="HELD_OUT"), set()),
        (decision("screen", offer=""), set()),
        (decision("screen", offer="train"), set()),
        (outcome("view"), set()),
        (outcome("view", "feed"), {"view"}),
        (outcome("dismiss"), {"dismiss"}),
        (outcome("redeem"), {"redeem", "convert"}),
        (outcome("buy"), {"convert"}),
        (outcome("buy", offer=""), set()),
        (bought(), {"convert"}),
        (bought(kind="view"), set()),
        (bought(interaction_id=""), set()),
        (bought(offer=""), set()),
    ],
)
def test_what_an_event_counts_as(event: event_pb2.Event, kinds: set[str]) -> None:
    rows = list(counting(ALL).rows(ANN, event, 5))
    assert {row.kind for row in rows} == kinds
    assert all(row[:2] == (ANN, "taxi") and row.elsewhere for row in rows)


def test_the_claims_are_those_of_devices() -> None:
    (row,) = counting(ALL).rows(ANN, decision("screen"), 5)
    assert row.claim == CLAIM
    (row,) = counting(ALL).rows(ANN, bought(), 5)
    assert row.claim == hashlib.blake2b(b"i", digest_size=16).digest()


def test_what_no_device_could_have_claimed_counts_for_nothing() -> None:
    """One such event keeps neither what follows from being counted nor devices from rows."""
    long_id, beyond, many = decision("screen"), outcome("redeem"), decision("screen")
    long_id.decision.decision_id = bytes(65)
    beyond.outcome.slot = 256
    short = outcome("redeem")
    short.outcome.decision_id = b""
    for one in (long_id, beyond, short):
        assert list(counting(ALL).rows(ANN, one, 5)) == []
    many.decision.slots.extend([many.decision.slots[0]] * 299)
    assert len(list(counting(ALL).rows(ANN, many, 5))) == 256


def test_only_what_a_limit_of_a_customer_asks_for() -> None:
    device = {"caps": [{"limit": 1, "scope": "device"}]}
    assert not counting(device).asked
    assert counting({"cool_down_hours": 1}).asked == {("taxi", "view")}
    spring = {"id": "train", "campaign": "spring"}
    over = {"campaign": "spring", "caps": [{"limit": 1, "over": "campaign"}]}
    shared = counting(over, spring)
    assert shared.asked == {("taxi", "view"), ("train", "view")}
    (row,) = shared.rows(ANN, decision("screen", offer="train"), 5)
    assert (row.campaign, row.group) == ("spring", "")


def test_any_release_in_force_may_ask() -> None:
    countings = [counting({}), counting(CAP), counting(CAP)]
    assert len(rows_of(countings, ANN, decision("screen"), 5)) == 1


def views(number: int, offer: str = "taxi") -> list[CapRow]:
    return [
        CapRow(ANN, offer, "view", at, at.to_bytes(4, "big"), elsewhere=True)
        for at in range(1, number + 1)
    ]


def test_what_can_block_nothing_any_more_is_not_kept() -> None:
    hourly = counting({"caps": [{"limit": 1, "window_hours": 1}]})
    daily = counting({"caps": [{"limit": 1, "window_hours": 24}]})
    rows = views(2)
    assert outdated([hourly], rows, HOUR + 1, 9) == rows[:1]
    assert outdated([hourly, daily], rows, HOUR + 1, 9) == []
    assert outdated([counting(CAP)], rows, 10**15, 9) == [], "never"
    assert outdated([], rows, 91 * 24 * HOUR, 9) == rows, "nothing asks any more"


def test_one_subject_has_so_many() -> None:
    """What limits can still ask for stays before what is newer."""
    rare = CapRow(ANN, "train", "redeem", 0, b"rare", elsewhere=True)
    rules = counting(CAP, {"id": "train", "caps": [{"limit": 1, "count": "redeem"}]})
    gone = outdated([rules], [*views(8), rare], 9, 4)
    assert sorted(row.at_ms for row in gone) == [1, 2, 3, 4, 5]
    crowd = counting({"caps": [{"limit": 9}]})
    assert sorted(row.at_ms for row in outdated([crowd], views(8), 9, 5)) == [1, 2, 3]


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
