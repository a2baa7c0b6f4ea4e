"""Where the server may listen without TLS, and certificates for those who have none yet."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from genome_server.errors import Refused, UsageError
from genome_server.files import write_whole

_DAYS = 825


@dataclass(frozen=True)
class Identity:
    """A certificate chain and its private key, both PEM."""

    certificate: bytes
    key: bytes


def is_local(address: str) -> bool:
    """Say whether an address (HOST:PORT or unix:PATH) is reached from this machine only."""
    if address.startswith("unix:"):
        return True
    host = split(address)[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split(address: str) -> tuple[str, int]:
    """Take HOST:PORT or [IPV6]:PORT apart. Raises UsageError."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{address!r} is no address to listen on: say HOST:PORT or unix:/PATH")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, int(port)


def check_listen(address: str, identity: Identity | None) -> None:
    """Refuse to speak plaintext where others could listen. Raises UsageError."""
    if identity is None and not is_local(address):
        raise UsageError(
            f"{address} can be reached from other machines, and genomes do not travel in the "
            "clear: give --tls-cert and --tls-key, or --self-signed HOST for a trial, or listen "
            "on 127.0.0.1"
        )


def load(certificate: Path, key: Path) -> Identity:
    """Read a certificate chain and its key. Raises UsageError where one cannot be used."""
    try:
        identity = Identity(certificate.read_bytes(), key.read_bytes())
        leaf = x509.load_pem_x509_certificate(identity.certificate)
        private = serialization.load_pem_private_key(identity.key, password=None)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{certificate} and {key} are not a PEM certificate and key") from error
    if leaf.public_key() != private.public_key():
        raise UsageError(f"{key} is not the key of {certificate}")
    return identity


def self_signed(directory: Path, host: str) -> Identity:
    """Return the self-signed certificate for a host, made on first use.

    The certificate is what devices are given to trust (`ca_file`). Raises UsageError
    for a host that no certificate can name, Refused where the files cannot be written.
    """
    name = _host_name(host)
    certificate, key = directory / f"{host}.pem", directory / f"{host}.key"
    if not certificate.exists() or not key.exists():
        private = ec.generate_private_key(ec.SECP256R1())
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write_whole(key, _key_pem(private))
            write_whole(certificate, _certify(private, host, name))
            certificate.chmod(0o644)  # no secret: devices are given a copy
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}") from error
    return load(certificate, key)


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host or not all(part.replace("-", "").isalnum() for part in host.split(".")):
        raise UsageError(f"{host!r} is neither a host name nor an address")
    return x509.DNSName(host)


def _certify(private: ec.EllipticCurvePrivateKey, host: str, name: x509.GeneralName) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(private, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
