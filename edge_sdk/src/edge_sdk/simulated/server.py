"""A tenant's server in memory, which a test changes as it likes. No input or output happens here.

    server = SimulatedServer(seed=7)
    server.publish([{"id": "taxi", "content": {"title": "A taxi"}}])
    for message in server.answer(hello):
        actions = machine.receive(message, server.now_ms())

What is said is well made: signed by the right keys, whole, newest, in order. What is not, a test
makes so. `keys` and `thresholds` are the roles' own; `signers` sign instead, by role; `offered`
is the release that devices get (an older one rolls them back), `contents` are the bytes sent for
each digest, `instead` what is said in place of a signed statement, `frozen` stops the signing of
fresh timestamps. `publish`, `pause` and `rotate` take an `edit` that may change what they sign.
Everything follows from the seed, the clock and the calls.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import numpy as np

from edge_sdk.clock import wall_ms
from edge_sdk.dna.columns import row_sum_of
from edge_sdk.dna.genome import Row, block_from_rows, quantise2
from edge_sdk.dna.markers import BUILTIN_MARKERS
from edge_sdk.dna.schema import ONE_Q24, default_schema
from edge_sdk.engine.fake_release import read_documents
from edge_sdk.simulated.parts import parts_of
from edge_sdk.store.genomes import compatible
from edge_sdk.store.lookup_file import lookup_hash
from edge_sdk.sync.keys import DeviceKey
from edge_sdk.sync.signing import (
    sign_manifest,
    sign_root,
    sign_stop_list,
    sign_time,
    sign_timestamp,
)
from genome_edge.v1 import dna_pb2, release_pb2, stop_pb2, sync_pb2

ROLES: Final = ("root", "release", "timestamp")
HOUR_MS: Final = 3_600_000
CHUNK_BYTES: Final = 64 << 10
#: The nonces of its transactions.
RELEASE, ASSETS, GENOMES = 1, 2, 3
_PLACEMENTS: Final = ({"id": "any", "slots": 8},)
_PERSONALISATION: Final = 1 << dna_pb2.CONSENT_PURPOSE_PERSONALISATION

Edited = TypeVar("Edited")
Edit = Callable[[Any], object]


def _as_it_is(_: Any) -> None:
    return None


def _yes() -> bool:
    return True


class SimulatedServer:
    """Keys, roots, releases, timestamps, stop lists and genomes of one tenant. Not thread-safe.

    `now_ms` is its clock (Unix milliseconds); timestamps are good for `life_ms`. What it says is
    true until a test changes `signers`, `offered`, `contents`, `instead` or `frozen`: see
    `help("edge_sdk.simulated.server")`.
    """

    def __init__(
        self,
        tenant: str = "demo",
        *,
        seed: int = 0,
        now_ms: Callable[[], int] = wall_ms,
        life_ms: int = 24 * HOUR_MS,
    ) -> None:
        self.random = random.Random(f"{seed}:{tenant}")
        self.tenant = tenant
        self.now_ms = now_ms
        self.life_ms = life_ms
        self.keys = {role: [self.new_key()] for role in ROLES}
        self.thresholds = dict.fromkeys(ROLES, 1)
        self.signers: dict[str, list[DeviceKey]] = {}
        self.roots: list[release_pb2.SignedRoot] = []
        self.releases: dict[int, release_pb2.SignedManifest] = {}
        self.offered = 0
        self.timestamps: list[release_pb2.SignedTimestamp] = []
        self.stop_lists: list[stop_pb2.SignedStopList] = []
        self.contents: dict[bytes, bytes] = {}
        self.rows: dict[bytes, Row] = {}
        self.customers: dict[str, bytes] = {}
        self.instead: dict[str, Any] = {}
        self.frozen = False
        #: Grows with whatever changes, so that an open stream can be told.
        self.changes = 0
        self.lookup_key = self.random.randbytes(32)
        self.schema = default_schema(max(0, now_ms() // HOUR_MS - 1_000))
        self.vocabulary = read_documents((), known=BUILTIN_MARKERS).vocabulary
        self.rotate()

    # Keys ---------------------------------------------------------------------------------------

    def new_key(self) -> DeviceKey:
        """A key that follows from the seed."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return DeviceKey(Ed25519PrivateKey.from_private_bytes(self.random.randbytes(32)))

    @property
    def root(self) -> release_pb2.TrustRoot:
        """The newest root."""
        return release_pb2.TrustRoot.FromString(self.roots[-1].root)

    def rotate(
        self, *roles: str, keys: int = 1, threshold: int = 1, edit: Edit = _as_it_is
    ) -> None:
        """Sign the next root, with new keys for these roles. What they sign is signed anew."""
        before = list(self.keys["root"])
        for role in roles:
            self.keys[role] = [self.new_key() for _ in range(keys)]
            self.thresholds[role] = threshold
        public = {role: [key.public for key in self.keys[role]] for role in ROLES}
        root = release_pb2.TrustRoot(
            tenant=self.tenant,
            version=len(self.roots) + 1,
            created_ms=self.now_ms(),
            release_keys=public["release"],
            threshold=self.thresholds["release"],
            root_keys=public["root"],
            root_threshold=self.thresholds["root"],
            timestamp_keys=public["timestamp"],
            timestamp_threshold=self.thresholds["timestamp"],
        )
        edit(root)
        self.roots.append(sign_root(root, self._signers("root", [*before, *self.keys["root"]])))
        for version, signed in self.releases.items() if "release" in roles else ():
            manifest = release_pb2.Manifest.FromString(signed.manifest)
            self.releases[version] = sign_manifest(manifest, self._signers("release"))
        if "timestamp" in roles and self.stop_lists:
            self.pause()
        self.stamp()

    def _signers(self, role: str, keys: list[DeviceKey] | None = None) -> list[DeviceKey]:
        return self.signers.get(role, self.keys[role] if keys is None else keys)

    # What is in force ---------------------------------------------------------------------------

    def publish(
        self,
        offers: Iterable[Mapping[str, Any]],
        placements: Iterable[Mapping[str, Any]] = _PLACEMENTS,
        *,
        assets: Mapping[str, bytes] | None = None,
        features: Iterable[str] = (),
        life_ms: int = 30 * 24 * HOUR_MS,
        edit: Edit = _as_it_is,
        **more: Any,
    ) -> int:
        """Sign a release of these offers and offer it to devices; returns its version.

        Documents are those of `genome-server import`; `more` is `products` and `markers`, as for a
        FakeEdge. `assets` are files by the part's name. Raises UsageError.
        """
        documents = read_documents(offers, placements, known=self.vocabulary, **more)
        self.vocabulary = documents.vocabulary
        contents = parts_of(documents, self.schema)
        manifest = release_pb2.Manifest(
            format=1,
            tenant=self.tenant,
            version=max(self.releases, default=0) + 1,
            created_ms=self.now_ms(),
            expires_ms=self.now_ms() + life_ms,
            channel="stable",
            required_features=sorted(features),
            lineage=self.lineage,
        )
        for name, content in (*contents.items(), *(assets or {}).items()):
            digest = hashlib.sha256(content).digest()
            self.contents[digest] = content
            manifest.parts.add(
                name=name, size=len(content), sha256=digest, asset=name not in contents
            )
        edit(manifest)
        self.releases[manifest.version] = sign_manifest(manifest, self._signers("release"))
        self.offered = manifest.version
        self.stamp()
        return manifest.version

    @property
    def lineage(self) -> dna_pb2.Lineage:
        """Of the rows that go with the newest release."""
        return self.schema.lineage(self.vocabulary)

    def pause(self, *offers: str, edit: Edit = _as_it_is) -> None:
        """Sign a stop list that names these offers, besides those of the last one."""
        stopped = stop_pb2.StopList(tenant=self.tenant, created_ms=self.now_ms())
        if self.stop_lists:
            stopped = stop_pb2.StopList.FromString(self.stop_lists[-1].stop_list)
        stopped.version += 1
        stopped.offers.extend(offers)
        edit(stopped)
        self.stop_lists.append(sign_stop_list(stopped, self._signers("timestamp")))
        self.stamp()

    def stamp(self, edit: Edit = _as_it_is) -> None:
        """Sign a timestamp that says what is in force now."""
        self.changes += 1
        timestamp = release_pb2.Timestamp(
            tenant=self.tenant,
            version=len(self.timestamps) + 1,
            created_ms=self.now_ms(),
            expires_ms=self.now_ms() + self.life_ms,
        )
        if self.offered:
            digest = hashlib.sha256(self.releases[self.offered].manifest).digest()
            timestamp.releases.add(version=self.offered, manifest_sha256=digest)
        if self.stop_lists:
            last = self.stop_lists[-1].stop_list
            timestamp.stop_list_version = stop_pb2.StopList.FromString(last).version
            timestamp.stop_list_sha256 = hashlib.sha256(last).digest()
        edit(timestamp)
        self.timestamps.append(sign_timestamp(timestamp, self._signers("timestamp")))

    def put_customer(
        self, customer: str, genome: Mapping[str, float], consents: int = _PERSONALISATION
    ) -> bytes:
        """Give a customer these strengths by marker of the vocabulary; returns the subject."""
        self.changes += 1
        subject = hashlib.blake2b(customer.encode(), digest_size=16).digest()
        strengths = {self.vocabulary.index(name): value for name, value in genome.items()}
        known = sorted((i, quantise2(round(s * ONE_Q24))) for i, s in strengths.items() if i)
        self.customers[customer] = subject
        self.rows[subject] = Row(
            subject,
            consents,
            0,
            np.array([index for index, _ in known], np.uint32),
            np.array([code for _, code in known], np.uint8),
        )
        return subject

    @property
    def genome_cursor(self) -> bytes:
        """What a device says that has all rows; empty where there are none."""
        lineage = self.lineage.SerializeToString(deterministic=True)
        told = lineage + self._row_sum().to_bytes(8, "little")
        return hashlib.sha256(told).digest() if self.rows else b""

    def _row_sum(self) -> int:
        return sum(map(row_sum_of, self.rows.values())) % (1 << 64)

    # What is said -------------------------------------------------------------------------------

    def answer(
        self, hello: sync_pb2.Hello, took: Callable[[], bool] = _yes, refused: int = 0
    ) -> Iterator[sync_pb2.SyncResponse]:
        """Everything that a device with this Hello is told, up to the heartbeat that ends it.

        `took` says whether the device took the release that it was just sent: assets and rows go
        with the one that it has then. `refused` is one that it has refused on this stream: there
        it is not offered again.
        """
        trust = self.trust(hello)
        said = [sync_pb2.SyncResponse(trust=trust)] if trust.ByteSize() else []
        greeting = self.beat(hello.nonce)
        # A new root comes first: the time may be signed by a key that only it names.
        yield from (*said, greeting) if trust.roots else (greeting, *said)
        held = hello.active_release
        if self.offered not in (0, held, refused):
            yield from self._release(hello)
            held = self.offered if took() else held
        if held in self.releases:
            manifest = release_pb2.Manifest.FromString(self.releases[held].manifest)
            yield from self._assets(hello, manifest)
            readable = compatible(self.lineage, manifest.lineage)
            if hello.wants_genomes and self.rows and readable:
                yield from self._genomes(hello)
        yield self.beat(hello.nonce)

    def beat(self, nonce: bytes) -> sync_pb2.SyncResponse:
        """The time, signed for the stream of this nonce."""
        now = self.now_ms()
        beat = sync_pb2.ServerHeartbeat(
            server_time_ms=now, signature=sign_time(nonce, now, self._signers("timestamp")[0])
        )
        return sync_pb2.SyncResponse(heartbeat=self._said("time", beat))

    def trust(self, hello: sync_pb2.Hello) -> sync_pb2.Trust:
        """What a device with this Hello lacks of roots, timestamp and stop list."""
        if not self.frozen and self.now_ms() - self._stamped_ms() > self.life_ms // 2:
            self.stamp()
        trust = sync_pb2.Trust(roots=self._said("roots", self.roots[max(1, hello.root_version) :]))
        timestamp = self._said("timestamp", self.timestamps[-1])
        if "timestamp" in self.instead or hello.timestamp_version < len(self.timestamps):
            trust.timestamp.CopyFrom(timestamp)
        stop_list = self._said("stop_list", self.stop_lists[-1] if self.stop_lists else None)
        if stop_list is not None:
            trust.stop_list.CopyFrom(stop_list)
        return trust

    def chunks(self, nonce: int, sha256: bytes, start: int = 0) -> Iterator[sync_pb2.SyncResponse]:
        """The bytes for this digest from byte `start` on, whatever they are now."""
        content = self.contents[sha256]
        for offset in range(start, len(content), CHUNK_BYTES):
            data = content[offset : offset + CHUNK_BYTES]
            chunk = sync_pb2.Chunk(nonce=nonce, sha256=sha256, offset=offset, data=data)
            yield sync_pb2.SyncResponse(chunk=chunk)

    def _said(self, what: str, well: Edited) -> Edited:
        said: Edited = self.instead.get(what, well)
        return said

    def _stamped_ms(self) -> int:
        return release_pb2.Timestamp.FromString(self.timestamps[-1].timestamp).created_ms

    def _release(self, hello: sync_pb2.Hello) -> Iterator[sync_pb2.SyncResponse]:
        signed = self.releases[self.offered]
        manifest = release_pb2.Manifest.FromString(signed.manifest)
        begin = sync_pb2.Begin(
            nonce=RELEASE,
            kind=sync_pb2.Begin.KIND_RELEASE,
            manifest=self._said("manifest", signed),
        )
        yield from self._transaction(hello, begin, manifest, asset=False)

    def _assets(
        self, hello: sync_pb2.Hello, manifest: release_pb2.Manifest
    ) -> Iterator[sync_pb2.SyncResponse]:
        if any(part.asset and part.sha256 not in hello.held_parts for part in manifest.parts):
            begin = sync_pb2.Begin(nonce=ASSETS, kind=sync_pb2.Begin.KIND_ASSETS)
            yield from self._transaction(hello, begin, manifest, asset=True)

    def _transaction(
        self,
        hello: sync_pb2.Hello,
        begin: sync_pb2.Begin,
        manifest: release_pb2.Manifest,
        *,
        asset: bool,
    ) -> Iterator[sync_pb2.SyncResponse]:
        yield sync_pb2.SyncResponse(begin=begin)
        partials = {partial.sha256: partial.size for partial in hello.partials}
        for part in manifest.parts:
            if part.asset == asset and part.sha256 not in hello.held_parts:
                yield from self.chunks(begin.nonce, part.sha256, partials.get(part.sha256, 0))
        yield sync_pb2.SyncResponse(commit=sync_pb2.Commit(nonce=begin.nonce))

    def _genomes(self, hello: sync_pb2.Hello) -> Iterator[sync_pb2.SyncResponse]:
        """All rows, whenever they are not those that the device has."""
        if hello.genome_cursor == self.genome_cursor:
            return
        begin = sync_pb2.Begin(
            nonce=GENOMES,
            kind=sync_pb2.Begin.KIND_GENOMES,
            full=True,
            lineage=self.lineage,
            rows=len(self.rows),
            lookup_key=self.lookup_key,
        )
        yield sync_pb2.SyncResponse(begin=begin)
        rows = [self.rows[subject] for subject in sorted(self.rows)]
        put = sync_pb2.Put(
            nonce=GENOMES,
            block=block_from_rows(self.lineage, rows),
            lookup_hashes=b"".join(lookup_hash(self.lookup_key, one) for one in self.customers),
            lookup_subjects=b"".join(self.customers.values()),
        )
        yield sync_pb2.SyncResponse(put=put)
        commit = sync_pb2.Commit(
            nonce=GENOMES,
            genome_cursor=self.genome_cursor,
            total_rows=len(rows),
            row_sum=self._row_sum(),
        )
        yield sync_pb2.SyncResponse(commit=commit)
