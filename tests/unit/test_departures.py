"""Who is erased, leaves or withdraws goes from devices at once, also while the genomes in the store
are built for a schema that their release does not have yet."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import TrustError
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync import trust
from edge_sdk.sync.actions import ApplyGenomes
from edge_sdk.sync.genomes_transaction import GenomesTransaction
from edge_sdk.sync.parts_transaction import Here
from edge_sdk.sync.trust import Limits
from genome_edge.v1 import dna_pb2, sync_pb2
from genome_server.genomes.build import build
from genome_server.genomes.rows import built_schema
from genome_server.home import Home
from genome_server.services.contents import Contents
from genome_server.services.framing import framed
from genome_server.services.sync_cursor import Cursor, read_cursor
from genome_server.services.sync_plan import GenomePlan, Want, plan
from genome_server.store.protocol import CustomerRow
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_LOCATION, CONSENT_PERSONALISATION
from genome_server.store.sqlite import SqliteStore
from tests.serving import make_tenant

ALL = CONSENT_PERSONALISATION | CONSENT_LEARNING | CONSENT_LOCATION
SAID = (ALL, ALL, CONSENT_PERSONALISATION | CONSENT_LOCATION, CONSENT_PERSONALISATION, 0)
LOG = bytes(range(16))
PEOPLE = [f"c{number}" for number in range(12)]
MINUTE_MS = 60_000


class Shop:
    """A server's store and a device's, and what a planner sends the one from the other.

    `published` is the lineage that devices have a release of; `compact` whether they take patches.
    """

    def __init__(self, root: Path, *, compact: bool = True) -> None:
        self.root, self.compact = root, compact
        self.tenant = make_tenant(Home(root / "home"), "default", PEOPLE)
        self.store = SqliteStore.open(self.tenant.db_path)
        self.contents = Contents(root / "contents", self.store)
        self.subjects = self.store.subjects_of("app", PEOPLE)
        self.everybody = set(self.subjects.values())
        self.members = set(self.everybody)
        self.now_ms = 0
        self.weight = 1
        for subject in self.everybody:
            self.agree(subject, ALL)
        self.build()
        self.published = self.lineage
        self.devices = 0
        self.device = self.new_device()

    def close(self) -> None:
        self.device.close()
        self.store.close()

    @property
    def lineage(self) -> dna_pb2.Lineage:
        """That of the rows in the store."""
        schema = built_schema(self.store)
        assert schema is not None
        return schema.lineage(self.store.vocabulary())

    @property
    def waits(self) -> bool:
        """Whether no device gets rows."""
        return not trust.same_lineage(self.lineage, self.published)

    def new_device(self) -> DeviceStore:
        self.devices += 1
        return DeviceStore.open(self.root / f"device-{self.devices}")

    def agree(self, subject: bytes, consents: int) -> None:
        self.now_ms += MINUTE_MS
        self.store.set_consents(subject, consents, self.now_ms)

    def erase(self, subject: bytes) -> None:
        self.store.erase_subject(subject)
        self.everybody.discard(subject)
        self.members.discard(subject)

    def join(self, subject: bytes) -> None:
        self.members.add(subject)
        self.store.set_members("all", self.members)

    def leave(self, subject: bytes) -> None:
        self.members.discard(subject)
        self.store.set_members("all", self.members)

    def meet(self, subject: bytes) -> None:
        """A new customer, or one who was erased and comes back."""
        self.everybody.add(subject)
        self.store.put_customers([CustomerRow(subject, (("brand:mill", 256),), None)])
        self.agree(subject, ALL)
        self.join(subject)

    def change(self) -> None:
        """Another schema; it takes effect with the next build."""
        text, self.weight = self.tenant.dna_path.read_text(), self.weight + 1
        new = text.replace(f"buy: {{weight: {self.weight}", f"buy: {{weight: {self.weight + 1}")
        assert new != text
        self.tenant.dna_path.write_text(new)

    def build(self) -> None:
        build(self.store, None, self.tenant.dna_path)

    def publish(self) -> None:
        self.published = self.lineage

    def ask(self, device: DeviceStore, *, forgetful: bool = False) -> GenomePlan | None:
        """What the device lacks; `forgetful`: it says no cursor."""
        held = device.genome_lineage()
        goes_on = trust.same_lineage(held, self.published) if held is not None else False
        cursor = device.genome_cursor() if goes_on and not forgetful else b""
        lineage = self.published.SerializeToString(deterministic=True)
        patches = self.compact and bool(cursor)
        want = Want("till", "all", lineage, cursor, patches, counts=self.compact)
        (answer,) = plan(self.store, self.contents, LOG, [want])
        assert answer is None or isinstance(answer, GenomePlan)
        return answer

    def take(self, device: DeviceStore, answer: GenomePlan) -> None:
        begin = sync_pb2.Begin.FromString(answer.body.begin)
        begin.nonce = 1
        taken = GenomesTransaction(
            begin, Here(set(), {}, Limits()), self.published, device.genome_lineage()
        )
        for piece in answer.body.pieces:
            taken.take(piece[0], sync_pb2.SyncResponse.FromString(framed(piece, 1)))
        (action,) = taken.take("commit", sync_pb2.SyncResponse(commit=answer.commit()))
        assert isinstance(action, ApplyGenomes)
        given: dict[str, Any] = dict(vars(action))
        del given["nonce"]
        device.commit_genomes(**given)

    def sync(self, device: DeviceStore | None = None) -> list[GenomePlan]:
        """Until nothing is left to send; what was sent. Raises TrustError DIGEST where the device
        comes to another number of rows than the server."""
        device = device or self.device
        sent: list[GenomePlan] = []
        while answer := self.ask(device):
            self.take(device, answer)
            sent.append(answer)
            assert len(sent) < 4
        return sent

    def held(self, device: DeviceStore | None = None) -> dict[bytes, int]:
        """Whose rows are on the device, and the consents that they say."""
        view = (device or self.device).genomes()
        found = {row.subject: row.consents for row in view.rows()}
        assert len(found) == view.count
        return found

    def allowed(self) -> dict[bytes, int]:
        """Who may be on devices, and what each agreed to."""
        rows = self.store.customers(sorted(self.members))
        said = {row.subject: row.consents or 0 for row in rows}
        return {one: bits for one, bits in said.items() if bits & CONSENT_PERSONALISATION}


@pytest.fixture(params=[True, False], ids=["patches", "rows"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with closing(Shop(tmp_path, compact=request.param)) as made:
        made.sync()
        assert set(made.held()) == made.everybody
        yield made


def begin_epoch(shop: Shop) -> None:
    shop.change()
    shop.build()
    assert shop.waits
    assert shop.sync() == []


def test_whoever_goes_between_a_build_and_its_release_goes_from_the_device_at_once(
    shop: Shop,
) -> None:
    ann, bob, eve, dan, *others = (shop.subjects[name] for name in PEOPLE)
    begin_epoch(shop)
    shop.erase(ann)
    (sent,) = shop.sync()
    assert not sent.full
    assert not sent.commit().HasField("row_sum")
    assert set(shop.held()) == {bob, eve, dan, *others}
    assert shop.device.genomes().subject_of("c0") is None
    shop.leave(bob)
    shop.agree(eve, CONSENT_LEARNING)
    shop.agree(dan, CONSENT_PERSONALISATION)  # and no more to LOCATION
    (sent,) = shop.sync()
    said = [sync_pb2.SyncResponse.FromString(framed(one, 1)).delete for one in sent.body.pieces]
    reasons = {one.subject: one.reason for one in said}
    assert reasons == {
        bob: sync_pb2.Delete.REASON_LEFT_AUDIENCE,
        eve: sync_pb2.Delete.REASON_CONSENT_WITHDRAWN,
        dan: sync_pb2.Delete.REASON_CONSENT_WITHDRAWN,
    }
    assert set(shop.held()) == set(others)
    assert shop.sync() == []
    shop.agree(eve, ALL)
    shop.join(bob)
    shop.sync()
    assert set(shop.held()) == set(others), "rows wait for the release"
    shop.publish()
    shop.sync()
    assert shop.held() == dict.fromkeys((bob, eve, *others), ALL) | {dan: shop.held()[dan]}
    assert shop.held()[dan] == CONSENT_PERSONALISATION
    fresh = shop.new_device()
    shop.sync(fresh)
    assert {row.subject: row for row in fresh.genomes().rows()} == {
        row.subject: row for row in shop.device.genomes().rows()
    }
    assert fresh.genome_cursor() == shop.device.genome_cursor()
    fresh.close()


def test_who_came_and_went_meanwhile_was_never_on_the_device(shop: Shop) -> None:
    begin_epoch(shop)
    new = shop.store.subjects_of("app", ["zoe"], create=True)["zoe"]
    shop.meet(new)
    shop.build()
    assert shop.sync() == []
    shop.erase(new)
    shop.leave(shop.subjects["c0"])
    shop.sync()
    assert set(shop.held()) == set(shop.subjects.values()) - {shop.subjects["c0"]}


def test_who_left_and_is_back_before_the_device_heard_of_it_goes(shop: Shop) -> None:
    one = shop.subjects["c0"]
    begin_epoch(shop)
    shop.leave(one)
    shop.join(one)
    shop.agree(one, 0)
    shop.agree(one, ALL)
    shop.sync()
    assert set(shop.held()) == shop.everybody - {one}


def test_a_device_that_was_behind_when_the_epoch_began_loses_who_went(shop: Shop) -> None:
    one, two = shop.subjects["c0"], shop.subjects["c1"]
    new = shop.store.subjects_of("app", ["zoe"], create=True)["zoe"]
    shop.leave(one)
    shop.meet(new)
    shop.build()
    shop.change()
    shop.build()
    shop.agree(two, 0)
    (sent,) = shop.sync()
    assert not sent.full
    assert set(shop.held()) == set(shop.subjects.values()) - {one, two}


def test_a_device_that_cannot_say_what_it_holds_is_left_without_rows(shop: Shop) -> None:
    one = shop.subjects["c0"]
    begin_epoch(shop)
    shop.erase(one)
    answer = shop.ask(shop.device, forgetful=True)
    assert answer is not None
    assert answer.full
    shop.take(shop.device, answer)
    assert shop.held() == {}
    assert shop.sync() == []
    shop.agree(shop.subjects["c1"], 0)
    shop.sync()
    assert shop.held() == {}
    shop.publish()
    shop.sync()
    assert set(shop.held()) == shop.everybody - {shop.subjects["c1"]}


def test_a_device_that_takes_a_release_whose_rows_are_gone_keeps_none_of_the_one_before(
    shop: Shop,
) -> None:
    shop.change()
    shop.build()
    shop.publish()  # and before the device takes anything of it
    shop.change()
    shop.build()
    (sent,) = shop.sync()
    assert sent.full
    assert shop.held() == {}
    lineage = shop.device.genome_lineage()
    assert lineage is not None
    assert trust.same_lineage(lineage, shop.published), "the release waits for its rows no more"
    shop.publish()
    shop.sync()
    assert set(shop.held()) == shop.everybody


def test_rows_from_before_it_was_noted_since_when_they_are_there(shop: Shop) -> None:
    """A device was away while the server got this version, and an epoch began before it came."""
    shop.agree(shop.subjects["c1"], 0)
    newest = shop.store.newest_stamp()
    with shop.store.transaction():
        shop.store.run("INSERT INTO counters VALUES ('stays all', ?)", [newest])
    shop.change()
    shop.build()
    (sent,) = shop.sync()
    assert sent.full
    assert shop.held() == {}


def test_a_device_counts_what_the_server_counts(shop: Shop) -> None:
    """The number in a Commit is looked at: a wrong one is refused."""
    begin_epoch(shop)
    shop.erase(shop.subjects["c0"])
    with shop.store.transaction():
        shop.store.run("UPDATE members SET since = 0 WHERE subject = ?", [shop.subjects["c1"]])
    with pytest.raises(TrustError) as caught:
        shop.sync()
    assert caught.value.reason == "DIGEST"
    assert shop.subjects["c0"] in shop.held()


def play(seed: int, compact: bool, count: int) -> None:
    """Anything may happen in any order; a device is never refused, never holds who went, and never
    loses who stayed."""
    chance = Random(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Shop(Path(folder), compact=compact)) as shop,
    ):
        shop.sync()
        kept, touched = set(shop.held()), set[bytes]()
        for number in range(count):
            known = sorted(shop.everybody)
            one = chance.choice(known)
            match chance.choice("aaaelljjmmrcbbpsssss"):
                case "a":
                    shop.agree(one, chance.choice(SAID))
                case "e" if len(known) > 4:
                    shop.erase(one)
                    gone = one
                    if chance.random() < 0.5:
                        shop.meet(gone)
                case "l":
                    shop.leave(one)
                case "j":
                    shop.join(one)
                case "m":
                    name = f"new-{number}"
                    one = shop.store.subjects_of("app", [name], create=True)[name]
                    shop.meet(one)
                case "c":
                    shop.change()
                case "b":
                    shop.build()
                case "p":
                    shop.publish()
                case "s":
                    waited, before = shop.waits, shop.device.genome_lineage()
                    if not trust.same_lineage(before, shop.published):
                        kept = set()  # of a release whose rows it never got: they cannot be told
                    shop.sync()
                    held, allowed = shop.held(), shop.allowed()
                    assert set(held) <= set(allowed)
                    assert all(not bits & ~allowed[who] for who, bits in held.items())
                    if waited:
                        assert set(held) >= kept - touched
                    else:
                        kept, touched = set(held), set()
            touched.add(one)
        shop.build()
        shop.publish()
        shop.sync()
        with closing(shop.new_device()) as fresh:
            shop.sync(fresh)
            rows = {row.subject: row for row in fresh.genomes().rows()}
            assert rows == {row.subject: row for row in shop.device.genomes().rows()}
            assert {one: row.consents for one, row in rows.items()} == shop.allowed()


@settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=3,
)
@given(seed=st.integers(0, 1 << 32), compact=st.booleans())
def test_whatever_happens_in_whatever_order(seed: int, compact: bool) -> None:
    play(seed, compact, 40)


@pytest.mark.parametrize("counted", [None, 7])
@pytest.mark.parametrize("told", [None, 9])
def test_a_cursor_is_read_as_it_was_written(counted: int | None, told: int | None) -> None:
    one = Cursor(LOG, 5, b"12345678", counted, told)
    assert read_cursor(one.pack(), LOG, 9) == one
    assert one.heard == (5 if told is None else 9)
    assert read_cursor(one.pack(), bytes(16), 9) is None
    assert read_cursor(one.pack(), LOG, max(5, counted or 0, told or 0) - 1) is None
    assert read_cursor(one.pack() + b"x", LOG, 9) is None
    assert read_cursor(b"", LOG, 9) is None
