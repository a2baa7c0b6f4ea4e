"""Keys, and what they sign, for tests of the rules of trust."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_sdk.errors import TrustError
from edge_sdk.sync import roles, signing
from edge_sdk.sync.keys import DeviceKey
from genome_edge.v1 import release_pb2, stop_pb2

NOW = 1_700_000_000_000
NONCE = b"n" * 16


def keys(first: int, count: int) -> list[DeviceKey]:
    return [
        DeviceKey(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32))
        for n in range(first, first + count)
    ]


ROOT_KEYS, RELEASE_KEYS, CLOCK_KEYS = keys(1, 3), keys(11, 2), keys(21, 2)
OTHERS = keys(31, 3)


def publics(of: Sequence[DeviceKey]) -> list[bytes]:
    return [key.public for key in of]


def root(version: int = 1, **more: Any) -> release_pb2.TrustRoot:
    """Two of three root keys, one of two release keys, one of two timestamp keys."""
    made: dict[str, Any] = {
        "tenant": "acme",
        "version": version,
        "root_keys": publics(ROOT_KEYS),
        "root_threshold": 2,
        "release_keys": publics(RELEASE_KEYS),
        "threshold": 1,
        "timestamp_keys": publics(CLOCK_KEYS),
        "timestamp_threshold": 1,
        **more,
    }
    return release_pb2.TrustRoot(**{name: value for name, value in made.items() if value})


FIRST_KIND: dict[str, Any] = {
    "root_keys": None,
    "root_threshold": 0,
    "timestamp_keys": None,
    "timestamp_threshold": 0,
}


def stops(version: int = 1, *offers: str, tenant: str = "acme") -> stop_pb2.StopList:
    return stop_pb2.StopList(tenant=tenant, version=version, offers=offers or ["taxi"])


def stamp(version: int = 1, stop: stop_pb2.StopList | None = None, **more: Any) -> Any:
    made: dict[str, Any] = {"tenant": "acme", "expires_ms": NOW + 1000, **more}
    if stop is not None:
        made["stop_list_version"] = stop.version
        made["stop_list_sha256"] = hashlib.sha256(stop.SerializeToString()).digest()
    return release_pb2.Timestamp(version=version, **made)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(TrustError) as caught:
        call()
    return caught.value.reason


def follow(
    after: release_pb2.TrustRoot, *chain: release_pb2.SignedRoot, **more: Any
) -> release_pb2.TrustRoot:
    return roles.verify_roots(after, chain, more.pop("now_ms", NOW), **more)


def check_stamp(made: Any, seen: Any = None, by: Any = None, **more: Any) -> Any:
    signed = signing.sign_timestamp(made, CLOCK_KEYS[:1] if by is None else by)
    under = more.pop("under", root())
    return roles.verify_timestamp(signed, under, more.pop("now_ms", NOW), seen, **more)


def check_stops(made: Any, seen: Any = None, at: Any = None, by: Any = None, **more: Any) -> Any:
    signed = signing.sign_stop_list(made, CLOCK_KEYS[:1] if by is None else by)
    under = more.pop("under", root())
    return roles.verify_stop_list(signed, under, more.pop("now_ms", NOW), seen, at, **more)
