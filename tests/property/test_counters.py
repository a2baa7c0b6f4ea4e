"""What counts on several devices and a hub: however it travels, each comes to know all of it."""

from __future__ import annotations

import itertools
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_rules import COUNTED, CapRow, CapRule, rules_of
from edge_sdk.engine.caps import CapLedger
from edge_sdk.engine.offers import offer_from_document
from edge_sdk.store import tables
from edge_sdk.store.rows import prepare
from edge_sdk.store.state import (
    FIRST,
    drop_caps,
    keep_elsewhere,
    oldest_elsewhere,
    put_caps,
    read_caps,
    read_elsewhere,
)
from genome_server.store import AudienceRow, CustomerRow
from genome_server.store.sqlite import SqliteStore
from tests.serving import AGREED

HOUR: Final = 3_600_000
_LANE: Final = 3
_CAPS: Final[tuple[dict[str, Any], ...]] = (
    {"limit": 1},
    {"limit": 2, "window_hours": 5},
    {"limit": 2, "over": "campaign", "window_hours": 9},
    {"limit": 2, "over": "group", "calendar": "day"},
    {"limit": 3, "calendar": "day", "paced": True},
    {"limit": 1, "count": "redeem"},
)
_MORE: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"cool_down_hours": 3},
    {"stop_after": {"redeem": True, "dismiss": True, "convert": True}},
)
OFFERS: Final = ("taxi", "train", "spa")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    with closing(SqliteStore.open(tmp_path_factory.mktemp("hub") / "hub.sqlite")) as made:
        yield made


def rules(offers: Mapping[str, dict[str, Any]], scopes: set[str]) -> dict[str, CapRule]:
    """The rules of these offers, of their caps those of some scopes; the rest is of customers."""
    documents = []
    for name, said in offers.items():
        caps = [cap for cap in said["caps"] if cap.get("scope", "customer") in scopes]
        more = said["more"] if "customer" in scopes else {}
        documents.append(
            {"id": name, "campaign": "c", "exclusivity_group": "g", "caps": caps, **more}
        )
    return rules_of([offer_from_document(one) for one in documents])


class Asked:
    """What customers did elsewhere, as the table has it."""

    def __init__(self, table: sqlite3.Connection) -> None:
        self.table = table

    def __call__(self, subject: bytes) -> list[CapRow]:
        return read_elsewhere(self.table, subject)

    def forked(self) -> Asked:
        raise NotImplementedError


@dataclass
class Device:
    """A device as far as it counts: a ledger, a table, what it has not reported, its cursor."""

    rules: Mapping[str, CapRule]
    ledger: CapLedger = field(init=False)
    table: sqlite3.Connection = field(init=False)
    unsent: list[CapRow] = field(default_factory=list)
    did: list[CapRow] = field(default_factory=list)
    members: set[bytes] = field(default_factory=set)
    since: int = 0
    last: int = 0

    def __post_init__(self) -> None:
        self.ledger = CapLedger(self.rules)
        self.table = sqlite3.connect(":memory:", isolation_level=None)
        tables.migrate(self.table, 0)
        prepare(self.table)
        self.ledger.draw_on(Asked(self.table))

    def do(self, row: CapRow) -> None:
        self.did.append(row)
        self.unsent.append(row)
        kept = self.ledger.record(row.subject, row.offer, row.kind, row.at_ms, row.claim)
        if kept is not None:
            put_caps(self.table, [(kept, _LANE)])

    def report(self, hub: SqliteStore) -> None:
        hub.add_cap_events(row for row in self.unsent if row.subject != NOBODY)
        self.unsent.clear()

    def sync(self, hub: SqliteStore, audience: str, limit: int) -> None:
        members = set(hub.members(audience))
        gone = self.members - members
        self.members = members
        while True:
            rows, through = hub.cap_changes(audience, self.since, limit)
            keep_elsewhere(self.table, rows, gone.__contains__)
            if through == self.since:
                break
            self.since = through
        found, self.last = read_caps(self.table, self.last, (_LANE, _LANE))
        self.ledger.apply(found)
        if gone:
            self.ledger.draw_on(self.ledger.source)

    def restart(self) -> None:
        rows, self.last = read_caps(self.table, here=True)
        self.ledger = CapLedger(self.rules, rows)
        self.ledger.draw_on(Asked(self.table))

    def prune(self, now_ms: int) -> None:
        drop_caps(self.table, self.ledger.prune(now_ms))
        rows, _ = oldest_elsewhere(self.table, FIRST, 10_000)
        drop_caps(self.table, self.ledger.outdated(rows, now_ms))


PEOPLE: Final = 2
_STEPS: Final = st.one_of(
    st.tuples(
        st.just("do"),
        st.integers(0, 2),
        st.integers(0, PEOPLE),
        st.sampled_from(OFFERS),
        st.sampled_from(COUNTED),
        st.integers(0, 30),
    ),
    st.tuples(st.just("again"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["report", "sync", "sync", "full", "restart"]), st.integers(0, 2)),
    st.tuples(st.sampled_from(["leave", "join"]), st.integers(0, PEOPLE - 1)),
)
_OFFERS: Final = st.fixed_dictionaries(
    {
        name: st.fixed_dictionaries(
            {
                "caps": st.lists(
                    st.builds(
                        lambda cap, scope: {**cap, "scope": scope},
                        st.sampled_from(_CAPS),
                        st.sampled_from(["customer", "device"]),
                    ),
                    max_size=2,
                ),
                "more": st.sampled_from(_MORE),
            }
        )
        for name in OFFERS
    }
)


class World:
    """Three devices of one audience, and the hub between them."""

    def __init__(self, hub: SqliteStore, offers: dict[str, dict[str, Any]], limit: int) -> None:
        self.hub, self.offers, self.limit = hub, offers, limit
        self.audience = secrets.token_hex(8)
        self.people = [secrets.token_bytes(16) for _ in range(PEOPLE)]
        self.members = set(self.people)
        self.devices = [Device(rules(offers, {"customer", "device"})) for _ in range(3)]
        self._claims = itertools.count(1)
        hub.put_audience(AudienceRow(self.audience, {"none": True}))
        hub.put_customers(CustomerRow(one, (), AGREED) for one in self.people)
        hub.set_members(self.audience, self.people)

    def step(self, what: str, which: int, *more: Any) -> None:
        if what in ("leave", "join"):
            (self.members.discard if what == "leave" else self.members.add)(self.people[which])
            self.hub.set_members(self.audience, self.members)
            return
        device = self.devices[which]
        if what == "do":
            who, name, kind, hour = more
            subject = [*self.people, NOBODY][who]
            claim = next(self._claims).to_bytes(4, "big")
            device.do(CapRow(subject, name, kind, hour * HOUR, claim, "c", "g"))
        elif what == "again" and device.did:
            # Said twice, a moment later.
            last = device.did[-1]
            device.do(last._replace(at_ms=last.at_ms + HOUR))
        elif what == "report":
            device.report(self.hub)
        elif what == "sync":
            device.sync(self.hub, self.audience, self.limit)
        elif what == "full":
            device.since = 0
        elif what == "restart":
            device.restart()

    def settle(self) -> None:
        """Everybody is a member, everything is reported, and all have synced."""
        self.hub.set_members(self.audience, self.people)
        for device in self.devices:
            device.report(self.hub)
        for device in self.devices:
            device.sync(self.hub, self.audience, self.limit)

    def agree(self, moments: range) -> None:
        """Each keeps away what one ledger that saw everything does, and what its own limits do."""
        everything = CapLedger(rules(self.offers, {"customer"}))
        for row in (row for device in self.devices for row in device.did):
            if row.subject != NOBODY:
                everything.record(*row[:5])
        for device in self.devices:
            own = CapLedger(rules(self.offers, {"device"}))
            alone = CapLedger(device.rules)
            for row in device.did:
                own.record(*row[:5])
                alone.record(*row[:5])
            for now in moments:
                for one in self.people:
                    wanted = everything.blocked(one, now) | own.blocked(one, now)
                    assert device.ledger.blocked(one, now) == wanted
                assert device.ledger.blocked(NOBODY, now) == alone.blocked(NOBODY, now)


@settings(max_examples=150, deadline=None)
@given(offers=_OFFERS, steps=st.lists(_STEPS, max_size=40), limit=st.sampled_from([60, 1_000]))
def test_all_devices_come_to_know_everything(
    hub: SqliteStore, offers: dict[str, dict[str, Any]], steps: list[tuple[Any, ...]], limit: int
) -> None:
    world = World(hub, offers, limit)
    for step in steps:
        world.step(*step)
    world.settle()
    world.agree(range(31 * HOUR, 60 * HOUR, 7 * HOUR))
    # What was given up, and comes again as after all rows, changes nothing.
    for now in (40 * HOUR, 60 * HOUR):
        for device in world.devices:
            device.prune(now)
            device.since = 0
        world.settle()
        world.agree(range(now, 70 * HOUR, 9 * HOUR))
