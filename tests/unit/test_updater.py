"""Updater, enrolment and streaming over real sockets, with a real store and outbox."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import streaming
from edge_sdk.config import Config
from edge_sdk.entries import Entry
from edge_sdk.errors import (
    DiskFull,
    RefusedError,
    StoreCorrupt,
    TrustError,
    UnreachableError,
    UsageError,
)
from edge_sdk.frames import FrameKind
from edge_sdk.outbox import Outbox
from edge_sdk.schema import default_schema
from edge_sdk.store import DeviceStore
from edge_sdk.updater import Updater, enrol, identify
from edge_sdk.writer import Writer
from genome_edge.v1 import dna_pb2, event_pb2, identify_pb2, release_pb2, sync_pb2
from tests.unit.contract_server import (
    CODE,
    ContractServer,
    Publisher,
    Refuse,
    Stream,
    certificate,
    now_ms,
    until,
)

FAST = Config(reconnect_min_s=0.02, reconnect_max_s=0.2, heartbeat_s=0.2, group_commit_s=0.005)


@pytest.fixture
def house() -> Iterator[ContractServer]:
    server = ContractServer()
    yield server
    server.stop()


@dataclass
class Device:
    """An enrolled device."""

    store: DeviceStore
    outbox: Outbox
    writer: Writer
    config: Config = FAST
    changes: list[float] = field(default_factory=list)
    updaters: list[Updater] = field(default_factory=list)

    def updater(self, config: Config | None = None) -> Updater:
        made = Updater(
            self.store,
            self.outbox,
            config or self.config,
            lambda: self.changes.append(time.monotonic()),
        )
        self.updaters.append(made)
        return made

    def happen(self, word: str) -> None:
        event = event_pb2.Event(interaction=event_pb2.Interaction(interaction_id=word))
        body = event.SerializeToString()
        self.writer.put(Entry(FrameKind.INTERACTION, b"s" * 16, now_ms(), lambda: (body, b"")))

    @property
    def active(self) -> int:
        active = self.store.active_release()
        return active.version if active else 0


@pytest.fixture
def device(house: ContractServer, tmp_path: Path) -> Iterator[Device]:
    store = DeviceStore.open(tmp_path / "edge")
    enrol(house.address, CODE, store, "lobby", FAST)
    outbox = Outbox(store, FAST)
    writer = Writer(store, outbox, FAST)
    made = Device(store, outbox, writer)
    yield made
    for updater in made.updaters:
        assert updater.stop(5), "the threads end"
    writer.close(5)
    store.close()


def words(house: ContractServer) -> list[str]:
    return [event_pb2.Event.FromString(b).interaction.interaction_id for b in house.events()]


# Enrolment --------------------------------------------------------------------------------------


def test_enrolment_keeps_who_the_device_is(house: ContractServer, device: Device) -> None:
    identity = device.store.identity()
    assert identity is not None
    assert (identity.device_id, identity.tenant, identity.audience) == ("dev-1", "acme", "all")
    assert release_pb2.TrustRoot.FromString(identity.root) == house.publisher.root
    assert device.store.key_path.stat().st_mode & 0o777 == 0o600
    offset = device.store.server_offset_ms()
    assert offset is not None
    assert abs(offset) < 5_000
    with pytest.raises(UsageError, match="dev-1"):
        enrol(house.address, CODE, device.store, "again", FAST)


def test_a_wrong_code_leaves_a_store_that_can_try_again(
    house: ContractServer, tmp_path: Path
) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    with pytest.raises(RefusedError) as caught:
        enrol(house.address, "wrong", store, "lobby", FAST)
    assert caught.value.reason == "CODE_INVALID"
    assert store.identity() is None
    key = store.key_path.read_bytes()
    enrol(house.address, f" {CODE}\n", store, "lobby", FAST)
    assert store.key_path.read_bytes() == key, "the device stays who it was"
    store.close()


def test_a_code_is_for_one_device_and_a_lost_answer_is_made_good(
    house: ContractServer, tmp_path: Path
) -> None:
    one, two = DeviceStore.open(tmp_path / "one"), DeviceStore.open(tmp_path / "two")
    enrol(house.address, CODE, one, "one", FAST)
    with pytest.raises(RefusedError, match="refused"):
        enrol(house.address, CODE, two, "two", FAST)
    (one.path / "identity" / "identity.json").unlink()  # as if the answer had never come
    assert enrol(house.address, CODE, one, "one", FAST).device_id == "dev-1"
    one.close()
    two.close()


def test_enrolment_at_a_server_that_answers_for_somebody_else(
    house: ContractServer, tmp_path: Path
) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    house.publisher = Publisher(tenant="other")
    with pytest.raises(TrustError, match="tenants"):
        enrol(house.address, CODE, store, "lobby", FAST)
    assert store.identity() is None
    store.close()


def test_the_authority_given_at_enrolment_is_kept_with_the_store(tmp_path: Path) -> None:
    credentials, ca_file = certificate(tmp_path)
    house = ContractServer(credentials)
    store = DeviceStore.open(tmp_path / "edge")
    try:
        enrol(house.address, CODE, store, "lobby", Config(ca_file=ca_file))
        ca_file.unlink()
        house.release = house.publisher.release(1)
        updater = Updater(store, Outbox(store), FAST, lambda: None)
        assert updater.sync_once(10).release == 1
    finally:
        house.stop()
        store.close()


# Releases ---------------------------------------------------------------------------------------


def test_a_release_arrives_and_a_newer_one_replaces_it(
    house: ContractServer, device: Device
) -> None:
    house.release = house.publisher.release(1)
    updater = device.updater()
    updater.start()
    until(lambda: device.active == 1, "the first release")
    until(lambda: updater.state.connected, "connected")
    assert device.changes
    house.release = house.publisher.release(2)
    until(lambda: device.active == 2, "the second release")
    previous = device.store.previous_release()
    assert previous is not None
    assert previous.version == 1
    assert updater.state.cause is None
    assert updater.state.last_contact_ms > 0


def test_a_cut_download_goes_on_with_what_is_lacking(house: ContractServer, device: Device) -> None:
    release = house.release = house.publisher.release(1)
    model = max(release.manifest.parts, key=lambda part: part.size)
    sent: list[set[bytes]] = []

    def cut_in_the_model(stream: Stream) -> None:
        lacking = set(release.parts) - set(stream.hello.held_parts)
        sent.append(lacking)
        if len(sent) == 1:
            manifest = sync_pb2.Begin(
                nonce=1, kind=sync_pb2.Begin.KIND_RELEASE, manifest=release.signed
            )
            stream.send(begin=manifest)
            for part in release.manifest.parts:
                if part is not model:
                    stream.send_part(part, release.parts[part.sha256], 1)
            stream.send_part(model, release.parts[model.sha256][:100], 1, chunk=50)
            until(lambda: len(device.store.held_parts()) == len(release.parts) - 1, "all but one")
            return  # the stream ends in the middle of a part
        house.keep_current(stream)

    house.script = cut_in_the_model
    device.updater().start()
    until(lambda: device.active == 1, "the release")
    assert sent[1] == {model.sha256}, "the parts that were whole are not sent again"


def test_a_server_killed_in_the_middle_of_a_part(house: ContractServer, device: Device) -> None:
    release = house.release = house.publisher.release(1)
    model = max(release.manifest.parts, key=lambda part: part.size)
    reached = threading.Event()

    def stall(stream: Stream) -> None:
        stream.send(
            begin=sync_pb2.Begin(nonce=1, kind=sync_pb2.Begin.KIND_RELEASE, manifest=release.signed)
        )
        stream.send_part(model, release.parts[model.sha256][:64], 1)
        reached.set()
        stream.wait_for(lambda _: False, 60)

    house.script = stall
    updater = device.updater()
    updater.start()
    assert reached.wait(10)
    house.stop()
    until(lambda: updater.state.cause is not None and not updater.state.connected, "noticed")
    assert isinstance(updater.state.cause, UnreachableError)
    assert device.active == 0
    house.script = house.keep_current
    house.start()
    until(lambda: device.active == 1, "the release from the restarted server")
    until(lambda: updater.state.cause is None, "all is well again")


def bad_model(release: bytes = b"not a model") -> dict[str, bytes]:
    return {"model": release}


def golden(value: float) -> dict[str, bytes]:
    vector = release_pb2.GoldenVector(indices=[1], weights=[1.0], offers=["taxi"], values=[value])
    return {"golden": release_pb2.GoldenVectors(vectors=[vector]).SerializeToString()}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: p.release(2, key=Publisher().key), "SIGNATURE"),
        (lambda p: p.release(2, edit=lambda m: setattr(m, "expires_ms", 1)), "EXPIRED"),
        (lambda p: p.release(2, edit=lambda m: setattr(m.parts[0], "size", 1 << 40)), "TOO_LARGE"),
        (lambda p: p.release(2, change=bad_model()), "MODEL"),
        (lambda p: p.release(2, change=golden(0.75)), "GOLDEN"),
        (lambda p: p.release(2, change={"offers": b"\xff\xff"}), "FORMAT"),
        (lambda p: p.release(2, edit=lambda m: setattr(m.lineage, "schema_epoch", 9)), "LINEAGE"),
    ],
)
def test_a_release_that_cannot_be_used_is_refused_and_the_last_good_one_stays(
    house: ContractServer, device: Device, make: Callable[[Publisher], Any], reason: str
) -> None:
    house.release = house.publisher.release(1)
    updater = device.updater()
    updater.start()
    until(lambda: device.active == 1, "the good release")
    house.release = make(house.publisher)
    until(lambda: updater.state.last_nack.startswith(reason), f"refused for {reason}")
    assert device.active == 1
    said = house.streams[0].said
    (nack,) = until(lambda: [m.nack for m in said if m.HasField("nack")], "the Nack arrived")
    assert nack.reason == reason
    assert nack.detail
    until(lambda: any(m.heartbeat.last_nack for m in house.streams[0].said), "in a heartbeat")
    # A better one is taken on the same stream.
    house.release = house.publisher.release(3)
    until(lambda: device.active == 3, "the next release")
    until(lambda: updater.state.last_nack == "", "all is well")
    assert len(house.streams) == 1


def test_a_chunk_of_other_bytes_is_refused_and_fetched_again(
    house: ContractServer, device: Device
) -> None:
    release = house.publisher.release(1)
    forged = replace(release, parts={s: bytes(reversed(c)) for s, c in release.parts.items()})

    def forge_once(stream: Stream) -> None:
        house.release = forged if len(house.streams) == 1 else release
        house.keep_current(stream)

    house.script = forge_once
    device.updater().start()
    until(lambda: device.active == 1, "the release from an honest stream")
    nacks = [m.nack.reason for m in house.streams[0].said if m.HasField("nack")]
    assert nacks == ["DIGEST"]


def test_a_full_disk_is_said_and_tried_again(
    house: ContractServer, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, full = device.store.stage_part, threading.Event()
    full.set()

    def stage_part(sha256: bytes, data: bytes) -> None:
        if full.is_set():
            raise DiskFull("no room is left")
        stage(sha256, data)

    monkeypatch.setattr(device.store, "stage_part", stage_part)
    house.release = house.publisher.release(1)
    updater = device.updater()
    updater.start()
    until(lambda: updater.state.last_nack.startswith("DISK_FULL"), "refused for that")
    full.clear()
    until(lambda: device.active == 1, "tried again by itself")


def test_an_older_release_is_refused(house: ContractServer, device: Device) -> None:
    house.release = house.publisher.release(5)
    updater = device.updater()
    updater.start()
    until(lambda: device.active == 5, "the release")
    updater.stop(5)

    def go_back(stream: Stream) -> None:
        stream.offer(house.publisher.release(4), 1)
        stream.answer(1)
        stream.wait_for(lambda _: False, 60)

    house.script = go_back
    updater = device.updater()
    updater.start()
    until(lambda: updater.state.last_nack.startswith("OLDER"), "refused")
    assert device.active == 5
    assert device.store.highest_seen() == 5


def test_a_clock_that_believes_in_1970_is_corrected_and_remembered(
    house: ContractServer, device: Device
) -> None:
    house.skew_ms = 20_000 * 86_400_000  # seen from the server, this device is decades behind
    house.release = house.publisher.release(
        1, edit=lambda m: setattr(m, "expires_ms", now_ms() + house.skew_ms + 60_000)
    )
    device.updater().start()
    until(lambda: device.active == 1, "the release, in spite of the clock")
    assert house.clock_checks == 1
    offset = device.store.server_offset_ms()
    assert offset is not None
    # The greeting of this server tells the true time again.
    assert device.updaters[0].state.cause is None


def test_goodbye_is_honoured(house: ContractServer, device: Device) -> None:
    times: list[float] = []

    def leave(stream: Stream) -> None:
        times.append(time.monotonic())
        stream.beat()
        if len(times) == 1:
            stream.send(goodbye=sync_pb2.Goodbye(retry_after_ms=600))
        stream.wait_for(lambda _: False, 60)

    house.script = leave
    updater = device.updater()
    updater.start()
    until(lambda: len(times) == 2, "back again")
    assert times[1] - times[0] >= 0.6


def test_a_silent_stream_is_given_up(house: ContractServer, device: Device) -> None:
    def fall_silent(stream: Stream) -> None:
        stream.beat()
        stream.wait_for(lambda _: False, 60)

    house.script = fall_silent
    updater = device.updater(Config(reconnect_min_s=0.02, heartbeat_s=0.1, stream_silence_s=0.3))
    updater.start()
    until(lambda: len(house.streams) >= 2, "opened anew")
    until(lambda: "said nothing" in str(updater.state.cause), "and says why", 5)
    assert any(m.HasField("heartbeat") for m in house.streams[0].said)


def test_a_revoked_device_says_so_and_keeps_its_events(
    house: ContractServer, device: Device
) -> None:
    house.revoked = True
    updater = device.updater()
    updater.start()
    device.happen("kept")
    until(
        lambda: (
            isinstance(updater.state.cause, RefusedError)
            and updater.state.cause.reason == "CREDENTIAL_REVOKED"
        ),
        "the status says so",
    )
    assert device.outbox.unsent() == 1
    house.revoked = False
    updater.kick()
    until(lambda: words(house) == ["kept"], "sent when it is believed again")


def test_a_kick_in_a_loop_does_not_hammer(house: ContractServer, device: Device) -> None:
    house.on_report = lambda _: Refuse("CREDENTIAL_REVOKED")
    updater = device.updater(replace(FAST, reconnect_max_s=30.0))
    updater.start()
    device.happen("kept")
    until(lambda: house.reports, "the first attempt")
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        updater.kick()
        time.sleep(0.005)
    assert 2 <= len(house.reports) <= 8


# Genomes ----------------------------------------------------------------------------------------


def rows(lineage: dna_pb2.Lineage, *subjects: bytes) -> dna_pb2.GenomeBlock:
    n = len(subjects)
    return dna_pb2.GenomeBlock(
        lineage=lineage,
        subjects=b"".join(subjects),
        consents=[2] * n,
        as_of_hours=[3] * n,
        counts=[1] * n,
        index_deltas=[1] * n,
        strengths=bytes([40] * n),
    )


ANNA, BEN, CLEO = b"a" * 16, b"b" * 16, b"c" * 16


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
        stream.send(delete=sync_pb2.Delete(nonce=nonce, subject=subject, reason=2))
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


# Reports ----------------------------------------------------------------------------------------


def test_an_event_is_at_the_server_at_once(house: ContractServer, device: Device) -> None:
    device.updater().start()
    device.happen("first")
    until(lambda: house.report_times, "connected and sent")
    waits = []
    for n in range(10):
        before = len(house.report_times)
        device.happen(f"n{n}")
        happened = time.monotonic()
        until(lambda before=before: len(house.report_times) > before, "sent")
        waits.append(house.report_times[-1] - happened)
    assert sorted(waits)[5] < 0.05
    until(lambda: len(words(house)) == 11, "all of them")
    until(lambda: device.outbox.unsent() == 0, "and acknowledged")


def test_what_happened_while_the_server_was_away_arrives_once(
    house: ContractServer, device: Device
) -> None:
    updater = device.updater()
    updater.start()
    until(lambda: updater.state.connected, "connected")
    house.stop()
    for n in range(50):
        device.happen(f"n{n}")
    until(lambda: updater.state.cause is not None, "noticed")
    lost = iter(["lose", "lose"])
    house.on_report = lambda _: next(lost, None)
    house.start()
    until(lambda: device.outbox.unsent() == 0, "the outbox empty")
    assert words(house) == [f"n{n}" for n in range(50)]
    assert house.reports[0].frames == house.reports[1].frames == house.reports[2].frames


def test_a_release_that_cannot_be_had_does_not_keep_events_here(
    house: ContractServer, device: Device
) -> None:
    house.script = lambda stream: stream.out.put(None)  # ends every stream at once
    device.updater().start()
    device.happen("sent")
    until(lambda: words(house) == ["sent"], "sent all the same")


# Once -------------------------------------------------------------------------------------------


def test_once_brings_everything_and_ends(house: ContractServer, device: Device) -> None:
    house.release = house.publisher.release(1)
    device.happen("before")
    device.writer.flush(5)
    outcome = device.updater().sync_once(10)
    assert (outcome.release, outcome.genomes, outcome.reported) == (1, 0, 1)
    assert words(house) == ["before"]
    assert device.updater().sync_once(10).reported == 0, "and again, with nothing to do"


def test_once_with_a_server_that_never_says_that_this_was_all(
    house: ContractServer, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_QUIET_S", 0.3)
    monkeypatch.setattr(streaming, "_FIRST_HEARTBEAT_S", 0.1)

    def shy(stream: Stream) -> None:
        stream.offer(house.publisher.release(1), 1)
        stream.answer(1)
        stream.wait_for(lambda _: False, 60)

    house.script = shy
    assert device.updater().sync_once(20).release == 1


def test_once_raises_what_went_wrong(house: ContractServer, device: Device) -> None:
    house.release = house.publisher.release(1, change=golden(0.9))
    with pytest.raises(TrustError, match="golden") as caught:
        device.updater().sync_once(10)
    assert caught.value.reason == "GOLDEN"
    house.stop()
    with pytest.raises(UnreachableError):
        device.updater().sync_once(2)
    updater = device.updater()
    updater.start()
    with pytest.raises(UsageError, match="already"):
        updater.sync_once(1)


def test_once_does_not_wait_for_ever(house: ContractServer, device: Device) -> None:
    house.script = lambda stream: stream.wait_for(lambda _: False, 60) and None
    before = time.monotonic()
    with pytest.raises(UnreachableError, match="in time"):
        device.updater().sync_once(0.5)
    assert time.monotonic() - before < 5


# Who is here ------------------------------------------------------------------------------------


def test_identify(house: ContractServer, device: Device) -> None:
    lineage = house.publisher.lineage
    asked: list[identify_pb2.IdentifyRequest] = []

    def answer(request: identify_pb2.IdentifyRequest) -> identify_pb2.IdentifyResponse:
        asked.append(request)
        return identify_pb2.IdentifyResponse(subject=ANNA, genome=rows(lineage, ANNA), ttl_s=900)

    house.identify = answer
    found = identify(device.store, FAST, "token", lineage, 5)
    assert found is not None
    assert (found.subject, found.ttl_s) == (ANNA, 900)
    assert found.block == rows(lineage, ANNA)
    assert asked[0].presence_token == "token"
    assert asked[0].lineage == lineage


def test_identify_nobody_or_a_row_that_cannot_be_read(
    house: ContractServer, device: Device
) -> None:
    lineage = house.publisher.lineage
    for reason in ("NOT_IN_AUDIENCE", "TOKEN_INVALID", "TOKEN_EXPIRED"):
        house.identify = lambda _, reason=reason: Refuse(reason)
        assert identify(device.store, FAST, "token", lineage, 5) is None
    other = dna_pb2.Lineage(schema_epoch=77)
    for block in (rows(other, ANNA), rows(lineage, BEN), rows(lineage, ANNA, BEN)):
        house.identify = lambda _, block=block: identify_pb2.IdentifyResponse(
            subject=ANNA, genome=block
        )
        found = identify(device.store, FAST, "token", lineage, 5)
        assert found is not None
        assert found.block is None
    house.identify = lambda _: Refuse("CREDENTIAL_REVOKED")
    with pytest.raises(RefusedError):
        identify(device.store, FAST, "token", lineage, 5)
    house.stop()
    with pytest.raises(UnreachableError):
        identify(device.store, FAST, "token", lineage, 2)


# Odds and ends ----------------------------------------------------------------------------------


def test_a_store_that_is_not_enrolled_is_left_alone(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    updater = Updater(store, Outbox(store), FAST, lambda: None)
    updater.start()
    assert not updater.state.connected
    assert updater.stop(1)
    with pytest.raises(UsageError, match="enrol"):
        updater.sync_once(1)
    with pytest.raises(UsageError, match="enrol"):
        identify(store, FAST, "token", dna_pb2.Lineage(), 1)
    store.close()


def test_a_key_that_is_gone_is_said_and_does_not_end_the_threads(
    house: ContractServer, device: Device
) -> None:
    key = device.store.key_path.read_bytes()
    device.store.key_path.write_bytes(b"damaged")
    updater = device.updater()
    updater.start()
    until(lambda: isinstance(updater.state.cause, StoreCorrupt), "said")
    device.store.key_path.write_bytes(key)
    until(lambda: updater.state.connected, "and mended")


def test_it_can_be_stopped_and_started_again(house: ContractServer, device: Device) -> None:
    updater = device.updater()
    for version in (1, 2):
        house.release = house.publisher.release(version)
        updater.start()
        updater.start()  # harmless
        until(lambda version=version: device.active == version, "the release")
        began = time.monotonic()
        assert updater.stop(5)
        assert time.monotonic() - began < 3
        assert not updater.state.connected
    alive = [t.name for t in threading.enumerate() if t.name.startswith("genome-edge-")]
    assert alive == ["genome-edge-writer"]
