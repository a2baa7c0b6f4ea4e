"""What starves at the gate under an explorer's floor, on decisions that the engine made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import pytest

from edge_sdk.engine.fake_release import SharedDna, release_from_documents
from edge_sdk.engine.policy import Explorer, Floats, Greedy, Indices, SquareCB
from genome_server.gate.floors import NEVER, least_shares
from genome_server.gate.parts import Rows
from genome_server.gate.rules import Check, State
from genome_server.gate.starving import starvation
from genome_server.gate.weigh import offered, offered_in
from genome_server.offpolicy.target import Asked, Decisions, Said
from genome_server.releases.exploring import FLOOR
from tests.unit.test_offpolicy_target import again, decided

MANY = 1_500
MOST = [10, 30, 60]
#: What is worked out for a model of a hundred million examples: the first offer and the floor.
SHARP = 1e6


class First(SharedDna):
    """A model that thinks most of the first offer, and nothing of the others."""

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        """float32[k]."""
        found = np.zeros(len(vectors), np.float32)
        found[0] = 1
        return found


@cache
def decisions(offers: int, slots: int = 1) -> Decisions:
    """Decisions under a model that shows each of the offers as often as the others."""
    documents = [{"id": f"o{n}", "dna": [f"x:{n}"], "value": 1} for n in range(offers)]
    screens = [{"id": "screen", "slots": slots, "explorer": "squarecb", "gamma": 0, "floor": FLOOR}]
    release = release_from_documents(documents, screens)
    made = [decided(release, n, slots=slots) for n in range(MANY)]
    kept, why = again(release, *made)
    assert not why
    return Decisions(kept, release.vocabulary)


def starving(
    log: Decisions,
    explores: Explorer,
    parts: Mapping[str, Rows] | None = None,
    change: Callable[[Said], None] = lambda _: None,
) -> Check:
    """What the gate says of the model `First` under an explorer."""
    parts = dict(parts or {})
    rows: Sequence[Rows] = list(parts.values())
    in_force = log.ask(Asked([SharedDna(log.vocabulary)], {}), parts=rows)
    explorers = {"screen": explores}
    said = log.ask(Asked([First(log.vocabulary)], explorers), parts=rows)
    change(said)
    least = least_shares(log, explorers, rows)
    return starvation(
        offered(log, said, in_force, least[0]),
        len(log),
        offered_in(log, said, in_force, parts, least[1:]),
        (),
    )


@pytest.mark.parametrize("offers", MOST)
def test_a_model_that_prefers_others_starves_none_at_the_default_floor(offers: int) -> None:
    log = decisions(offers)
    half = {"early": np.arange(len(log)) < MANY // 2}
    explores = SquareCB(SHARP, FLOOR)
    said = log.ask(Asked([First(log.vocabulary)], {"screen": explores}))
    rarest = float((said.share / said.left).min())
    assert rarest == pytest.approx(FLOOR / offers, rel=1e-4), "it has come down to the floor"
    assert rarest < NEVER
    check = starving(log, explores, half)
    assert check.state is State.FINE, check.reason


@pytest.mark.parametrize("offers", MOST)
@pytest.mark.parametrize("explores", [Greedy(), SquareCB(SHARP, 0), SquareCB(SHARP, FLOOR / 2)])
def test_without_that_floor_what_is_not_best_is_starved(offers: int, explores: Explorer) -> None:
    check = starving(decisions(offers), explores)
    assert check.state is State.STOP
    assert f"{offers - 1} of {offers} offers would practically never be shown" in check.reason
    assert "a floor of 0.01 or more (explorer squarecb)" in check.reason


@pytest.mark.parametrize("offers", MOST)
@pytest.mark.parametrize("segment", [False, True])
def test_an_offer_that_is_shown_to_nobody_is_starved_under_any_floor(
    offers: int, segment: bool
) -> None:
    log = decisions(offers)
    half = {"early": np.arange(len(log)) < MANY // 2}

    def leave_out(said: Said) -> None:
        if segment:
            said.share_in[0, offers // 2 :] = 0
        else:
            said.share[3] = 0

    check = starving(log, SquareCB(SHARP, 0.05), half, leave_out)
    if segment:
        assert check.state is State.CANNOT_TELL
        assert "segment 'early'" in check.reason
    else:
        assert check.state is State.STOP
        assert "'o3'" in check.reason


def test_how_rarely_is_too_rarely_goes_by_the_candidates_and_the_slots() -> None:
    assert least_shares(decisions(10), {}) == pytest.approx(FLOOR / 10 / 2)
    assert least_shares(decisions(10), {"screen": SquareCB(5, 0.5)}) == pytest.approx(NEVER)
    # Of 20 offers the second slot has 19, of which the one that was shown is none.
    log = decisions(20, 2)
    first = float(np.mean(log.shown[:, 0] == 4))
    expected = (FLOOR / 20 + (1 - first) * FLOOR / 19) / 2
    assert least_shares(log, {})[0, 4] == pytest.approx(expected)


def test_where_only_some_of_the_decisions_have_a_floor_the_others_count_as_without() -> None:
    log = decisions(30)
    early = np.arange(len(log)) < MANY // 2
    for at, one in enumerate(log.rebuilt):
        one.past.record.explorer = "squarecb" if early[at] else "greedy"
    try:
        found = least_shares(log, {}, [early, ~early])
    finally:
        for one in log.rebuilt:
            one.past.record.explorer = "squarecb"
    guaranteed = FLOOR / 30 / 2
    assert found[1] == pytest.approx(guaranteed)
    assert found[2] == pytest.approx(NEVER)
    assert found[0] == pytest.approx((guaranteed + NEVER) / 2)
