"""The sync machine without a network: what it takes, and what it refuses, once."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk import trust
from edge_sdk.pace import Backoff, Silence
from edge_sdk.sync import SyncMachine
from edge_sdk.sync_actions import (
    Action,
    ApplyGenomes,
    HeardTime,
    Held,
    InstallRelease,
    Leave,
    RememberVersion,
    Send,
    StagePart,
)
from edge_sdk.trust import Limits, Refusal
from genome_edge.v1 import dna_pb2, sync_pb2
from tests.unit.contract_server import DAY_MS, Published, Publisher, now_ms

PUBLISHER = Publisher()
RELEASES = {version: PUBLISHER.release(version) for version in (1, 2, 3)}
EPOCH = b"e" * 16


def held(release: Published | None = None, **more: Any) -> Held:
    base = Held(root=PUBLISHER.root, epoch=EPOCH, sdk_version="0")
    if release is not None:
        base = replace(
            base,
            active_release=release.manifest.version,
            active_digest=trust.manifest_digest(release.signed),
            release_lineage=release.manifest.lineage,
            highest_release=release.manifest.version,
            seen_digest=trust.manifest_digest(release.signed),
            parts=frozenset(release.parts),
        )
    return replace(base, **more)


class Server:
    """Feeds a machine what a server would say."""

    def __init__(self, machine: SyncMachine, now: int | None = None) -> None:
        self.machine = machine
        self.now = now_ms() if now is None else now

    def say(self, **message: Any) -> list[Action]:
        return self.machine.receive(sync_pb2.SyncResponse(**message), self.now)

    def begin(self, release: Published, nonce: int = 1, **more: Any) -> list[Action]:
        return self.say(
            begin=sync_pb2.Begin(
                nonce=nonce, kind=sync_pb2.Begin.KIND_RELEASE, manifest=release.signed, **more
            )
        )

    def chunk(self, sha256: bytes, offset: int, data: bytes, nonce: int = 1) -> list[Action]:
        return self.say(chunk=sync_pb2.Chunk(nonce=nonce, sha256=sha256, offset=offset, data=data))

    def commit(self, nonce: int = 1, **more: Any) -> list[Action]:
        return self.say(commit=sync_pb2.Commit(nonce=nonce, **more))

    def parts(self, release: Published, nonce: int = 1, size: int = 1000) -> list[Action]:
        actions = []
        for sha256, content in release.parts.items():
            for offset in range(0, len(content), size):
                actions += self.chunk(sha256, offset, content[offset : offset + size], nonce)
        return actions


def nacks(actions: list[Action]) -> list[str]:
    return [a.message.nack.reason for a in actions if isinstance(a, Send) if a.message.nack.nonce]


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


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
        assert server.chunk(sha256, 0, content[:middle]) == []
        (staged,) = server.chunk(sha256, middle, content[middle:])
        assert isinstance(staged, StagePart)
        assert staged.content == content
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


def edited(edit: Callable[[Any], object]) -> Published:
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
    assert kinds(server.chunk(sha256, 10, content[10:])) == ["StagePart"]


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


# Genomes ----------------------------------------------------------------------------------------


def block(*subjects: bytes, lineage: dna_pb2.Lineage | None = None) -> dna_pb2.GenomeBlock:
    return dna_pb2.GenomeBlock(
        lineage=lineage,
        subjects=b"".join(subjects),
        consents=[2] * len(subjects),
        as_of_hours=[5] * len(subjects),
        counts=[2] * len(subjects),
        index_deltas=[0, 1] * len(subjects),
        strengths=bytes([9, 9] * len(subjects)),
    )


ANNA, BEN = b"a" * 16, b"b" * 16


def rows(server: Server, *, nonce: int = 1, **begin: Any) -> list[Action]:
    message = {"full": True, "lineage": PUBLISHER.lineage, "rows": 2, **begin}
    return server.say(
        begin=sync_pb2.Begin(nonce=nonce, kind=sync_pb2.Begin.KIND_GENOMES, **message)
    )


def put(server: Server, *, nonce: int = 1, **message: Any) -> list[Action]:
    return server.say(put=sync_pb2.Put(nonce=nonce, **message))


def test_rows_are_applied_on_commit_only() -> None:
    server = Server(SyncMachine(held(RELEASES[1])))
    key = b"k" * 32
    assert rows(server, lookup_key=key) == []
    assert put(server, block=block(ANNA)) == []
    assert put(server, block=block(BEN), lookup_hashes=ANNA + BEN, lookup_subjects=BEN + ANNA) == []
    assert server.say(delete=sync_pb2.Delete(nonce=1, subject=b"c" * 16, reason=1)) == []
    mark = sync_pb2.LaneMark(epoch=EPOCH, lane=1, sequence=9)
    (apply,) = server.commit(genome_cursor=b"c", included=[mark], total_rows=2)
    assert isinstance(apply, ApplyGenomes)
    assert [b.subjects for b in apply.blocks] == [ANNA, BEN]
    assert apply.deletes == ((b"c" * 16, 1),)
    assert apply.lookups == ((ANNA + BEN, BEN + ANNA),)
    assert (apply.full, apply.lookup_key, apply.cursor, apply.total_rows) == (True, key, b"c", 2)
    assert apply.included == (mark,)
    (ack,) = server.machine.settle(1)
    assert isinstance(ack, Send)
    assert ack.message.ack.nonce == 1
    # And a patch on top of them is welcome now.
    assert rows(server, nonce=2, full=False, rows=0) == []


OTHER = dna_pb2.Lineage(vocabulary_lineage=bytes(16), schema_epoch=3, landmark_hour=1, quantiser=1)


def test_rows_of_another_lineage() -> None:
    assert nacks(rows(Server(SyncMachine(held())))) == [Refusal.LINEAGE]
    server = Server(SyncMachine(held(RELEASES[1])))
    assert nacks(rows(server, lineage=OTHER)) == [Refusal.LINEAGE]
    server = Server(SyncMachine(held(RELEASES[1])))
    assert nacks(rows(server, full=False)) == [Refusal.LINEAGE], "nothing to patch"
    server = Server(SyncMachine(held(RELEASES[1])))
    rows(server)
    assert nacks(put(server, block=block(ANNA, lineage=OTHER))) == [Refusal.LINEAGE]


def test_rows_follow_the_release_of_their_lineage_on_the_same_stream() -> None:
    server = Server(SyncMachine(held()))
    server.begin(RELEASES[1])
    server.parts(RELEASES[1])
    server.commit()
    server.machine.settle(1)
    assert rows(server, nonce=2) == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"block": block(ANNA, BEN, b"c" * 16)}, Refusal.ROWS),
        ({"block": dna_pb2.GenomeBlock(subjects=ANNA, counts=[1])}, Refusal.ROWS),
        (
            {
                "block": dna_pb2.GenomeBlock(
                    subjects=ANNA, counts=[2], consents=[0], as_of_hours=[0], index_deltas=[1]
                )
            },
            Refusal.ROWS,
        ),
        ({"lookup_hashes": ANNA, "lookup_subjects": b""}, Refusal.ROWS),
        ({"lookup_hashes": b"xx", "lookup_subjects": b"yy"}, Refusal.ROWS),
    ],
)
def test_rows_that_do_not_fit_together(message: dict[str, Any], reason: Refusal) -> None:
    server = Server(SyncMachine(held(RELEASES[1])))
    rows(server, lookup_key=b"k" * 32)
    assert nacks(put(server, **message)) == [reason]


def test_lookups_without_their_key() -> None:
    server = Server(SyncMachine(held(RELEASES[1])))
    rows(server)
    assert nacks(put(server, lookup_hashes=ANNA, lookup_subjects=BEN)) == [Refusal.ROWS]


def test_a_message_of_the_other_kind_of_transaction() -> None:
    server = Server(SyncMachine(held(RELEASES[1])))
    rows(server, rows=0)
    assert nacks(server.chunk(bytes(32), 0, b"x")) == [Refusal.PROTOCOL]


def test_rows_that_are_too_many_or_too_few() -> None:
    small = Limits(genome_rows=1, genome_bytes=100)
    assert nacks(rows(Server(SyncMachine(held(RELEASES[1]), small)))) == [Refusal.TOO_LARGE]
    server = Server(SyncMachine(held(RELEASES[1]), replace(small, genome_rows=9)))
    rows(server, rows=9)
    assert nacks(put(server, block=block(*[bytes([n]) * 16 for n in range(9)]))) == [
        Refusal.TOO_LARGE
    ]
    server = Server(SyncMachine(held(RELEASES[1])))
    rows(server)
    put(server, block=block(ANNA))
    assert nacks(server.commit()) == [Refusal.ROWS]
    server = Server(SyncMachine(held(RELEASES[1])))
    assert nacks(rows(server, lookup_key=b"short")) == [Refusal.ROWS]
    rows(server, nonce=2)
    assert nacks(server.say(delete=sync_pb2.Delete(nonce=2, subject=b"x"))) == [Refusal.ROWS]
    server = Server(SyncMachine(held(RELEASES[1]), small))
    rows(server, rows=1)
    for subject, refused in ((ANNA, []), (BEN, [Refusal.TOO_LARGE])):
        delete = sync_pb2.Delete(nonce=1, subject=subject)
        assert nacks(server.say(delete=delete)) == refused


def test_a_kiosk_that_wants_no_genomes_gets_none() -> None:
    server = Server(SyncMachine(held(RELEASES[1], wants_genomes=False)))
    assert nacks(rows(server)) == [Refusal.PROTOCOL]
    assert not server.machine.hello().hello.wants_genomes
    had_some = held(
        RELEASES[1], genome_cursor=b"c", genome_lineage=PUBLISHER.lineage, wants_genomes=False
    )
    assert SyncMachine(had_some).hello().hello.genome_cursor == b""


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
    highest = 0
    for message in messages:
        for action in server.say(**message):
            if isinstance(action, StagePart):
                assert known[action.part.sha256] == action.content
                staged.add(action.part.sha256)
            elif isinstance(action, RememberVersion):
                assert action.version >= highest
                highest = action.version
            elif isinstance(action, InstallRelease):
                assert {part.sha256 for part in action.manifest.parts} <= staged
                assert action.manifest.version == highest
                server.machine.settle(action.nonce)
            elif isinstance(action, ApplyGenomes):
                server.machine.settle(action.nonce)


def test_backoff_grows_has_jitter_and_honours_what_was_asked() -> None:
    backoff = Backoff(0.5, 8.0, random.Random(1))
    waits = [backoff.after_failure() for _ in range(200)]
    assert all(0.25 <= wait <= 8.0 for wait in waits)
    assert waits[0] <= 0.5
    assert max(waits) > 6.0
    assert len({round(wait, 6) for wait in waits[10:]}) > 100, "devices must not march in step"
    assert 30.0 <= backoff.after_failure(30.0) <= 38.0
    backoff.reset()
    assert backoff.after_failure() <= 0.5


def test_silence() -> None:
    silence = Silence(10.0, 100.0)
    assert not silence.too_long(110.0)
    assert silence.too_long(110.1)
    silence.heard(110.0)
    assert not silence.too_long(115.0)
    assert silence.lasts(115.0) == 5.0
