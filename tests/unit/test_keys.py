from __future__ import annotations

import hashlib
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge_sdk.errors import StoreCorrupt
from edge_sdk.sync.keys import CallSigner, DeviceKey, ServerClock, call_message, enrol_message


def test_a_key_is_private_whole_and_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "device.pem"
    made = DeviceKey.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert DeviceKey.load_or_create(path).public == made.public
    assert [entry.name for entry in tmp_path.iterdir()] == ["device.pem"], "no draft is left"
    assert made.public.hex() in repr(made)


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "device.pem"
    DeviceKey.generate().save(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        DeviceKey.generate().save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_many_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "device.pem"
    gate = threading.Barrier(8)
    seen: list[bytes] = []

    def make() -> None:
        gate.wait()
        seen.append(DeviceKey.load_or_create(path).public)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 1
    assert len(seen) == 8


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_key_is_said_to_be_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "device.pem"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"device\.pem"):
        DeviceKey.load(path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    path = tmp_path / "device.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(StoreCorrupt, match="another kind"):
        DeviceKey.load(path)


def test_a_call_is_proven_for_one_method_one_time_and_one_credential() -> None:
    key, clock = DeviceKey.generate(), ServerClock(offset_ms=250, wall_ms=lambda: 1_000)
    metadata = dict(CallSigner(key, b"credential", clock).metadata("/a.B/C"))
    assert metadata["genome-edge-credential-bin"] == b"credential"
    assert metadata["genome-edge-time"] == "1250"
    proof = metadata["genome-edge-proof-bin"]
    assert isinstance(proof, bytes)
    digest = hashlib.sha256(b"credential").digest()
    signed = b"genome-edge/call/v1\n/a.B/C\n1250\n" + digest
    Ed25519PublicKey.from_public_bytes(key.public).verify(proof, signed)
    assert call_message("/a.B/C", 1250, b"credential") == signed
    assert enrol_message("ABC") == b"genome-edge/enrol/v1\nABC"


def test_the_servers_clock_is_the_wall_plus_what_was_heard() -> None:
    wall = 1_000
    clock = ServerClock(wall_ms=lambda: wall)
    assert (clock.known, clock.offset_ms, clock.now_ms()) == (False, 0, 1_000)
    assert clock.hear(0) == 0
    assert not clock.known, "an unset time says nothing"
    assert clock.hear(61_000) == 60_000
    wall = 2_000
    assert (clock.known, clock.now_ms()) == (True, 62_000)
    assert clock.hear(500) == -1_500
    assert clock.now_ms() == 500
