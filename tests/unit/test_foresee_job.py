"""`genomes next`: a town with planted habits, from the log to chances and a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from edge_sdk.dna.schema import default_schema
from edge_sdk.outbox.frames import FrameKind
from genome_server.doings.categories import strongest
from genome_server.errors import Refused
from genome_server.foresee import facets
from genome_server.foresee.job import Ahead, Foreseer
from genome_server.foresee.page import coming, page_of
from genome_server.foresee.reading import read_story
from genome_server.genomes.events import EventReader
from genome_server.log import LogReader
from genome_server.log.reader import LoggedFrame
from genome_server.store.protocol import CONSENT_LEARNING, CONSENT_PERSONALISATION
from tests.unit._genomes import (
    DNA,
    HOUR,
    LANDMARK_HOUR,
    Happened,
    House,
    interaction,
    link,
    outcome,
    subject,
)
from tests.unit.ingesting import write
from tests.unit.server_shell import Shell

BOTH = CONSENT_PERSONALISATION | CONSENT_LEARNING
DAYS = 60
NOW_MS = (LANDMARK_HOUR + DAYS * 24 + 3) * HOUR
ANN, BEN, CLEO, DAN, EVE = 1, 2, 200, 201, 202
# The landmark is a Monday, 16:00 UTC.
MORNING, EVENING = 16, 3


def visits(who: int, habit: str, first: int = 0) -> list[Happened]:
    """Every other day: bread in the morning over the app, or soap in the evening at the till."""
    at, product, channel = {
        "bread": (MORNING, "bread", "app"),
        "soap": (EVENING, "soap", "till"),
    }[habit]
    return [
        interaction(
            who, day * 24 + at, "buy", product=product, context_markers=[f"channel:{channel}"]
        )
        for day in range(first, DAYS, 2)
    ]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Even numbers buy soap, odd ones bread; one never agreed to learning, one is two subjects."""
    with House(tmp_path_factory.mktemp("town")) as house:
        house.store.put_documents("product", [("soap", {"brand": "acme", "category": "care"})])
        events: list[Happened] = []
        for who in range(1, 41):
            house.customer(who, BOTH)
            events += visits(who, "bread" if who % 2 else "soap", first=who % 3)
        for who, consents in ((CLEO, CONSENT_PERSONALISATION), (DAN, BOTH), (EVE, BOTH)):
            house.customer(who, consents)
        for day in range(0, DAYS, 3):  # what nobody else does
            events.append(interaction(CLEO, day * 24, "view", product="rock"))
        events += [interaction(DAN, 30, "buy", product="bread"), link(DAN, 40, 203)]
        events.append(interaction(203, 50, "buy", product="soap", interaction_id="once"))
        events.append(interaction(203, 51, "buy", product="soap", interaction_id="once"))
        events.append(outcome(203, 52, "dismiss", "spa"))
        events.append(interaction(ANN, DAYS * 24 + 30, "view", product="bread"))  # not yet
        with pytest.MonkeyPatch.context() as patch:  # no event is later than its receipt
            patch.setattr("tests.unit._genomes.NOW_MS", NOW_MS + 100 * HOUR)
            house.log(sorted(events, key=lambda event: event.hours))
        house.build(now_ms=NOW_MS)
        yield house


def ahead(house: House, who: int, now_ms: int = NOW_MS, until: str | None = None) -> Ahead:
    with LogReader(house.tenant.log_path) as log:
        foreseer = Foreseer(house.store, subject(who), now_ms, UTC, until=until)
        return foreseer.ahead(log.frames())


def test_habits_are_found_again(town: House) -> None:
    ann, ben = ahead(town, ANN), ahead(town, BEN)
    assert ann.actions[0].name == ben.actions[0].name == "buy"
    assert (ann.categories[0].name, ben.categories[0].name) == ("food", "care")
    assert (ann.channels[0].name, ben.channels[0].name) == ("app", "till")
    assert (ann.dayparts[0].name, ben.dayparts[0].name) == ("morning", "evening")
    for found in (ann, ben):
        for chances in (found.actions, found.categories, found.channels, found.dayparts):
            assert chances[0].chance > 0.8
            assert sum(one.chance for one in chances) == pytest.approx(1.0)
    assert sum(one.chance for one in ann.weekdays) == pytest.approx(1.0)
    assert ahead(town, ANN) == ann


def test_the_time_until_they_come_again_is_what_is_left_of_it(town: House) -> None:
    ann = ahead(town, ANN)
    assert ann.last_ms is not None
    assert ann.hours is not None
    # 48 hours lie between two visits, and some of them have passed.
    passed = (NOW_MS - ann.last_ms) // HOUR
    assert 0 < passed < 48
    assert ann.hours.median == pytest.approx(48 - passed, abs=3)
    assert ann.hours.low <= ann.hours.median <= ann.hours.high
    assert ann.within_week == pytest.approx(1.0, abs=0.02)
    assert "as likely as after; with 80 % between" in coming(ann, UTC)
    late = ahead(town, ANN, NOW_MS + 5000 * HOUR)
    assert late.hours is None
    assert late.within_day is None
    # What their last visit was like says nothing any more; what they mostly do still does.
    assert late.dayparts[0].name == "morning"
    assert sum(one.chance for one in late.weekdays) == pytest.approx(1.0)
    assert late.weekdays[0].chance < 0.4 < ann.weekdays[0].chance
    assert "longer than nearly all" in coming(late, UTC)


def test_whether_they_come_at_all_falls_while_they_stay_away(town: House) -> None:
    ann, late = ahead(town, ANN), ahead(town, ANN, NOW_MS + 60 * 24 * HOUR)
    assert ann.comes is not None
    assert late.comes is not None
    assert ann.comes.within_week > 0.9 > 0.5 > late.comes.within_week
    assert not ann.comes.overdue
    assert late.comes.overdue
    assert ann.comes.within_day <= ann.comes.within_week
    assert "They are overdue: of such pauses 9" in coming(late, UTC)
    assert "overdue" not in coming(ann, UTC)
    assert late.to_json()["comes"] == {
        "within_a_day": late.comes.within_day,
        "within_a_week": late.comes.within_week,
        "had_come_by_now": late.comes.by_now,
        "overdue": True,
    }


def test_when_they_do_something_next(town: House) -> None:
    """Dan refused something after he had bought: that is no purchase."""
    dan, buys = ahead(town, 203), ahead(town, 203, until="buy")
    assert dan.until_ms == dan.last_ms
    assert (buys.until_ms or 0) // HOUR == LANDMARK_HOUR + 50
    assert (buys.until, buys.last_ms) == ("buy", dan.last_ms)
    assert coming(buys, UTC).startswith(("If they do 'buy' again", "They have been away"))
    # What else is foretold is that of the next visit, whatever is done in it.
    assert (buys.actions, buys.dayparts) == (dan.actions, dan.dayparts)
    never = ahead(town, ANN, until="dismiss")
    assert never.comes is None
    assert never.hours is None
    assert coming(never, UTC) == "They have never done 'dismiss' yet."
    with pytest.raises(Refused, match="no kind 'by'; did you mean 'buy'"):
        ahead(town, ANN, until="by")


def test_what_has_not_happened_yet_is_not_known(town: House) -> None:
    assert "view" not in {one.name for one in ahead(town, ANN).actions if one.chance > 0.05}
    later = ahead(town, ANN, NOW_MS + 40 * HOUR)
    assert later.own_events == ahead(town, ANN).own_events + 1


def test_who_did_not_agree_to_learning_counts_for_themselves_alone(town: House) -> None:
    cleo, ann = ahead(town, CLEO), ahead(town, ANN)
    assert cleo.crowd_people == ann.crowd_people == 41  # forty and Dan
    assert cleo.own_events == 20
    chance = {one.name: one.chance for one in cleo.actions}
    assert chance["view"] > 0.2 > {one.name: one.chance for one in ann.actions}.get("view", 0.0)


def test_subjects_that_are_one_person_have_one_past_and_ids_count_once(town: House) -> None:
    dan, other = ahead(town, DAN), ahead(town, 203)
    assert dan.own_events == other.own_events == 3
    assert dan.categories == other.categories


def test_a_stranger_is_told_what_the_crowd_does(town: House) -> None:
    eve = ahead(town, EVE)
    assert eve.own_events == 0
    assert eve.last_ms is None
    assert eve.hours is None
    assert {one.name for one in eve.categories} == {"food", "care"}
    assert abs(eve.categories[0].chance - 0.5) < 0.15
    assert "not been seen" in coming(eve, UTC)


def test_of_a_long_log_some_customers_are_drawn_and_the_asked_one_always(
    town: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genome_server.foresee.job.MOST_EVENTS", 100)
    with LogReader(town.tenant.log_path) as log:
        foreseer = Foreseer(town.store, subject(40), NOW_MS, UTC)
        some = foreseer.ahead(log.frames(), log.end())
    # Subjects are their numbers here: the lowest twelfth of all, and who is asked about.
    assert some.own_events == 30
    assert some.crowd_people == 256 * 100 // 1213 + 1
    assert some.accuracy.customers == some.crowd_people - 1  # who asks is measured if drawn
    assert some.categories[0].name == "care"


def test_too_little_to_foresee_from(tmp_path: Path) -> None:
    with House(tmp_path / "new") as house:
        house.customer(ANN, BOTH)
        with pytest.raises(Refused, match="genome-server build"):
            Foreseer(house.store, subject(ANN), NOW_MS, UTC)
        house.log(visits(ANN, "bread"))
        house.build(now_ms=NOW_MS)
        with pytest.raises(Refused, match=r"fewer than 20 customers .* 50 events of 20"):
            ahead(house, ANN)


def test_a_few_are_no_crowd(tmp_path: Path) -> None:
    with House(tmp_path / "few") as house:
        for who in range(1, 20):
            house.customer(who, BOTH)
        house.log([event for who in range(1, 20) for event in visits(who, "bread")])
        house.build(now_ms=NOW_MS)
        with pytest.raises(Refused, match="fewer than 20 customers who agreed to learning did"):
            ahead(house, ANN)
        for who in range(20, 22):
            house.customer(who, BOTH)
            house.log([interaction(who, 5, "buy", product="bread")])
        house.build(now_ms=NOW_MS)
        assert ahead(house, ANN).to_json()["crowd"] == {"events": 572, "customers": 20}
        assert ahead(house, ANN).crowd_people == 21


def test_a_few_events_are_no_crowd(tmp_path: Path) -> None:
    with House(tmp_path / "few") as house:
        for who in range(1, 21):
            house.customer(who, BOTH)
        house.log([interaction(who, 5, "buy", product="bread") for who in range(1, 21)])
        house.build(now_ms=NOW_MS)
        with pytest.raises(Refused, match="fewer than 50 events are of customers who agreed"):
            ahead(house, ANN)


@pytest.mark.parametrize("back", [0, 19, 20])
def test_when_somebody_comes_again_is_not_told_from_nothing(tmp_path: Path, back: int) -> None:
    """Everything in one hour: all pauses that are known are of no length."""
    with House(tmp_path / "once") as house:
        for who in range(1, 31):
            house.customer(who, BOTH)
        events = [
            interaction(who, 50, "buy", product="bread") for who in range(1, 31) for _ in range(5)
        ]
        again = [interaction(who, 98, "buy", product="bread") for who in range(1, back + 1)]
        house.log([*events, *again])
        house.build(now_ms=NOW_MS)
        found = ahead(house, 30, (LANDMARK_HOUR + 110) * HOUR)
    assert (found.hours is not None) is (back == 20)
    assert (found.within_day is not None) is (found.within_week is not None) is (back == 20)
    said = coming(found, UTC)
    assert (said == "Too few customers have come again yet to say when they do.") is (back < 20)
    assert sum(one.chance for one in found.dayparts) == pytest.approx(1.0)


def test_what_cannot_be_read_or_is_nobodys_is_passed_over() -> None:
    schema = default_schema(LANDMARK_HOUR)
    reader = EventReader(schema, DNA.get, DNA.get)
    bodies = [
        (subject(1), interaction(1, 1, "buy", product="bread").payload.SerializeToString()),
        (subject(1), b"\xff\xff"),
        (bytes(16), interaction(1, 1, "buy", product="bread").payload.SerializeToString()),
        (subject(2), interaction(1, 2, "buy", product="nowhere").payload.SerializeToString()),
    ]
    frames = [
        LoggedFrame(i, "till", b"e", 1, i, whose, FrameKind.INTERACTION, 5, NOW_MS, body)
        for i, (whose, body) in enumerate(bodies)
    ]
    events = read_story(frames, reader, DNA.get, DNA.get).events
    assert [(event.subject, event.kind, event.category) for event in events] == [
        (subject(1), "buy", "food"),
        (subject(2), "buy", None),  # of nothing known, and done all the same
    ]
    assert events[0].votes
    assert not events[1].votes


def test_the_page_loads_nothing_and_trusts_no_name(town: House) -> None:
    found = ahead(town, ANN)
    text = page_of("<script>ann</script>", found, UTC)
    assert "<script>" not in text
    assert "&lt;script&gt;ann" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "food" in text
    assert f"{found.categories[0].chance:.0%}" in text
    json.dumps(found.to_json())


def test_of_very_many_categories_the_rarest_are_one() -> None:
    many = [f"c{i:03}" for i in range(500)]
    values = [*many, *many[:399], None]
    found = facets.frequent(values)
    assert len(set(found)) == 401  # with None
    assert found[398] == "c398"
    assert set(found[399:500]) == {facets.REST}
    assert found[-1] is None
    assert facets.frequent(found) == found
    assert facets.frequent(many[:400]) == many[:400]


def test_the_strongest_marker_of_a_namespace() -> None:
    dna = [("category:tea", 256), ("category:ice", 256), ("category:rum", 100), ("brand:a", 900)]
    assert strongest(dna, "category") == "ice"
    assert strongest(dna, "claim") is None
    assert strongest([("no marker", 256)], "no marker") is None


def test_the_command_from_imported_files(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    consent = ["personalisation", "learning"]
    customers = [{"id": f"c{i}", "consent": consent} for i in range(24)] + [{"id": "shy"}]
    write(tmp_path / "customers.jsonl", customers)
    write(tmp_path / "products.jsonl", [{"id": "bread", "category": "food"}])
    write(
        tmp_path / "interactions.jsonl",
        [
            {
                "customer": f"c{i}", "kind": "buy", "product": "bread",
                "time": f"2025-0{month}-{1 + i:02}T08:00:00+00:00", "context": {"channel": "app"},
            }
            for i in range(24) for month in range(1, 10)
        ],
    )  # fmt: skip
    for kind in ("customers", "products", "interactions"):
        shell.call("import", kind, tmp_path / f"{kind}.jsonl")
    assert "genome-server build" in shell.call("genomes", "next", "c1", code=1).output
    shell.call("build")
    page = tmp_path / "next.html"
    said = shell.call("genomes", "next", "c1", "--zone", "Europe/Berlin", "--json", "--html", page)
    found = json.loads(said.stdout)
    assert found["customer"] == "c1"
    assert found["own_events"] == 9
    assert found["category"] == [{"name": "food", "chance": 1.0}]
    assert found["daypart"][0]["name"] == "morning"
    assert found["page"] == str(page)
    assert page.read_text().startswith("<!doctype html>")
    assert page.stat().st_mode & 0o077 == 0
    plain = shell.call("genomes", "next", "c1", "--zone", "UTC").output
    assert "Most likely 'buy' (100%), out of 'food' (100%), over 'app' (100%)." in plain
    assert "longer than nearly all" in plain
    assert "not agreed" in shell.call("genomes", "next", "shy", code=1).output
    assert "has no customer" in shell.call("genomes", "next", "nobody", code=1).output
    assert "no time zone" in shell.call("genomes", "next", "c1", "--zone", "Mars", code=2).output
