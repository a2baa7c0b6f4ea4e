"""Plaintext stays on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from genome_server.errors import UsageError
from genome_server.services import tls

IDENTITY = tls.Identity(b"", b"")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "127.9.9.9:50051", "localhost:1", "[::1]:50051", "unix:/tmp/x"]
)
def test_this_machine_needs_no_tls(address: str) -> None:
    tls.check_listen(address, None)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:50051", "[::]:50051", "192.168.1.2:443", "example.org:443", "*:1"]
)
def test_others_do(address: str) -> None:
    with pytest.raises(UsageError, match="--tls-cert"):
        tls.check_listen(address, None)
    tls.check_listen(address, IDENTITY)


@pytest.mark.parametrize("address", ["", "localhost", ":1", "localhost:x", "h:99999", "h:"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError):
        tls.split(address)


@pytest.mark.parametrize("host", ["kiosk-server.local", "192.168.1.2", "::1"])
def test_a_certificate_of_our_own_names_the_host(tmp_path: Path, host: str) -> None:
    made = tls.self_signed(tmp_path / "tls", host)
    leaf = x509.load_pem_x509_certificate(made.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
    assert found == [host]
    assert tls.self_signed(tmp_path / "tls", host) == made, "made once"
    assert (tmp_path / "tls" / f"{host}.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("host", ["", "a/b", "../x", "a b", "*"])
def test_a_host_that_no_certificate_can_name(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="host"):
        tls.self_signed(tmp_path, host)
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_and_a_key_belong_together(tmp_path: Path) -> None:
    for host in ("one", "two"):
        tls.self_signed(tmp_path, host)
    assert tls.load(tmp_path / "one.pem", tmp_path / "one.key")
    with pytest.raises(UsageError, match="is not the key of"):
        tls.load(tmp_path / "one.pem", tmp_path / "two.key")
    with pytest.raises(UsageError, match="No such file"):
        tls.load(tmp_path / "none.pem", tmp_path / "one.key")
    with pytest.raises(UsageError, match="not a PEM"):
        tls.load(tmp_path / "one.key", tmp_path / "one.key")
