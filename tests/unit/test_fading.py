"""What went on before still counts, the less the longer ago it was."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk import Context, Decision, EdgeClient, InvalidContext, Purpose, UsageError
from edge_sdk.dna.schema import NamespaceRule, default_schema
from edge_sdk.engine.decide import decide, explain, replay
from edge_sdk.engine.explain import check_replay
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.moments import fading, moment_of
from edge_sdk.runtime.recent import RecentMoments, Trail
from edge_sdk.testing import FakeEdge
from tests.unit.device_client import FAST
from tests.unit.device_town import customer, filled

NOON = datetime(2026, 6, 24, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)
SEARCH, CHECKOUT = "activity:flight-search", "activity:checkout"
OFFERS: list[dict[str, Any]] = [
    {"id": "taxi", "dna": [SEARCH], "all_of": [SEARCH], "content": {"title": "A taxi"}},
    {"id": "lounge", "dna": {CHECKOUT: 1.0, "claim:calm": 0.3}, "content": {"title": "A lounge"}},
]
RELEASE = release_from_documents(OFFERS, [{"id": "lobby", "slots": 4}], markers=["tag:red"])


def after(minutes: float, *more: str) -> Context:
    return Context(time=NOON + timedelta(minutes=minutes), activity=more[0] if more else None)


def weights(decision: Decision) -> dict[str, float]:
    """The weight of each activity in the moment of a decision."""
    carriers = decision.explain().carriers
    return {c.marker: c.weight for c in carriers if c.marker.startswith("activity:")}


def shown(decision: Decision) -> str | None:
    return decision.offer.id if decision.offer is not None else None


# What an app says --------------------------------------------------------------------------------


def test_it_fades_by_half_in_half_an_hour() -> None:
    assert default_schema(0).moment_half_life("activity") == 1800
    for minutes, weight in ((0, 1.0), (5, 2**-0.125), (30, 0.5), (60, 0.25), (119, 2**-3.875)):
        context = Context(time=NOON, recent=[("flight-search", minutes * 60)])
        moment = moment_of(RELEASE, context, context.local_time(0), "")
        found = dict(zip(moment.indices.tolist(), moment.weights.tolist(), strict=True))
        assert found[RELEASE.vocabulary.index(SEARCH)] == pytest.approx(weight)
    gone = Context(time=NOON, recent=[("flight-search", 7200)])
    assert SEARCH not in moment_of(RELEASE, gone, gone.local_time(0), "").names


@given(
    earlier=st.lists(
        st.tuples(st.sampled_from([SEARCH, CHECKOUT, "tag:red"]), st.floats(0, 1e6)), max_size=8
    )
)
def test_never_more_later(earlier: list[tuple[str, float]]) -> None:
    now, later = (dict(fading(RELEASE, [(n, a + d) for n, a in earlier])) for d in (0, 60))
    assert set(later) <= set(now) <= {SEARCH, CHECKOUT}
    for name, step in later.items():
        assert now[name] <= step <= now[name] + 1
        newest = min(ago for other, ago in earlier if other == name)
        assert now[name] <= newest / 1800 * 8 < now[name] + 1


def test_rules_ask_whether_and_scores_ask_how_much() -> None:
    scores = []
    for ago_s in (60, 3600):
        context = Context(time=NOON, recent=[("flight-search", ago_s)])
        decision, _ = decide(RELEASE, context, "lobby", 2, now_ms=NOON_MS, seed=1)
        scores.append({slot.offer.id: slot.score for slot in decision.slots if slot.offer})
    assert scores[0]["taxi"] > scores[1]["taxi"] > 0
    assert shown(decide(RELEASE, Context(time=NOON), "lobby", now_ms=NOON_MS)[0]) == "lounge"


def test_what_goes_on_now_counts_in_full() -> None:
    context = Context(time=NOON, activity="flight-search", recent=[("flight-search", 3600)])
    decision, record = decide(RELEASE, context, "lobby", now_ms=NOON_MS)
    assert weights(decision) == {SEARCH: 1.0}
    assert list(record.to_proto().context_markers).count(SEARCH) == 1


def test_what_went_on_before_something_else_counts_half() -> None:
    asked = Context(time=NOON, activity="checkout", recent=[("flight-search", 0)])
    assert weights(decide(RELEASE, asked, "lobby", now_ms=NOON_MS)[0]) == {
        CHECKOUT: 1.0,
        SEARCH: 0.5,
    }
    known = [(SEARCH, 1800 * 2.9), (CHECKOUT, 1800 * 3.1), ("tag:red", 1)]
    assert fading(RELEASE, known, ["activity:other"]) == ((SEARCH, 31),)
    assert fading(RELEASE, known, ["place:hotel"]) == ((CHECKOUT, 24), (SEARCH, 23))


def test_a_moment_is_worked_out_once_in_an_eighth_of_a_half_life() -> None:
    moments = [
        moment_of(RELEASE, one, one.local_time(0), "")
        for ago_s in (0, 100, 224, 226, 440)
        for one in [Context(time=NOON, recent=[("checkout", ago_s)])]
    ]
    assert moments[0] is moments[1] is moments[2] is not moments[3]
    assert moments[3] is moments[4]


def test_a_faded_moment_replays_from_its_record() -> None:
    context = Context(time=NOON, recent=[("flight-search", 1000), ("checkout", 3000)])
    decision, made = decide(RELEASE, context, "lobby", 2, now_ms=NOON_MS, seed=5)
    record = made.to_proto()
    assert check_replay(RELEASE, record) == []
    again = replay(RELEASE, record)
    assert again.slots == decision.slots
    assert weights(again) == {} or weights(again) == weights(decision)
    carriers = {c.marker: c.weight for c in explain(RELEASE, record).carriers}
    assert carriers[SEARCH] == pytest.approx(2 ** (-int(1000 * 8 / 1800) / 8))


def test_what_an_app_said_and_no_release_knows_is_told() -> None:
    context = Context(time=NOON, recent=[("fligth-search", 60)])
    decision, _ = decide(RELEASE, context, "lobby", now_ms=NOON_MS)
    assert [(one.name, one.nearest) for one in decision.unknown] == [
        ("activity:fligth-search", SEARCH)
    ]


def test_a_context_keeps_it() -> None:
    context = Context(recent=[("Flight search", 300), ["activity:checkout", 0.5]])  # type: ignore[list-item]
    assert context.recent == (("flight-search", 300.0), ("checkout", 0.5))
    assert context.earlier == ((SEARCH, 300.0), (CHECKOUT, 0.5))
    assert pickle.loads(pickle.dumps(context)) == context != Context()
    assert "flight-search" in repr(context)
    assert context.at(NOON).recent == context.recent
    assert context.at(NOON).time == NOON
    assert len({context, context.at(NOON)}) == 2
    assert context.amid([("tag:red", 1.0)], []).earlier == (*context.earlier, ("tag:red", 1.0))
    assert context.declared == ()


@pytest.mark.parametrize(
    "recent",
    [
        "flight-search", {"flight-search": 300}, 300, ["flight-search"], [("flight-search",)],
        [("flight-search", "300")], [("flight-search", -1)], [("flight-search", float("nan"))],
        [("flight-search", float("inf"))], [("flight-search", True)], [("", 3)], [(3, 3)],
        [("flight-search", 3_200_000_000.0)], [("flight-search", 10**400)],
        [("flight-search", 1)] * 33, None,
    ],
)  # fmt: skip
def test_what_cannot_have_been(recent: Any) -> None:
    with pytest.raises(InvalidContext, match=r"recent|activity"):
        Context(recent=recent)


def test_a_schema_says_how_long() -> None:
    rule = NamespaceRule("search", 24, moment_half_life_s=90)
    schema = default_schema(0)
    schema = type(schema).from_proto(schema.to_proto())
    assert schema == default_schema(0)
    assert schema.moment_half_life("brand") == 0
    assert schema.moment_half_life("search") == 0
    other = type(schema)(1, 0, (rule,), schema.kinds, 24)
    assert type(schema).from_proto(other.to_proto()).moment_half_life("search") == 90
    for wrong in (-1, 604_801):
        with pytest.raises(UsageError, match="604800"):
            NamespaceRule("search", 24, moment_half_life_s=wrong)


# What a device remembers -------------------------------------------------------------------------


class Fake:
    """A fake device whose time a test says."""

    def __init__(self, **customers: Any) -> None:
        self.now = NOON
        agreed = {"consent": ["personalisation"]}
        self.edge = FakeEdge(
            OFFERS, clock=lambda: self.now, customers=customers or {"ann": agreed, "bob": {}}
        )

    def later(self, **more: float) -> None:
        self.now += timedelta(**more)


def test_a_customer_of_a_device() -> None:
    fake = Fake()
    ask = fake.edge.decide
    first = ask(Context(activity="flight-search"), "lobby", customer="ann")
    assert weights(first) == {SEARCH: 1.0}
    fake.later(minutes=5)
    soon = ask(Context(), "lobby", customer="ann")
    assert shown(soon) == "taxi"
    assert weights(soon)[SEARCH] == pytest.approx(2**-0.125)
    fake.later(minutes=55)
    assert weights(ask(Context(), "lobby", customer="ann"))[SEARCH] == pytest.approx(0.25)
    fake.later(hours=2)
    assert shown(ask(Context(), "lobby", customer="ann")) == "lounge"


def test_others_and_nobody_have_another_past() -> None:
    fake = Fake(ann={"consent": ["personalisation"]}, eve={"consent": ["personalisation"]})
    search = Context(activity="flight-search")
    fake.edge.decide(search, "lobby", customer="ann")
    fake.edge.decide(search, "lobby")
    assert shown(fake.edge.decide(Context(), "lobby", customer="eve")) == "lounge"
    assert shown(fake.edge.decide(Context(), "lobby")) == "lounge"


def test_without_consent_nothing_is_remembered() -> None:
    fake = Fake()
    search = Context(activity="flight-search")
    fake.edge.decide(search, "lobby", customer="bob")
    fake.edge.set_consent("bob", Purpose.PERSONALISATION, True)
    assert shown(fake.edge.decide(Context(), "lobby", customer="bob")) == "lounge"
    fake.edge.decide(search, "lobby", customer="bob")
    assert shown(fake.edge.decide(Context(), "lobby", customer="bob")) == "taxi"
    fake.edge.set_consent("bob", Purpose.PERSONALISATION, False)
    fake.edge.decide(Context(), "lobby", customer="bob")
    fake.edge.set_consent("bob", Purpose.PERSONALISATION, True)
    assert shown(fake.edge.decide(Context(), "lobby", customer="bob")) == "lounge"


def test_a_visit_remembers_for_itself() -> None:
    fake = Fake()
    with fake.edge.session() as session:
        session.decide(Context(activity="flight-search"), "lobby")
        session.decide(Context(activity="checkout"), "lobby")
        fake.later(minutes=30)
        found = session.decide(Context(), "lobby", slots=2)
        assert [slot.offer.id for slot in found.slots if slot.offer] == ["taxi", "lounge"]
        assert weights(session.decide(Context(activity="checkout"), "lobby")) == {
            SEARCH: 0.25,
            CHECKOUT: 1.0,
        }
        session.wipe()
        assert shown(session.decide(Context(), "lobby")) == "lounge"
        session.decide(Context(activity="flight-search"), "lobby")
    assert shown(fake.edge.decide(Context(), "lobby")) == "lounge"


def test_a_stranger_who_turns_out_to_be_a_customer(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        for who, counts in ((0, True), (0, True), (1, False)):
            with edge.session() as session:
                if counts:
                    session.decide(Context(activity="flight-search"), "lobby")
                session.identify(customer(who))
                noticed = session.decide(Context(), "lobby").explain()
                names = {c.marker for c in noticed.carriers if c.source == "context"}
                assert (SEARCH in names) is counts
        again = edge.decide(Context(), "lobby", customer=customer(0)).explain()
        assert SEARCH in {c.marker for c in again.carriers}


def test_time_that_goes_back_has_no_past() -> None:
    fake = Fake()
    fake.edge.decide(after(10, "flight-search"), "lobby", customer="ann")
    assert shown(fake.edge.decide(after(0), "lobby", customer="ann")) == "lounge"
    assert shown(fake.edge.decide(after(15), "lobby", customer="ann")) == "taxi"


def test_what_it_remembers_is_bounded_and_is_no_place() -> None:
    trail, known, schema = Trail(), RecentMoments(), RELEASE.schema

    def amid(at_ms: int, *names: str) -> tuple[tuple[str, float], ...]:
        return trail.amid(at_ms, names, known.lasting(names, schema))

    assert amid(0, "place:hotel", "channel:kiosk", "weather:sunny", SEARCH) == ()
    assert trail.doings == ((SEARCH, 0),)
    assert amid(1_000, SEARCH) == ()
    assert trail.doings == ((SEARCH, 1_000),)
    assert amid(1_500) == ((SEARCH, 0.5),)
    for number in range(100):
        amid(number, f"activity:a{number}")
    assert [name for name, _ in trail.doings] == [f"activity:a{n}" for n in range(99, 83, -1)]
    amid(200, "activity:a90")
    assert len(trail.doings) == 16
    assert amid(300)[0] == ("activity:a90", 0.1)
    known.join(b"a" * 16, trail)
    known.join(b"a" * 16, Trail(((SEARCH, 250), ("activity:a90", 10))))
    joined = known._trails.get(b"a" * 16)
    assert joined is not None
    assert joined.doings[:3] == ((SEARCH, 250), ("activity:a90", 200), ("activity:a99", 99))
    known.forget(b"a" * 16)
    assert known._trails.get(b"a" * 16) is None
