"""Write proto/vectors/trust.json: what is signed, and what a device must make of it.

    python -m tools.make_trust_vectors            # write
    python -m tools.make_trust_vectors --check    # exit 1 where the committed file differs

Messages are put together byte by byte, and nothing is imported from the SDK.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TARGET = Path(__file__).resolve().parent.parent / "proto" / "vectors" / "trust.json"
NOW = 1_750_000_000_000
JUMP = 1 << 32
PREFIXES = {
    "root": b"genome-edge/trust-root/v1\n",
    "timestamp": b"genome-edge/timestamp/v1\n",
    "stop-list": b"genome-edge/stop-list/v1\n",
    "time": b"genome-edge/time/v1\n",
}
NONCE = bytes(range(16))
SEEDS = {name: bytes([number]) * 32 for number, name in enumerate("abcrstx", 1)}
# Two of three root keys (a, b, c), one release key (r), one of two timestamp keys (s, t).
ROLES = {"root": ("abc", 2), "release": ("r", 1), "timestamp": ("st", 1)}


def key(name: str) -> Ed25519PrivateKey:
    """The key of this name."""
    return Ed25519PrivateKey.from_private_bytes(SEEDS[name])


def public(name: str) -> bytes:
    """Its public half."""
    return key(name).public_key().public_bytes_raw()


def varint(value: int) -> bytes:
    """A number of the wire format."""
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    """A field; 0 and nothing are left out."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content if content else b""


def root(version: int = 1, tenant: str = "acme", expires: int = 0, **roles: Any) -> bytes:
    """A TrustRoot."""
    given = {**ROLES, **roles}
    numbers = {"release": (3, 4), "root": (5, 6), "timestamp": (7, 8)}
    out = field(1, tenant) + field(2, version)
    for role, (at, threshold_at) in numbers.items():
        names, threshold = given[role]
        out += b"".join(field(at, public(name)) for name in names) + field(threshold_at, threshold)
    return out + field(10, expires)


def stop_list(version: int, *offers: str, tenant: str = "acme") -> bytes:
    """A StopList."""
    return field(1, tenant) + field(2, version) + b"".join(field(3, offer) for offer in offers)


def timestamp(
    version: int, stops: tuple[int, bytes] | None = None, *, expires: int = NOW + 1, **more: str
) -> bytes:
    """A Timestamp; `stops` is the version and content of a stop list."""
    out = field(1, more.get("tenant", "acme")) + field(2, version) + field(4, expires)
    if stops is not None:
        out += field(6, stops[0]) + field(7, hashlib.sha256(stops[1]).digest())
    return out


def signed(kind: str, content: bytes, by: str) -> dict[str, Any]:
    """Content with the signatures of these keys."""
    return {
        "content": content.hex(),
        "signatures": [
            {
                "key_id": hashlib.sha256(public(name)).digest()[:8].hex(),
                "signature": key(name).sign(PREFIXES[kind] + content).hex(),
            }
            for name in by
        ],
    }


def roots() -> list[dict[str, Any]]:
    """Chains of roots, and where each leads."""
    first_kind: dict[str, Any] = {"root": ("", 0), "timestamp": ("", 0)}

    def case(
        what: str, chain: Sequence[tuple[bytes, str]], then: int | str, after: bytes | None = None
    ) -> dict[str, Any]:
        return {
            "what": what,
            "root": (root() if after is None else after).hex(),
            "chain": [signed("root", content, by) for content, by in chain],
            "then": then,
        }

    return [
        case("the next one", [(root(2), "ab")], 2),
        case("two in a row, the first expired", [(root(2, expires=1), "bc"), (root(3), "ca")], 3),
        case("the same again", [(root(), "ab")], 1),
        case("other root keys", [(root(2, root=("x", 1)), "abx")], 2),
        case("other root keys that did not sign", [(root(2, root=("x", 1)), "ab")], "SIGNATURE"),
        case("too few", [(root(2), "a")], "SIGNATURE"),
        case("one key twice", [(root(2), "aa")], "SIGNATURE"),
        case("keys of other roles", [(root(2), "arst")], "SIGNATURE"),
        case("after the first kind", [(root(2), "rab")], 2, root(**first_kind)),
        case("after the first kind, by others", [(root(2), "ab")], "SIGNATURE", root(**first_kind)),
        case("one left out", [(root(3), "ab")], "ROOT"),
        case("one version, two contents", [(root(1, expires=NOW + 1), "ab")], "ROOT"),
        case("a role given up", [(root(2, timestamp=("", 0)), "ab")], "ROOT"),
        case("a key in two roles", [(root(2, release=("s", 1)), "ab")], "ROOT"),
        case("another tenant", [(root(2, "other"), "ab")], "TENANT"),
        case("expired", [(root(2, expires=NOW), "ab")], "ROOT_EXPIRED"),
    ]


def timestamps() -> list[dict[str, Any]]:
    """Timestamps, each after one that was seen."""
    old, new = stop_list(1, "taxi"), stop_list(2, "bus")
    seen = timestamp(5, (2, new))

    def case(what: str, content: bytes, then: int | str, by: str = "s") -> dict[str, Any]:
        made = signed("timestamp", content, by)
        return {"what": what, "seen": seen.hex(), "signed": made, "then": then}

    return [
        case("the next one", timestamp(6, (2, new)), 6),
        case("the same again", seen, 5),
        case("a version far on", timestamp(5 + JUMP, (2, new)), 5 + JUMP),
        case("too far", timestamp(6 + JUMP, (2, new)), "FAST_FORWARD"),
        case("older", timestamp(4, (2, new)), "TIMESTAMP"),
        case("one version, two contents", timestamp(5, (2, new), expires=NOW + 2), "TIMESTAMP"),
        case("a stop list taken back", timestamp(6, (1, old)), "TIMESTAMP"),
        case("another stop list of the version", timestamp(6, (2, old)), "TIMESTAMP"),
        case("expired", timestamp(6, (2, new), expires=NOW), "EXPIRED"),
        case("another tenant", timestamp(6, (2, new), tenant="other"), "TENANT"),
        case("by a release key", timestamp(6, (2, new)), "SIGNATURE", "r"),
    ]


def stop_lists() -> list[dict[str, Any]]:
    """Stop lists, each after one that was seen and under a timestamp that names version 3."""
    seen, named = stop_list(2, "taxi"), stop_list(3, "taxi", "bus")
    at = timestamp(9, (3, named))

    def case(what: str, content: bytes, then: int | str, by: str = "t") -> dict[str, Any]:
        made = signed("stop-list", content, by)
        return {
            "what": what, "seen": seen.hex(), "timestamp": at.hex(), "signed": made, "then": then,
        }  # fmt: skip

    return [
        case("the one that is named", named, 3),
        case("a newer one", stop_list(4), 4),
        case("older than the one held", stop_list(1), "STOP_LIST"),
        case("older than the one named", seen, "STOP_LIST"),
        case("another one of the version", stop_list(3, "taxi"), "STOP_LIST"),
        case("too far", stop_list(3 + JUMP), "FAST_FORWARD"),
        case("another tenant", stop_list(4, tenant="other"), "TENANT"),
        case("by a root key", stop_list(4), "SIGNATURE", "a"),
    ]


def times() -> list[dict[str, Any]]:
    """Times of heartbeats."""

    def case(what: str, by: str, nonce: bytes, ms: int, then: int | str) -> dict[str, Any]:
        made = signed("time", nonce + ms.to_bytes(8, "little"), by)
        return {"what": what, "ms": NOW, "signature": made["signatures"][0], "then": then}

    return [
        case("by one timestamp key", "t", NONCE, NOW, NOW),
        case("another time", "t", NONCE, NOW + 1, "SIGNATURE"),
        case("another stream", "t", NONCE[::-1], NOW, "SIGNATURE"),
        case("by a release key", "r", NONCE, NOW, "SIGNATURE"),
    ]


def document() -> dict[str, Any]:
    """All of it."""
    return {
        "about": "`then` is the version that is believed, or the reason of the refusal.",
        "now_ms": NOW,
        "nonce": NONCE.hex(),
        "root": root().hex(),
        "private_keys": {name: seed.hex() for name, seed in SEEDS.items()},
        "roots": roots(),
        "timestamps": timestamps(),
        "stop_lists": stop_lists(),
        "times": times(),
    }


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    text = json.dumps(document(), ensure_ascii=False, indent=1) + "\n"
    if not parser.parse_args().check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        print(f"out of date; run python -m tools.make_trust_vectors:\n  {TARGET}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
