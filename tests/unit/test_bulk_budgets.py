"""Budgets of a list: never exceeded, and spent by nothing that is not shown."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.context import Context
from edge_sdk.decision import Reason
from edge_sdk.engine.cap_views import NONE_BLOCKED
from edge_sdk.engine.decide import decide
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.release import Release
from genome_server.bulk.budgets import Budget, Budgets
from genome_server.errors import UsageError

CAMPAIGNS = ("spring", "summer", "")


def a_release(offers: int = 6) -> Release:
    named = [{"id": f"o{n}", "campaign": CAMPAIGNS[n % 3]} for n in range(offers)]
    return release_from_documents(named, [{"id": "default", "slots": 6}])


def shown(release: Release, budgets: Budgets, slots: int, seed: int) -> list[str]:
    """One decision as a list makes it."""
    blocked = budgets.keeping_away(NONE_BLOCKED)
    decision, _ = decide(
        release,
        Context(),
        "default",
        slots,
        blocked=blocked.offers,
        why_blocked=blocked.why,
        rooms=budgets.leaving(blocked.rooms, slots),
        seed=seed,
    )
    said = [(slot.offer.id if slot.offer else "", slot.reason) for slot in decision.slots]
    budgets.spend(said)
    return [offer for offer, _ in said if offer]


@settings(deadline=None, max_examples=60)
@given(
    limits=st.dictionaries(
        st.sampled_from(["offer:o0", "offer:o1", "offer:o5", "campaign:spring", "campaign:summer"]),
        st.integers(0, 7),
        max_size=4,
    ),
    asked=st.lists(st.integers(1, 6), max_size=12),
)
def test_no_budget_is_exceeded_and_nothing_is_left_unused(
    limits: dict[str, int], asked: list[int]
) -> None:
    release = a_release()
    budgets = Budgets([Budget.read(f"{name}={n}", release) for name, n in limits.items()], release)
    used: Counter[str] = Counter()
    for seed, slots in enumerate(asked):
        before = dict(budgets.left)
        offers = shown(release, budgets, slots, seed)
        assert len(set(offers)) == len(offers)
        for offer in offers:
            used[f"offer:{offer}"] += 1
            used[f"campaign:{CAMPAIGNS[int(offer[1:]) % 3]}"] += 1
        # A slot stays empty only where every offer that is not shown has no budget left.
        if len(offers) < slots:
            for other in {f"o{n}" for n in range(6)} - set(offers):
                mine = (f"offer:{other}", f"campaign:{CAMPAIGNS[int(other[1:]) % 3]}")
                assert any(budgets.left.get(name, 1) == 0 for name in mine), (other, before)
    for name, limit in limits.items():
        assert used[name] <= limit
        assert budgets.left[name] == limit - used[name]


def test_what_is_spent_is_kept_away_for_that_reason() -> None:
    release = a_release()
    budgets = Budgets([Budget.read("o0=1", release)], release)
    assert budgets.keeping_away(NONE_BLOCKED) is NONE_BLOCKED
    budgets.spend([("o0", Reason.HOUSE), ("o0", Reason.HELD_OUT), ("", Reason.NO_MORE)])
    assert budgets.left == {"offer:o0": 1}
    budgets.spend([("o0", Reason.CHOSEN)])
    blocked = budgets.keeping_away(NONE_BLOCKED)
    assert blocked.offers == {"o0"}
    decision, record = decide(
        release, Context(), "default", blocked=blocked.offers, why_blocked=blocked.why
    )
    assert record.to_proto().capped_reasons == ["BUDGET"]
    (lost,) = (one for one in decision.explain().losers if one.offer == "o0")
    assert lost.reasons == (Reason.BUDGET,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("o0", "is no budget"),
        ("o0=-1", "is no budget"),
        ("=3", "no offer or campaign ''"),
        ("sprung=3", "did you mean 'spring'?"),
        ("campaign:o0=3", "no campaign 'o0'"),
        ("both=3", "say offer:both=3 or campaign:both=3"),
    ],
)
def test_a_budget_names_one_thing(text: str, says: str) -> None:
    release = release_from_documents(
        [{"id": "o0", "campaign": "spring"}, {"id": "both", "campaign": "both"}]
    )
    with pytest.raises(UsageError) as refused:
        Budget.read(text, release)
    assert says in str(refused.value)
    assert Budget.read("offer:both=3", release) == Budget("offer", "both", 3)
    assert Budget.read("spring = 3", release) == Budget("campaign", "spring", 3)


def test_what_is_left_of_a_campaign_is_room_for_a_slate() -> None:
    release = a_release()
    budgets = Budgets([Budget.read("spring=2", release), Budget.read("o1=1", release)], release)
    mine = frozenset({"o0", "o3"})
    capped = {"spring": ((1, frozenset({"o3"})),), "summer": ((1, frozenset({"o1"})),)}
    assert budgets.leaving(capped, 2) is capped, "there is enough for two slots"
    assert budgets.leaving(capped, 3) == {
        "spring": ((1, frozenset({"o3"})), (2, mine)),
        "summer": capped["summer"],
    }
    budgets.spend([("o0", Reason.CHOSEN), ("o1", Reason.CHOSEN), ("o3", Reason.EXPLORED)])
    assert budgets.leaving(NONE_BLOCKED.rooms, 3) is NONE_BLOCKED.rooms
    blocked = budgets.keeping_away(NONE_BLOCKED._replace(rooms=capped))
    assert blocked.offers == {"o0", "o1", "o3"}
    assert blocked.rooms == capped
