"""`genome-server lift` on logs that were written for it: what it reads, keeps out and refuses."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_sdk.dna.genome import NOBODY
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.sync.trust import FEATURES
from genome_edge.v1 import dna_pb2, event_pb2
from genome_server.cli import cli
from genome_server.genomes.build import build
from genome_server.home import Tenant
from genome_server.lift.campaigns import find_campaign
from genome_server.log.erase import erase_from_log
from genome_server.store import DeviceRow
from genome_server.store.rows import CONSENT_LEARNING, CustomerRow
from tests.serving import make_home
from tests.unit import hold_out_log
from tests.unit.hold_out_log import BEGIN_MS, DAY_MS, Happened

PLACEMENTS: list[dict[str, Any]] = [
    {"id": "lobby", "holdout": 0.3, "holdout_seed": "a"},
    {"id": "feed", "holdout": 0.3, "holdout_seed": "b"},
    {"id": "plain"},
]
OFFERS: list[dict[str, Any]] = [
    {"id": "taxi", "campaign": "rides", "products": ["ride"]},
    {"id": "bike", "campaign": "rides"},
    {"id": "spa"},
]
_DRAWN = find_campaign(
    "rides", {one["id"]: one for one in PLACEMENTS}, {one["id"]: one for one in OFFERS}
)
PEOPLE = 400


def who(number: int) -> bytes:
    return hashlib.sha256(b"lift %d" % number).digest()[:16]


def held(subject: bytes, placement: str) -> bool:
    """As devices draw it."""
    (one,) = (one for one in _DRAWN.placements if one.id == placement)
    return one.holds_out(subject)


def decided(
    subject: bytes, days: float, offers: Sequence[str] = ("taxi",), placement: str = "lobby",
    device: str = "screen",
) -> Happened:  # fmt: skip
    ms = BEGIN_MS + round(days * DAY_MS)
    chosen = [event_pb2.SlotRecord(offer=one, reason="CHOSEN") for one in offers]
    chosen = chosen or [event_pb2.SlotRecord(reason="NO_CANDIDATES")]
    out = held(subject, placement)
    record = event_pb2.DecisionRecord(
        decision_id=hashlib.sha256(f"{subject.hex()}{ms}{placement}".encode()).digest()[:16],
        placement=placement,
        held_out=out,
        slots=[event_pb2.SlotRecord(reason="HELD_OUT")] if out else chosen,
        instead=chosen if out else [],
    )
    return _event(device, subject, FrameKind.DECISION, ms, decision=record)


def bought(subject: bytes, days: float, product: str = "ride") -> Happened:
    ms = BEGIN_MS + round(days * DAY_MS)
    said = event_pb2.Interaction(
        interaction_id=f"{subject.hex()}{ms}", kind="buy", product=product,
        amount_micros=10_000_000, currency="EUR",
    )  # fmt: skip
    return _event("till", subject, FrameKind.INTERACTION, ms, interaction=said)


def _event(device: str, subject: bytes, kind: FrameKind, ms: int, **what: Any) -> Happened:
    time = event_pb2.EventTime(wall_ms=ms, offset_known=True)
    return Happened(device, subject, kind, ms, event_pb2.Event(time=time, **what))


def crowd(count: int = PEOPLE, offers: Sequence[str] = ("taxi",)) -> list[Happened]:
    """Everybody enters on the first day, and every fourth buys on the second."""
    found = [decided(who(n), n / count, offers) for n in range(count)]
    return found + [bought(who(n), 1.5) for n in range(0, count, 4)]


class Shop:
    """A tenant with a log."""

    def __init__(self, root: Path, events: Iterable[Happened], count: int = PEOPLE) -> None:
        self.home = root / "home"
        self.tenant: Tenant = make_home(self.home).tenant("default")
        events = [*events, bought(who(10**6), 60)]  # the log goes on
        hold_out_log.write(self.tenant.log_path, events)
        text = self.tenant.dna_path.read_text()
        self.tenant.dna_path.write_text(text.replace("buy: {", "buy: {money: 0.25, "))
        with closing(self.tenant.open_store()) as store:
            store.put_documents("placement", [(one["id"], one) for one in PLACEMENTS])
            store.put_documents("offer", [(one["id"], one) for one in OFFERS])
            store.put_customers(
                CustomerRow(
                    who(n), ((f"tier:{'gold' if n % 2 else 'blue'}", 256),), CONSENT_LEARNING
                )
                for n in range(count)
            )
            for name, features in (("screen", list(FEATURES)), ("old", ["offer-model-1"])):
                store.put_device(DeviceRow(name, "", "all", b"k" * 32))
                store.touch_devices({name: (BEGIN_MS, {"features": features})})
            build(store, None, self.tenant.dna_path)

    def text(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["lift", *arguments, "--home", str(self.home)])
        assert done.exit_code == code, done.output
        return done.output

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(cli, ["lift", *arguments, "--home", str(self.home), "--json"])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)


def persons(said: Any) -> tuple[int, int]:
    return said["shown"]["persons"], said["held_out"]["persons"]


GROUPS = (
    sum(not held(who(n), "lobby") for n in range(PEOPLE)),
    sum(held(who(n), "lobby") for n in range(PEOPLE)),
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    strangers = [decided(NOBODY, n / 10) for n in range(10)]
    nothing = [decided(who(10_000 + n), 1, ()) for n in range(10)]
    older = [decided(who(20_000 + n), 1, device="old") for n in range(10)]
    others = [decided(who(30_000 + n), 1) for n in range(10)]  # never agreed to anything
    events = [*crowd(), *strangers, *nothing, *older, *others]
    return Shop(tmp_path_factory.mktemp("lift"), events)


def test_a_placement_is_told_of(shop: Shop) -> None:
    said = shop.json("lobby", "--kind", "buy", "--days", "7")
    assert persons(said) == GROUPS
    assert said["shown"]["did"] + said["held_out"]["did"] == PEOPLE // 4
    assert said["left_out"]["without_consent"] == 10
    assert said["left_out"]["decisions_of_older_devices"] == 10
    assert said["fair"] is True
    assert said["redrawn"] == 0
    assert said["currency"] == "EUR"
    assert said["outcomes"]["share"]["due"]["stated"]["effect"] == 0.1
    low, high = said["outcomes"]["share"]["always"]
    assert low < said["outcomes"]["share"]["planned"][0] < 0 < high
    text = shop.text("lobby", "--kind", "buy")
    assert f"placement lobby: {PEOPLE} customers, from 2026-06-01 on, 7 days each" in text
    assert "never at this rate" in text


def test_options_choose_what_counts_and_when(shop: Shop) -> None:
    assert shop.json("lobby")["kinds"] == ["buy", "click", "redeem"]
    assert 0 < shop.json("lobby", "--days", "1")["shown"]["did"] < GROUPS[0] // 6
    assert (
        shop.json("lobby", "--effect", "50%")["outcomes"]["share"]["due"]["stated"]["effect"] == 0.5
    )
    later = shop.json("lobby", "--kind", "buy", "--since", "2026-06-01T20:00")
    assert sum(persons(later)) == PEOPLE // 2
    early = shop.json("lobby", "--kind", "buy", "--until", "2026-06-08T20:00")
    assert sum(persons(early)) == pytest.approx(PEOPLE // 2, abs=1)
    assert early["under_way"] == pytest.approx(PEOPLE // 2, abs=1)
    then = shop.json("lobby", "--kind", "buy", "--until", "2026-06-01T20:00", "--days", "0.25")
    assert (sum(persons(then)), then["under_way"]) == (PEOPLE // 4 + 1, PEOPLE // 4 - 1)
    assert then["balance"][0]["persons"] == PEOPLE // 2, "nobody else has come by then"
    assert shop.json("lobby", "--kind", "buy", "--own-products")["shown"]["did"] > 0


def test_segments_come_from_profiles(shop: Shop, tmp_path: Path) -> None:
    said = shop.json("lobby", "--by", "tier")
    assert {one["name"] for one in said["segments"]["segments"]} == {"gold", "blue"}
    page = tmp_path / "lift.html"
    text = shop.text("lobby", "--by", "tier", "--page", str(page))
    assert "by tier" in text
    assert "gold" in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("lobbi",), 2, "did you mean 'lobby'"),
        (("plain",), 1, "holds nobody out"),
        (("lobby", "--kind", "bye"), 2, "the DNA schema has no kind 'bye'"),
        (("lobby", "--days", "0"), 2, "0.0 is not in the range"),
        (("lobby", "--effect", "much"), 2, "'much' is no share"),
        (("lobby", "--since", "soon"), 2, "'soon' is no date or time"),
        (("lobby", "--since", "2027-01-01"), 1, "nobody is known to have met placement lobby"),
        (("lobby", "--by", "age"), 1, "has a marker age:"),
        (("lobby", "--by", "home"), 2, "is no segment"),
        (("spa", "--own-products"), 1, "names `products`"),
    ],
)
def test_what_makes_no_sense_is_refused(
    shop: Shop, arguments: tuple[str, ...], code: int, why: str
) -> None:
    said = shop.json(*arguments, code=code)
    assert why in said["error"]["message"]


def test_without_a_log_there_is_nothing_to_say(tmp_path: Path) -> None:
    shop = Shop(tmp_path, ())
    shop.tenant.log_path.unlink()
    assert "there is no log" in shop.text("lobby", code=1)


def test_of_a_campaign_those_enter_whose_first_choice_it_was(tmp_path: Path) -> None:
    first = crowd()
    spa = [decided(who(PEOPLE + n), 0.5, ("spa",)) for n in range(50)]
    later = [decided(who(PEOPLE + n), 2, ("taxi",)) for n in range(50)]
    feed = [decided(who(PEOPLE + n), 3, ("spa", "bike"), "feed") for n in range(20)]
    plain = [decided(who(PEOPLE + n), 4, ("bike",), "plain") for n in range(50)]
    shop = Shop(tmp_path, [*first, *spa, *later, *feed, *plain], PEOPLE + 50)
    said = shop.json("rides", "--kind", "buy")
    assert sum(persons(said)) == PEOPLE + 20
    assert said["left_out"]["met_it_later"] == 30
    assert {one["placement"] for one in said["balance"]} == {"lobby", "feed"}
    assert sum(persons(shop.json("taxi", "--kind", "buy"))) == PEOPLE
    assert sum(persons(shop.json("offer:spa", "--kind", "buy"))) == 50
    assert sum(persons(shop.json("lobby", "--kind", "buy"))) == PEOPLE + 50


def test_links_consents_and_erasures_of_the_log_are_heard(tmp_path: Path) -> None:
    learning = dna_pb2.CONSENT_PURPOSE_LEARNING
    events = crowd(40)
    for n in range(10):  # a card, of which no import knows, buys for them
        link = event_pb2.SubjectLink(other_subject=who(1_000 + n), linked=True)
        events.append(_event("till", who(n), FrameKind.LINK, BEGIN_MS - DAY_MS, link=link))
        events.append(bought(who(1_000 + n), 1.2))
    change = event_pb2.ConsentChange(purpose=learning, granted=False)
    events.append(_event("till", who(39), FrameKind.CONSENT, BEGIN_MS + 1, consent=change))
    shop = Shop(tmp_path, events, 40)
    said = shop.json("lobby", "--kind", "buy")
    assert sum(persons(said)) == 39
    assert said["shown"]["did"] + said["held_out"]["did"] == 10 + 7
    assert said["shown"]["times"] + said["held_out"]["times"] == 10 + 10
    assert erase_from_log(shop.tenant.log_path, [who(0)]) > 0
    with closing(shop.tenant.open_store()) as store:
        store.erase_subject(who(0))
    said = shop.json("lobby", "--kind", "buy")
    assert sum(persons(said)) == 38
    assert said["shown"]["did"] + said["held_out"]["did"] == 16


def test_a_loss_of_one_group_is_told_loudly_and_ends_with_1(tmp_path: Path) -> None:
    events = [one for one in crowd() if not (one.event.decision.held_out and one.subject[0] < 200)]
    shop = Shop(tmp_path, events)
    text = shop.text("lobby", "--kind", "buy", code=1)
    assert "DO NOT BELIEVE THIS" in text
    assert "are held out, where 30.0% should be" in text
    assert shop.json("lobby", code=1)["fair"] is False


def test_a_hold_out_that_has_ended_is_asked_about_with_until(tmp_path: Path) -> None:
    shop = Shop(tmp_path, crowd())
    with closing(shop.tenant.open_store()) as store:
        store.put_documents("placement", [("lobby", {"id": "lobby"})])
    assert "say --until when it did" in shop.text("lobby", code=1)
    said = shop.json("lobby", "--kind", "buy", "--until", "2026-07-01")
    assert persons(said) == GROUPS
    assert said["balance"] == []
    assert "whether the draw was fair is not known" in shop.text("lobby", "--until", "2026-07-01")
