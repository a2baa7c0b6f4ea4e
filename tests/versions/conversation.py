"""The bytes of sync, kept: `python -m tests.versions.conversation` writes those of this version.

A server and a device of this checkout talk over a real socket, in two streams: everything comes to
a new device, and then what has changed (keys, a stopped offer, a release, genomes, people who left,
withdrew or were erased). Both sides' messages, and when the device heard them, go into
tests/versions/<version>/sync.json. Write it anew for as long as the version is not released, and
only where the contract has changed on purpose; after that it stays as it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import grpc

from edge_sdk import Config
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.patching import sum_of
from edge_sdk.sync.enrolment import enrol
from edge_sdk.sync.transport import Link, SyncCall
from edge_sdk.sync.updater import Updater
from genome_edge.v1 import sync_pb2
from genome_server.home import Tenant
from genome_server.releases.rotation import Wanted, rotate
from genome_server.releases.stops import pause
from genome_server.services.serve import House
from tests.serving import (
    AGREED,
    RawDevice,
    add_code,
    frames,
    interaction,
    make_home,
    now_ms,
    offer,
    publish_release,
    serving,
    until,
)
from tests.versions.released import HERE

NAME = "sync.json"
_CUSTOMERS = ("ann", "bob", "eve", "joe", "sue", "tom")


class Heard(NamedTuple):
    """One message: when, who said it ("device" or "server"), and its bytes."""

    at_ms: int
    who: str
    said: bytes


class Kept(NamedTuple):
    """A conversation: what the device was enrolled with, its streams, and what it then held."""

    root: bytes
    streams: list[list[Heard]]
    held: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Kept:
        """From its file."""
        said = json.loads(path.read_text())
        streams = [
            [Heard(at_ms, who, base64.b64decode(text)) for at_ms, who, text in stream]
            for stream in said["streams"]
        ]
        return cls(base64.b64decode(said["root"]), streams, said["held"])

    def write(self, path: Path) -> None:
        """A message in a line."""
        streams = [
            [(at_ms, who, base64.b64encode(said).decode()) for at_ms, who, said in stream]
            for stream in self.streams
        ]
        root = base64.b64encode(self.root).decode()
        text = json.dumps({"root": root, "held": self.held, "streams": streams})
        path.write_text(text.replace("], [", "],\n[") + "\n")


def held(store: DeviceStore) -> dict[str, Any]:
    """What a device has after a stream, as JSON."""
    active, standing, view = store.active_release(), store.standing(), store.genomes()
    assert active is not None
    assert standing.timestamp is not None
    return {
        "release": active.version,
        "assets": sorted(store.assets_held(active.manifest)),
        "root": standing.root.version,
        "timestamp": standing.timestamp.version,
        "stopped": sorted(standing.stopped),
        "rows": view.count,
        "row_sum": f"{sum_of(view.rows()):016x}",
        "known": [name for name in _CUSTOMERS if view.subject_of(name)],
        "may_be_read": [
            name for name in _CUSTOMERS if view.consents(view.subject_of(name) or b"") & AGREED
        ],
    }


class _Recorder(SyncCall):
    """A stream that keeps what is said on it."""

    heard: list[Heard]

    def __iter__(self) -> Iterator[sync_pb2.SyncResponse]:
        for message in super().__iter__():
            self.heard.append(Heard(now_ms(), "server", message.SerializeToString()))
            yield message


def record(store: DeviceStore) -> list[Heard]:
    """Sync once; everything that was said."""
    heard: list[Heard] = []
    open_sync = Link.open_sync

    def said(requests: Iterator[sync_pb2.SyncRequest]) -> Iterator[sync_pb2.SyncRequest]:
        for request in requests:
            heard.append(Heard(now_ms(), "device", request.SerializeToString()))
            yield request

    def recorded(link: Link, requests: Iterator[sync_pb2.SyncRequest]) -> SyncCall:
        call = open_sync(link, said(requests))
        call.__class__, vars(call)["heard"] = _Recorder, heard
        return call

    with mock.patch.object(Link, "open_sync", recorded):
        Updater(store, Outbox(store, Config()), Config(), lambda: None).sync_once(30)
    return heard


def converse(folder: Path) -> Kept:
    """Have a conversation."""
    home = make_home(folder / "home", _CUSTOMERS)
    tenant = home.tenant("default")
    picture = b"picture"
    name = hashlib.sha256(picture).hexdigest()
    (tenant.parts_dir / name).write_bytes(picture)
    tenant.dna_path.write_text(tenant.dna_path.read_text() + "quantiser: 2\n")
    with closing(tenant.open_store()) as server:
        subjects = server.subjects_of("app", _CUSTOMERS)
        server.set_members("all", [one for name, one in subjects.items() if name != "tom"])
        assets = {"image": f"asset/{name[:16]}.png"}
        server.put_documents("offer", [offer("tour", "service:tour", assets=assets)])
    store = DeviceStore.open(folder / "store")
    with closing(store), serving(home) as house, grpc.insecure_channel(house.address) as channel:
        till = RawDevice(channel)
        till.enrol(add_code(tenant))
        _buy(till, subjects, 1, "soap", "bread")
        _publish(tenant, house)
        enrol(f"http://{house.address}", add_code(tenant), store, "kept", Config())
        identity = store.identity()
        assert identity is not None
        streams, after = [record(store)], [held(store)]
        _buy(till, subjects, 5, "soap")
        _change(tenant, till)
        _publish(tenant, house)
        streams.append(record(store))
        return Kept(identity.root, streams, [*after, held(store)])


def _buy(till: RawDevice, subjects: dict[str, bytes], first: int, *products: str) -> None:
    """Ann and Bob buy each of these."""
    bought = [
        interaction(subjects[name], "buy", product, f"{first}-{name}-{product}")
        for name in ("ann", "bob")
        for product in products
    ]
    till.report(first, frames(first, *bought), first + len(bought) - 1)


def _publish(tenant: Tenant, house: House) -> None:
    """A release, and the server knows of it and of all that was before."""
    made, room = publish_release(tenant), house.rooms[tenant.name]
    until(lambda: made in [row.version for row in room.in_force])


def _change(tenant: Tenant, till: RawDevice) -> None:
    """Everything else that a second stream can tell of."""
    with closing(tenant.open_store()) as store:
        subjects = store.subjects_of("app", _CUSTOMERS)
        until(lambda: [upto for *_, upto in store.applied_marks(till.id)] == [6])
        store.set_members("all", [one for name, one in subjects.items() if name != "sue"])
        store.set_consents(subjects["joe"], 0)
        store.erase_subject(subjects["eve"])
        rotate(tenant, store, Wanted("timestamp"))
        pause(tenant, store, ["taxi"])
        store.put_documents("offer", [offer("bath", "service:bath")])


def main() -> None:
    """Write the conversation of this version."""
    target = HERE / version("genome-edge-sdk")
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        converse(Path(name)).write(target / NAME)
    print(target / NAME, (target / NAME).stat().st_size)


if __name__ == "__main__":
    main()
