"""The sync machine and genome rows: what it takes, and what it refuses."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from edge_sdk.sync.actions import (
    Action,
    ApplyGenomes,
    Send,
)
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.trust import Limits, Refusal
from genome_edge.v1 import dna_pb2, release_pb2, sync_pb2
from tests.unit.machines import EPOCH, PUBLISHER, RELEASES, Server, block, held, nacks
from tests.unit.publisher import ANNA, BEN

ERASED = sync_pb2.Delete.REASON_ERASED


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
    assert server.say(delete=sync_pb2.Delete(nonce=1, subject=b"c" * 16, reason=ERASED)) == []
    mark = sync_pb2.LaneMark(epoch=EPOCH, lane=1, sequence=9)
    (apply,) = server.commit(genome_cursor=b"c", included=[mark], total_rows=2)
    assert isinstance(apply, ApplyGenomes)
    assert [b.subjects for b in apply.blocks] == [ANNA, BEN]
    assert apply.deletes == ((b"c" * 16, ERASED),)
    assert apply.lookups == ((ANNA + BEN, BEN + ANNA),)
    assert (apply.full, apply.lookup_key, apply.cursor, apply.total_rows) == (True, key, b"c", 2)
    assert apply.included == (mark,)
    (ack,) = server.machine.settle(1)
    assert isinstance(ack, Send)
    assert ack.message.ack.nonce == 1
    # And a patch on top of them is welcome now.
    assert rows(server, nonce=2, full=False, rows=0) == []


def test_who_was_erased_is_named_beside_a_content() -> None:
    server = Server(SyncMachine(held(RELEASES[1])))
    content = release_pb2.Part(name="genomes", size=4, sha256=hashlib.sha256(b"rows").digest())
    rows(server, content=content)
    server.chunk(content.sha256, 0, b"rows")
    assert server.say(delete=sync_pb2.Delete(nonce=1, subject=BEN, reason=ERASED)) == []
    (apply,) = server.commit(genome_cursor=b"c", total_rows=2)
    assert isinstance(apply, ApplyGenomes)
    assert (apply.content, apply.deletes) == (content.sha256, ((BEN, ERASED),))


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
    server = Server(SyncMachine(held(RELEASES[1]), small._replace(genome_rows=9)))
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
