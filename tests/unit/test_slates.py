"""Slates: what fills the slots, how likely, and what is not shown at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.context import Context
from edge_sdk.decision import Reason
from edge_sdk.engine.choosing import Recorded
from edge_sdk.engine.decide import check_replay, decide, replay
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.policy import Drawn, Explorer, Greedy, P, Scores, SquareCB, explorer
from edge_sdk.engine.release import Release
from edge_sdk.engine.slates import Positions, Slate, select
from genome_edge.v1 import release_pb2
from tests.candidates import ids_of
from tests.unit.test_engine import shown
from tests.unit.test_policy import VECTORS, floors, gammas, scored
from tools.make_exploration_vectors import least_score, slots_of, square_cb

ANYWHERE = Context()


def market(offers: list[dict[str, Any]], **placement: Any) -> Release:
    """A release of these offers and of the placement "p"."""
    return release_from_documents(offers, [{"id": "p", **placement}])


def spending(
    campaigns: Sequence[int], rooms: Sequence[int]
) -> Callable[[Sequence[int]], Positions | None]:
    """What `select` asks, out of columns: campaigns (0: none) and rooms (0: any) of candidates."""

    def spent(picked: Sequence[int]) -> Positions | None:
        mine = campaigns[picked[-1]] if campaigns else 0
        number = [campaigns[at] for at in picked].count(mine) if mine else 0
        out = [
            at
            for at, (one, room) in enumerate(zip(campaigns, rooms, strict=True))
            if mine and one == mine and room and room <= number
        ]
        return np.array(out, np.int64) if out else None

    return spent


def column(values: Sequence[int]) -> Any:
    """A column as `select` takes it: None where it makes no difference."""
    return np.array(values, np.int32) if any(values) else None


# -- the draw, against the vectors and against plain arithmetic


def test_the_vectors_of_slots() -> None:
    for case in json.loads(VECTORS.read_text(encoding="utf-8"))["slots"]:
        picks = select(
            scored(case["scores"]),
            np.array(case["priorities"], np.int32),
            np.array(case["groups"], np.int32),
            explorer(case["explorer"], case["gamma"], case["floor"]),
            int(case["seed"]),
            case["slots"],
            categories=column(case["categories"]),
            most=case["most_per_category"],
            spent=spending(case["campaigns"], case["rooms"]),
        )
        assert [{"candidate": p.position, "chance": p.chance} for p in picks] == case["picked"]


CANDIDATES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([0, 0, 1]),
        st.sampled_from([0, 1, 2]),
        st.sampled_from([0, 1, 1, 2]),
        st.sampled_from([0, 1, 1, 2]),
        st.sampled_from([0, 0, 1, 2]),
    ),
    min_size=1,
    max_size=9,
)


@given(
    data=CANDIDATES,
    seed=st.integers(0, 2**64 - 1),
    slots=st.integers(1, 6),
    most=st.integers(0, 3),
    rule=st.none() | st.tuples(gammas, floors),
)
def test_slots_are_drawn_from_what_is_left(
    data: list[tuple[int, int, int, int, int, int]],
    seed: int,
    slots: int,
    most: int,
    rule: tuple[float, float] | None,
) -> None:
    scores, priorities, groups, categories, campaigns, rooms = (
        list(one) for one in zip(*data, strict=True)
    )
    picks = select(
        scored(scores),
        column(priorities),
        column(groups),
        Greedy() if rule is None else SquareCB(*rule),
        seed,
        slots,
        categories=column(categories) if most else None,
        most=most,
        spent=spending(campaigns, rooms),
    )
    wanted = slots_of(
        scores, priorities, groups, seed, slots, rule, categories, most, campaigns, rooms
    )
    assert [(p.position, p.chance) for p in picks] == wanted
    assert len({p.position for p in picks}) == len(picks)
    if most:
        of = Counter(categories[p.position] for p in picks)
        assert all(number <= most for category, number in of.items() if category)
    for slot, pick in enumerate(picks):
        before = [campaigns[p.position] for p in picks[:slot]]
        room = rooms[pick.position] if campaigns[pick.position] else 0
        assert not room or before.count(campaigns[pick.position]) < room


# -- the chances of whole slates


class Led:
    """An explorer that draws what it is told to, with the chances of the real one."""

    def __init__(self, real: Explorer, path: Sequence[int]) -> None:
        self.name, self.gamma, self.floor = real.name, real.gamma, real.floor
        self.real = real
        self.path = list(path)
        self.widths: list[int] = []

    def distribution(self, scores: Scores) -> Any:
        return self.real.distribution(scores)

    def draw(self, scores: Scores, number: int) -> Drawn:
        at = self.path[len(self.widths)] if len(self.widths) < len(self.path) else 0
        self.widths.append(len(scores))
        chance = int(self.real.distribution(scores)[at])
        return Drawn(at, chance, int(scores.argmax()))


def outcomes(
    scores: list[int],
    groups: list[int],
    categories: list[int],
    most: int,
    slots: int,
    rule: SquareCB,
    campaigns: Sequence[int] = (),
    rooms: Sequence[int] = (),
) -> Iterator[tuple[tuple[int, ...], Fraction]]:
    """Every slate that can come out, with the product of the chances that its slots say."""
    paths: list[tuple[int, ...]] = [()]
    while paths:
        path = paths.pop()
        led = Led(rule, path)
        picks = select(
            scored(scores), None, column(groups), led, 0, slots,
            categories=column(categories), most=most, spent=spending(campaigns, rooms),
        )  # fmt: skip
        if len(led.widths) > len(path):  # one slot more could be drawn: try everything in it
            paths += [(*path, at) for at in range(led.widths[len(path)])]
            continue
        chance = Fraction(1)
        for pick in picks:
            chance *= Fraction(pick.chance, P)
        yield tuple(pick.position for pick in picks), chance


SLATES: list[tuple[Any, ...]] = [
    # scores, groups, categories, most of one, slots, campaigns, rooms
    ([30_000, 50_000, 20_000, 45_000, 10_000], [0] * 5, [1, 1, 2, 2, 0], 1, 3),
    ([30_000, 50_000, 20_000, 45_000, 10_000], [0] * 5, [1, 1, 1, 2, 0], 2, 4),
    ([30_000, 50_000, 20_000, 45_000, 10_000], [1, 1, 0, 2, 2], [1, 2, 1, 1, 2], 1, 3),
    ([7, 7, 7, 7], [0] * 4, [1, 1, 1, 1], 1, 4),
    ([1, 2, 3, 4, 5, 6], [0, 1, 1, 2, 2, 0], [1, 1, 2, 2, 3, 3], 1, 6),
    ([30_000, 50_000, 20_000, 45_000], [0] * 4, [0] * 4, 0, 3, [1, 1, 1, 2], [1, 1, 0, 1]),
    ([30_000, 50_000, 20_000, 45_000], [0] * 4, [0] * 4, 0, 4, [1, 1, 1, 1], [1, 2, 0, 3]),
    ([9, 8, 7, 6, 5], [1, 1, 0, 0, 0], [1, 2, 1, 1, 2], 1, 4, [1, 2, 1, 2, 2], [1, 2, 1, 1, 0]),
]


@pytest.mark.parametrize(
    ("scores", "groups", "categories", "most", "slots", "campaigns", "rooms"),
    [(*one, (), ())[:7] for one in SLATES],
)
def test_the_chances_of_all_slates_add_up_to_one_and_come_true(
    scores: list[int],
    groups: list[int],
    categories: list[int],
    most: int,
    slots: int,
    campaigns: Sequence[int],
    rooms: Sequence[int],
) -> None:
    rule = SquareCB(30.0, 0.1)
    chances = dict(outcomes(scores, groups, categories, most, slots, rule, campaigns, rooms))
    assert sum(chances.values()) == 1, "exactly"
    for slate in chances:
        of = Counter(categories[at] for at in slate if categories[at])
        assert not most or all(number <= most for number in of.values())
        assert len({groups[at] for at in slate if groups[at]}) == sum(
            groups[at] > 0 for at in slate
        )
    # Nothing that may stand beside what was drawn is left while a slot is empty.
    assert {len(slate) for slate in chances} <= set(range(1, slots + 1))
    draws = 3_000
    seen: Counter[tuple[int, ...]] = Counter()
    for seed in range(draws):
        picks = select(
            scored(scores), None, column(groups), rule, seed * 0x9E3779B97F4A7C17 % 2**64, slots,
            categories=column(categories), most=most, spent=spending(campaigns, rooms),
        )  # fmt: skip
        slate = tuple(pick.position for pick in picks)
        said = Fraction(1)
        for pick in picks:
            said *= Fraction(pick.chance, P)
        assert said == chances[slate], "what is logged is what it was"
        seen[slate] += 1
    for slate, chance in chances.items():
        likely = float(chance)
        noise = 5 * (likely * (1 - likely) / draws) ** 0.5 + 2 / draws
        assert abs(seen[slate] / draws - likely) <= noise, slate
    # The first slot's chances are those of the explorer among all.
    first: Counter[int] = Counter()
    for slate, chance in chances.items():
        first[slate[0]] += chance  # type: ignore[assignment]  # a fraction counts, too
    assert [first[at] * P for at in range(len(scores))] == square_cb(scores, 30.0, 0.1)


# -- decisions


def test_of_one_category_no_more_than_the_placement_allows() -> None:
    offers = [
        {"id": name, "value": value, "category": category}
        for name, value, category in zip(
            "abcde", (9, 8, 7, 1, 0.5), ("drink", "drink", "drink", "food", ""), strict=True
        )
    ]
    for most, wanted in ((0, "abcde"), (1, "ade"), (2, "abde")):
        release = market(offers, slots=5, most_per_category=most)
        decision, record = decide(release, ANYWHERE, "p", 5)
        assert [name for name in shown(decision) if name] == list(wanted)
        assert decision.slots[len(wanted) :] == (decision.slots[-1],) * (5 - len(wanted))
        assert check_replay(release, record.to_proto()) == []
        losers = {one.offer: one.reasons for one in decision.explain().losers}
        assert losers == {name: (Reason.CATEGORY,) for name in "abcde" if name not in wanted}


def test_what_is_worth_too_little_is_no_candidate() -> None:
    # Nothing is shared, so every offer's chance is a half.
    offers = [{"id": "a", "value": 2}, {"id": "b", "value": 1}, {"id": "c", "value": 1, "cost": 3}]
    for micros, wanted in (
        (None, ["a", "b", "c"]),
        (-1_000_000, ["a", "b", "c"]),
        (-999_999, ["a", "b"]),
        (500_000, ["a", "b"]),
        (500_001, ["a"]),
        (1_000_000, ["a"]),
        (1_000_001, []),
        (10**12, []),
        (-(10**12), ["a", "b", "c"]),
    ):
        least = None if micros is None else micros / 1_000_000
        release = market(
            offers, slots=3, explorer="squarecb", gamma=5, floor=0.5, least_worth=least
        )
        decision, record = decide(release, ANYWHERE, "p", 3)
        assert ids_of(record) == wanted, micros
        assert sorted(filter(None, shown(decision))) == wanted
        assert (decision.reason is Reason.TOO_LITTLE) == (not wanted)
        proto = record.to_proto()
        assert replay(release, proto) == decision
        assert check_replay(release, proto) == []
        told = {one.offer: one for one in decision.explain().losers}
        assert set(told) == set("abc") - set(wanted)
        assert all(one.reasons == (Reason.TOO_LITTLE,) for one in told.values())


def test_the_house_default_is_shown_where_nothing_is_worth_enough() -> None:
    release = market([{"id": "a"}, {"id": "hello", "placements": ["else"]}], house_offer="hello",
                     least_worth=0.6)  # fmt: skip
    decision, record = decide(release, ANYWHERE, "p")
    assert (decision.reason, decision.slots[0].reason) == (Reason.TOO_LITTLE, Reason.HOUSE)
    assert shown(decision) == ["hello"]
    assert replay(release, record.to_proto()) == decision


def test_caps_priorities_and_worth_together() -> None:
    offers = [
        {"id": "a", "value": 9}, {"id": "b", "value": 8, "priority": 1, "exclusivity_group": "g"},
        {"id": "c", "value": 7, "exclusivity_group": "g"}, {"id": "d", "value": 0.1, "priority": 2},
    ]  # fmt: skip
    release = market(offers, slots=3, least_worth=1)
    decision, record = decide(release, ANYWHERE, "p", 3, blocked=frozenset(["a"]))
    assert shown(decision) == ["b", None, None]
    assert check_replay(release, record.to_proto()) == []
    losers = {one.offer: one.reasons for one in decision.explain().losers}
    assert losers == {
        "a": (Reason.CAPPED,),
        "c": (Reason.EXCLUSIVE,),
        "d": (Reason.TOO_LITTLE,),
    }


# -- what is recorded of the candidates


def test_recorded_candidates_are_used_only_where_they_can_be_the_candidates() -> None:
    rows = np.array([1, 4, 7], np.int32)
    slate = Slate(np.int64(0), 0, 0, b"")

    def among(recorded: list[int], scores: int, asked: Slate | None) -> list[int] | None:
        some = Recorded(np.array(recorded, np.int32), np.zeros(scores, np.int32), False)
        found = some.among(rows, asked)
        return None if found is None else found.tolist()

    assert among([1, 4, 7], 3, None) == [0, 1, 2]
    assert among([1, 7], 2, None) is None
    assert among([1, 7], 2, slate) == [0, 2]
    assert among([], 0, slate) == []
    assert among([1, 7], 3, slate) is None
    assert among([1, 8], 2, slate) is None
    assert among([1, 5], 2, slate) is None
    assert among([0, 1, 4, 7], 4, slate) is None


def test_the_least_score_is_what_the_worth_comes_to() -> None:
    for micros in range(-50, 50):
        slate = Slate.of(release_pb2.PlacementSpec(id="p", least_worth_micros=micros))
        assert slate is not None
        assert slate.least == least_score(micros)
        # The least score is worth enough, and one less is not.
        assert slate.least * 1_000_000 >= micros * 65_536 > (slate.least - 1) * 1_000_000
