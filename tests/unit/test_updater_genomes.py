"""Genome rows over real sockets, with a real store."""

from __future__ import annotations

import hashlib

import numpy as np

from edge_sdk.dna.columns import Columns, encode
from edge_sdk.dna.genome import Row
from edge_sdk.dna.schema import default_schema
from edge_sdk.store.patching import sum_of
from genome_edge.v1 import dna_pb2, release_pb2, sync_pb2
from tests.unit import devices
from tests.unit.contract_server import ContractServer, Stream, until
from tests.unit.devices import Device
from tests.unit.publisher import ANNA, BEN, CLEO, Publisher, rows

house, device = devices.house, devices.device


def send_rows(
    stream: Stream,
    lineage: dna_pb2.Lineage,
    nonce: int,
    *subjects: bytes,
    full: bool = True,
    total: int | None = None,
    deletes: tuple[bytes, ...] = (),
) -> None:
    stream.send(
        begin=sync_pb2.Begin(
            nonce=nonce,
            kind=sync_pb2.Begin.KIND_GENOMES,
            full=full,
            lineage=lineage,
            rows=len(subjects),
        )
    )
    if subjects:
        stream.send(put=sync_pb2.Put(nonce=nonce, block=rows(lineage, *subjects)))
    for subject in deletes:
        left = sync_pb2.Delete.REASON_LEFT_AUDIENCE
        stream.send(delete=sync_pb2.Delete(nonce=nonce, subject=subject, reason=left))
    stream.send(
        commit=sync_pb2.Commit(
            nonce=nonce,
            genome_cursor=b"at %d" % nonce,
            total_rows=len(subjects) if total is None else total,
        )
    )


def test_rows_come_whole_then_as_patches_and_the_cursor_is_said_again(
    house: ContractServer, device: Device
) -> None:
    release, lineage = house.publisher.release(1), house.publisher.lineage
    cursors: list[bytes] = []

    def script(stream: Stream) -> None:
        cursors.append(stream.hello.genome_cursor)
        if len(cursors) > 1:
            return house.keep_current(stream)
        stream.offer(release, 1)
        stream.answer(1)
        send_rows(stream, lineage, 2, ANNA, BEN)
        stream.answer(2)
        send_rows(stream, lineage, 3, CLEO, full=False, total=2, deletes=(BEN,))
        stream.answer(3)
        return None

    house.script = script
    updater = device.updater()
    updater.start()
    until(lambda: device.store.genome_cursor() == b"at 3", "both commits")
    view = device.store.genomes()
    assert view.row(ANNA) is not None
    assert view.row(BEN) is None
    assert view.row(CLEO) is not None
    until(lambda: len(cursors) > 1, "a new stream")
    assert cursors[1] == b"at 3"


def test_rows_of_another_lineage_are_refused_and_the_old_ones_stay(
    house: ContractServer, device: Device
) -> None:
    release, lineage = house.publisher.release(1), house.publisher.lineage
    other = dna_pb2.Lineage()
    other.CopyFrom(lineage)
    other.schema_epoch = 9
    answers: list[str] = []

    def script(stream: Stream) -> None:
        if answers:
            return house.keep_current(stream)
        stream.offer(release, 1)
        stream.answer(1)
        send_rows(stream, lineage, 2, ANNA)
        stream.answer(2)
        send_rows(stream, other, 3, BEN)
        answer = stream.answer(3)
        answers.append(answer.nack.reason if answer else "")
        return None

    house.script = script
    device.updater().start()
    until(lambda: answers, "an answer")
    assert answers == ["LINEAGE"]
    assert device.store.genomes().row(ANNA) is not None


def test_a_new_lineage_changes_release_and_rows_together(
    house: ContractServer, device: Device
) -> None:
    old, new = (
        house.publisher,
        Publisher(key=house.publisher.key, schema=default_schema(500_000, 2)),
    )
    assert new.lineage.schema_epoch != old.lineage.schema_epoch
    seen: list[tuple[int, int]] = []

    def script(stream: Stream) -> None:
        stream.offer(old.release(1), 1)
        stream.answer(1)
        send_rows(stream, old.lineage, 2, ANNA)
        stream.answer(2)
        stream.offer(new.release(2), 3)
        answer = stream.answer(3)
        assert answer is not None
        assert answer.HasField("ack")
        seen.append((device.active, device.store.genome_count()))
        send_rows(stream, new.lineage, 4, ANNA, BEN)
        stream.answer(4)
        seen.append((device.active, device.store.genome_count()))
        stream.wait_for(lambda _: False, 60)

    house.script = script
    device.updater().start()
    until(lambda: len(seen) == 2, "both releases")
    assert seen == [(1, 1), (2, 2)], "never the new release with the old rows"


def test_rows_that_went_missing_are_noticed_and_all_are_asked_for(
    house: ContractServer, device: Device
) -> None:
    release, lineage = house.publisher.release(1), house.publisher.lineage
    cursors: list[bytes] = []

    def script(stream: Stream) -> None:
        cursors.append(stream.hello.genome_cursor)
        if len(cursors) == 1:
            stream.offer(release, 1)
            stream.answer(1)
            send_rows(stream, lineage, 2, ANNA)
            stream.answer(2)
            send_rows(stream, lineage, 3, BEN, full=False, total=7)
            stream.answer(3)
        else:
            send_rows(stream, lineage, 1, ANNA, BEN, CLEO)
            stream.answer(1)
            stream.wait_for(lambda _: False, 60)

    house.script = script
    device.updater().start()
    until(lambda: device.store.genome_count() == 3, "all rows")
    assert cursors[:2] == [b"", b""], "the second Hello asks for all"


# Contents, patches and sums ---------------------------------------------------------------------


def a_row(subject: bytes, *markers: tuple[int, int]) -> Row:
    indices = np.array([index for index, _ in markers], np.uint32)
    return Row(subject, 2, 3, indices, np.array([code for _, code in markers], np.uint8))


ALL = [a_row(ANNA, (1, 40), (3, 9)), a_row(BEN, (2, 8)), a_row(CLEO)]
CONTENT = encode(Columns.of(ALL, [(b"h" * 16, BEN)]))
PART = release_pb2.Part(name="genomes", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).digest())


def begin_content(stream: Stream, lineage: dna_pb2.Lineage, nonce: int) -> None:
    stream.send(
        begin=sync_pb2.Begin(
            nonce=nonce,
            kind=sync_pb2.Begin.KIND_GENOMES,
            full=True,
            lineage=lineage,
            rows=len(ALL),
            lookup_key=b"k" * 32,
            content=PART,
        )
    )


def send_chunk(stream: Stream, nonce: int, start: int, end: int) -> None:
    chunk = sync_pb2.Chunk(nonce=nonce, sha256=PART.sha256, offset=start, data=CONTENT[start:end])
    stream.send(chunk=chunk)


def commit(stream: Stream, nonce: int, row_sum: int, total: int = 3) -> None:
    stream.send(
        commit=sync_pb2.Commit(
            nonce=nonce, genome_cursor=b"at %d" % nonce, total_rows=total, row_sum=row_sum
        )
    )


def test_a_content_goes_on_where_the_line_broke_and_is_applied_whole(
    house: ContractServer, device: Device
) -> None:
    release, lineage = house.publisher.release(1), house.publisher.lineage
    middle = len(CONTENT) // 2

    def script(stream: Stream) -> None:
        if len(house.streams) == 1:
            stream.offer(release, 1)
            stream.answer(1)
            begin_content(stream, lineage, 2)
            send_chunk(stream, 2, 0, middle)
            until(lambda: device.store.partials() == {PART.sha256: middle}, "half of it")
            return
        stream.beat()
        (partial,) = stream.hello.partials
        assert partial == sync_pb2.Partial(sha256=PART.sha256, size=middle)
        begin_content(stream, lineage, 1)
        send_chunk(stream, 1, middle, len(CONTENT))
        commit(stream, 1, sum_of(ALL))
        stream.answer(1)
        stream.wait_for(lambda _: False, 60)

    house.script = script
    device.updater().start()
    until(lambda: device.store.genome_count() == 3, "all rows")
    view = device.store.genomes()
    assert [view.row(row.subject) for row in ALL] == ALL
    assert device.store.partials() == {}
    assert device.store.genome_cursor() == b"at 1"


def patch(*changes: tuple[bytes, int, dict[int, int]]) -> sync_pb2.GenomePatch:
    made = sync_pb2.GenomePatch(
        subject_prefixes=b"".join(subject[:8] for subject, _, _ in changes),
        counts=[len(markers) for _, _, markers in changes],
        consents=[consents for _, consents, _ in changes],
    )
    for _, _, markers in changes:
        indices = sorted(markers)
        made.index_deltas.extend(b - a for a, b in zip([0, *indices], indices, strict=False))
        made.strengths += bytes(markers[index] for index in indices)
    return made


def test_changed_markers_are_applied_and_another_sum_asks_for_all_rows(
    house: ContractServer, device: Device
) -> None:
    release, lineage = house.publisher.release(1), house.publisher.lineage
    cursors: list[bytes] = []
    answers: list[sync_pb2.SyncRequest | None] = []
    after = [a_row(ANNA, (1, 41), (7, 5)), a_row(BEN, (2, 8)), a_row(CLEO)]
    changed = patch((ANNA, 2, {1: 41, 3: 0, 7: 5}))

    def send_patch(stream: Stream, nonce: int, row_sum: int) -> None:
        stream.send(
            begin=sync_pb2.Begin(
                nonce=nonce, kind=sync_pb2.Begin.KIND_GENOMES, lineage=lineage, rows=1
            )
        )
        stream.send(put=sync_pb2.Put(nonce=nonce, patch=changed))
        commit(stream, nonce, row_sum)
        answers.append(stream.answer(nonce))

    def script(stream: Stream) -> None:
        cursors.append(stream.hello.genome_cursor)
        if len(cursors) == 1:
            stream.offer(release, 1)
            stream.answer(1)
        begin_content(stream, lineage, 2)
        send_chunk(stream, 2, 0, len(CONTENT))
        commit(stream, 2, sum_of(ALL))
        stream.answer(2)
        send_patch(stream, 3, sum_of(after))
        send_patch(stream, 4, sum_of(after))
        if len(cursors) == 1:
            send_patch(stream, 5, sum_of(ALL))
        stream.wait_for(lambda _: False, 60)

    house.script = script
    device.updater().start()
    until(lambda: len(cursors) == 2, "a new stream")
    assert cursors == [b"", b""], "it asks for all of them"
    said = [answer.nack.reason if answer else "" for answer in answers[:3]]
    assert said == ["", "", "DIGEST"], "a patch can be applied twice"
    until(lambda: len(answers) == 5, "once more")
    view = device.store.genomes()
    assert [view.row(row.subject) for row in after] == after
    assert device.store.genome_cursor() == b"at 4"


def test_a_patch_of_a_row_that_is_not_here_asks_for_all_rows(
    house: ContractServer, device: Device
) -> None:
    release, lineage = house.publisher.release(1), house.publisher.lineage
    cursors: list[bytes] = []

    def script(stream: Stream) -> None:
        cursors.append(stream.hello.genome_cursor)
        stream.offer(release, 1)
        stream.answer(1)
        send_rows(stream, lineage, 2, ANNA)
        stream.answer(2)
        if len(cursors) == 1:
            begin = sync_pb2.Begin(
                nonce=3, kind=sync_pb2.Begin.KIND_GENOMES, lineage=lineage, rows=1
            )
            stream.send(begin=begin)
            stream.send(put=sync_pb2.Put(nonce=3, patch=patch((BEN, 2, {1: 5}))))
            commit(stream, 3, 0, total=1)
        stream.wait_for(lambda _: False, 60)

    house.script = script
    device.updater().start()
    until(lambda: cursors[1:] == [b""], "all rows are asked for")
    assert device.store.genomes().row(ANNA) is not None
