"""A tenant's server and its log in memory, for simulated worlds: it knows what it has ever said."""

from __future__ import annotations

import copy
import hashlib
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np

from edge_sdk.dna.columns import Columns, encode, row_sum_of
from edge_sdk.dna.genome import Row, block_from_rows
from edge_sdk.dna.schema import default_schema
from edge_sdk.engine.release import Release
from edge_sdk.errors import RefusedError
from edge_sdk.store import lookup_file
from edge_sdk.testing import SimulatedClock, SimulatedServer
from genome_edge.v1 import dna_pb2, release_pb2, report_pb2, stop_pb2, sync_pb2
from genome_server.log import schema
from genome_server.log.framing import Batch, BatchRefusedError, check_batch
from genome_server.log.transaction import Transaction

BEGIN_MS: Final = 1_775_000_000_000
HOUR_MS: Final = 3_600_000
MARKERS: Final = 12
_PATCHED: Final = 4
DEVICES: Final = ("one", "two")
_NOBODY: Final[frozenset[bytes]] = frozenset()
_PLACEMENTS: Final = ({"id": "any", "slots": 3, "explorer": "squarecb", "gamma": 10, "floor": 0.2},)
ERASED: Final = sync_pb2.Delete.REASON_ERASED
LEFT: Final = sync_pb2.Delete.REASON_LEFT_AUDIENCE

#: What a device holds of genomes: whom, and exactly what of each.
Print = frozenset[tuple[bytes, int, bytes, bytes]]


lookup_hash = lru_cache(maxsize=256)(lookup_file.lookup_hash)

# Releases of the same parts are compiled once for all worlds.
_COMPILED: dict[tuple[bytes, ...], Release] = {}


def subject_of(number: int) -> bytes:
    """A customer's."""
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def offer(number: int) -> dict[str, Any]:
    """What an offer says: one is capped, one is not for who has too much of something."""
    said: dict[str, Any] = {"id": f"offer-{number}", "dna": [f"brand:{number}", "claim:organic"]}
    if number % 3 == 1:
        said["caps"] = [{"count": "view", "limit": 1, "window_hours": 24}]
    if number % 3 == 2:
        said["none_of"] = ["claim:organic"]
    return said


def print_of(rows: Iterable[Row]) -> Print:
    """What tells these rows from any others."""
    return frozenset((r.subject, r.consents, r.indices.tobytes(), r.codes.tobytes()) for r in rows)


class Town(SimulatedServer):
    """A simulated server that sends changes only, where it can, and knows what it has ever said."""

    def __init__(self, clock: SimulatedClock, seed: int) -> None:
        super().__init__("town", seed=seed, now_ms=clock.now_ms)
        self.log = Log()
        #: Rows by the cursor that named them, and by what they are; never taken back.
        self.moments: dict[bytes, dict[bytes, Row]] = {}
        self.held: dict[tuple[str, Print], dna_pb2.Lineage] = {}
        self.erased: set[bytes] = set()
        #: By device: whom it may not hold, though others may.
        self.outside: dict[str, frozenset[bytes]] = {}
        #: The device on the stream.
        self.asking = DEVICES[0]
        self.manifests: dict[int, release_pb2.Manifest] = {}
        self.broken: set[int] = set()
        self.in_chunks = False
        self._sums: dict[frozenset[bytes], int] = {}

    def copy(self, now_ms: Callable[[], int], dice: random.Random, log: Log) -> Town:
        """Another one that is as this one is now."""
        town = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | list | set):
                setattr(town, name, value.copy())
        town.random, town.log, town.now_ms = dice, log, now_ms
        return town

    def replica(self) -> Town:
        """What answers in place of this one and learns nothing new from now on."""
        replica = self.copy(self.now_ms, self.random, self.log)
        replica.frozen, replica.instead["timestamp"] = True, self.timestamps[-1]
        return replica

    def stopped(self) -> set[str]:
        """The offers that are stopped."""
        return set(self._stops().offers) if self.stop_lists else set()

    def _stops(self) -> stop_pb2.StopList:
        return stop_pb2.StopList.FromString(self.stop_lists[-1].stop_list)

    def release(self, offers: int, *, broken: bool = False, asset: bytes = b"") -> int:
        """Publish so many offers; a broken one is well signed and cannot be loaded."""

        def edit(manifest: release_pb2.Manifest) -> None:
            if broken:
                content = b"broken %d" % manifest.version
                (part,) = (one for one in manifest.parts if one.name == "offers")
                part.size, part.sha256 = len(content), hashlib.sha256(content).digest()
                self.contents[part.sha256] = content

        version = self.publish(
            map(offer, range(offers)),
            _PLACEMENTS,
            assets={"picture.png": asset} if asset else None,
            edit=edit,
        )
        self.manifests[version] = release_pb2.Manifest.FromString(self.releases[version].manifest)
        if broken:
            self.broken.add(version)
        self.remember()
        return version

    def compiled(self, version: int) -> Release:
        """A release as it was published."""
        manifest = self.manifests[version]
        parts = {p.name: self.contents[p.sha256] for p in manifest.parts if not p.asset}
        key = tuple(part.sha256 for part in manifest.parts if not part.asset)
        if key not in _COMPILED:
            _COMPILED[key] = Release.from_parts(manifest, parts)
        release = copy.copy(_COMPILED[key])
        release.manifest, release.version = manifest, version
        return release

    def put_row(self, number: int, dice: random.Random) -> bytes:
        """Give a customer some strengths, or other ones: most of them as before. Who left an
        audience may come back to it so."""
        subject = subject_of(number)
        before = self.rows.get(subject)
        markers = {} if before is None else dict(zip(before.indices, before.codes, strict=True))
        for _ in range(_PATCHED if markers else MARKERS):
            markers[np.uint32(dice.randrange(40))] = np.uint8(dice.randrange(20, 80))
        indices = np.array(sorted(markers), np.uint32)
        codes = np.array([markers[index] for index in indices], np.uint8)
        self.rows[subject] = Row(subject, 2 + 2 * dice.randrange(2), 0, indices, codes)
        self.customers[str(number)] = subject
        self.erased.discard(subject)
        if dice.random() < 0.5:
            self.outside = {device: them - {subject} for device, them in self.outside.items()}
        self.remember()
        return subject

    def erase(self, subject: bytes) -> None:
        """Somebody is to be forgotten."""
        del self.rows[subject]
        self.customers = {name: s for name, s in self.customers.items() if s != subject}
        self.erased.add(subject)
        self.remember()

    def leave(self, device: str, subject: bytes) -> None:
        """Somebody is not in the audience of a device any more."""
        self.outside[device] = self.outside.get(device, _NOBODY) | {subject}
        self.remember()

    def rows_for(self, device: str) -> dict[bytes, Row]:
        """Its audience."""
        outside = self.outside.get(device, _NOBODY)
        return {subject: row for subject, row in self.rows.items() if subject not in outside}

    def change_schema(self, offers: int) -> int:
        """Another landmark: all rows are encoded anew, and a release goes with them."""
        self.schema = default_schema(self.schema.landmark_hour + 1)
        for subject, row in self.rows.items():
            codes = np.minimum(row.codes + np.uint8(1), 127).astype(np.uint8)
            self.rows[subject] = Row(subject, row.consents, 0, row.indices, codes)
        return self.release(offers)

    def remember(self) -> None:
        """Note what the rows are now."""
        self.changes += 1
        self._sums = {}
        asking, prints = self.asking, dict[bytes, Print]()
        for self.asking in DEVICES:
            cursor, rows = self.genome_cursor, self.rows_for(self.asking)
            if cursor not in prints:
                self.moments[cursor], prints[cursor] = rows, print_of(rows.values())
            self.held[self.asking, prints[cursor]] = self.lineage
        self.asking = asking

    def _row_sum(self) -> int:
        outside = self.outside.get(self.asking, _NOBODY)
        if outside not in self._sums:
            rows = self.rows_for(self.asking).values()
            self._sums[outside] = sum(map(row_sum_of, rows)) % (1 << 64)
        return self._sums[outside]

    # What is said -------------------------------------------------------------------------------

    def beat(self, nonce: bytes) -> sync_pb2.SyncResponse:
        """The time, and which log takes reports."""
        said = super().beat(nonce)
        said.heartbeat.incarnation = self.log.incarnation
        return said

    def _genomes(self, hello: sync_pb2.Hello) -> Iterator[sync_pb2.SyncResponse]:
        if hello.genome_cursor == self.genome_cursor:
            return
        rows = self.rows_for(self.asking)
        before = self.moments.get(hello.genome_cursor)
        of_now = hello.lineage.landmark_hour == self.schema.landmark_hour
        full = before is None or not of_now
        begin = sync_pb2.Begin(
            nonce=3,
            kind=sync_pb2.Begin.KIND_GENOMES,
            full=full,
            lineage=self.lineage,
            lookup_key=self.lookup_key,
        )
        body = (
            self._whole(begin, rows)
            if before is None or full
            else self._changed(begin, before, rows)
        )
        left = {} if before is None or full else dict.fromkeys(before.keys() - rows.keys(), LEFT)
        for deleted, reason in sorted((left | dict.fromkeys(self.erased, ERASED)).items()):
            delete = sync_pb2.Delete(nonce=3, subject=deleted, reason=reason)
            body.append(sync_pb2.SyncResponse(delete=delete))
        yield sync_pb2.SyncResponse(begin=begin)
        yield from body
        commit = sync_pb2.Commit(
            nonce=3,
            genome_cursor=self.genome_cursor,
            total_rows=len(rows),
            row_sum=self._row_sum(),
        )
        yield sync_pb2.SyncResponse(commit=commit)

    def _whole(
        self, begin: sync_pb2.Begin, audience: Mapping[bytes, Row]
    ) -> list[sync_pb2.SyncResponse]:
        begin.rows = len(audience)
        rows = [audience[subject] for subject in sorted(audience)]
        if self.in_chunks:
            pairs = [self._lookup(row.subject) for row in rows]
            content = encode(Columns.of(rows, pairs))
            sha256 = hashlib.sha256(content).digest()
            self.contents[sha256] = content
            begin.content.MergeFrom(
                release_pb2.Part(name="genomes", size=len(content), sha256=sha256)
            )
            return list(self.chunks(3, sha256))
        return [self._put(row) for row in rows]

    def _changed(
        self, begin: sync_pb2.Begin, before: Mapping[bytes, Row], rows: Mapping[bytes, Row]
    ) -> list[sync_pb2.SyncResponse]:
        body = []
        for subject, row in sorted(rows.items()):
            known = before.get(subject)
            if known is None or len(known.indices) == 0:
                body.append(self._put(row))
            elif row != known:
                body.append(_patch(known, row))
        begin.rows = len(body)
        return body

    def _put(self, row: Row) -> sync_pb2.SyncResponse:
        hash_, subject = self._lookup(row.subject)
        put = sync_pb2.Put(
            nonce=3,
            block=block_from_rows(self.lineage, [row]),
            lookup_hashes=hash_,
            lookup_subjects=subject,
        )
        return sync_pb2.SyncResponse(put=put)

    def _lookup(self, subject: bytes) -> tuple[bytes, bytes]:
        (name,) = (name for name, known in self.customers.items() if known == subject)
        return lookup_hash(self.lookup_key, name), subject


def _patch(known: Row, row: Row) -> sync_pb2.SyncResponse:
    before = dict(zip(known.indices.tolist(), known.codes.tolist(), strict=True))
    after = dict(zip(row.indices.tolist(), row.codes.tolist(), strict=True))
    changed = sorted(i for i in before.keys() | after.keys() if before.get(i) != after.get(i))
    patch = sync_pb2.GenomePatch(
        subject_prefixes=row.subject[:8],
        counts=[len(changed)],
        index_deltas=[b - a for a, b in zip([0, *changed], changed, strict=False)],
        strengths=bytes(after.get(index, 0) for index in changed),
        consents=[row.consents],
    )
    return sync_pb2.SyncResponse(put=sync_pb2.Put(nonce=3, patch=patch))


class Log:
    """The server's log, in memory: what takes reports."""

    def __init__(self) -> None:
        self._disk = sqlite3.connect(":memory:", isolation_level=None)
        for statement in schema._TABLES.split(";"):
            if statement.strip():
                self._disk.execute(statement)
        self._names = 1
        self._disk.execute("INSERT INTO meta VALUES ('incarnation', ?)", (self._name(),))
        #: Without backups everything that is received is safe.
        self._backup: bytes | None = None
        self._safe: dict[tuple[str, bytes, int], int] | None = None
        self.incarnation = self._name()

    def _name(self) -> bytes:
        return self._names.to_bytes(16, "big")

    def expect_backups(self) -> None:
        """From now on only what is in a backup is safe."""
        self._safe = {}
        self._backup = self._disk.serialize()

    @property
    def backed_up(self) -> bool:
        """Whether there are backups."""
        return self._backup is not None

    def back_up(self) -> None:
        """Make a backup of what is here now."""
        self._backup = self._disk.serialize()
        rows = self._disk.execute("SELECT device, epoch, lane, through FROM lanes")
        self._safe = {(device, epoch, lane): upto for device, epoch, lane, upto in rows}

    def restore(self) -> None:
        """Begin again with the last backup, under another name."""
        assert self._backup is not None
        self._disk.close()
        self._disk = sqlite3.connect(":memory:", isolation_level=None)
        self._disk.deserialize(self._backup)
        self._names += 1
        self.incarnation = self._name()
        self._disk.execute("UPDATE meta SET value = ? WHERE key = 'incarnation'", (self._name(),))

    def take(self, device: str, request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
        """Append a batch of this device. Raises RefusedError."""
        key = (device, request.epoch, request.lane)
        batch = Batch.of(device, request)
        self._disk.execute("BEGIN")
        transaction = Transaction(self._disk, self.incarnation, 1)
        try:
            received = transaction.append(check_batch(batch))
        except BatchRefusedError as refusal:
            self._disk.execute("ROLLBACK")
            raise RefusedError(refusal.reason, str(refusal), refusal.facts) from refusal
        transaction.write()
        self._disk.execute("COMMIT")
        safe = received if self._safe is None else min(self._safe.get(key, 0), received)
        return report_pb2.ReportResponse(
            incarnation=self.incarnation, received_through=received, safe_through=safe
        )

    def rows(self) -> list[tuple[str, bytes, int, int, int, bytes]]:
        """Device, epoch, lane, first, last and frames of every batch, by lane."""
        query = (
            "SELECT device, epoch, lane, first, last, frames FROM batches"
            " ORDER BY device, epoch, lane, first"
        )
        return self._disk.execute(query).fetchall()

    def close(self) -> None:
        """Forget it."""
        self._disk.close()
