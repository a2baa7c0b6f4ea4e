"""Arms: who is drawn into which, what decides for them, and what the record says of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.cli.decide import as_json, as_lines
from edge_sdk.context import Context
from edge_sdk.decision import Reason, Tier
from edge_sdk.engine.arms import Experiment, bases
from edge_sdk.engine.decide import check_replay, coarse, decide, explain, replay
from edge_sdk.engine.documents import InvalidDocument
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.offer_check import check_fit
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from edge_sdk.engine.release import Release
from edge_sdk.engine.slates import Slate
from edge_sdk.engine.what_if import what_if
from edge_sdk.engine.withheld import Terms
from edge_sdk.errors import FormatError, UsageError
from edge_sdk.sync.trust import Refusal
from edge_sdk.testing import FakeEdge
from genome_edge.v1 import event_pb2, release_pb2
from tests.unit.test_compiled import frozen
from tests.unit.test_engine import shown
from tests.unit.test_policy import VECTORS
from tests.unit.test_release import refused
from tools.make_exploration_vectors import arm_of

ANYWHERE = Context()
SHARES = {"bold": 0.3, "quiet": 0.2}
PEOPLE = [number.to_bytes(16) for number in range(1, 4_001)]
OFFERS: list[dict[str, Any]] = [{"id": "a", "value": 2}, {"id": "b", "value": 1}]


def placements(arms: dict[str, float] = SHARES, **more: Any) -> list[dict[str, Any]]:
    """The placement "p" with arms, which are what `more` says by name."""
    base = {"id": "p", "experiment": {"seed": "autumn", "arms": arms}, **more.get("p", {})}
    return [base, *({"id": name, **more.get(name, {})} for name in arms)]


def market(offers: list[dict[str, Any]] | None = None, **more: Any) -> Release:
    return release_from_documents(OFFERS if offers is None else offers, placements(**more))


def experiment(seed: str = "autumn", **shares: float) -> Experiment:
    document = {"id": "p", "experiment": {"seed": seed, "arms": shares or SHARES}}
    found = Experiment.of(placement_from_document(document))
    assert found is not None
    return found


# -- the draw


def test_the_vectors_of_arms() -> None:
    drawn = set()
    for case in json.loads(VECTORS.read_text(encoding="utf-8"))["arms"]:
        found = Experiment.of(
            release_pb2.PlacementSpec(
                id=case["placement"],
                experiment_seed=case["experiment_seed"],
                arms=[release_pb2.Arm(**arm) for arm in case["arms"]],
            )
        )
        assert found is not None
        drawn_by = bytes.fromhex(case["drawn_by"])
        assert found.draw(drawn_by, b"?" * 16) == case["drawn"]
        assert found.draw(bytes(16), drawn_by) == case["drawn"], "nobody: by decision"
        drawn.add(case["drawn"] == case["placement"])
    assert drawn == {True, False}


def test_shares_are_those_that_are_stated_and_another_seed_draws_others() -> None:
    drawn = Counter(experiment().draw(one, b"") for one in PEOPLE)
    for name, share in {**SHARES, "p": 0.5}.items():
        assert drawn[name] / len(PEOPLE) == pytest.approx(share, abs=0.03)
    both = sum(experiment().draw(one, b"") == experiment("winter").draw(one, b"") for one in PEOPLE)
    assert both / len(PEOPLE) == pytest.approx(0.3**2 + 0.2**2 + 0.5**2, abs=0.03)


@pytest.mark.parametrize("share", [1 / 6, 0.1666666667, 0.166667])
def test_rounded_shares_of_a_whole_come_to_a_million(share: float) -> None:
    found = experiment("autumn", **{f"arm{n}": share for n in range(6)})
    assert list(found.arms.values()) == [166_667] * 5 + [166_665]
    assert "p" not in {found.draw(one, b"") for one in PEOPLE}


def test_shares_of_more_than_rounding_makes_are_refused() -> None:
    for shares in ({"one": 0.5, "other": 0.500002}, {f"arm{n}": 0.166668 for n in range(6)}):
        with pytest.raises(InvalidDocument, match="at most 1"):
            experiment("autumn", **shares)
    # What is left for the last ones may be nothing, and is never less.
    tiny = experiment(a=0.4999996, b=0.4999996, c=0.0000006, d=0.0000006)
    assert list(tiny.arms.values()) == [500_000, 500_000, 0, 0]


def test_who_is_held_out_has_nothing_to_do_with_the_arm() -> None:
    """Also where seeds and shares are alike."""
    slate = Slate.of(release_pb2.PlacementSpec(id="p", holdout_seed="autumn", holdout_ppm=300_000))
    assert slate is not None
    held = {one for one in PEOPLE if slate.holds_out(one, b"")}
    for name, share in {**SHARES, "p": 0.5}.items():
        mine = {one for one in PEOPLE if experiment().draw(one, b"") == name}
        assert len(mine & held) / len(PEOPLE) == pytest.approx(share * 0.3, abs=0.02)


@given(
    st.lists(st.integers(0, 300_000), min_size=1, max_size=3),
    st.integers(0, 100_000),
    st.sampled_from(PEOPLE),
    st.sampled_from(["", "autumn"]),
)
def test_more_for_the_last_arm_moves_nobody_else(
    shares: list[int], more: int, subject: bytes, seed: str
) -> None:
    def drawn(numbers: list[int]) -> str:
        arms = {f"arm{n}": ppm for n, ppm in enumerate(numbers)}
        key = f"genome-edge/experiment/v1\np\n{seed}\n".encode()
        assert Experiment("p", key, arms).draw(subject, b"") == arm_of(
            "p", seed, subject, list(arms.items())
        )
        return Experiment("p", key, arms).draw(subject, b"")

    before, after = drawn(shares), drawn([*shares[:-1], shares[-1] + more])
    assert after == before or (before, after) == ("p", f"arm{len(shares) - 1}")


# -- decisions


def test_the_arm_decides_and_the_record_names_it() -> None:
    release = market(bold={"slots": 2}, quiet={"least_worth": 5})
    by_arm: dict[str, list[str | None]] = {}
    for one in PEOPLE[:60]:
        decision, record = decide(release, ANYWHERE, "p", 2, subject=one)
        assert decision.placement == experiment().draw(one, b"")
        assert decision.experiment == "p"
        by_arm[decision.placement] = shown(decision)
        proto = record.to_proto()
        assert (proto.placement, proto.experiment) == (decision.placement, "p")
        assert (coarse(proto).placement, coarse(proto).experiment) == (decision.placement, "p")
        assert replay(release, proto) == decision
        assert check_replay(release, proto, one) == []
    assert by_arm == {"p": ["a", None], "bold": ["a", "b"], "quiet": [None, None]}


def test_for_nobody_each_decision_draws() -> None:
    release = market()
    drawn: Counter[str] = Counter()
    for one in PEOPLE[:500]:
        decision, record = decide(release, ANYWHERE, "p", decision_id=one)
        assert decision.placement == experiment().draw(one, b"")
        assert check_replay(release, record.to_proto(), bytes(16)) == []
        drawn[decision.placement] += 1
    assert drawn.keys() == {"p", *SHARES}


def test_an_arm_that_is_asked_for_decides_and_is_of_no_experiment() -> None:
    release = market()
    decision, record = decide(release, ANYWHERE, "bold", subject=PEOPLE[0])
    assert (decision.placement, decision.experiment, decision.is_arm) == ("bold", "", False)
    assert check_replay(release, record.to_proto(), PEOPLE[0]) == []


def test_a_replay_checks_who_was_drawn() -> None:
    release = market()
    of = {experiment().draw(one, b""): one for one in PEOPLE[:60]}
    record = decide(release, ANYWHERE, "p", subject=of["bold"])[1].to_proto()
    said = "by the release this customer is drawn into quiet"
    assert check_replay(release, record, of["quiet"]) == [said]
    # A record of an SDK that knows no arms decides for everybody as the placement itself.
    old = event_pb2.DecisionRecord()
    old.CopyFrom(decide(release, ANYWHERE, "p", subject=of["p"])[1].to_proto())
    old.experiment = ""
    assert check_replay(release, old, of["p"]) == []
    assert check_replay(release, old, of["bold"]) == [said.replace("quiet", "bold")]


def test_the_hold_out_is_that_of_the_arm() -> None:
    release = market(bold={"holdout": 1})
    for one in PEOPLE[:60]:
        decision, record = decide(release, ANYWHERE, "p", subject=one)
        assert (decision.reason is Reason.HELD_OUT) == (decision.placement == "bold")
        assert check_replay(release, record.to_proto(), one) == []


def test_without_a_release_there_is_no_arm_and_an_expired_one_has_them() -> None:
    assert decide(None, ANYWHERE, "p", subject=PEOPLE[0])[0].experiment == ""
    of_bold = next(one for one in PEOPLE if experiment().draw(one, b"") == "bold")
    release = market([{"id": "hello"}], bold={"house_offer": "hello"})
    decision, record = decide(release, ANYWHERE, "p", subject=of_bold, terms=Terms(tier=Tier.HOUSE))
    assert (decision.placement, shown(decision)) == ("bold", ["hello"])
    assert check_replay(release, record.to_proto(), of_bold) == []


def test_what_is_for_a_placement_is_for_its_arms_and_not_the_other_way() -> None:
    offers: list[dict[str, Any]] = [
        {"id": "a", "placements": ["p"]},
        {"id": "b", "placements": ["bold"], "value": 9},
    ]
    release = market(offers, quiet={"sizes": ["a4"]})
    seen = {}
    for one in PEOPLE[:60]:
        decision, record = decide(release, ANYWHERE, "p", subject=one)
        seen[decision.placement] = shown(decision)
        lost = {loser.offer: loser.reasons for loser in explain(release, record.to_proto()).losers}
        why = {"a": Reason.SCORE} if decision.placement == "bold" else {"b": Reason.PLACEMENT}
        assert lost == {name: (reason,) for name, reason in why.items()}
    assert seen == {"p": ["a"], "bold": ["b"], "quiet": ["a"]}
    assert shown(decide(release, ANYWHERE, "bold")[0]) == ["b"]


def test_an_offer_that_fits_only_an_arm_fits() -> None:
    offer = offer_from_document({"id": "a", "placements": ["p"], "sizes": ["a4"]})
    found = [
        placement_from_document(one)
        for one in placements(p={"sizes": ["voice"]}, bold={"sizes": ["a4"]})
    ]
    assert check_fit(offer, found) == []
    assert check_fit(offer, [found[0], found[2]]) == []
    del found[0].arms[:]
    (problem,) = check_fit(offer, found)
    assert "fits no placement of it (p takes voice)" in problem


def test_a_decision_says_its_arm_to_people_and_programs() -> None:
    of = {experiment().draw(one, b""): one for one in PEOPLE[:60]}
    release = market()
    drawn, record = decide(release, ANYWHERE, "p", subject=of["bold"])
    stayed, _ = decide(release, ANYWHERE, "p", subject=of["p"])
    assert str(drawn) == "bold, an arm of p: a (CHOSEN)"
    assert str(drawn.explain()).startswith(str(drawn))
    assert str(stayed) == "p: a (CHOSEN)"
    assert "of p and its arms, bold was drawn" in as_lines(drawn)
    assert "of p and its arms, p was drawn" in as_lines(stayed)
    said = as_json(drawn)
    assert (said["placement"], said["experiment"]) == ("bold", "p")
    plain = decide(release, ANYWHERE, "bold")[0]
    assert not any("arms" in line for line in as_lines(plain))
    # Asked what another placement would do, nobody is drawn.
    otherwise = what_if(release, record.to_proto(), {"placement": "p"}).after.decision
    assert (otherwise.placement, otherwise.experiment) == ("p", "")


def test_a_fake_edge_has_arms_and_what_follows_names_them() -> None:
    edge = FakeEdge(OFFERS, placements=placements(bold={"shown": "view"}))
    drawn = {}
    for number in range(40):
        decision = edge.decide(ANYWHERE, "p", customer=f"c{number}")
        again = edge.decide(ANYWHERE, "p", customer=f"c{number}")
        assert again.placement == decision.placement
        edge.report(decision, "buy")
        drawn[decision.id] = decision.placement
    assert set(drawn.values()) == {"p", *SHARES}
    assert {one.decision: one.placement for one in edge.reports} == drawn
    records = [one.decision for one in edge.events if one.HasField("decision")]
    assert {one.experiment for one in records} == {"p"}


def test_a_compiled_release_has_the_same_arms() -> None:
    offers: list[dict[str, Any]] = [
        {"id": "a", "placements": ["p"]},
        {"id": "b", "placements": ["bold"]},
    ]
    release = market(offers, bold={"slots": 2})
    again = frozen(release, {"model": b""})
    for one in PEOPLE[:60]:
        found = [
            decide(made, ANYWHERE, "p", 2, subject=one, seed=1)[0] for made in (release, again)
        ]
        names = [sorted(filter(None, shown(decision))) for decision in found]
        assert found[0].placement == found[1].placement
        assert names[0] == names[1] == (["a", "b"][: 1 + (found[0].placement == "bold")])


# -- what cannot be


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"arms": {}}, "experiment.arms"),
        ({"seed": "x"}, "experiment.arms"),
        ({"arms": {"bold": 0}}, "experiment.arms"),
        ({"arms": {"bold": 0.6, "quiet": 0.5}}, "experiment.arms"),
        ({"arms": {"bold": "much"}}, "experiment.arms.bold"),
        ({"arms": {"bold": 1.5}}, "experiment.arms.bold"),
        ({"arms": {"p": 0.5}}, "experiment.arms.p"),
        ({"arms": {" ": 0.5}}, "experiment.arms. "),
        ({"arms": {"bold": 0.5}, "sed": "x"}, "experiment.sed"),
        ({"arms": {"bold": 0.5}, "seed": ["x"]}, "experiment.seed"),
        (["bold"], "experiment"),
    ],
)
def test_documents_that_cannot_be(said: Any, field: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        placement_from_document({"id": "p", "experiment": said})
    assert caught.value.field == field


def test_documents_say_arms_in_any_order() -> None:
    there = placement_from_document(
        {"id": "p", "experiment": {"seed": 7, "arms": {"quiet": 0.2, "bold": 1 / 3}}}
    )
    assert [(arm.placement, arm.share_ppm) for arm in there.arms] == [
        ("bold", 333_333),
        ("quiet", 200_000),
    ]
    assert there.experiment_seed == "7"
    whole = placement_from_document({"id": "p", "experiment": {"arms": {"bold": 0.5, "c": 0.5}}})
    assert sum(arm.share_ppm for arm in whole.arms) == 1_000_000
    assert not placement_from_document({"id": "p", "experiment": None}).arms


def spec(name: str, **arms: int) -> release_pb2.PlacementSpec:
    made = [release_pb2.Arm(placement=one, share_ppm=ppm) for one, ppm in arms.items()]
    return release_pb2.PlacementSpec(id=name, arms=made)


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        ([spec("p", bold=1)], "placement 'p': arm 'bold' is no placement"),
        ([spec("p", p=1)], "placement 'p': arm 'p' has arms itself"),
        ([spec("p", b=1), spec("b", c=1), spec("c")], "placement 'p': arm 'b' has arms itself"),
        (
            [spec("p", b=1), spec("q", b=1), spec("b")],
            "placement 'q': arm 'b' is one of 'p' already",
        ),
        (
            [spec("p", b=600_000, c=500_000), spec("b"), spec("c")],
            "placement 'p': arm 'c' is too much: all shares come to more than 1",
        ),
    ],
)
def test_a_release_with_arms_that_cannot_be_is_refused(
    specs: list[release_pb2.PlacementSpec], why: str
) -> None:
    with pytest.raises(FormatError) as caught:
        bases(specs)
    assert str(caught.value) == why
    listed = release_pb2.PlacementList(placements=specs).SerializeToString()
    assert why in refused(Refusal.FORMAT, placements=listed)


def test_a_fake_edge_says_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="arm 'bold' is no placement"):
        FakeEdge(OFFERS, placements=placements()[:1])
