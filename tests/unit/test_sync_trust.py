"""The sync machine and what is in force: roots, timestamps, stop lists, signed time, resuming."""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_sdk.sync import trust
from edge_sdk.sync.actions import (
    Action,
    AppendBytes,
    AssetsArrived,
    FinishPart,
    HeardTime,
    Leave,
    MakeRoom,
    PutTrust,
    Send,
)
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.roles import Standing
from edge_sdk.sync.trust import MAX_JUMP, Refusal
from genome_edge.v1 import release_pb2, sync_pb2
from tests.unit.authority import Authority
from tests.unit.machines import PUBLISHER, RELEASES, Server, held, kinds, nacks
from tests.unit.publisher import DAY_MS, Published, Publisher, now_ms

NONCE = b"n" * 16
YEARS_MS = 3650 * DAY_MS


def machine(authority: Authority, release: Published | None = None, **more: Any) -> SyncMachine:
    return SyncMachine(held(release, standing=Standing(authority.root), nonce=NONCE, **more))


def refusals(actions: list[Action]) -> list[tuple[int, str]]:
    sent = [a.message.nack for a in actions if isinstance(a, Send) and a.message.HasField("nack")]
    return [(nack.nonce, nack.reason) for nack in sent]


def put(actions: list[Action]) -> PutTrust:
    (found,) = [action for action in actions if isinstance(action, PutTrust)]
    return found


def test_trust_is_taken_and_said_and_the_next_stream_begins_with_it() -> None:
    authority = Authority(PUBLISHER)
    server = Server(machine(authority))
    old = authority.root
    authority.rotate()
    stops = authority.stop_list(1, "taxi")
    timestamp = authority.timestamp(3, RELEASES[1], stops=stops)
    (action,) = server.say(
        trust=sync_pb2.Trust(roots=authority.chain, timestamp=timestamp, stop_list=stops)
    )
    assert action == PutTrust(authority.root, timestamp, stops)
    standing = server.machine.standing
    assert standing.stopped == {"taxi"}
    assert not server.machine.at_rest, "the greeting is a heartbeat"
    hello = SyncMachine(held(standing=standing, nonce=NONCE)).hello().hello
    assert (hello.root_version, hello.timestamp_version, hello.stop_list_version) == (2, 3, 1)
    assert hello.nonce == NONCE
    assert old.version == 1


def test_each_statement_is_judged_on_its_own() -> None:
    authority, other = Authority(PUBLISHER), Authority(PUBLISHER)
    server = Server(machine(authority))
    stops = authority.stop_list(1, "taxi")
    forged = other.timestamp(9)
    actions = server.say(trust=sync_pb2.Trust(timestamp=forged, stop_list=stops))
    assert put(actions) == PutTrust(None, None, stops)
    assert refusals(actions) == [(0, Refusal.SIGNATURE)]
    assert not any(isinstance(action, Leave) for action in actions)
    assert server.machine.last_nack.startswith("SIGNATURE")
    actions = server.say(trust=sync_pb2.Trust(timestamp=authority.timestamp(2, stops=stops)))
    assert kinds(actions) == ["PutTrust"]
    assert server.machine.last_nack == "", "made good"
    older = server.say(trust=sync_pb2.Trust(timestamp=authority.timestamp(1, stops=stops)))
    assert refusals(older) == [(0, Refusal.TIMESTAMP)]
    far = server.say(trust=sync_pb2.Trust(timestamp=authority.timestamp(2 + MAX_JUMP + 1)))
    assert refusals(far) == [(0, Refusal.FAST_FORWARD)]


def test_a_release_that_jumps_too_far_is_refused() -> None:
    authority = Authority(PUBLISHER)
    far = PUBLISHER.release(MAX_JUMP + 5)
    assert nacks(Server(machine(authority)).begin(far)) == [Refusal.FAST_FORWARD]


def test_only_time_that_is_signed_for_this_stream_is_believed() -> None:
    authority = Authority(PUBLISHER)
    server = Server(machine(authority))
    unsigned = sync_pb2.ServerHeartbeat(server_time_ms=5)
    actions = server.say(heartbeat=unsigned)
    assert actions[0] == HeardTime(0, idle=False)
    assert refusals(actions) == [(0, Refusal.SIGNATURE)]
    assert kinds(server.say(heartbeat=unsigned)) == ["HeardTime"], "said once"
    for heartbeat in (
        authority.heartbeat(b"another stream's", 7),
        authority.heartbeat(NONCE, 7, key=Ed25519PrivateKey.generate()),
    ):
        assert server.say(heartbeat=heartbeat) == [HeardTime(0, idle=True)]
    good = authority.heartbeat(NONCE, 7)
    assert server.say(heartbeat=good)[0] == HeardTime(7, idle=True)
    assert server.machine.last_nack == ""


def test_a_clock_ten_years_ahead_is_put_right_by_a_root_that_seems_expired() -> None:
    """The device pins root 1; root 2 has other timestamp keys and seems long expired here."""
    authority = Authority(PUBLISHER)
    server = Server(machine(authority), now=now_ms() + YEARS_MS)
    authority.rotate(timestamp=True, expires_ms=now_ms() + 365 * DAY_MS)
    stops = authority.stop_list(1, "taxi")
    message = sync_pb2.Trust(
        roots=authority.chain, timestamp=authority.timestamp(1, stops=stops), stop_list=stops
    )
    actions = server.say(trust=message)
    assert not any(isinstance(action, PutTrust) for action in actions)
    assert (0, Refusal.ROOT_EXPIRED) in refusals(actions)
    time_ms = now_ms()
    actions = server.say(heartbeat=authority.heartbeat(NONCE, time_ms))
    assert actions[0] == HeardTime(time_ms, idle=False)
    assert put(actions).root == authority.root
    assert server.machine.standing.stopped == {"taxi"}
    assert server.machine.last_nack == ""


def test_a_release_that_seemed_expired_is_asked_for_again_once_the_time_is_known() -> None:
    authority = Authority(PUBLISHER)
    server = Server(machine(authority), now=now_ms() + YEARS_MS)
    assert nacks(server.begin(RELEASES[1])) == [Refusal.EXPIRED]
    actions = server.say(heartbeat=authority.heartbeat(NONCE))
    assert kinds(actions) == ["HeardTime", "Leave"]


def test_a_release_by_a_key_that_the_clock_kept_from_being_trusted_is_asked_for_again() -> None:
    authority = Authority(PUBLISHER)
    server = Server(machine(authority), now=now_ms() + YEARS_MS)
    authority.publisher = Publisher()
    authority.rotate(timestamp=True, expires_ms=now_ms() + 365 * DAY_MS)
    message = sync_pb2.Trust(roots=authority.chain, timestamp=authority.timestamp(1))
    server.say(trust=message)
    assert nacks(server.begin(authority.publisher.release(2))) == [Refusal.SIGNATURE]
    actions = server.say(heartbeat=authority.heartbeat(NONCE))
    assert kinds(actions) == ["HeardTime", "PutTrust", "Leave"]


def test_no_root_can_be_slipped_in_by_a_wrong_clock() -> None:
    authority, thief = Authority(PUBLISHER), Authority(PUBLISHER)
    server = Server(machine(authority), now=now_ms() + YEARS_MS)
    thief.rotate(timestamp=True)
    server.say(trust=sync_pb2.Trust(roots=thief.chain))
    actions = server.say(heartbeat=thief.heartbeat(NONCE))
    assert actions[0] == HeardTime(0, idle=False)
    assert server.machine.standing.root == authority.root


# Contents in parts ------------------------------------------------------------------------------


def largest(release: Published) -> tuple[release_pb2.Part, bytes]:
    part = max(release.manifest.parts, key=lambda part: part.size)
    return part, release.parts[part.sha256]


def test_chunks_go_on_where_the_last_stream_ended() -> None:
    part, content = largest(RELEASES[1])
    server = Server(SyncMachine(held(partials={part.sha256: 100})))
    (partial,) = server.machine.hello().hello.partials
    assert partial == sync_pb2.Partial(sha256=part.sha256, size=100)
    (room,) = [a for a in server.begin(RELEASES[1]) if isinstance(a, MakeRoom)]
    assert room.size == sum(p.size for p in RELEASES[1].manifest.parts) - 100
    assert server.chunk(part.sha256, 100, content[100:150]) == [
        AppendBytes(1, part.sha256, 100, content[100:150])
    ]
    actions = server.chunk(part.sha256, 150, content[150:])
    assert actions[-1] == FinishPart(1, part)


def test_a_server_that_begins_anew_may() -> None:
    part, content = largest(RELEASES[1])
    server = Server(SyncMachine(held(partials={part.sha256: 100})))
    server.begin(RELEASES[1])
    assert kinds(server.chunk(part.sha256, 0, content[:10])) == ["AppendBytes"]
    assert nacks(server.chunk(part.sha256, 100, content[100:])) == [Refusal.PROTOCOL]


def test_a_part_that_was_whole_before_its_end_was_known_is_finished() -> None:
    part, _ = largest(RELEASES[1])
    server = Server(SyncMachine(held(partials={part.sha256: part.size})))
    assert FinishPart(1, part) in server.begin(RELEASES[1])


def test_a_release_that_failed_here_after_its_swap_is_not_taken_again() -> None:
    digest = trust.manifest_digest(RELEASES[2].signed)
    server = Server(SyncMachine(held(RELEASES[1], failed=(digest, "0.1 instead of 0.5"))))
    assert nacks(server.begin(RELEASES[2])) == [Refusal.GOLDEN]
    assert "0.1 instead of 0.5" in server.machine.last_nack
    assert nacks(server.begin(RELEASES[3], nonce=2)) == []


def pictured() -> Published:
    def with_pictures(manifest: release_pb2.Manifest) -> None:
        for name, content in PICTURES.items():
            manifest.parts.add(
                name=name, size=len(content), sha256=hashlib.sha256(content).digest()
            ).asset = True

    release = PUBLISHER.release(4, edit=with_pictures)
    for content in PICTURES.values():
        release.parts[hashlib.sha256(content).digest()] = content
    return release


PICTURES = {"taxi.png": b"a taxi", "bus.png": b"a bus"}


def test_assets_come_after_their_release_in_a_transaction_of_their_own() -> None:
    release = pictured()
    server = Server(SyncMachine(held()))
    server.begin(release)
    for part in release.manifest.parts:
        if not part.asset and part.size:
            server.chunk(part.sha256, 0, release.parts[part.sha256])
    assert kinds(server.commit()) == ["InstallRelease"], "complete without them"
    server.machine.settle(1)
    begin = sync_pb2.Begin(nonce=2, kind=sync_pb2.Begin.KIND_ASSETS)
    assert kinds(server.say(begin=begin)) == ["MakeRoom"]
    assets = [part for part in release.manifest.parts if part.asset]
    assert kinds(server.chunk(assets[0].sha256, 0, b"a taxi", nonce=2)) == ["StagePart"]
    assert server.commit(nonce=2) == [AssetsArrived(2)]
    assert [a.message.ack.nonce for a in server.machine.settle(2) if isinstance(a, Send)] == [2]


def test_assets_need_a_release() -> None:
    begin = sync_pb2.Begin(nonce=2, kind=sync_pb2.Begin.KIND_ASSETS)
    assert nacks(Server(SyncMachine(held())).say(begin=begin)) == [Refusal.PROTOCOL]
