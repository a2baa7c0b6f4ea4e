"""What a canary's decisions earn: worths of releases, at a loss, of several slots."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.schema import HOUR_MS
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.canary.rules import FIRST_LOOK_MS
from genome_server.canary.watch import tick
from genome_server.releases.publish import manifest_of, publish
from tests.unit.server_shell import Shell
from tests.unit.test_canary import BOUNDS, DEVICES, NOW, Town


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_one_that_succeeds_as_often_and_earns_half_goes_back(tmp_path: Path) -> None:
    town, shell = Town(tmp_path / "home", taxi=2, spa=4), Shell(tmp_path, made=False)
    town.decide(20, 0.25, 0.25, NOW - HOUR_MS, offers=("spa", "spa"))
    town.decide(20, 0.25, 0.25, NOW + 60_000, offers=("taxi", "spa"))
    [done] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert done.state == "rolled back"
    assert done.looks[-1].why == (
        "it is worse: a decision of it earns 0.5, of others 1 (-0.5 to -0.5); "
        "25.00% of its decisions succeed, 25.00% of others (+0.00% to +0.00%)"
    )
    said = shell.json("releases", "canary")["looks"][-1]["figures"]
    assert said["judged_by"] == "value"
    assert [said[side]["value_by_decision"] for side in ("canary", "others")] == [0.5, 1.0]


def test_one_that_succeeds_less_often_and_earns_more_does_not(tmp_path: Path) -> None:
    town, shell = Town(tmp_path / "home", taxi=2, spa=20), Shell(tmp_path, made=False)
    town.decide(40, 0.1, 0.5, NOW + 60_000, offers=("spa", "taxi"))
    [done] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert (done.state, done.looks[-1].why) == (
        "watched", "it does well, and 1 hours are not over"
    )  # fmt: skip
    shown = shell.call("releases", "canary", 2).output
    assert "Judged by what a decision earns." in shown
    assert "2.0000" in shown
    assert [one.state for one in tick(town.tenant, NOW + 4 * FIRST_LOOK_MS)] == ["promoted"]


def test_an_offer_is_worth_what_the_release_of_the_decision_says(tmp_path: Path) -> None:
    town = Town(tmp_path, taxi=4)
    town.say(taxi=2)  # of the same offer half remains
    now = NOW + 1_000
    town.second = publish(town.tenant, share=0.4, watch=BOUNDS, now_ms=now).release
    town.decide(20, 0.5, 0.5, NOW + 60_000)
    *_, done = tick(town.tenant, now + FIRST_LOOK_MS)
    assert (done.version, done.state) == (3, "rolled back")
    assert "a decision of it earns 1, of others 2" in done.looks[-1].why
    assert "releases differ in what 1 of the offers are worth" in done.looks[-1].why
    assert done.looks[-1].figures["repriced"] == 1


def test_what_succeeds_at_a_loss_is_no_gain(tmp_path: Path) -> None:
    town = Town(tmp_path, taxi=-2)
    town.decide(20, 0.5, 0.25, NOW + 60_000)
    [done] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert done.state == "rolled back"
    assert "a decision of it earns -1, of others -0.5" in done.looks[-1].why


def test_what_a_release_does_not_have_is_left_out_and_said(tmp_path: Path) -> None:
    town, shell = Town(tmp_path / "home"), Shell(tmp_path, made=False)
    town.decide(20, 0.05, 0.9, NOW + 60_000, offers=("nowhere", "nowhere"))
    [said] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    many = 20 * len(DEVICES)
    assert said.looks[-1].why == (
        "0 devices have decided from it and 0 others did: 5 of each are needed; "
        f"{many:,} decisions name offers that their releases do not have"
    )
    assert f"{many:,} decisions name offers" in shell.call("releases", "canary").output
    town.decide(20, 0.05, 0.5, NOW + 70_000)  # the others count all the same
    assert [one.state for one in tick(town.tenant, NOW + 2 * FIRST_LOOK_MS)] == ["rolled back"]


def test_where_the_offers_of_a_release_are_gone_it_is_said(town: Town) -> None:
    town.decide(20, 0.05, 0.5, NOW + 60_000)
    parts = manifest_of(town.second).parts
    [digest] = [part.sha256.hex() for part in parts if part.name == "offers"]
    (town.tenant.parts_dir / digest).unlink()
    [said] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert "decisions name offers that their releases do not have" in said.looks[-1].why


def test_a_decision_earns_what_all_its_slots_earn(tmp_path: Path) -> None:
    town = Town(tmp_path, taxi=2, spa=4)
    slots = [event_pb2.SlotRecord(offer=name, reason="CHOSEN") for name in ("taxi", "spa")]
    for number, device in enumerate(DEVICES):
        made = number.to_bytes(16)
        version = 2 if town.second.covers(device) else 1
        record = event_pb2.DecisionRecord(decision_id=made, release_version=version, slots=slots)
        events = [(device, NOBODY, FrameKind.DECISION, NOW + 1, event_pb2.Event(decision=record))]
        for slot in (0, 1, 1, 2):  # said twice, and of a slot that is not there
            said = event_pb2.Event(
                outcome=event_pb2.Outcome(decision_id=made, slot=slot, kind="buy")
            )
            events.append(("till", NOBODY, FrameKind.OUTCOME, NOW + 2, said))
        town.log(*events)
    [done] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    for side in ("canary", "others"):
        found = done.looks[-1].figures[side]
        assert (found["successes"], found["value_by_decision"]) == (found["devices"], 6.0)
