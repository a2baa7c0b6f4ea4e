"""`genome-server lift --arms` on logs of the real engine: who is compared with whom, and how."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.context import Context
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.arms import Experiment
from edge_sdk.engine.decide import coarse, decide
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.offers import placement_from_document
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.lift.balance import balance
from genome_server.lift.campaigns import arms_of, find_experiment
from genome_server.lift.estimates import ERROR, contrast_shares
from genome_server.lift.needs import persons_needed
from genome_server.lift.rules import BASE, Entered, LeftOut, Meetings, Met, Rows, enter
from genome_server.store.rows import CONSENT_LEARNING, CustomerRow
from tests.unit.hold_out_log import BEGIN_MS, DAY_MS, Happened
from tests.unit.test_lift_cli import Shop, bought, who

PEOPLE = 1_200
SHARES = {"bold": 0.3, "quiet": 0.2}
BASIC: dict[str, Any] = {"id": "p", "experiment": {"seed": "s", "arms": SHARES}}
#: Half of the bold ones are held out, and for the quiet ones nothing is ever chosen.
PLACEMENTS: list[dict[str, Any]] = [
    BASIC,
    {"id": "bold", "holdout": 0.5},
    {"id": "quiet", "least_worth": 9},
]
BUYS = {"bold": 5, "p": 2, "quiet": 2}
RELEASE = release_from_documents([{"id": "taxi"}], PLACEMENTS)
OLDER = release_from_documents([{"id": "taxi"}], [{"id": "p"}])


def drawn(subject: bytes, document: dict[str, Any] = BASIC) -> str:
    found = Experiment.of(placement_from_document(document))
    assert found is not None
    return found.draw(subject, b"")


def decided(subject: bytes, days: float, placement: str = "p", release: Any = RELEASE) -> Happened:
    ms = BEGIN_MS + round(days * DAY_MS)
    id_ = hashlib.sha256(f"{subject.hex()} {ms}".encode()).digest()[:16]
    _, record = decide(
        release, Context(), placement, subject=subject, now_ms=ms, decision_id=id_, seed=1
    )
    time = event_pb2.EventTime(wall_ms=ms, offset_known=True)
    event = event_pb2.Event(time=time, decision=coarse(record.to_proto()))
    return Happened("screen", subject, FrameKind.DECISION, ms, event)


def crowd(people: Iterable[int] = range(PEOPLE)) -> list[Happened]:
    """Everybody comes on the first day and again; of ten of an arm so many buy on the second."""
    found, seen = [], Counter[str]()
    for n in people:
        one = who(n)
        found += [decided(one, n / PEOPLE), decided(one, n / PEOPLE + 0.5)]
        arm = drawn(one)
        seen[arm] += 1
        if seen[arm] % 10 < BUYS[arm]:
            found.append(bought(one, 2))
    return found


def a_shop(root: Path, events: Iterable[Happened], placements: Any = PLACEMENTS) -> Shop:
    shop = Shop(root, events, PEOPLE)
    with closing(shop.tenant.open_store()) as store:
        store.put_documents("placement", [(one["id"], one) for one in placements])
    return shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    strangers = [decided(NOBODY, n / 10) for n in range(10)]
    older = [decided(who(20_000 + n), 1, release=OLDER) for n in range(10)]
    # Asked for by name, nobody is drawn: these would make any arm too large.
    asked = [decided(who(n), -1, "quiet") for n in range(300)]
    others = [decided(who(30_000 + n), 1) for n in range(10)]  # never agreed to anything
    events = [*crowd(), *strangers, *older, *asked, *others]
    return a_shop(tmp_path_factory.mktemp("arms"), events)


GROUPS = Counter(drawn(who(n)) for n in range(PEOPLE))


def test_each_arm_is_compared_with_who_stays(shop: Shop) -> None:
    said = shop.json("p", "--arms", "--kind", "buy", "--days", "7")
    assert said["experiment"] == "p"
    bold, quiet = said["arms"]
    for name, one in (("bold", bold), ("quiet", quiet)):
        assert one["campaign"] == {"kind": "arm", "name": name}
        assert one["arm"]["persons"] == GROUPS[name], "whatever was chosen for them"
        assert one["base"]["persons"] == GROUPS["p"]
        assert one["arm"]["did"] == pytest.approx(GROUPS[name] * BUYS[name] / 10, abs=5)
        assert one["base"]["did"] == pytest.approx(GROUPS["p"] * 0.2, abs=5)
        assert one["arm"]["amount"] == 10 * one["arm"]["did"]
        assert one["fair"] is True
        assert (one["redrawn"], one["met_both"], one["met_earlier"]) == (0, 0, 0)
        (fair,) = one["balance"]
        assert fair["share"] == pytest.approx(0.5 / (0.5 + SHARES[name]))
        assert (fair["persons"], fair["held"]) == (GROUPS[name] + GROUPS["p"], GROUPS["p"])
        left = one["left_out"]
        assert (left["without_consent"], left["decisions_of_older_devices"]) == (10, 10)
    share = bold["outcomes"]["share"]
    assert share["difference"] == pytest.approx(0.3, abs=0.02)
    assert share["sure"] is True
    assert share["arm"] > share["base"]
    assert quiet["outcomes"]["share"]["sure"] is False
    assert quiet["outcomes"]["share"]["due"]["stated"]["persons"] > PEOPLE
    assert bold["outcomes"]["amount"]["difference"] == pytest.approx(3, abs=0.2)


def test_the_intervals_are_those_of_lift_and_hold_together(shop: Shop) -> None:
    bold, quiet = shop.json("p", "--arms", "--kind", "buy")["arms"]
    for one in (bold, quiet):
        counts = [(one[group]["persons"], one[group]["did"]) for group in ("arm", "base")]
        did = np.concatenate([np.arange(n) < k for n, k in counts])
        held = np.concatenate([np.full(n, at == 1) for at, (n, _) in enumerate(counts)])
        wanted = contrast_shares(did, held, np.zeros(len(did), np.int64), ERROR / 2)
        assert wanted is not None
        share = one["outcomes"]["share"]
        assert share["always"] == pytest.approx(list(wanted.always))
        assert share["planned"] == pytest.approx(list(wanted.planned))
        assert one["among"] == 2
    assert persons_needed(0.2, 0.02, ERROR / 2) > (persons_needed(0.2, 0.02) or 0)  # type: ignore[operator]


def test_people_are_told_and_a_page_has_all_arms(shop: Shop, tmp_path: Path) -> None:
    page = tmp_path / "arms.html"
    text = shop.text("p", "--arms", "--kind", "buy", "--by", "tier", "--page", str(page))
    assert f"arm bold of p: {GROUPS['bold'] + GROUPS['p']:,} customers" in text
    assert "Who has bold instead of p does it more often: that holds at every look." in text
    assert "Whether who has quiet instead of p does it more often cannot be told yet." in text
    assert "Note: the intervals of all 2 arms hold together." in text
    assert "Note: 10 decisions drew no arm (of older devices, or of before the experiment)" in text
    assert "The groups are as large as they should be: p has" in text
    assert "held out" not in text
    assert "by tier" in text
    html = page.read_text()
    assert "What the arms of p bring" in html
    assert html.count("<h2>The groups</h2>") == 2
    assert "arm quiet of p" in html


def test_groups_that_cannot_be_a_fair_draw_are_not_believed(tmp_path: Path) -> None:
    lost = [n for n in range(PEOPLE) if drawn(who(n)) != "bold" or n % 2]
    shop = a_shop(tmp_path, crowd(lost))
    bold, quiet = shop.json("p", "--arms", code=1)["arms"]
    assert (bold["fair"], quiet["fair"]) == (False, True)
    text = shop.text("p", "--arms", code=1)
    assert "customers of bold and p" in text
    assert "stay with p, where 62.5% should be" in text


def test_another_seed_or_share_than_that_of_the_log_is_noticed(tmp_path: Path) -> None:
    other = {**BASIC, "experiment": {"seed": "other", "arms": SHARES}}
    shop = a_shop(tmp_path, crowd(), [other, *PLACEMENTS[1:]])
    bold, _ = shop.json("p", "--arms", code=1)["arms"]
    assert bold["redrawn"] > 0.3 * PEOPLE, "also who is drawn into the third one now"
    assert "share or seed was changed, or devices do not draw" in shop.text("p", "--arms", code=1)


def test_an_experiment_that_has_ended_is_asked_about_with_until(tmp_path: Path) -> None:
    shop = a_shop(tmp_path, crowd(), [{"id": "p"}, *PLACEMENTS[1:]])
    assert "say --until when it did" in shop.text("p", "--arms", code=1)
    bold, quiet = shop.json("p", "--arms", "--kind", "buy", "--until", "2026-07-01")["arms"]
    assert (bold["arm"]["persons"], quiet["arm"]["persons"]) == (GROUPS["bold"], GROUPS["quiet"])
    assert bold["balance"] == quiet["balance"] == []
    assert bold["redrawn"] == 0
    text = shop.text("p", "--arms", "--kind", "buy", "--until", "2026-07-01")
    assert "the document states no share any more" in text


def test_of_an_experiment_that_has_ended_the_windows_of_its_arms_hold(tmp_path: Path) -> None:
    """Those that decided in it, where their documents are still there; others say nothing."""
    longer = {"id": "bold", "outcome_window_hours": 14 * 24}
    other = {"id": "other", "outcome_window_hours": 20 * 24}
    shop = a_shop(tmp_path, crowd(range(200)), [{"id": "p"}, longer, {"id": "quiet"}, other])
    asked = ("p", "--arms", "--kind", "buy", "--until", "2026-07-01")
    assert [one["window_days"] for one in shop.json(*asked)["arms"]] == [14, 14]
    assert [one["window_days"] for one in shop.json(*asked, "--days", "3")["arms"]] == [3, 3]
    with closing(shop.tenant.open_store()) as store:
        store.put_documents("placement", [("bold", {"id": "bold"})])
    assert [one["window_days"] for one in shop.json(*asked)["arms"]] == [7, 7]


def test_where_nobody_stays_and_nobody_has_the_arm_no_document_is_blamed(tmp_path: Path) -> None:
    only = [n for n in range(300) if drawn(who(n)) == "bold"][:10]
    shop = a_shop(tmp_path, crowd(only))
    bold, quiet = shop.json("p", "--arms", "--kind", "buy", "--until", "2026-07-01")["arms"]
    assert (bold["arm"]["persons"], quiet["arm"]["persons"], quiet["balance"]) == (10, 0, [])
    text = shop.text("p", "--arms", "--kind", "buy", "--until", "2026-07-01")
    assert "states no share any more" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("bold", "--arms"), 2, "bold is an arm of p: genome-server lift p --arms"),
        (("plain", "--arms"), 1, "placement plain has no arms: state `experiment`"),
        (("whole", "--arms"), 1, "nobody stays with placement whole"),
        (("taxi", "--arms"), 2, "there is no placement, offer or campaign 'taxi'"),
        (("p", "--arms", "--since", "2027-01-01"), 1, "nobody is known to have met placement p"),
        (("p",), 1, "placement p holds nobody out"),
    ],
)
def test_what_cannot_be_asked(shop: Shop, arguments: tuple[str, ...], code: int, why: str) -> None:
    with closing(shop.tenant.open_store()) as store:
        whole = {"id": "whole", "experiment": {"arms": {"spare": 1}}}
        store.put_documents("placement", [("whole", whole), ("spare", {"id": "spare"})])
    assert why in shop.json(*arguments, code=code)["error"]["message"]


def test_an_arm_that_nobody_has_drawn_is_told_too(tmp_path: Path) -> None:
    more = {**BASIC, "experiment": {"seed": "s", "arms": {**SHARES, "zero": 0.0}}}
    shop = a_shop(tmp_path, crowd(range(40)), [more, *PLACEMENTS[1:], {"id": "zero"}])
    *_, zero = shop.json("p", "--arms", "--kind", "buy")["arms"]
    assert (zero["arm"]["persons"], zero["outcomes"]) == (0, {})
    assert "Nothing can be compared yet" in shop.text("p", "--arms", "--kind", "buy")


# -- rules


def test_the_first_arm_that_is_met_counts_for_good() -> None:
    meetings = Meetings()

    def met(subject: bytes, at_ms: int, group: int) -> None:
        meetings.meet(0, Met(at_ms, b"%d" % at_ms, True, at_ms, subject), group=group)

    met(who(1), 5, 2)
    met(who(1), 9, BASE)
    met(who(2), 7, 3)
    met(who(2), 8, 2)
    met(who(3), 6, BASE)
    known = {who(n): CustomerRow(who(n), consents=CONSENT_LEARNING) for n in (1, 2, 3)}
    entered = enter(meetings, known)
    assert entered.group.tolist() == [2, BASE, 3]
    assert entered.other_ms.tolist()[::2] == [9, 8]
    rows = Rows(entered, 100, np.array([1, 0, 4]), np.array([1.0, 0.0, 4.0]), "EUR", 0, 0, 0)
    of_two = rows.only((entered.group == 2) | (entered.group == BASE))
    assert (of_two.times.tolist(), of_two.amount.tolist()) == ([1, 0], [1.0, 0.0])
    assert of_two.entered.subject == [who(1), who(3)]
    assert of_two.entered.held.tolist() == [False, True]
    assert isinstance(of_two.entered, Entered)
    assert of_two.entered.left_out == LeftOut()


def test_the_window_is_the_longest_of_the_placement_and_its_arms() -> None:
    documents = {one["id"]: one for one in PLACEMENTS}
    assert find_experiment("placement:p", documents).window_ms == 7 * DAY_MS
    documents["quiet"] = {**documents["quiet"], "outcome_window_hours": 48}
    documents["bold"] = {**documents["bold"], "outcome_window_hours": 24}
    experiment = find_experiment("p", documents)
    assert experiment.window_ms == 2 * DAY_MS
    bold, quiet = arms_of(experiment, ())
    assert (str(bold), bold.groups, quiet.window_ms) == (
        "arm bold of p", ("bold", "p"), 2 * DAY_MS,
    )  # fmt: skip
    for one in map(who, range(100)):
        (place,) = bold.placements
        assert place.draws(one, held=False) == (drawn(one) == "bold")
        assert place.draws(one, held=True) == (drawn(one) == "p")
    ended = replace(experiment, placements=())
    assert [one.name for one in arms_of(ended, {"p": 1, "x": 2, "a": 3})] == ["a", "x"]
    assert balance("bold", 80, 50, bold.placements[0].share).fair
