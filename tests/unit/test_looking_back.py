"""Decisions of the past explained by their ids."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from edge_sdk import EdgeClient, EdgeError, UnknownDecision
from tests.unit.device_client import FAST, MOMENT, store_of
from tests.unit.device_town import Town, customer, filled, until


def follows(edge: EdgeClient, version: int) -> bool:
    return edge.status.release == version


def test_a_decision_is_explained_by_its_id_at_once_and_in_another_process(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as one:
        one.wait_ready(10)
        decision = one.decide(MOMENT, "feed", 3, customer=customer(1))
        told = one.explain(decision)
        assert one.explain(decision.id) == told
    with EdgeClient(tmp_path / "store", config=FAST) as two:
        two.wait_ready(10)
        assert two.explain(decision.id) == told
        assert two.explain(decision.id.upper(), offers=["taxi"]).decision == decision


def test_only_the_offers_that_are_asked_about(edge: EdgeClient) -> None:
    decision = edge.decide(MOMENT, "lobby", customer=customer(1))
    losers = [one.offer for one in edge.explain(decision).losers]
    assert len(losers) == 2
    for asked in (decision, decision.id):
        some = edge.explain(asked, offers=[losers[1], "ghost"])
        assert [one.offer for one in some.losers] == [losers[1]]
        assert some.carriers == edge.explain(decision).carriers


def test_what_cannot_be_explained_any_more_is_said(edge: EdgeClient) -> None:
    for wrong in ("", "00" * 16, "g" * 32):
        with pytest.raises(UnknownDecision):
            edge.explain(wrong)
    decision = edge.decide(MOMENT, "lobby")
    told = edge.explain(decision.id)
    for version in (2, 3):
        Town(version=version).commit(store_of(edge))
        until(partial(follows, edge, version))
        if version == 2:  # the one before is kept
            assert edge.explain(decision.id) == told
    with pytest.raises(EdgeError, match="release 1 is not on this device any more"):
        edge.explain(decision.id)
    assert edge.explain(decision) == told, "who holds the decision holds its release"
