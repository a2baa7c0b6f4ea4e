"""The sync machine without a network: what it takes, and what it refuses, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.sync import trust
from edge_sdk.sync.actions import (
    AppendBytes,
    ApplyGenomes,
    FinishPart,
    HeardTime,
    InstallRelease,
    Leave,
    RememberVersion,
    Send,
    StagePart,
)
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.trust import Limits, Refusal
from genome_edge.v1 import dna_pb2, release_pb2, sync_pb2
from tests.unit.machines import EPOCH, PUBLISHER, RELEASES, Server, block, held, kinds, nacks
from tests.unit.publisher import ANNA, DAY_MS, Published, Publisher, now_ms


def test_hello_says_what_is_held() -> None:
    release = RELEASES[1]
    lineage = PUBLISHER.lineage
    hello = SyncMachine(held(release, genome_cursor=b"c", genome_lineage=lineage)).hello().hello
    assert (hello.active_release, hello.highest_release) == (1, 1)
    assert set(hello.held_parts) == set(release.parts)
    assert (hello.genome_cursor, hello.lineage, hello.epoch) == (b"c", lineage, EPOCH)
    assert hello.wants_genomes
    assert set(hello.features) == set(trust.FEATURES)


def test_hello_asks_for_all_rows_where_those_held_cannot_be_read() -> None:
    other = dna_pb2.Lineage(schema_epoch=9)
    for machine in (
        SyncMachine(held(RELEASES[1], genome_cursor=b"c", genome_lineage=other)),
        SyncMachine(held(genome_cursor=b"c", genome_lineage=PUBLISHER.lineage)),
        SyncMachine(held(RELEASES[1], genome_cursor=b"c", genome_lineage=None)),
    ):
        assert machine.hello().hello.genome_cursor == b""


def test_a_release_is_staged_part_by_part_and_installed_on_commit() -> None:
    release = RELEASES[2]
    server = Server(SyncMachine(held(RELEASES[1])))
    begun = server.begin(release, root=PUBLISHER.root)
    assert begun[0] == RememberVersion(2, trust.manifest_digest(release.signed))
    # Parts that did not change are held, and are not asked for again.
    changed = {s: c for s, c in release.parts.items() if s not in RELEASES[1].parts}
    assert 0 < len(changed) < len(release.parts)
    for sha256, content in changed.items():
        middle = len(content) // 2
        assert server.chunk(sha256, 0, content[:middle]) == [
            AppendBytes(1, sha256, 0, content[:middle])
        ]
        appended, finished = server.chunk(sha256, middle, content[middle:])
        assert appended == AppendBytes(1, sha256, middle, content[middle:])
        assert isinstance(finished, FinishPart)
        assert finished.part.sha256 == sha256
    (install,) = server.commit()
    assert isinstance(install, InstallRelease)
    assert install.manifest == release.manifest
    (ack,) = server.machine.settle(1)
    assert isinstance(ack, Send)
    assert ack.message.ack.nonce == 1
    assert server.machine.settle(1) == [], "one answer only"


def test_a_part_without_bytes_is_complete_from_the_start() -> None:
    actions = Server(SyncMachine(held())).begin(RELEASES[1])
    staged = [action for action in actions if isinstance(action, StagePart)]
    assert {action.part.name for action in staged} <= {"products", "places"}
    assert staged
    assert all(action.content == b"" for action in staged)


def edited(edit: Callable[[release_pb2.Manifest], None]) -> Published:
    return PUBLISHER.release(2, edit=edit)


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        (PUBLISHER.release(2, key=Publisher().key), Refusal.SIGNATURE),
        (edited(lambda m: setattr(m, "expires_ms", 5)), Refusal.EXPIRED),
        (edited(lambda m: setattr(m, "tenant", "other")), Refusal.TENANT),
        (edited(lambda m: setattr(m.parts[0], "size", 1 << 40)), Refusal.TOO_LARGE),
        (edited(lambda m: m.required_features.append("new")), Refusal.FEATURES),
        (edited(lambda m: setattr(m, "version", 1)), Refusal.OLDER),
    ],
)
def test_a_release_is_refused_before_any_byte_of_it(release: Published, reason: Refusal) -> None:
    server = Server(SyncMachine(held(RELEASES[1], highest_release=1)))
    actions = server.begin(release)
    assert nacks(actions) == [reason]
    assert not any(isinstance(action, RememberVersion) for action in actions)
    assert server.parts(release) == [], "what still comes of it is dropped"
    assert server.commit() == []
    # The stream goes on with the next one.
    again = server.begin(RELEASES[2], nonce=2)
    assert isinstance(again[0], RememberVersion)


def test_another_root_is_refused() -> None:
    server = Server(SyncMachine(held()))
    assert nacks(server.begin(RELEASES[1], root=Publisher().root)) == [Refusal.ROOT]


def test_a_version_that_was_seen_and_not_installed_may_come_again_unless_expired() -> None:
    seen = held(
        RELEASES[1],
        highest_release=2,
        seen_digest=trust.manifest_digest(RELEASES[2].signed),
    )
    assert nacks(Server(SyncMachine(seen)).begin(RELEASES[2])) == []
    other = edited(lambda m: setattr(m, "channel", "beta"))
    assert nacks(Server(SyncMachine(seen)).begin(other)) == [Refusal.OLDER]
    late = Server(SyncMachine(seen), now=now_ms() + 90 * DAY_MS)
    assert nacks(late.begin(RELEASES[2])) == [Refusal.EXPIRED]
    # The active one was believed when it was fresh.
    active = Server(SyncMachine(held(RELEASES[1])), now=now_ms() + 90 * DAY_MS)
    assert nacks(active.begin(RELEASES[1])) == []


def largest(release: Published) -> tuple[bytes, bytes]:
    return max(release.parts.items(), key=lambda part: len(part[1]))


def begun(limits: Limits | None = None) -> tuple[Server, bytes, bytes]:
    server = Server(SyncMachine(held(), limits))
    server.begin(RELEASES[1])
    return server, *largest(RELEASES[1])


def test_chunks_that_do_not_belong() -> None:
    server, _, content = begun()
    assert nacks(server.chunk(bytes(32), 0, b"x")) == [Refusal.PROTOCOL]
    server, sha256, content = begun()
    assert nacks(server.chunk(sha256, 10, content[10:20])) == [Refusal.PROTOCOL]
    server, sha256, content = begun()
    server.chunk(sha256, 0, content[:20])
    assert nacks(server.chunk(sha256, 0, content[:20])) == [Refusal.PROTOCOL]
    server, sha256, content = begun()
    assert nacks(server.chunk(sha256, 0, content + b"x")) == [Refusal.TOO_LARGE]
    server, sha256, content = begun(Limits(chunk_bytes=5))
    assert nacks(server.chunk(sha256, 0, content[:6])) == [Refusal.TOO_LARGE]
    server, sha256, content = begun()
    assert nacks(server.chunk(sha256, 0, content[:-1] + b"\x00")) == [Refusal.DIGEST]


def test_a_commit_before_all_parts() -> None:
    server, sha256, content = begun()
    server.chunk(sha256, 0, content[:-1])
    actions = server.commit()
    assert nacks(actions) == [Refusal.PARTS]
    assert isinstance(actions[-1], Leave), "a new Hello says what is held"


def test_messages_outside_their_transaction() -> None:
    server = Server(SyncMachine(held()))
    assert nacks(server.commit(nonce=9)) == [Refusal.PROTOCOL]
    assert server.commit(nonce=9) == [], "one Nack for each transaction"
    server, sha256, content = begun()
    assert nacks(server.begin(RELEASES[2], nonce=2)) == [Refusal.PROTOCOL]
    server, sha256, content = begun()
    assert nacks(server.chunk(sha256, 0, content, nonce=5)) == [Refusal.PROTOCOL]
    server, *_ = begun()
    assert nacks(server.say(put=sync_pb2.Put(nonce=1))) == [Refusal.PROTOCOL]
    server = Server(SyncMachine(held()))
    assert nacks(server.say(begin=sync_pb2.Begin(nonce=3))) == [Refusal.PROTOCOL]


def test_nothing_belongs_to_a_transaction_after_its_commit() -> None:
    server, *_ = begun()
    server.parts(RELEASES[1])
    assert kinds(server.commit()) == ["InstallRelease"]
    assert nacks(server.commit()) == [Refusal.PROTOCOL]
    assert server.machine.settle(1) == [], "it was refused already"


def test_a_refusal_of_another_transaction_leaves_the_open_one_alone() -> None:
    server, sha256, content = begun()
    server.chunk(sha256, 0, content[:10])
    assert nacks(server.begin(RELEASES[2], nonce=2)) == [Refusal.PROTOCOL]
    assert kinds(server.chunk(sha256, 10, content[10:])) == ["AppendBytes", "FinishPart"]


def test_chunks_of_a_part_that_is_here_already_are_dropped() -> None:
    server = Server(SyncMachine(held(RELEASES[1])))
    server.begin(RELEASES[2])
    sha256, content = largest(RELEASES[1])
    assert sha256 in RELEASES[2].parts
    assert server.chunk(sha256, 0, content) == []
    assert server.chunk(sha256, 500, b"whatever") == []


def test_an_installation_that_fails_is_refused_with_its_reason_and_forgotten() -> None:
    server = Server(SyncMachine(held()))
    server.begin(RELEASES[2])
    server.parts(RELEASES[2])
    server.commit()
    answer = server.machine.settle(1, Refusal.GOLDEN, "0.1 instead of 0.5")
    assert nacks(answer) == [Refusal.GOLDEN]
    assert kinds(answer) == ["Send"], "the stream stays open for a better release"
    assert server.machine.last_nack == "GOLDEN: 0.1 instead of 0.5"
    assert nacks(server.begin(RELEASES[2], nonce=2)) == []


def test_a_full_disk_ends_the_transaction_and_the_stream() -> None:
    server, sha256, content = begun()
    (staged,) = server.chunk(sha256, 0, content)
    assert isinstance(staged, StagePart)
    answer = server.machine.settle(staged.nonce, Refusal.DISK_FULL, "no room")
    assert kinds(answer) == ["Send", "Leave"]
    assert nacks(answer) == [Refusal.DISK_FULL]
    assert server.commit() == []


# Everything else --------------------------------------------------------------------------------


def test_the_first_heartbeat_greets_and_a_later_one_says_that_this_was_all() -> None:
    server = Server(SyncMachine(held()))
    beat = sync_pb2.ServerHeartbeat(server_time_ms=5)
    assert not server.machine.at_rest
    assert server.say(heartbeat=beat) == [HeardTime(5, idle=False)]
    assert server.say(heartbeat=beat) == [HeardTime(5, idle=True)]
    server.begin(RELEASES[1])
    assert server.say(heartbeat=beat) == [HeardTime(5, idle=False)]
    assert not server.machine.at_rest


def test_goodbye_and_what_a_newer_server_says() -> None:
    server = Server(SyncMachine(held()))
    assert server.say(goodbye=sync_pb2.Goodbye(retry_after_ms=1500)) == [Leave(1.5)]
    assert server.say() == []


MESSAGES = st.one_of(
    st.builds(
        sync_pb2.Begin,
        nonce=st.integers(0, 3),
        kind=st.sampled_from([0, 1, 2]),
        manifest=st.sampled_from([r.signed for r in RELEASES.values()]),
        full=st.booleans(),
        lineage=st.just(PUBLISHER.lineage),
        rows=st.integers(0, 2),
    ).map(lambda m: {"begin": m}),
    st.sampled_from(
        [
            (sha256, content)
            for release in RELEASES.values()
            for sha256, content in release.parts.items()
        ]
    ).flatmap(
        lambda part: st.builds(
            sync_pb2.Chunk,
            nonce=st.integers(0, 3),
            sha256=st.just(part[0]),
            offset=st.sampled_from([0, 1]),
            data=st.sampled_from([part[1], part[1][:1]]),
        ).map(lambda m: {"chunk": m})
    ),
    st.builds(sync_pb2.Put, nonce=st.integers(0, 3), block=st.just(block(ANNA))).map(
        lambda m: {"put": m}
    ),
    st.builds(sync_pb2.Delete, nonce=st.integers(0, 3), subject=st.just(ANNA)).map(
        lambda m: {"delete": m}
    ),
    st.builds(sync_pb2.Commit, nonce=st.integers(0, 3)).map(lambda m: {"commit": m}),
    st.just({"heartbeat": sync_pb2.ServerHeartbeat(server_time_ms=1)}),
)


@given(st.lists(MESSAGES, max_size=40))
def test_whatever_comes_nothing_unverified_is_kept_and_the_version_never_falls(
    messages: list[dict[str, Any]],
) -> None:
    """No order of well-formed messages raises, installs half a release or goes back."""
    known = {sha256: content for r in RELEASES.values() for sha256, content in r.parts.items()}
    server = Server(SyncMachine(held()))
    staged: set[bytes] = set()
    partial: dict[bytes, bytes] = {}
    highest = 0
    for message in messages:
        for action in server.say(**message):
            if isinstance(action, StagePart):
                assert known[action.part.sha256] == action.content
                staged.add(action.part.sha256)
            elif isinstance(action, AppendBytes):
                here = partial.get(action.sha256, b"") if action.offset else b""
                assert len(here) == action.offset
                partial[action.sha256] = here + action.data
            elif isinstance(action, FinishPart):
                if partial[action.part.sha256] == known[action.part.sha256]:
                    staged.add(action.part.sha256)
                else:
                    server.machine.settle(action.nonce, Refusal.DIGEST)
            elif isinstance(action, RememberVersion):
                assert action.version >= highest
                highest = action.version
            elif isinstance(action, InstallRelease):
                assert {part.sha256 for part in action.manifest.parts} <= staged
                assert action.manifest.version == highest
                server.machine.settle(action.nonce)
            elif isinstance(action, ApplyGenomes):
                server.machine.settle(action.nonce)


def test_a_server_that_comes_to_no_end_is_left() -> None:
    """Neither a line nor memory is for things of no use: chunks of what was refused, refusals."""
    release = PUBLISHER.release(2, edit=lambda manifest: setattr(manifest, "tenant", "other"))
    server = Server(SyncMachine(held()))
    assert nacks(server.begin(release)) == [Refusal.TENANT]
    taken = 0
    while not (actions := server.chunk(bytes(32), taken, bytes(1 << 20))):
        taken += 1 << 20
        assert taken < 64 << 20
    (leave,) = actions
    assert isinstance(leave, Leave)
    assert leave.retry_after_s >= 30

    server = Server(SyncMachine(held()))
    refused = 0
    while not any(isinstance(action, Leave) for action in server.begin(release, nonce=refused + 1)):
        refused += 1
        assert refused < 1000
    assert refused >= 50, "a few may be honest mistakes"
