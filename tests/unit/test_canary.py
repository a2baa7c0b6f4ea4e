"""Canaries of a real tenant: what the log says of them, and what becomes of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from contextlib import closing
from pathlib import Path

import pytest

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.schema import HOUR_MS
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.canary.kept import Canary, canaries
from genome_server.canary.rules import FIRST_LOOK_MS, Bounds
from genome_server.canary.watch import tick
from genome_server.home import Home, Tenant
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.towers import random_towers
from genome_server.log import Committer
from genome_server.models.shelf import current_model, keep_model, promote_model, promotions
from genome_server.releases.manage import promote, rollback
from genome_server.releases.publish import publish
from genome_server.services import live
from genome_server.store.protocol import CustomerRow, DeviceRow, ReleaseRow
from tests.serving import AGREED, offer, serving, until
from tests.unit.releasing import built_tenant
from tests.unit.server_shell import Shell

DEVICES = [f"screen-{n}" for n in range(24)]
# Events of the log are never from after they were received.
NOW = time.time_ns() // 1_000_000 - 12 * HOUR_MS
BOUNDS = Bounds(least_hours=1)
_numbers = itertools.count(1)


class Town:
    """A tenant with screens, a release that all have, and a canary for some of them."""

    def __init__(self, root: Path, *, models: bool = True, **worth: float) -> None:
        """`worth` is what offers say that a success is worth."""
        self.tenant: Tenant = built_tenant(root)
        self.say(**worth)
        with closing(self.tenant.open_store()) as store:
            for name in DEVICES:
                store.put_device(DeviceRow(name, name, "all", bytes(32), seen_ms=NOW + 1))
        if models:
            self.take_model(1)
        self.first = publish(self.tenant, untrained=not models, now_ms=NOW - HOUR_MS).release
        self.take_model(2)
        self.second = publish(self.tenant, share=0.4, watch=BOUNDS, now_ms=NOW).release

    def say(self, **worth: float) -> None:
        """Say in the offers' documents what a success is worth."""
        with closing(self.tenant.open_store()) as store:
            said = [
                offer(name, f"service:{name}", value=max(amount, 0), cost=max(-amount, 0))
                for name, amount in worth.items()
            ]
            store.put_documents("offer", said)

    def take_model(self, seed: int) -> None:
        with closing(self.tenant.open_store()) as store:
            vocabulary = store.vocabulary()
            facts = ModelFacts(vocabulary.lineage, vocabulary_size=len(vocabulary))
            content = tower_model(random_towers(seed, len(vocabulary)), facts)
            name = keep_model(self.tenant.models_dir, content, {})
            promote_model(self.tenant.models_dir, store, name, reason=f"seed {seed}")

    def canary(self) -> Canary:
        with closing(self.tenant.open_store()) as store:
            return canaries(store)[-1]

    def row(self, version: int) -> ReleaseRow:
        with closing(self.tenant.open_store()) as store:
            found = store.release(version)
        assert found is not None
        return found

    def log(self, *events: tuple[str, bytes, FrameKind, int, event_pb2.Event]) -> None:
        of: dict[str, list[bytes]] = {}
        for device, subject, kind, ms, event in events:
            event.time.wall_ms = ms
            event.time.offset_known = True
            lane = of.setdefault(device, [])
            body = event.SerializeToString()
            lane.append(encode_frame(Frame(len(lane) + 1, subject, kind, ms, body)))
        epoch = next(_numbers).to_bytes(16)
        with Committer(self.tenant.log_path) as log:
            for device, some in of.items():
                frames = b"".join(some)
                digest = hashlib.sha256(frames).digest()
                log.append_batch(device, epoch, 0, 1, len(some), frames, digest)

    def decide(
        self, many: int, canary: float, others: float, ms: int, *,
        reason: str = "CHOSEN", subject: bytes = NOBODY, held_out: bool = False,
        offers: tuple[str, str] = ("taxi", "taxi"), gone_ppm: int = 0,
    ) -> None:  # fmt: skip
        """Each screen decides so many times from its release; so many of them succeed. `offers` are
        what the canary and the others show. With `gone_ppm` the canary's screens say that they have
        given up impressions with this probability."""
        events = []
        for device in DEVICES:
            mine = self.second.covers(device) and ms >= NOW
            rate = canary if mine else others
            for number in range(many):
                decision = next(_numbers).to_bytes(16)
                record = event_pb2.DecisionRecord(
                    decision_id=decision,
                    placement="screen",
                    release_version=self.second.version if mine else self.first.version,
                    slots=[
                        event_pb2.SlotRecord(
                            offer=offers[not mine], reason=reason if mine else "CHOSEN"
                        )
                    ],
                    held_out=held_out,
                )
                at = ms + number
                event = event_pb2.Event(decision=record)
                events.append((device, subject, FrameKind.DECISION, at, event))
                if number < round(rate * many):
                    said = event_pb2.Outcome(decision_id=decision, kind="buy")
                    after = event_pb2.Event(outcome=said)
                    events.append(("till", subject, FrameKind.OUTCOME, at + 1_000, after))
            if gone_ppm and mine:
                gone = event_pb2.Evicted(
                    first_sequence=1, last_sequence=many + 1, events=1, probability_ppm=gone_ppm
                )
                event = event_pb2.Event(evicted=gone)
                events.append((device, NOBODY, FrameKind.EVICTED, ms + many, event))
        self.log(*events)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    made = Town(tmp_path)
    share = sum(made.second.covers(one) for one in DEVICES)
    assert 5 <= share <= 19  # by their names; both sides have enough
    return made


def test_one_that_does_as_well_is_promoted(town: Town) -> None:
    town.decide(20, 0.25, 0.25, NOW + 60_000)
    assert tick(town.tenant, NOW + FIRST_LOOK_MS - 1) == []
    early = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert [(one.state, one.looks[-1].why) for one in early] == [
        ("watched", "it does well, and 1 hours are not over")
    ]
    assert tick(town.tenant, NOW + FIRST_LOOK_MS + 1) == []  # a look is taken once
    done = tick(town.tenant, NOW + 4 * FIRST_LOOK_MS)
    assert [one.state for one in done] == ["promoted"]
    assert town.row(town.second.version).share == 1
    assert tick(town.tenant, NOW + 100 * FIRST_LOOK_MS) == []


def test_the_first_look_comes_when_it_was_asked_for(tmp_path: Path) -> None:
    town, shell = Town(tmp_path / "home"), Shell(tmp_path, made=False)
    with closing(town.tenant.open_store()) as store:
        store.put_documents("offer", [offer("bus", "service:bus")])
    shell.call("publish", "--share", "40%", "--watch", "--first-look", "1.5")
    since = town.canary().since_ms
    assert [one.version for one in tick(town.tenant, since + 89_999)] == [2]  # which has ended
    assert [one.looks[-1].number for one in tick(town.tenant, since + 90_000)] == [1]
    assert [one.looks[-1].number for one in tick(town.tenant, since + 180_000)] == [2]


def test_one_that_falls_goes_back_with_its_model(town: Town) -> None:
    town.decide(20, 0.05, 0.5, NOW + 60_000)
    done = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert [one.state for one in done] == ["rolled back"]
    assert "it is worse: 5.00% of its decisions succeed, 50.00% of others" in done[0].looks[-1].why
    assert town.row(town.second.version).withdrawn
    with closing(town.tenant.open_store()) as store:
        back = store.release(channel="stable")
        assert back is not None
        assert (back.version, back.share) == (3, 1.0)
        now, before = promotions(store).history[-1], promotions(store).history[0]
        assert now.model == before.model
        assert now.kind == "rolled back"
        assert "release 2 was rolled back: it is worse" in now.reason
        assert current_model(town.tenant.models_dir, store) is not None
    assert publish(town.tenant, now_ms=NOW + 2 * FIRST_LOOK_MS).unchanged


def test_what_was_trained_meanwhile_is_not_taken_either(town: Town) -> None:
    with closing(town.tenant.open_store()) as store:
        good = promotions(store).standing[0]
    town.take_model(3)  # never released
    with closing(town.tenant.open_store()) as store:
        store.put_documents("offer", [offer("bus", "service:bus")])
    now = NOW + 1_000
    town.second = publish(town.tenant, share=0.4, watch=BOUNDS, now_ms=now).release
    town.decide(20, 0.05, 0.5, NOW + 60_000)
    assert [one.state for one in tick(town.tenant, now + FIRST_LOOK_MS)] == [
        "ended",
        "rolled back",
    ]
    with closing(town.tenant.open_store()) as store:
        assert promotions(store).current == good


def test_where_no_model_stood_before_it_is_said(tmp_path: Path) -> None:
    made = Town(tmp_path, models=False)
    made.decide(20, 0.05, 0.5, NOW + 60_000)
    [done] = tick(made.tenant, NOW + FIRST_LOOK_MS)
    assert done.state == "rolled back"
    assert "the next release would take model" in done.looks[-1].why


def test_what_cannot_be_done_is_said_once_and_tried_again(town: Town) -> None:
    kept = town.tenant.release_key_path.read_bytes()
    town.tenant.release_key_path.unlink()
    with closing(town.tenant.open_store()) as store:
        facts = {"release": town.first.version, "last_nack": "MODEL: it is cut"}
        mine = [name for name in DEVICES if town.second.covers(name)]
        store.touch_devices(dict.fromkeys(mine, (NOW + 1_000, facts)))
    [said] = tick(town.tenant, NOW + 2_000)
    assert "roll back, which failed:" in said.looks[-1].why
    assert tick(town.tenant, NOW + 3_000) == []
    town.tenant.release_key_path.write_bytes(kept)
    assert [one.state for one in tick(town.tenant, NOW + 4_000)] == ["rolled back"]


def test_a_served_canary_that_is_refused_goes_back(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CANARIES_S", 0.05)
    with closing(town.tenant.open_store()) as store:
        facts = {"release": town.first.version, "last_nack": "MODEL: it is cut"}
        mine = [name for name in DEVICES if town.second.covers(name)]
        store.touch_devices(dict.fromkeys(mine, (NOW + 1_000, facts)))
    with serving(Home(tmp_path)):
        until(lambda: town.canary().state == "rolled back", "it goes back by itself")


def test_publishing_what_is_out_already_watches_nothing(town: Town) -> None:
    again = publish(town.tenant, share=0.4, watch=BOUNDS, now_ms=NOW + 1)
    assert again.unchanged
    assert f"release {again.release.version} is not watched anew" in again.notes[-1]


def test_what_is_broken_goes_back(town: Town) -> None:
    town.decide(20, 0.25, 0.25, NOW + 60_000, reason="UNSCORED")
    [done] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert (done.state, done.looks[-1].why) == (
        "rolled back",
        "the model fails in 100.0% of its decisions, in 0.0% of others",
    )


def test_what_devices_refuse_goes_back_before_any_look(town: Town) -> None:
    with closing(town.tenant.open_store()) as store:
        mine = [name for name in DEVICES if town.second.covers(name)]
        facts = {"release": town.first.version, "last_nack": "MODEL: it is cut"}
        store.touch_devices(dict.fromkeys(mine[:1], (NOW + 1000, facts)))
        assert tick(town.tenant, NOW + 2_000) == []
        store.touch_devices(dict.fromkeys(DEVICES, (NOW + 1000, facts)))
        assert tick(town.tenant, NOW + 3_000) == []  # of something that all were sent
        others = set(DEVICES).difference(mine)
        store.touch_devices(dict.fromkeys(others, (NOW + 2000, {"last_nack": ""})))
    [done] = tick(town.tenant, NOW + 5_000)
    assert (done.state, done.looks[-1].number) == ("rolled back", 0)
    assert f"{len(mine)} of {len(mine)} devices refuse it" in done.looks[-1].why


def test_what_does_not_count(town: Town) -> None:
    with closing(town.tenant.open_store()) as store:
        subject = store.subjects_of("app", ["ann"])["ann"]
        store.put_customers([CustomerRow(subject, (), AGREED)])  # to nothing but personalising
    town.decide(20, 0.05, 0.9, NOW + 60_000, subject=subject)
    town.decide(20, 0.05, 0.9, NOW + 70_000, held_out=True)
    town.decide(20, 0.05, 0.9, NOW + FIRST_LOOK_MS - 60_000)  # has had no time to succeed
    [said] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert said.looks[-1].why == (
        "0 devices have decided from it and 0 others did: 5 of each are needed"
    )


def test_what_succeeds_is_said_by_the_goal_of_the_placement(town: Town) -> None:
    with closing(town.tenant.open_store()) as store:
        screen = {"id": "screen", "slots": 2, "explorer": "greedy", "goal": ["redeem"]}
        store.put_documents("placement", [("screen", screen)])
    town.decide(20, 0.05, 0.5, NOW + 60_000)  # they buy
    [said] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert said.looks[-1].why == "0 successes so far: 30 are needed"


def test_the_past_of_devices_tells_a_small_difference(town: Town) -> None:
    for n, device in enumerate(DEVICES):
        events = []
        for number in range(100):
            ms = NOW - HOUR_MS + number if number < 60 else NOW + 60_000 + number
            mine = town.second.covers(device) and ms >= NOW
            own = 0.1 + 0.8 * n / len(DEVICES)
            decision = next(_numbers).to_bytes(16)
            record = event_pb2.DecisionRecord(
                decision_id=decision,
                release_version=2 if mine else 1,
                slots=[event_pb2.SlotRecord(offer="taxi", reason="CHOSEN")],
            )
            event = event_pb2.Event(decision=record)
            events.append((device, NOBODY, FrameKind.DECISION, ms, event))
            if number % 20 < round(own * 20) - 2 * mine:
                said = event_pb2.Event(outcome=event_pb2.Outcome(decision_id=decision, kind="buy"))
                events.append(("till", NOBODY, FrameKind.OUTCOME, ms + 1_000, said))
        town.log(*events)
    [done] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert done.state == "rolled back", done.looks[-1].why


def test_a_decision_counts_for_those_that_a_device_could_not_keep(town: Town) -> None:
    town.decide(20, 0.5, 0.25, NOW + 60_000)
    town.decide(20, 0.0, 0.25, NOW + 70_000, gone_ppm=750_000)
    [done] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    # Of those that arrived a quarter succeeded on either side.
    assert "it is worse: 10.00% of its decisions succeed, 25.00% of others" in done.looks[-1].why
    devices = sum(town.second.covers(one) for one in DEVICES)
    assert done.looks[-1].figures["canary"]["decisions"] == 100 * devices
    assert done.looks[-1].figures["canary"]["successes"] == 10 * devices


@pytest.mark.parametrize("mine", [True, False])
def test_where_no_device_is_left_it_says_so(town: Town, mine: bool) -> None:
    town.decide(20, 0.05, 0.5, NOW + 60_000)
    with closing(town.tenant.open_store()) as store:
        for device in store.devices():
            if town.second.covers(device.id) is mine:
                store.revoke_device(device.id)
    [said] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    which = "no device of the channel is meant to have it" if mine else "the channel has no other"
    assert said.state == "watched"
    assert said.looks[-1].why.startswith(which)


def test_a_clock_that_went_back_is_said_once_and_does_no_harm(town: Town) -> None:
    town.decide(20, 0.25, 0.25, NOW + 60_000)
    assert tick(town.tenant, NOW - 1_000) == []  # set right by a little
    [said] = tick(town.tenant, NOW - HOUR_MS)
    assert "clock went back" in said.looks[-1].why
    assert tick(town.tenant, NOW - HOUR_MS + 5_000) == []
    [said] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert (said.looks[-1].number, said.looks[-1].why) == (
        1,
        "it does well, and 1 hours are not over",
    )
    assert ["clock" in one.looks[-1].why for one in tick(town.tenant, NOW + 60_000)] == [True]
    assert [one.state for one in tick(town.tenant, NOW + 4 * FIRST_LOOK_MS)] == ["promoted"]


@pytest.mark.parametrize("how", ["promoted", "withdrawn", "followed"])
def test_whoever_decides_otherwise_ends_the_watch(town: Town, how: str) -> None:
    town.decide(20, 0.05, 0.5, NOW + 60_000)
    why = {
        "promoted": "the whole channel has it",
        "withdrawn": "it was withdrawn",
        "followed": "another release came after it",
    }[how]
    if how == "promoted":
        promote(town.tenant, town.second.version, now_ms=NOW)
    elif how == "withdrawn":
        rollback(town.tenant, now_ms=NOW)
    else:
        with closing(town.tenant.open_store()) as store:
            store.put_documents("offer", [offer("bus", "service:bus")])
        publish(town.tenant, share=0.1, now_ms=NOW + 1)
    [done] = tick(town.tenant, NOW + FIRST_LOOK_MS)
    assert (done.state, done.looks[-1].why) == ("ended", why)


def test_the_command_shows_the_looks_and_the_moment(tmp_path: Path) -> None:
    town, shell = Town(tmp_path / "home"), Shell(tmp_path, made=False)
    town.decide(20, 0.25, 0.25, NOW + 60_000)
    tick(town.tenant, NOW + FIRST_LOOK_MS)
    said = shell.json("releases", "canary")
    assert (said["version"], said["state"], said["looks"][0]["number"]) == (2, "watched", 1)
    devices = sum(town.second.covers(one) for one in DEVICES)
    assert said["now"]["canary"] == {
        "devices": devices, "decisions": 20 * devices, "successes": 5 * devices,
        "shown": 20 * devices, "unscored": 0, "value": 5 * devices, "value_by_decision": 0.25,
    }  # fmt: skip
    assert said["now"]["judged_by"] == "successes"
    assert said["looks"][0]["figures"]["canary"] == said["now"]["canary"]
    assert said["now"]["action"] == "promote"
    shown = shell.call("releases", "canary", 2).output
    assert "If this were a look: promote, because it is not worse" in shown
    with closing(town.tenant.open_store()) as store:
        store.put_documents("offer", [offer("bus", "service:bus")])
    publish(town.tenant, now_ms=NOW + FIRST_LOOK_MS)
    shown = shell.call("releases", "canary", 2).output
    assert "ended." in shown
    assert "another release came after it" in shown
    assert "If this were a look" not in shown
    assert town.canary().state == "watched"  # looking changes nothing
    assert (
        "was not watched; those that were: 2" in shell.call("releases", "canary", 1, code=1).output
    )


def test_watching_needs_others_to_compare_with(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert "no release was watched" in shell.call("releases", "canary", code=1).output
    shell.call("publish", "--watch", code=2)
    shell.call("publish", "--untrained", "--share", "100%", "--watch", code=2)


def test_what_is_kept_reads_back(town: Town) -> None:
    tick(town.tenant, NOW + FIRST_LOOK_MS)
    found = town.canary()
    assert Canary.from_json(json.loads(json.dumps(found.to_json()))) == found
