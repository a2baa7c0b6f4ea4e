"""Credentials, proofs of calls, enrolment codes and tokens. Free of I/O.

A device's credential is signed by the tenant and names the device's public key;
each call proves, by a signature with the private key, that the caller is that
device now. A thin client's bearer token and an enrolment code are `TENANT.SECRET`;
only their hashes are kept. A presence token says which customer is here, until when:

    base64url( subject 16 bytes | expiry u64 LE, ms | HMAC-SHA-256 first 16 bytes )
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from edge_sdk.sync.keys import DeviceKey, call_message, enrol_message
from genome_edge.v1 import enrolment_pb2
from genome_server.services.errors import CallRefusedError

CREDENTIAL_PREFIX = b"genome-edge/credential/v1\n"
PRESENCE_PREFIX = b"genome-edge/presence/v1\n"
MAX_SKEW_MS = 5 * 60 * 1000
MAX_CREDENTIAL_BYTES = 4_096

_TOKEN = struct.Struct("<16sQ16s")
# No 0/O, 1/I/L: codes are read from a screen and typed on a kiosk.
_CODE_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
_CODE_GROUPS = 4
_CODE_GROUP = 4


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a credential says, before anything of it is believed."""

    tenant: str
    device_id: str
    public_key: bytes
    content: bytes
    signature: bytes


def issue(key: DeviceKey, tenant: str, device_id: str, public_key: bytes, issued_ms: int) -> bytes:
    """Sign a credential with the tenant's credential key; returns a serialised SignedCredential."""
    content = enrolment_pb2.Credential(
        tenant=tenant, device_id=device_id, public_key=public_key, issued_ms=issued_ms
    ).SerializeToString(deterministic=True)
    return enrolment_pb2.SignedCredential(
        credential=content, signature=key.sign(CREDENTIAL_PREFIX + content)
    ).SerializeToString(deterministic=True)


def parse(credential: bytes) -> Claimed:
    """Take a SignedCredential apart. Raises UNAUTHENTICATED where it is none."""
    if len(credential) > MAX_CREDENTIAL_BYTES:
        raise _unauthenticated("the credential is too large")
    try:
        signed = enrolment_pb2.SignedCredential.FromString(credential)
        content = enrolment_pb2.Credential.FromString(signed.credential)
    except DecodeError:
        raise _unauthenticated("the credential cannot be read") from None
    return Claimed(
        content.tenant, content.device_id, content.public_key, signed.credential, signed.signature
    )


def check_issuer(claimed: Claimed, tenant_key: bytes) -> None:
    """Check that the tenant signed the credential. Raises UNAUTHENTICATED."""
    if not _verifies(tenant_key, claimed.signature, CREDENTIAL_PREFIX + claimed.content):
        raise _unauthenticated("the credential was not issued here")


def check_proof(
    public_key: bytes, proof: bytes, method: str, time_ms: int, credential: bytes, now_ms: int
) -> None:
    """Check that the holder of the key makes this call now.

    Raises UNAUTHENTICATED, or CLOCK_SKEW with `server_time_ms` where the proof is
    genuine and its time more than five minutes off.
    """
    if not _verifies(public_key, proof, call_message(method, time_ms, credential)):
        raise _unauthenticated("the proof is not by the device's key for this call")
    if abs(now_ms - time_ms) > MAX_SKEW_MS:
        raise CallRefusedError(
            "CLOCK_SKEW",
            f"the call was signed {(now_ms - time_ms) / 1000:.0f} s ago by the server's clock",
            server_time_ms=now_ms,
        )


def check_enrolment(public_key: bytes, proof: bytes, code: str) -> None:
    """Check that whoever presents a code holds the private key. Raises UNAUTHENTICATED."""
    if len(public_key) != 32:
        raise CallRefusedError(
            "INVALID_ARGUMENT", "a public key is 32 raw bytes", field="public_key"
        )
    if not _verifies(public_key, proof, enrol_message(code)):
        raise _unauthenticated("the proof is not by the private key of this public key")


def new_code(tenant: str) -> str:
    """Make a one-time enrolment code: the tenant and about 79 random bits, to be typed."""
    groups = (
        "".join(secrets.choice(_CODE_ALPHABET) for _ in range(_CODE_GROUP))
        for _ in range(_CODE_GROUPS)
    )
    return f"{tenant}.{'-'.join(groups)}"


def new_bearer(tenant: str) -> str:
    """Make a thin client's bearer token: the tenant and 256 random bits."""
    return f"{tenant}.{secrets.token_urlsafe(32)}"


def tenant_of(secret: str) -> str:
    """Return the tenant that a code or bearer token names; empty where it names none."""
    return secret.partition(".")[0] if "." in secret else ""


def secret_hash(secret: str) -> bytes:
    """Return what is kept of a code or a bearer token (32 bytes)."""
    return hashlib.sha256(secret.encode()).digest()


def name_key(code_hash: bytes) -> str:
    """Return the setting under which the name for a code's device is kept."""
    return f"enrolment_name:{code_hash.hex()}"


def presence_token(key: bytes, subject: bytes, expires_ms: int) -> str:
    """Make a presence token for a subject (16 bytes)."""
    token = _TOKEN.pack(subject, expires_ms, _presence_mac(key, subject, expires_ms))
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def read_presence(key: bytes, token: str, now_ms: int) -> tuple[bytes, int]:
    """Return the subject of a presence token and when it ends (ms).

    Raises TOKEN_INVALID or TOKEN_EXPIRED.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        subject, expires_ms, mac = _TOKEN.unpack(raw)
    except (binascii.Error, struct.error, ValueError):
        raise CallRefusedError("TOKEN_INVALID", "this is no presence token") from None
    if not hmac.compare_digest(mac, _presence_mac(key, subject, expires_ms)):
        raise CallRefusedError("TOKEN_INVALID", "this presence token was not made here")
    if now_ms >= expires_ms:
        raise CallRefusedError("TOKEN_EXPIRED", "this presence token is too old")
    return subject, expires_ms


def _presence_mac(key: bytes, subject: bytes, expires_ms: int) -> bytes:
    message = PRESENCE_PREFIX + subject + struct.pack("<Q", expires_ms)
    return hmac.digest(key, message, "sha256")[:16]


def _verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _unauthenticated(message: str) -> CallRefusedError:
    return CallRefusedError("UNAUTHENTICATED", message)
