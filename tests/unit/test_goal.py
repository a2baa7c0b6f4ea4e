"""What a placement counts as a success: conversion, where a click is not what counts."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edge_sdk.dna.schema import ONE_Q24, KindRule
from genome_server.documents import goals_of, placement_spec
from genome_server.errors import Refused
from genome_server.genomes.rows import needed_schema
from genome_server.learning.credit import CreditRules
from genome_server.learning.dataset import load_examples
from genome_server.learning.delays import Delays
from genome_server.learning.job import checked_goals
from genome_server.learning.survey import Sources, survey
from tests.unit._learning import SCHEMA, VOCABULARY, Log, at, decision_id, who
from tests.unit.releasing import built_tenant
from tests.unit.server_shell import Shell

ANN = who(1)
CLICKS = replace(SCHEMA, kinds=(*SCHEMA.kinds, KindRule("click", ONE_Q24, label=1)))
GOAL = {"screen": frozenset({"redeem"}), "feed": frozenset({"redeem"})}


@pytest.fixture
def log() -> Log:
    found = Log()
    found.agreed(ANN)
    return found


def learned(log: Log, **sources: object) -> list[tuple[str, float]]:
    """What is learned, in order of time: (offer, success)."""
    of = Sources(**{**vars(log.sources()), "schema": CLICKS, **sources})
    examples, _ = load_examples(of, survey(of), VOCABULARY, now_ms=at(10_000))
    offers = [examples.offers.ids[offer] for offer in examples.offer]
    return list(zip(offers, map(float, examples.label), strict=True))


def test_a_click_is_a_success_unless_the_goal_is_another(log: Log) -> None:
    for number, kind in ((1, "click"), (2, "redeem"), (3, "dismiss")):
        log.decided(number, 10 * number, "taxi", subject=ANN)
        log.followed(number, 10 * number + 1, kind)
    assert learned(log) == [("taxi", 1), ("taxi", 1), ("taxi", 0)]
    assert learned(log, goals={"feed": GOAL["feed"]}) == learned(log)
    assert learned(log, goals=GOAL) == [("taxi", 0), ("taxi", 1), ("taxi", 0)]


def test_who_clicked_had_seen_it(log: Log) -> None:
    for number, kinds in ((1, ["click"]), (2, []), (3, ["click", "redeem"])):
        log.decided(number, 10 * number, "taxi", subject=ANN, placement="feed")
        for kind in kinds:
            log.followed(number, 10 * number + 1, kind)
    assert learned(log, goals=GOAL) == [("taxi", 0), ("taxi", 1)]  # and of 2 nothing


def test_only_what_is_the_goal_is_credited(log: Log) -> None:
    rules = CreditRules(frozenset({"screen"}))
    log.decided(1, 10, "spa", subject=ANN)
    log.did(ANN, 12, "click", offer="spa")
    assert learned(log, credit=rules) == [("spa", 1)]
    # It stays an answer of its own; the decision has failed.
    assert sorted(learned(log, credit=rules, goals=GOAL)) == [("spa", 0), ("spa", 1)]
    log.did(ANN, 13, "redeem", offer="spa")
    assert sorted(learned(log, credit=rules, goals=GOAL)) == [("spa", 1), ("spa", 1)]


def test_how_long_a_success_takes_is_told_of_the_goal() -> None:
    delays = Delays()
    for number in range(200):
        delays.decided(decision_id(number), "screen", 0, 0)
        delays.heard(decision_id(number), 1, 1_000, 1_000, "click")
        delays.heard(decision_id(number), 1, 50_000, 50_000, "buy")
    quick = delays.looks({"screen": 100_000}, 100_000)["screen"]
    slow = delays.looks({"screen": 100_000}, 100_000, {"screen": {"buy"}})["screen"]
    assert quick.chance(10_000) == pytest.approx(1, abs=0.01)
    assert slow.chance(10_000) == pytest.approx(0, abs=0.01)
    assert delays.looks({"screen": 100_000}, 100_000, {"screen": {"redeem"}}) == {}


def test_a_goal_that_nothing_can_reach_is_refused(tmp_path: Path) -> None:
    tenant = built_tenant(tmp_path)
    with closing(tenant.open_store()) as store:
        schema = needed_schema(store)
        store.put_documents("placement", [("screen", {"id": "screen", "goal": ["buy"]})])
        assert checked_goals(store, schema) == {"screen": frozenset({"buy"})}
        store.put_documents("placement", [("screen", {"id": "screen", "goal": ["buy", "view"]})])
        with pytest.raises(Refused, match=r"'screen': dna\.yaml does not call 'view', its goal"):
            checked_goals(store, schema)


def test_devices_are_told_nothing_of_goals(tmp_path: Path) -> None:
    said = {"id": "screen", "goal": ["buy"]}
    assert placement_spec(said) == placement_spec({"id": "screen"})
    assert goals_of([("a", said), ("b", {"goal": []}), ("c", {})]) == {"a": frozenset({"buy"})}
    shell = Shell(tmp_path)
    file = shell.file("p.csv", "id,goal\nscreen,buy|redeem\n")
    assert shell.json("import", "placements", file)["new"] == 1
    with closing(shell.tenant.open_store()) as store:
        document = store.document("placement", "screen")
    assert document is not None
    assert document["goal"] == ["buy", "redeem"]
