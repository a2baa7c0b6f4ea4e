"""The key that a device is known by, and the proofs it makes with it.

The private key is made on the device and never leaves it: it is written once, readable by its
owner only, and complete or not at all. What the server gives in exchange for the public half, the
credential, is no secret; a call is believed because it carries a fresh signature as well:

    genome-edge-credential-bin   the SignedCredential of enrolment, byte for byte
    genome-edge-time             milliseconds since the Unix epoch, by the server's clock as known
    genome-edge-proof-bin        Ed25519 over "genome-edge/call/v1\\n", the method's full name,
                                 "\\n", that time, "\\n" and the SHA-256 of the credential

The time bounds how long a recorded call could be repeated. It is the device's wall clock plus what
the device knows of its error, so that a kiosk that woke up in 1970 can still prove itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk import _posix
from edge_sdk.clock import LATEST_MS, Anchor, Clocks, DeviceClock
from edge_sdk.errors import StoreCorrupt
from genome_edge.v1 import enrolment_pb2

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CALL_PREFIX = b"genome-edge/call/v1\n"
ENROL_PREFIX = b"genome-edge/enrol/v1\n"

Metadata = tuple[tuple[str, str | bytes], ...]


class DeviceKey:
    """An Ed25519 key pair. Thread-safe."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    def __repr__(self) -> str:
        return f"DeviceKey(public={self.public.hex()})"

    @classmethod
    def generate(cls) -> DeviceKey:
        """A new key from the system's randomness; nothing is written."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, credential: bytes = b"") -> DeviceKey:
        """Read a key that `save` wrote; with a SignedCredential the one that this is for.

        Raises FileNotFoundError, and StoreCorrupt where the file is no Ed25519 key, or another one.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        pem = path.read_bytes()
        try:
            private = load_pem_private_key(pem, password=None)
        except Exception as error:  # a damaged one makes the library raise all kinds
            raise StoreCorrupt(f"{path} holds no readable private key") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise StoreCorrupt(f"{path} holds a key of another kind than Ed25519")
        key = cls(private)
        signed = enrolment_pb2.SignedCredential.FromString(credential)
        known = enrolment_pb2.Credential.FromString(signed.credential).public_key
        if known not in (b"", key.public):
            raise StoreCorrupt(
                f"{path} is damaged: the credential is for another key; enrol with a new store"
            )
        return key

    @classmethod
    def load_or_create(cls, path: Path) -> DeviceKey:
        """The key at `path`; where there is none, a new one that is safely there on return.

        Of several processes that try at once, all get the same key.
        """
        if not path.exists():
            # Another process may be faster; its key is then the device's.
            with contextlib.suppress(FileExistsError):
                cls.generate().save(path)
        return cls.load(path)

    def save(self, path: Path) -> None:
        """Write the key as PEM (PKCS #8), mode 0600, complete or not at all.

        Raises FileExistsError: a key is never replaced, the device would become another one.
        """
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        pem = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(draft)  # unlike a rename, fails where the name is taken
        finally:
            draft.unlink()
        _posix.sync_directory(path.parent)

    @property
    def public(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of `message`, 64 bytes."""
        return self._private.sign(message)


class ServerClock:
    """The server's time as this device knows it: what it said plus what has passed since, and
    before it was heard the wall clock plus the offset of last time.

    Until the server was ever heard the offset is 0 and `known` is False. Thread-safe.
    """

    def __init__(
        self, offset_ms: int | None = None, wall_ms: Callable[[], int] | None = None
    ) -> None:
        self._clocks = Clocks() if wall_ms is None else Clocks(wall_ms, None)
        self._clock = DeviceClock(*self._clocks)
        self._clock.hear(offset_ms, 0)

    @property
    def known(self) -> bool:
        """Whether the server's time was ever heard."""
        return self._clock.off_ms() is not None

    @property
    def offset_ms(self) -> int:
        """Server minus device wall clock in milliseconds; 0 where it is not known."""
        return self._clock.off_ms() or 0

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch by the server's clock, as far as it is known."""
        return self._clock.now_ms()

    def hear(self, server_time_ms: int) -> int:
        """Take the server's word for the time; returns the new offset. 0 changes nothing."""
        if 0 < server_time_ms <= LATEST_MS:
            anchor = Anchor.now(server_time_ms, self._clocks)
            self._clock.hear(server_time_ms - self._clocks.wall(), 0, anchor)
        return self.offset_ms


def call_message(method: str, time_ms: int, credential: bytes) -> bytes:
    """The bytes that prove a call; `method` is the full name, `/package.Service/Method`."""
    digest = hashlib.sha256(credential).digest()
    return CALL_PREFIX + f"{method}\n{time_ms}\n".encode() + digest


def enrol_message(code: str) -> bytes:
    """The bytes that prove, at enrolment, that the sender holds the private key."""
    return ENROL_PREFIX + code.encode()


class CallSigner:
    """Makes the metadata that proves a device's calls."""

    def __init__(self, key: DeviceKey, credential: bytes, clock: ServerClock) -> None:
        self._key = key
        self._credential = credential
        self._clock = clock

    def metadata(self, method: str) -> Metadata:
        """Call metadata for one call of `method` made now."""
        now = self._clock.now_ms()
        proof = self._key.sign(call_message(method, now, self._credential))
        return (
            ("genome-edge-credential-bin", self._credential),
            ("genome-edge-proof-bin", proof),
            ("genome-edge-time", str(now)),
        )
