"""The keys of one tenant by role, and what they sign. Written from the contract's comments."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from genome_edge.v1 import release_pb2, stop_pb2, sync_pb2
from tests.unit.publisher import DAY_MS, TENANT, Published, Publisher, key_id, now_ms


def signature(key: Ed25519PrivateKey, message: bytes) -> release_pb2.ManifestSignature:
    """By one key, over a message with its prefix."""
    public = key.public_key().public_bytes_raw()
    return release_pb2.ManifestSignature(key_id=key_id(public), signature=key.sign(message))


@dataclass
class Authority:
    """A root key, a timestamp key and the publisher's release key."""

    publisher: Publisher = field(default_factory=Publisher)
    root_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    timestamp_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    expires_ms: int = 0
    chain: list[release_pb2.SignedRoot] = field(default_factory=list)
    version: int = 1

    @property
    def root(self) -> release_pb2.TrustRoot:
        """What is in force."""
        return release_pb2.TrustRoot(
            tenant=TENANT,
            version=self.version,
            release_keys=[self.publisher.key.public_key().public_bytes_raw()],
            threshold=1,
            root_keys=[self.root_key.public_key().public_bytes_raw()],
            root_threshold=1,
            timestamp_keys=[self.timestamp_key.public_key().public_bytes_raw()],
            timestamp_threshold=1,
            expires_ms=self.expires_ms,
        )

    def rotate(self, *, timestamp: bool = False, expires_ms: int = 0) -> release_pb2.SignedRoot:
        """The next root, with another root key, and with `timestamp` another key of that role."""
        old, self.root_key = self.root_key, Ed25519PrivateKey.generate()
        if timestamp:
            self.timestamp_key = Ed25519PrivateKey.generate()
        self.version += 1
        self.expires_ms = expires_ms
        content = self.root.SerializeToString()
        message = b"genome-edge/trust-root/v1\n" + content
        signed = release_pb2.SignedRoot(
            root=content, signatures=[signature(key, message) for key in (old, self.root_key)]
        )
        self.chain.append(signed)
        return signed

    def timestamp(
        self,
        version: int,
        *releases: Published,
        stops: stop_pb2.SignedStopList | None = None,
        expires_ms: int | None = None,
    ) -> release_pb2.SignedTimestamp:
        """What is in force now."""
        made = release_pb2.Timestamp(
            tenant=TENANT,
            version=version,
            created_ms=now_ms(),
            expires_ms=now_ms() + 7 * DAY_MS if expires_ms is None else expires_ms,
            releases=[
                release_pb2.CurrentRelease(
                    version=one.manifest.version,
                    manifest_sha256=hashlib.sha256(one.signed.manifest).digest(),
                )
                for one in releases
            ],
        )
        if stops is not None:
            made.stop_list_version = stop_pb2.StopList.FromString(stops.stop_list).version
            made.stop_list_sha256 = hashlib.sha256(stops.stop_list).digest()
        content = made.SerializeToString()
        message = b"genome-edge/timestamp/v1\n" + content
        return release_pb2.SignedTimestamp(
            timestamp=content, signatures=[signature(self.timestamp_key, message)]
        )

    def stop_list(self, version: int, *offers: str) -> stop_pb2.SignedStopList:
        """What must not be shown."""
        content = stop_pb2.StopList(
            tenant=TENANT, version=version, created_ms=now_ms(), offers=offers
        ).SerializeToString()
        message = b"genome-edge/stop-list/v1\n" + content
        return stop_pb2.SignedStopList(
            stop_list=content, signatures=[signature(self.timestamp_key, message)]
        )

    def heartbeat(
        self, nonce: bytes, time_ms: int | None = None, key: Ed25519PrivateKey | None = None
    ) -> sync_pb2.ServerHeartbeat:
        """The time, signed for one stream."""
        time_ms = now_ms() if time_ms is None else time_ms
        message = b"genome-edge/time/v1\n" + nonce + struct.pack("<q", time_ms)
        return sync_pb2.ServerHeartbeat(
            server_time_ms=time_ms, signature=signature(key or self.timestamp_key, message)
        )
