"""A compiled release decides as the one that it was made of, and is believed only when whole."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import EdgeClient
from edge_sdk.context import Context
from edge_sdk.decision import Decision
from edge_sdk.engine.compiled import Frozen, Specs, freeze
from edge_sdk.engine.decide import decide
from edge_sdk.engine.release import Release
from edge_sdk.messages import lineage_of, partly
from edge_sdk.store import compiled
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.installing import read_parts
from genome_edge.v1 import dna_pb2, release_pb2
from tests.unit.device_client import FAST, MOMENT
from tests.unit.device_town import MARKERS, OFFERS, Town, customer, filled

CELL = 0x8A2A1072B59FFFF
RICH: tuple[dict[str, Any], ...] = (
    *OFFERS,
    {"id": "here", "content": {"title": "Here"}, "areas": {"cells": ["852a1073fffffff"]}},
    {"id": "near", "near": ["hotel"], "exclusivity_group": "g", "priority": 0},
    {"id": "both", "exclusivity_group": "g", "all_of": ["activity:walk"], "days": ["mon", "fri"]},
    {"id": "none", "none_of": ["activity:walk"], "any_of": ["place:hotel", "service:taxi"]},
    {"id": "capped", "caps": [{"limit": 2, "window_hours": 24}], "channels": ["kiosk"]},
)


def frozen(release: Release, parts: dict[str, bytes]) -> Release:
    pieces: list[bytes] = []
    freeze(release, lambda piece: pieces.append(bytes(piece)))
    return Frozen(memoryview(b"".join(pieces))).release(parts, release.assets)


def both(tmp_path: Path) -> tuple[Release, Release]:
    filled(tmp_path / "store", Town(offers=RICH))
    store = DeviceStore.open(tmp_path / "store")
    stored = store.active_release()
    assert stored is not None
    parts = read_parts(store.read_part, stored.manifest)
    release = Release.from_parts(stored.manifest, parts)
    release.warm()
    store.close()
    return release, frozen(release, parts)


def contents(decision: Decision) -> list[Any]:
    return [(slot.offer and dict(slot.offer.content), slot) for slot in decision.slots]


def test_it_decides_and_explains_as_before(tmp_path: Path) -> None:
    release, again = both(tmp_path)
    rng = random.Random(1)
    for number in range(300):
        context = Context(
            cell=f"{CELL:x}" if rng.random() < 0.5 else None,
            place=rng.choice([None, "hotel"]),
            activity=rng.choice([None, "walk", "flight-search"]),
            attributes={"service": "taxi"} if rng.random() < 0.3 else {},
        )
        given: dict[str, Any] = {
            "seed": rng.getrandbits(64),
            "decision_id": bytes(16),
            "now_ms": 1_790_000_000_000 + number * 7 * 3_600_000,
        }
        placement = rng.choice(["lobby", "feed"])
        one, _ = decide(release, context, placement, 3, **given)
        other, _ = decide(again, context, placement, 3, **given)
        assert contents(one) == contents(other)
        if number % 50 == 0:
            assert one.explain().losers == other.explain().losers


def test_everything_of_it_is_as_before(tmp_path: Path) -> None:
    release, again = both(tmp_path)
    assert again.version == release.version
    assert again.manifest == release.manifest
    assert again.schema == release.schema
    assert again.vocabulary.markers == release.vocabulary.markers
    assert list(again.catalogue.offers) == list(release.catalogue.offers)
    assert again.catalogue.offers[-1] == release.catalogue.offers[-1]
    assert [one.id for one in again.catalogue.offers[1:3]] == again.catalogue.ids[1:3]
    assert again.catalogue.caps == release.catalogue.caps
    assert again.placements.keys() == release.placements.keys()
    assert (again.scoring.vectors == release.scoring.vectors).all()
    with pytest.raises(IndexError):
        again.catalogue.offers[len(RICH)]
    again.check_golden()


def test_no_position_is_in_it(tmp_path: Path) -> None:
    release, _ = both(tmp_path)
    decide(release, Context(cell=f"{CELL:x}"), "lobby")
    assert release.catalogue._areas._known
    pieces: list[bytes] = []
    freeze(release, lambda piece: pieces.append(bytes(piece)))
    data = b"".join(pieces)
    assert CELL.to_bytes(8, "little") not in data
    assert CELL.to_bytes(9, "little") not in data


def test_the_reader_makes_nothing_but_what_is_of_a_release() -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    through_ours = b"\x80\x04\x8c\x18edge_sdk.engine.compiled\x8c\x09io.FileIO\x93."
    things = [pickle.dumps(thing) for thing in (Evil(), Path("/"), subprocess.Popen)]
    for data in (*things, through_ours):
        head = len(data).to_bytes(8, "little") + bytes(8)
        with pytest.raises(pickle.UnpicklingError):
            Frozen(memoryview(head + bytes(48) + data))


# In a store -------------------------------------------------------------------------------------


def opened(store: Path) -> None:
    """Open and close a store as a process does."""
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        decision = edge.decide(MOMENT, "lobby", 2, customer=customer(1))
        assert decision.offer is not None
        assert decision.offer.content["title"]
        assert edge.status.cause is None


def files(store: Path) -> list[Path]:
    return sorted((store / compiled.FOLDER).iterdir())


def test_the_next_process_starts_from_it(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    opened(store)
    (path,) = files(store)
    made = path.stat()
    opened(store)
    assert path.stat().st_mtime_ns == made.st_mtime_ns
    assert path.stat().st_mode & 0o777 == 0o600


def filled_store(tmp_path: Path) -> Path:
    filled(tmp_path / "store", Town(offers=RICH))
    return tmp_path / "store"


@pytest.mark.parametrize("at", [0, 9, 41, 100, 129, 700, -1])
def test_a_damaged_one_is_not_believed_and_made_anew(tmp_path: Path, at: int) -> None:
    store = filled_store(tmp_path)
    opened(store)
    (path,) = files(store)
    whole = path.read_bytes()
    torn = bytearray(whole)
    torn[at] ^= 1
    path.write_bytes(torn)
    opened(store)
    (path,) = files(store)
    # Bytes that mean nothing may differ; what is read is what was written.
    assert path.read_bytes()[128:] == whole[128:]


@pytest.mark.parametrize("size", [0, 1, 127, 128, 500])
def test_neither_is_one_that_was_cut(tmp_path: Path, size: int) -> None:
    store = filled_store(tmp_path)
    opened(store)
    (path,) = files(store)
    os.truncate(path, size)
    opened(store)
    assert files(store)[0].stat().st_size > 500


def test_a_whole_one_that_makes_no_sense_is_made_anew(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    opened(store)
    (path,) = files(store)
    key = bytes.fromhex(path.name)
    compiled.write(store, key, lambda write: write(bytes(1000)))
    opened(store)
    body = compiled.read(store, key)
    assert body is not None
    assert Frozen(body).manifest.version == 1


def test_only_those_of_releases_that_are_held_stay(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    names = set()
    for version in (1, 2, 3):
        if version > 1:
            device = DeviceStore.open(store)
            Town(version=version, offers=RICH[:version]).commit(device)
            device.close()
        opened(store)
        names.add(frozenset(path.name for path in files(store)))
        assert len(files(store)) == min(version, 2)
    assert len(names) == 3


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    folder = tmp_path / compiled.FOLDER
    folder.mkdir()
    held, left = bytes(32), bytes([7] * 32)
    for name in (held.hex(), f".{held.hex()}.draft", left.hex(), f".{left.hex()}.draft"):
        (folder / name).touch()
    compiled.keep_only(tmp_path, [held])
    assert {path.name for path in folder.iterdir()} == {held.hex(), f".{held.hex()}.draft"}


def test_other_code_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled_store(tmp_path)
    opened(store)
    before = files(store)
    monkeypatch.setattr(compiled, "_code", lambda: b"another version")
    opened(store)
    assert files(store) != before


def test_a_start_from_it_reads_no_message_and_opens_no_runtime(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    opened(store)
    script = (
        "import sys\n"
        "from edge_sdk import Context, EdgeClient\n"
        f"edge = EdgeClient({str(store)!r})\n"
        "assert edge.wait_ready(10)\n"
        f"d = edge.decide(Context(activity='walk'), 'lobby', 2, customer={customer(1)!r})\n"
        "seen = set(sys.modules)\n"
        "assert d.offer.content and d.genome_used\n"
        "heavy = {'google.protobuf.descriptor', 'onnxruntime', 'numpy.ma', 'numpy.random'}\n"
        "assert not heavy & seen, heavy & seen\n"
        "edge.close()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Messages that are known in part ----------------------------------------------------------------


@pytest.mark.parametrize(
    "lineage",
    [
        dna_pb2.Lineage(),
        dna_pb2.Lineage(
            vocabulary_lineage=bytes(range(16)), vocabulary_size=2**32 - 1, schema_epoch=3,
            landmark_hour=2**62, quantiser=2,
        ),
        dna_pb2.Lineage(landmark_hour=-1),
    ],
)  # fmt: skip
def test_a_lineage_is_read_without_the_library(lineage: dna_pb2.Lineage) -> None:
    read = lineage_of(lineage.SerializeToString())
    for field in lineage.DESCRIPTOR.fields:
        assert getattr(read, field.name) == getattr(lineage, field.name)
    assert read == lineage
    assert lineage == read
    assert read.SerializeToString() == lineage.SerializeToString()


def test_what_is_no_lineage_is_left_to_the_library() -> None:
    newer = dna_pb2.Lineage(quantiser=2).SerializeToString() + b"\x7d\x00\x00\x00\x00"
    assert lineage_of(newer).quantiser == 2
    with pytest.raises(Exception, match="parsing"):
        lineage_of(b"\x0a\xff")


def test_a_message_known_in_part_answers_for_the_rest() -> None:
    spec = release_pb2.OfferSpec(id="taxi", value_micros=5)
    known = partly("release_pb2", "OfferSpec", spec.SerializeToString(), id="taxi")
    assert (known.id, known.value_micros) == ("taxi", 5)
    assert known == spec
    assert known != release_pb2.OfferSpec()
    with pytest.raises(AttributeError):
        _ = known.unknown


def test_specs_are_a_sequence() -> None:
    offers = [release_pb2.OfferSpec(id=name) for name in MARKERS]
    specs = Specs.of(offers)
    assert list(specs) == offers
    assert specs[2:4] == offers[2:4]
    assert len(Specs.of([])) == 0
