"""What the rules of trust verify, signed. No input or output; `trust` and `roles` say the rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from edge_sdk.sync.roles import ROOT_PREFIX, STOP_LIST_PREFIX, TIMESTAMP_PREFIX, time_message
from edge_sdk.sync.trust import MANIFEST_PREFIX, key_id
from genome_edge.v1 import release_pb2, stop_pb2


class Signer(Protocol):
    """An Ed25519 key; `edge_sdk.sync.keys.DeviceKey` is one."""

    @property
    def public(self) -> bytes:
        """The raw public key, 32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""


def signatures(message: bytes, keys: Iterable[Signer]) -> list[release_pb2.ManifestSignature]:
    """One signature of `message` (prefix included) by each key."""
    return [
        release_pb2.ManifestSignature(key_id=key_id(key.public), signature=key.sign(message))
        for key in keys
    ]


def sign_manifest(
    manifest: release_pb2.Manifest, keys: Iterable[Signer]
) -> release_pb2.SignedManifest:
    """Sign a release with release keys."""
    content = manifest.SerializeToString(deterministic=True)
    return release_pb2.SignedManifest(
        manifest=content, signatures=signatures(MANIFEST_PREFIX + content, keys)
    )


def sign_root(root: release_pb2.TrustRoot, keys: Iterable[Signer]) -> release_pb2.SignedRoot:
    """Sign a root with root keys: those of the root before it and its own, each once."""
    content = root.SerializeToString(deterministic=True)
    each = {key.public: key for key in keys}.values()
    return release_pb2.SignedRoot(root=content, signatures=signatures(ROOT_PREFIX + content, each))


def sign_timestamp(
    timestamp: release_pb2.Timestamp, keys: Iterable[Signer]
) -> release_pb2.SignedTimestamp:
    """Sign what is in force with timestamp keys."""
    content = timestamp.SerializeToString(deterministic=True)
    return release_pb2.SignedTimestamp(
        timestamp=content, signatures=signatures(TIMESTAMP_PREFIX + content, keys)
    )


def sign_stop_list(stop_list: stop_pb2.StopList, keys: Iterable[Signer]) -> stop_pb2.SignedStopList:
    """Sign a stop list with timestamp keys."""
    content = stop_list.SerializeToString(deterministic=True)
    return stop_pb2.SignedStopList(
        stop_list=content, signatures=signatures(STOP_LIST_PREFIX + content, keys)
    )


def sign_time(nonce: bytes, server_time_ms: int, key: Signer) -> release_pb2.ManifestSignature:
    """Sign the time, Unix milliseconds, for the stream whose Hello brought `nonce`."""
    (signature,) = signatures(time_message(nonce, server_time_ms), [key])
    return signature
