"""Devices that follow the contract of sync to the letter, for tests of what the server sends."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import accumulate
from typing import NamedTuple

import grpc
import numpy as np

from edge_sdk.dna.columns import row_sum_of
from edge_sdk.dna.content import decode
from edge_sdk.dna.genome import Row
from genome_edge.v1 import release_pb2, sync_pb2
from genome_server.home import Tenant
from tests.serving import (
    RawDevice,
    RawStream,
    add_code,
    frames,
    interaction,
)

#: Of devices of 0.1, and of those that take contents, patches, and what is in force.
FEATURES = ["offer-model-1", "quantiser-1", "squarecb"]
NEW = [*FEATURES, "assets-1", "genome-content-1", "quantiser-2", "trust-roles-1"]
LOOKUP_KEY = bytes(range(32))


def enrolled(channel: grpc.Channel, tenant: Tenant, audience: str = "all") -> RawDevice:
    device = RawDevice(channel)
    device.enrol(add_code(tenant, audience))
    return device


def subject_of(tenant: Tenant, name: str) -> bytes:
    with closing(tenant.open_store()) as store:
        subject = store.subject_of("app", name)
    assert subject is not None
    return subject


def lookup_hash(name: str, key: bytes = LOOKUP_KEY) -> bytes:
    return hmac.digest(key, name.encode(), "sha256")[:16]


class HeldRow(NamedTuple):
    """A row as a device holds it."""

    consents: int
    hour: int
    markers: dict[int, int]

    def sum(self, subject: bytes) -> int:
        """What it adds to the sum of all rows."""
        indices = sorted(self.markers)
        codes = np.array([self.markers[index] for index in indices], np.uint8)
        row = Row(subject, self.consents, self.hour, np.array(indices, np.uint32), codes)
        return row_sum_of(row)


class Copy:
    """What a device that follows the stream to the letter holds."""

    def __init__(self) -> None:
        self.release = 0
        self.parts: dict[bytes, bytes] = {}
        #: By subject: consents, hour, and the code of each marker.
        self.rows: dict[bytes, HeldRow] = {}
        self.lookups: dict[bytes, bytes] = {}
        self.cursor = b""
        self.marks: dict[tuple[bytes, int], int] = {}
        self.manifest = release_pb2.Manifest()
        #: The first bytes of contents of which the line broke, by SHA-256; whose rows were patched.
        self.partial: dict[bytes, bytes] = {}
        self.patched: list[bytes] = []

    def hello(self, device: RawDevice, **more: object) -> RawStream:
        hello: dict[str, object] = {
            "wants_genomes": True,
            "features": FEATURES,
            "active_release": self.release,
            "highest_release": self.release,
            "held_parts": list(self.parts),
            "partials": [
                sync_pb2.Partial(sha256=sha256, size=len(data))
                for sha256, data in self.partial.items()
            ],
            "genome_cursor": self.cursor,
            "lineage": self.manifest.lineage,
            **more,
        }
        return device.sync(**hello)

    def take(self, messages: list[sync_pb2.SyncResponse]) -> str:
        """Apply a transaction; what it was."""
        begin, commit = messages[0].begin, messages[-1].commit
        if begin.kind == sync_pb2.Begin.KIND_RELEASE:
            self._take_release(messages)
            return "release"
        if begin.kind == sync_pb2.Begin.KIND_ASSETS:
            self.parts |= self._arrived(messages)
            return "assets"
        if begin.full:
            self.rows.clear()
            self.lookups.clear()
        puts = [m.put for m in messages if m.HasField("put")]
        if begin.HasField("content"):
            assert not puts
            self._take_content(begin, messages)
        else:
            sent = sum(len(put.block.counts) + len(put.patch.counts) for put in puts)
            assert begin.rows == sent
        for put in puts:
            self._take_put(put)
        for message in messages:
            if message.HasField("delete"):
                self.rows.pop(message.delete.subject, None)
        assert commit.total_rows == len(self.rows)
        assert commit.row_sum == sum(r.sum(s) for s, r in self.rows.items()) % (1 << 64)
        self.cursor = commit.genome_cursor
        self.marks = {(mark.epoch, mark.lane): mark.sequence for mark in commit.included}
        return "full" if begin.full else "patch"

    def _take_release(self, messages: list[sync_pb2.SyncResponse]) -> None:
        self.manifest = release_pb2.Manifest.FromString(messages[0].begin.manifest.manifest)
        self.parts |= self._arrived(messages)
        self.parts[hashlib.sha256().digest()] = b""  # no chunk carries an empty part
        for part in self.manifest.parts:
            if part.asset:
                continue
            assert hashlib.sha256(self.parts[part.sha256]).digest() == part.sha256
            assert len(self.parts[part.sha256]) == part.size
        self.release = self.manifest.version

    def _arrived(self, messages: list[sync_pb2.SyncResponse]) -> dict[bytes, bytes]:
        arriving: dict[bytes, bytes] = {}
        for message in messages[1:-1]:
            chunk = message.chunk
            begun = self.partial.pop(chunk.sha256, b"")
            assert len(arriving.setdefault(chunk.sha256, begun)) == chunk.offset
            arriving[chunk.sha256] += chunk.data
        assert not arriving.keys() & self.parts.keys(), "sent though it was held"
        return arriving

    def _take_content(self, begin: sync_pb2.Begin, messages: list[sync_pb2.SyncResponse]) -> None:
        part = begin.content
        data = self.partial.pop(part.sha256, b"")
        for message in messages:
            if message.HasField("chunk"):
                assert message.chunk.sha256 == part.sha256
                assert message.chunk.offset == len(data)
                data += message.chunk.data
        assert (len(data), hashlib.sha256(data).digest()) == (part.size, part.sha256)
        columns = decode(data)
        assert len(columns) == begin.rows
        for i in range(len(columns)):
            own = slice(int(columns.starts[i]), int(columns.starts[i + 1]))
            codes = columns.codes[own].tolist()
            self.rows[_subject(columns.high[i], columns.low[i])] = HeldRow(
                int(columns.consents[i]),
                int(columns.as_of_hours[i]),
                dict(zip(columns.indices[own].tolist(), codes, strict=True)),
            )
        for i in range(len(columns.hash_high)):
            owner = _subject(columns.owner_high[i], columns.owner_low[i])
            self.lookups[_subject(columns.hash_high[i], columns.hash_low[i])] = owner

    def _take_put(self, put: sync_pb2.Put) -> None:
        block, patch = put.block, put.patch
        subjects = [block.subjects[i : i + 16] for i in range(0, len(block.subjects), 16)]
        assert subjects == sorted(set(subjects))
        markers = _markers(block.counts, block.index_deltas, block.strengths)
        for subject, consents, hour, own in zip(
            subjects, block.consents, block.as_of_hours, markers, strict=True
        ):
            self.rows[subject] = HeldRow(consents, hour, own)
        prefixes = [
            patch.subject_prefixes[i : i + 8] for i in range(0, len(patch.subject_prefixes), 8)
        ]
        assert prefixes == sorted(set(prefixes))
        markers = _markers(patch.counts, patch.index_deltas, patch.strengths)
        for prefix, consents, own in zip(prefixes, patch.consents, markers, strict=True):
            (subject,) = (held for held in self.rows if held.startswith(prefix))
            old = self.rows[subject]
            mixed = {index: code for index, code in (old.markers | own).items() if code}
            self.rows[subject] = HeldRow(consents, old.hour, mixed)
            self.patched.append(subject)
        for i in range(0, len(put.lookup_hashes), 16):
            self.lookups[put.lookup_hashes[i : i + 16]] = put.lookup_subjects[i : i + 16]


def _subject(high: object, low: object) -> bytes:
    return int(str(high)).to_bytes(8, "big") + int(str(low)).to_bytes(8, "big")


def _markers(
    counts: Iterable[int], deltas: Sequence[int], codes: bytes
) -> Iterator[dict[int, int]]:
    start = 0
    for count in counts:
        own = slice(start, start + count)
        yield dict(zip(accumulate(deltas[own]), codes[own], strict=True))
        start += count


def current(
    channel: grpc.Channel,
    tenant: Tenant,
    audience: str = "all",
    features: Sequence[str] = FEATURES,
) -> tuple[RawDevice, RawStream, Copy]:
    """A device that has everything."""
    device = enrolled(channel, tenant, audience)
    copy = Copy()
    opened = copy.hello(device, features=list(features))
    assert copy.take(opened.transaction()) == "release"
    assert copy.take(opened.transaction()) == "full"
    return device, opened, copy


def buy(device: RawDevice, tenant: Tenant, name: str, sequence: int) -> None:
    event = interaction(subject_of(tenant, name), "buy", "soap", f"{device.id}-{sequence}")
    device.report(sequence, frames(sequence, event), sequence)
