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
from edge_sdk.sync import trust
from genome_edge.v1 import sync_pb2
from genome_server.services.framing import framed
from genome_server.services.sync_cursor import Cursor, read_cursor
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_LOCATION, CONSENT_PERSONALISATION
from tests.unit.mirrored import mirrored, soon
from tests.unit.shop import ALL, LOG, PEOPLE, Shop

SAID = (ALL, ALL, CONSENT_PERSONALISATION | CONSENT_LOCATION, CONSENT_PERSONALISATION, 0)


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


def test_who_goes_before_the_next_release_goes_from_a_device_that_decides(tmp_path: Path) -> None:
    """With all that the device itself knew of them; who stays keeps it, and loses nothing."""
    names = ("ann", "bob", "eve")
    products = {f"p-{n}": [(f"brand:b{n % 7}", 256), (f"claim:c{n}", 128)] for n in range(40)}
    with mirrored(tmp_path, names, products) as pair:

        def buy(count: int) -> None:
            for number in range(count):
                pair.edge.imprint(names[number % 3], "buy", product=f"p-{number % 40}")
            pair.report()
            pair.live()
            pair.sync()

        buy(120)
        text = pair.tenant.dna_path.read_text()
        pair.tenant.dna_path.write_text(text.replace("\n  buy: {weight: 2", "\n  buy: {weight: 3"))
        pair.build()
        buy(30)
        old, _ = pair.held("ann")
        assert old is not None
        soon(lambda: all(len(pair.held(name)[1]) == 10 for name in names), "they wait for rows")
        pair.server.erase_subject(pair.subjects["bob"])
        pair.server.set_consents(pair.subjects["eve"], 0)
        pair.sync()
        soon(lambda: pair.held("bob") == (None, []), "erased")
        soon(lambda: pair.held("eve")[0] is None, "withdrawn")
        assert pair.edge.genome("bob") is pair.edge.genome("eve") is None
        assert pair.held("ann")[0] == old
        assert len(pair.held("ann")[1]) == 10
        pair.publish()
        pair.sync()
        soon(lambda: pair.held("ann") == (pair.rows[pair.subjects["ann"]], []), "the new row")
        assert pair.held("ann")[0] != old
        assert pair.held("bob") == (None, [])
        assert pair.held("eve")[0] is None


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
