"""Genome rows over real sockets, with a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.dna.schema import default_schema
from genome_edge.v1 import dna_pb2, sync_pb2
from tests.unit.contract_server import ContractServer, Stream, until
from tests.unit.devices import Device, enrolled, running
from tests.unit.publisher import ANNA, BEN, CLEO, Publisher, rows


@pytest.fixture
def house() -> Iterator[ContractServer]:
    with running() as server:
        yield server


@pytest.fixture
def device(house: ContractServer, tmp_path: Path) -> Iterator[Device]:
    with enrolled(house, tmp_path / "edge") as made:
        yield made


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
