"""What customers did travels to devices over real sockets, and counts for the server's own."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from edge_sdk.outbox.frames import FrameKind
from edge_sdk.runtime.claiming import claim_of
from genome_edge.v1 import decision_pb2, event_pb2, sync_pb2
from genome_server.genomes.live import LiveConsumer
from genome_server.home import Home, Tenant
from genome_server.log import Committer, LogReader
from genome_server.services import keeper, sync_plan
from genome_server.services.contents import Contents
from genome_server.services.sync_plan import GenomePlan, Want, plan
from tests.serving import (
    AGREED,
    RawDevice,
    RawStream,
    add_audience,
    add_thin,
    frames,
    make_home,
    now_ms,
    offer,
    publish_release,
    until,
)
from tests.unit.lists import a_tenant, go, rows
from tests.unit.syncing import NEW, buy, current, subject_of
from tests.unit.thin_clients import Thin

COUNTING = [*NEW, "counters-1"]
_Said = tuple[bytes, int, bytes]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path / "home")
    tenant = home.tenant("default")
    with closing(tenant.open_store()) as store:
        taxi = {"caps": [{"limit": 1}, {"limit": 1, "count": "redeem"}], "priority": 1}
        store.put_documents("offer", [offer("taxi", "service:taxi", **taxi)])
    publish_release(tenant)
    return home


@pytest.fixture(autouse=True)
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told of marks alone: they come whenever they like."""
    monkeypatch.setattr(keeper, "MARKS_S", 60.0)


def shown(subject: bytes, decision: bytes, name: str = "taxi") -> _Said:
    """A device shows an offer."""
    slot = event_pb2.SlotRecord(offer=name, reason="RANKED")
    event = event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=now_ms(), offset_known=True),
        decision=event_pb2.DecisionRecord(decision_id=decision, placement="screen", slots=[slot]),
    )
    return subject, int(FrameKind.DECISION), event.SerializeToString()


def redeemed(subject: bytes, decision: bytes, name: str = "taxi") -> _Said:
    event = event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=now_ms(), offset_known=True),
        outcome=event_pb2.Outcome(
            decision_id=decision, kind="redeem", offer=name, placement="screen", event_id="r"
        ),
    )
    return subject, int(FrameKind.OUTCOME), event.SerializeToString()


def report(device: RawDevice, first: int, *said: _Said) -> None:
    device.report(first, frames(first, *said), first + len(said) - 1)


def told(messages: Sequence[sync_pb2.SyncResponse]) -> dict[bytes, list[sync_pb2.CapEvent]]:
    """The cap events of a transaction by subject."""
    found: dict[bytes, list[sync_pb2.CapEvent]] = {}
    for message in messages:
        for event in message.put.cap_events:
            found.setdefault(event.subject, []).append(event)
    return found


def next_told(opened: RawStream) -> dict[bytes, list[sync_pb2.CapEvent]]:
    """Those of the next transaction that has any."""
    while True:
        if found := told(opened.transaction()):
            return found


def test_what_one_device_shows_the_other_knows(channel: grpc.Channel, tenant: Tenant) -> None:
    one, one_stream, _ = current(channel, tenant, features=COUNTING)
    _, two_stream, two_copy = current(channel, tenant, features=COUNTING)
    _, old_stream, old_copy = current(channel, tenant, features=NEW)
    assert len(two_copy.cursor) == 41
    ann, made = subject_of(tenant, "ann"), secrets.token_bytes(16)
    before = dict(two_copy.rows)
    report(one, 1, shown(ann, made))
    messages = two_stream.transaction()
    assert (messages[0].begin.rows, messages[0].begin.full) == (0, False)
    (event,) = told(messages)[ann]
    assert (event.claim, event.offer) == (claim_of(made, 0), "taxi")
    assert event.kind == sync_pb2.CapEvent.KIND_VIEW
    assert abs(event.at_ms - now_ms()) < 60_000
    assert two_copy.take(messages) == "patch"
    assert two_copy.rows == before
    assert told(one_stream.transaction())[ann] == [event], "who said it knows it by its claim"
    assert old_stream.quiet(0.4)
    assert len(old_copy.cursor) == 33
    report(one, 2, redeemed(ann, made))
    (event,) = next_told(two_stream)[ann]
    assert event.kind == sync_pb2.CapEvent.KIND_REDEEM
    messages = old_stream.transaction()
    assert old_copy.take(messages) == "patch", "of the genome it hears as before"
    assert not told(messages)
    assert len(old_copy.cursor) == 33
    for opened in (one_stream, two_stream, old_stream):
        opened.close()


@pytest.mark.parametrize("cursor", ["none", "old"])
def test_all_that_matters_comes_to_who_has_nothing(
    channel: grpc.Channel, tenant: Tenant, cursor: str
) -> None:
    one, one_stream, _ = current(channel, tenant, features=COUNTING)
    ann, bob = subject_of(tenant, "ann"), subject_of(tenant, "bob")
    report(one, 1, shown(ann, secrets.token_bytes(16)), shown(bob, secrets.token_bytes(16)))
    assert next_told(one_stream).keys() == {ann, bob}
    one_stream.close()
    two, two_stream, copy = current(channel, tenant, features=NEW)
    two_stream.close()
    if cursor == "none":
        copy.cursor = b""
    opened = copy.hello(two, features=COUNTING)
    if cursor == "none":
        messages = opened.transaction()
        assert copy.take(messages) == "full"
        assert not told(messages)
    messages = opened.transaction()
    assert copy.take(messages) == "patch", "the rows of an older cursor are as good as ever"
    assert told(messages).keys() == {ann, bob}
    assert opened.quiet(0.3)
    opened.close()
    again = copy.hello(two, features=COUNTING)
    assert again.quiet(0.4)
    again.close()
    # Who takes none any more is sent none, and keeps its rows.
    old = copy.hello(two, features=NEW)
    assert old.quiet(0.4)
    old.close()


def test_only_of_whom_the_device_may_hold_a_row(channel: grpc.Channel, tenant: Tenant) -> None:
    add_audience(tenant, "club", ["ann", "bob"])
    one, one_stream, _ = current(channel, tenant, features=COUNTING)
    _, opened, _ = current(channel, tenant, "club", COUNTING)
    ann, bob, eve = (subject_of(tenant, name) for name in ("ann", "bob", "eve"))
    with closing(tenant.open_store()) as store:
        store.set_consents(bob, 0)
    opened.transaction()
    report(one, 1, *(shown(who, secrets.token_bytes(16)) for who in (ann, bob, eve)))
    assert next_told(opened).keys() == {ann}
    assert next_told(one_stream).keys() == {ann, eve}
    with closing(tenant.open_store()) as store:
        store.set_consents(bob, AGREED)
        assert next_told(opened).keys() == {bob}
        store.set_members("club", [ann, bob, eve])
        assert next_told(opened).keys() == {eve}
        store.erase_subject(ann)
        messages = opened.transaction()
        assert [m.delete.subject for m in messages if m.HasField("delete")] == [ann]
        assert not told(messages)
    _, late, _ = current(channel, tenant, "club", COUNTING)
    assert next_told(late).keys() == {bob, eve}
    for stream in (one_stream, opened, late):
        stream.close()


def test_much_comes_in_several_transactions(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, one_stream, _ = current(channel, tenant, features=NEW)
    names = [subject_of(tenant, name) for name in ("ann", "bob", "eve")]
    report(one, 1, *(shown(who, secrets.token_bytes(16)) for who in names))

    def counted() -> bool:
        with closing(tenant.open_store()) as store:
            return len(list(store.cap_events_of(names))) == 3

    until(counted)
    monkeypatch.setattr(sync_plan, "MOST_COUNTED", 2)
    _, opened, _ = current(channel, tenant, features=COUNTING)
    found = [told(opened.transaction()) for _ in range(3)]
    assert [len(part) for part in found] == [1, 1, 1]
    assert set().union(*found) == set(names)
    assert opened.quiet(0.3)
    for stream in (opened, one_stream):
        stream.close()


def test_devices_at_one_cursor_share_what_they_are_sent(
    channel: grpc.Channel, tenant: Tenant, tmp_path: Path
) -> None:
    one, one_stream, copy = current(channel, tenant, features=COUNTING)
    buy(one, tenant, "ann", 1)
    one_stream.transaction()
    report(one, 2, shown(subject_of(tenant, "ann"), secrets.token_bytes(16)))
    next_told(one_stream)
    one_stream.close()
    lineage = copy.manifest.lineage.SerializeToString(deterministic=True)
    with closing(tenant.open_store()) as store:
        wants = [
            Want(name, "all", lineage, copy.cursor, True, frozenset(), counts)
            for name, counts in (("a", True), ("b", True), ("c", False))
        ]
        contents = Contents(tenant.dir / "contents", store)
        with LogReader(tenant.log_path) as log:
            answers = plan(store, contents, log.incarnation, wants)
    found = [one for one in answers if isinstance(one, GenomePlan)]
    assert len(found) == 3
    assert found[0].body is found[1].body
    assert len(found[0].body.pieces) == len(found[2].body.pieces) + 1


# The server's own


def test_a_decision_of_the_server_knows_what_devices_showed(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    thin = Thin(channel, add_thin(tenant))
    one, one_stream, _ = current(channel, tenant, features=COUNTING)
    made = thin.decide(customer="bob")
    assert made.slots[0].offer == "taxi"
    ann, bob = subject_of(tenant, "ann"), subject_of(tenant, "bob")
    # What the server itself showed is told to devices as well.
    assert next_told(one_stream).keys() == {bob}
    report(one, 1, shown(ann, secrets.token_bytes(16)), redeemed(bob, secrets.token_bytes(16)))
    assert next_told(one_stream).keys() == {ann, bob}
    assert thin.decide(customer="ann").slots[0].offer != "taxi"
    assert thin.decide(customer="eve").slots[0].offer == "taxi"
    one_stream.close()


def test_a_redemption_at_the_server_knows_those_of_devices(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    with closing(tenant.open_store()) as store:
        cap = {"limit": 1, "count": "redeem"}
        till = {"caps": [{**cap, "scope": "device"}], "priority": 9, "placements": ["feed"]}
        store.put_documents("offer", [offer("till", "service:till", **till)])
    publish_release(tenant)
    thin = Thin(channel, add_thin(tenant))
    until(lambda: thin.decide("feed", customer="ann").slots[0].offer == "till")
    one, one_stream, _ = current(channel, tenant, features=COUNTING)
    made = {
        (name, place): thin.decide(place, customer=name).decision_id
        for name in ("ann", "bob")
        for place in ("screen", "feed")
    }
    ann = subject_of(tenant, "ann")
    said = [redeemed(ann, secrets.token_bytes(16), name) for name in ("taxi", "till")]
    report(one, 1, *said)
    kinds: set[int] = set()
    while sync_pb2.CapEvent.KIND_REDEEM not in kinds:
        kinds = {event.kind for event in next_told(one_stream).get(ann, ())}

    def redeem(name: str, place: str) -> str:
        request = decision_pb2.RedeemRequest(decision_id=made[name, place])
        return str(thin(request).reason)

    assert redeem("ann", "screen") == "CAPPED"
    assert redeem("bob", "screen") == "GRANTED"
    assert redeem("ann", "feed") == "GRANTED", "the server is a device of its own"
    assert redeem("bob", "feed") == "CAPPED"
    one_stream.close()


def test_a_list_knows_what_devices_showed(tmp_path: Path) -> None:
    """Also what the log alone knows, when no server has run since."""
    tenant = a_tenant(tmp_path / "home", ("ann", "bob"))
    said = shown(subject_of(tenant, "ann"), secrets.token_bytes(16), "once")
    data = frames(1, said)
    with Committer(tenant.log_path) as log:
        log.append_batch("kiosk", bytes(16), 0, 1, 1, data, hashlib.sha256(data).digest())
    with closing(LiveConsumer(tenant)) as live:
        live.catch_up()
    outcome = go(tenant, tmp_path / "out.parquet", slots=2)
    by: dict[str, set[str]] = {name: set() for name in ("ann", "bob")}
    for row in rows(outcome.out):
        by[row["customer"]].add(row["offer"])
    assert "once" not in by["ann"]
    assert "once" in by["bob"]
