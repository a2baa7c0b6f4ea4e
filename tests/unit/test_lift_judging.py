"""What is said of a campaign: when it can be told, for whom, and when it is not to be believed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from genome_server.errors import UsageError
from genome_server.lift import telling
from genome_server.lift.campaigns import WINDOW_MS, Campaign, Documents, find_campaign
from genome_server.lift.estimates import contrast_shares
from genome_server.lift.job import Answer, Question
from genome_server.lift.judging import Verdict, judge
from genome_server.lift.page import page_of
from genome_server.lift.rules import NEVER, Entered, LeftOut, Rows
from genome_server.lift.segments import NONE, OTHERS
from genome_server.times import DAY_MS

T = 1_780_300_800_000
PLACEMENTS: Documents = {
    "lobby": {"id": "lobby", "holdout": 0.2, "holdout_seed": "s", "outcome_window_hours": 72},
    "feed": {"id": "feed", "holdout": 0.5},
    "open": {"id": "open", "outcome_window_hours": 240},
    "spa": {"id": "spa"},
}
OFFERS: Documents = {"taxi": {"campaign": "rides"}, "bike": {"campaign": "rides"}, "spa": {}}


def campaign(name: str = "lobby") -> Campaign:
    return find_campaign(name, PLACEMENTS, OFFERS)


def people(
    shown: tuple[int, int], held: tuple[int, int], placement: int = 0, *, drawn: bool = True
) -> list[dict[str, Any]]:
    """(did, all) of each group, entering one an hour, the groups mixed."""
    found = []
    place = campaign().placements[0]
    number = 0
    for group, (did, all_of) in ((False, shown), (True, held)):
        for n in range(all_of):
            number += 1
            while drawn and place.holds_out(number.to_bytes(16)) != group:
                number += 1
            found.append(
                {
                    "subject": number.to_bytes(16), "held": group, "did": n < did,
                    "amount": 10.0 * (n < did), "placement": placement, "at": n / all_of,
                }
            )  # fmt: skip
    return found


def rows(them: Sequence[dict[str, Any]], days: float = 20, **more: Any) -> Rows:
    them = sorted(them, key=lambda one: one["at"])
    n = len(them)
    entered = Entered(
        subject=[one["subject"] for one in them],
        ids=[(one["subject"],) for one in them],
        at_ms=np.array([T + round(one["at"] * days * DAY_MS) for one in them], np.int64),
        group=np.array([one["held"] for one in them], np.int64),
        placement=np.array([one["placement"] for one in them], np.int64),
        offset=np.arange(n),
        other_ms=np.full(n, NEVER),
        earlier=np.zeros(n, bool),
        left_out=LeftOut(),
    )
    did = np.array([one["did"] for one in them], np.int64)
    amount = np.array([one["amount"] for one in them], np.float64)
    return replace(Rows(entered, WINDOW_MS, did, amount, "EUR", 0, T, 0), **more)


def verdict(told: Rows, day: float = 30, name: str = "lobby", **more: Any) -> Verdict:
    asked = {"effect": 0.1, "money": True, **more}
    return judge(told, campaign(name), T + round(day * DAY_MS), **asked)


def answer(found: Verdict, told: Rows, **more: Any) -> Answer:
    made = Answer(
        question=Question("lobby"), campaign=campaign(), kinds=("buy",), window_ms=WINDOW_MS,
        first_ms=T, as_of_ms=T + 30 * DAY_MS, verdict=found, money=True, currency="EUR",
        elsewhere=0, newest_ms=told.newest_ms, outcomes=0, older=0, without_consent=0, later=0,
    )  # fmt: skip
    return replace(made, **more)


# -- campaigns


def test_a_campaign_is_a_placement_an_offer_or_a_tag() -> None:
    lobby = campaign()
    assert (lobby.kind, lobby.offers, [one.id for one in lobby.placements]) == (
        "placement", None, ["lobby"],
    )  # fmt: skip
    assert lobby.window_ms == 72 * 3_600_000
    assert campaign("feed").window_ms == 7 * DAY_MS, "where none is stated"
    rides = campaign("rides")
    assert rides.kind == "campaign"
    assert sorted(rides.offers or ()) == ["bike", "taxi"]
    assert {one.id: one.share for one in rides.placements}["feed"] == 0.5
    assert rides.window_ms == 72 * 3_600_000, "of placements that hold out"
    assert sorted(campaign("taxi").offers or ()) == ["taxi"]
    assert campaign("offer:spa").kind == "offer"
    assert campaign("placement:spa").kind == "placement"
    with pytest.raises(UsageError, match="say placement:spa or offer:spa"):
        campaign("spa")
    with pytest.raises(UsageError, match="did you mean 'lobby'"):
        campaign("loby")
    with pytest.raises(UsageError, match="no placement, offer or campaign"):
        campaign("offer:lobby")


# -- verdicts


def test_only_those_whose_window_is_over_are_compared() -> None:
    told = rows(people((240, 800), (20, 200)))
    later = verdict(told, 30)
    assert (later.shown.persons, later.held.persons, later.under_way) == (800, 200, 0)
    assert (later.shown.did, later.shown.amount, later.entered) == (240, 2_400.0, 1_000)
    early = verdict(told, 17)
    assert early.under_way == 1_000 - early.shown.persons - early.held.persons
    assert 480 < early.shown.persons + early.held.persons < 520
    assert early.first_over_ms is not None
    assert T + 17 * DAY_MS < early.first_over_ms < T + 17.1 * DAY_MS
    assert not verdict(told, 6).outcomes


def test_a_large_difference_is_sure_and_none_is_not() -> None:
    told = rows(people((240, 800), (20, 200)))
    found = verdict(told)
    share = found.outcome("share")
    assert share is not None
    assert share.contrast.sure
    assert share.contrast.difference == pytest.approx(0.2)
    assert share.contrast.lift == pytest.approx(2.0)
    assert found.fair
    said = answer(found, told)
    assert "that holds at every look" in " ".join(telling.findings(said))
    assert not telling.dues(said)
    told = rows(people((80, 800), (20, 200)))
    found = verdict(told, effect=0.5)
    share = found.outcome("share")
    assert share is not None
    assert not share.contrast.sure
    assert share.seen is None, "nothing is seen"
    assert share.stated is not None
    assert share.stated.effect == 0.5
    assert share.stated.persons > 1_000
    said = answer(found, told)
    assert "cannot be told yet" in next(telling.findings(said))
    assert [row[0] for row in telling.dues(said)] == ["share +50%", "per customer +50%"]


def test_less_is_told_as_well() -> None:
    told = rows(people((20, 800), (100, 200)))
    assert "does it less often" in next(telling.findings(answer(verdict(told), told)))


def test_groups_that_are_too_unlike_are_not_believed() -> None:
    told = rows(people((80, 800), (40, 400)))
    found = verdict(told)
    assert not found.fair
    assert not found.changed
    (why,) = telling.warnings(answer(found, told))
    assert "1,200 customers of lobby 400 (33.3%) are held out, where 20.0% should be" in why
    text = page_of(answer(found, told))
    assert "Do not believe this:" in text


def test_who_is_in_another_group_than_is_drawn_is_noticed() -> None:
    told = rows(people((80, 800), (20, 200), drawn=False))
    found = verdict(told)
    assert all(one.fair for one in found.balances), "by their sizes nothing is wrong"
    assert found.changed
    assert not found.fair
    (why,) = telling.warnings(answer(found, told))
    assert "Begin after the change" in why
    one = people((80, 800), (20, 200))
    one[0]["held"] = True  # one of a thousand is no change
    assert verdict(rows(one)).redrawn == 1
    assert verdict(rows(one)).fair


def test_a_placement_where_a_group_has_nobody_says_nothing() -> None:
    rides = campaign("rides")
    lobby = [one.id for one in rides.placements].index("lobby")
    them = [*people((80, 800), (20, 200), lobby), *people((30, 40), (0, 0), (lobby + 1) % 4)]
    found = verdict(rows(them), name="rides")
    assert (found.shown.persons, found.one_sided) == (800, 40)
    assert found.outcome("share") is not None
    assert verdict(rows(people((30, 40), (0, 0)))).outcome("share") is None


def test_who_met_both_within_the_window_is_told() -> None:
    told = rows(people((80, 800), (20, 200)))
    entered = told.entered
    other = entered.other_ms.copy()
    other[:3] = entered.at_ms[:3] + 1
    other[3] = entered.at_ms[3] + WINDOW_MS
    told = replace(told, entered=replace(entered, other_ms=other, earlier=other < NEVER))
    found = verdict(told)
    assert (found.both, found.earlier) == (3, 4)
    notes = " ".join(telling.notes(answer(found, told)))
    assert "3 customers met the other group, too" in notes
    assert "4 customers had decisions before --since" in notes


# -- segments


def names(told: Rows) -> list[str | None]:
    """Gold and blue ones, some without; the first sixty have a tier of their own each."""
    known = ("gold", "blue", "gold", "blue", None)
    drawn = np.random.default_rng(4).integers(0, len(known), len(told)).tolist()
    return [f"own{n}" if n < 60 else known[number] for n, number in enumerate(drawn)]


def test_segments_are_told_together_where_they_are_small() -> None:
    told = rows(people((400, 4_000), (100, 1_000)))
    segments = verdict(told, by=("tier", names(told))).segments
    assert segments is not None
    # Of the sixty 12 are held out: even together they are too few.
    assert {one.name for one in segments.segments} == {"blue", "gold", NONE}
    assert segments.segments[-1].name == NONE
    assert sum(one.shown + one.held for one in segments.segments) == 5_000 - 60
    few = [name if n >= 60 else "small" if n % 2 else "tiny" for n, name in enumerate(names(told))]
    few[60:260] = [f"own{n % 20}" for n in range(200)]
    segments = verdict(told, by=("tier", few)).segments
    assert segments is not None
    (others,) = (one for one in segments.segments if one.name == OTHERS)
    assert others.shown + others.held == 260
    alone = verdict(rows(people((5, 40), (1, 10))), by=("tier", ["a"] * 50)).segments
    assert alone is not None
    assert not alone.segments
    assert alone.differ is None


def test_what_to_expect_of_segments_lies_between_their_own_and_all() -> None:
    told = rows(people((400, 4_000), (100, 1_000)))
    chance = np.random.default_rng(5)
    label = [("gold", "blue", "red", "green")[n] for n in chance.integers(0, 4, 5_000)]
    alike = verdict(told, by=("tier", label)).segments
    assert alike is not None
    assert alike.differ is not None
    assert alike.differ > 0.01
    guesses = [one.guess for one in alike.segments]
    seen = [one.contrast.difference for one in alike.segments]
    assert np.ptp(guesses) < 0.7 * np.ptp(seen)
    assert min(seen) <= min(guesses) <= max(guesses) <= max(seen)
    # Of gold ones nearly all of the shown buy: that is no chance, and hardly drawn in.
    did = told.times.copy()
    gold = np.array([name == "gold" for name in label]) & ~told.entered.held
    did[gold] = 1
    unlike = verdict(replace(told, times=did), by=("tier", label)).segments
    assert unlike is not None
    assert unlike.differ is not None
    assert unlike.differ < 1e-6
    best = max(unlike.segments, key=lambda one: one.guess)
    assert best.name == "gold"
    assert best.guess == pytest.approx(best.contrast.difference, abs=0.02)
    said = answer(replace(verdict(told), segments=unlike), told)
    assert "Segments differ by more than chance" in telling.of_segments(said)


def test_intervals_of_segments_hold_together() -> None:
    told = rows(people((400, 4_000), (100, 1_000)))
    alone = verdict(told, by=("tier", ["all"] * 5_000)).segments
    share = verdict(told).outcome("share")
    assert alone is not None
    assert share is not None
    assert alone.segments[0].contrast == share.contrast, "of one there is nothing to correct"
    label = np.random.default_rng(6).integers(0, 4, 5_000)
    four = verdict(told, by=("tier", [f"t{n}" for n in label])).segments
    assert four is not None
    for number, one in enumerate(sorted(four.segments)):
        inside = label == number
        wide = contrast_shares(
            told.times[inside] > 0,
            told.entered.held[inside],
            told.entered.placement[inside],
            0.0125,
        )
        assert one.contrast == wide


# -- words


def test_the_picture_shows_zero_and_both_intervals() -> None:
    told = rows(people((90, 800), (20, 200)))
    share = verdict(told).outcome("share")
    assert share is not None
    line = telling.picture(share)
    assert line.startswith("share")
    drawn = re.sub(r"[^-=|o]", "", line.split("%", 1)[1].rsplit(" ", 1)[0])
    assert re.fullmatch(r"-+[=|]*\|?=*o=+-+", drawn), drawn
    sure = verdict(rows(people((240, 800), (20, 200)))).outcome("share")
    assert sure is not None
    assert telling.picture(sure).index("|") < telling.picture(sure).index("=")


def test_notes_say_what_was_left_out_and_what_is_late() -> None:
    told = rows(people((80, 800), (20, 200)))
    said = answer(
        verdict(told), told, elsewhere=3, outcomes=4, older=5, without_consent=6, later=7,
        newest_ms=T + 20 * DAY_MS,
    )  # fmt: skip
    text = "\n".join(telling.notes(said))
    for count, what in (
        (3, "payments are not in EUR"), (4, "outcomes name a decision"),
        (5, "decisions are of devices"), (6, "customers have not agreed"), (7, "customers met it"),
    ):  # fmt: skip
        assert f"{count} {what}" in text
    assert "--until 2026-06-21" in text
    assert "held out are 20.0% of 1,000 (20.0%)" in text
    never = "\n".join(telling.notes(replace(said, newest_ms=0)))
    assert "look whether there is a buy in the log" in never


def test_of_one_it_is_said_in_the_singular() -> None:
    told = rows(people((80, 800), (20, 200)))
    found = replace(verdict(told), under_way=1, both=1, earlier=1, one_sided=1)
    said = answer(found, told, elsewhere=1, outcomes=1, older=1, without_consent=1, later=1)
    text = list(telling.notes(said))
    starts = (
        "1 customer is under way: their ", "1 customer has not agreed to learning",
        "1 customer met it only after", "1 decision is of a device that holds nobody out",
        "1 customer met the other group, too", "1 customer had decisions before --since, and is as",
        "1 customer is of a placement where", "1 outcome names a decision, which the held out",
        "1 payment is not in EUR: in no amount",
    )  # fmt: skip
    for start in starts:
        assert sum(one.startswith(start) for one in text) == 1, start
    alone = replace(verdict(rows(people((1, 1), (0, 0))), 6), under_way=1)
    assert ": 0 customers, from" in telling.headline(answer(alone, told))
    one = replace(alone, shown=replace(alone.shown, persons=1))
    assert ": 1 customer, from" in telling.headline(answer(one, told))
    (only,) = telling.findings(answer(alone, told))
    assert "yet: the only one will have had their time on 2026-06" in only


def test_no_sentence_ends_twice() -> None:
    told = rows(people((80, 800), (20, 200)))
    said = answer(verdict(told), told, newest_ms=0)
    assert not any(one.endswith((".", "?")) for one in telling.notes(said))


def test_the_page_has_what_the_table_has_and_trusts_no_name() -> None:
    told = rows(people((90, 800), (20, 200)))
    found = verdict(told, by=("tier", ["<b>"] * 1_000))
    said = answer(found, told, question=Question("lobby", by="tier"))
    text = page_of(said)
    assert "<b>" not in text.replace("<b>Do not", "")
    assert "&lt;b&gt;" in text
    for row in (*telling.groups(said), *telling.limits(said), *telling.dues(said)):
        for cell in row:
            assert cell in text
    assert text.count("<svg") == 2
    assert not re.search(r"https?:|//|@import|url\(|src=", text)


def test_without_anybody_whose_days_are_over_it_says_when_there_will_be() -> None:
    told = rows(people((90, 800), (20, 200)))
    said = answer(verdict(told, 6), told)
    (only,) = telling.findings(said)
    assert "the first of" in only
    assert "2026-06-08" in only
    assert page_of(said)
    assert said.to_json()["outcomes"] == {}
