"""How a device becomes one of ours, and how it asks who is standing in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.errors import FormatError, RefusedError, StoreError, TrustError, UsageError
from edge_sdk.plugins import Identified
from edge_sdk.store.device import Identity
from edge_sdk.sync import trust
from edge_sdk.sync.keys import CallSigner, DeviceKey, ServerClock, enrol_message
from edge_sdk.sync.transport import ENROL, IDENTIFY, ErrorReason, Link
from edge_sdk.version import sdk_version
from genome_edge.v1 import dna_pb2, enrolment_pb2, identify_pb2

if TYPE_CHECKING:
    from edge_sdk.config import Config
    from edge_sdk.store.device import DeviceStore

# Whoever is present is nobody that this device may know.
_NOBODY_REASONS = frozenset(
    {ErrorReason.NOT_IN_AUDIENCE, ErrorReason.TOKEN_INVALID, ErrorReason.TOKEN_EXPIRED}
)
_CA_NAME = "ca.pem"


@dataclass(frozen=True)
class Enrolled:
    """What enrolment gave: who this device is now."""

    device_id: str
    tenant: str
    audience: str


def enrol(server: str, code: str, store: DeviceStore, name: str, config: Config) -> Enrolled:
    """Exchange a one-time code for a credential and keep it in `store`.

    The key is made first and stays where it is when something fails, so that a second attempt with
    the same code is the same device's. A certificate authority given in `config` is kept with the
    store. Raises UsageError (address; the store is enrolled already), RefusedError (CODE_INVALID,
    CODE_USED, CODE_EXPIRED ...), UnreachableError, TrustError, StoreError.
    """
    known = store.identity()
    if known is not None:
        raise UsageError(
            f"{store.path} is device {known.device_id} of {known.tenant} already; "
            "another device needs another store"
        )
    code = code.strip()
    clock = ServerClock()
    with Link(server, ca_file=config.ca_file, clock=clock) as link:
        key = _made_here(store.key_path)
        answer = link.call(
            ENROL,
            enrolment_pb2.EnrolRequest(
                code=code,
                public_key=key.public,
                name=name,
                sdk_version=sdk_version(),
                proof=key.sign(enrol_message(code)),
            ),
            config.call_timeout_s,
        )
    _check_answer(answer, key)
    if config.ca_file is not None:
        _keep_ca(store.key_path, config.ca_file)
    store.set_identity(
        Identity(
            server=server,
            tenant=answer.tenant,
            device_id=answer.device_id,
            audience=answer.audience,
            credential=answer.credential,
            root=answer.root.SerializeToString(),
        )
    )
    store.put_trust(answer.root)
    store.heard_server(answer.server_time_ms)
    return Enrolled(answer.device_id, answer.tenant, answer.audience)


def identify(
    store: DeviceStore, config: Config, token: str, lineage: dna_pb2.Lineage, timeout: float
) -> Identified | None:
    """Ask the server for the genome of a customer who is present.

    None: a token of nobody whom this device may know, or too old. `lineage` is what the device can
    read; a row of another one is left out. Raises UsageError where the store is not enrolled,
    UnreachableError, RefusedError, FormatError.
    """
    identity = store.identity()
    if identity is None:
        raise UsageError("this store belongs to no device yet: run `genome-edge enrol`")
    request = identify_pb2.IdentifyRequest(presence_token=token, lineage=lineage)
    with open_link(store, config, identity, ServerClock(store.server_offset_ms())) as link:
        try:
            answer = link.call(IDENTIFY, request, timeout)
        except RefusedError as error:
            if error.reason in _NOBODY_REASONS:
                return None
            raise
    if len(answer.subject) != 16:
        raise FormatError(f"the server named a subject of {len(answer.subject)} bytes")
    readable = (
        answer.HasField("genome")
        and len(answer.genome.counts) == 1
        and answer.genome.subjects == answer.subject
        and trust.same_lineage(answer.genome.lineage, lineage)
    )
    return Identified(answer.subject, answer.genome if readable else None, answer.ttl_s)


def open_link(store: DeviceStore, config: Config, identity: Identity, clock: ServerClock) -> Link:
    """A link to the server that the device is enrolled at, which signs what it sends.

    Raises UsageError for an address or certificate that cannot be used, StoreError for a key.
    """
    try:
        key = DeviceKey.load(store.key_path, identity.credential)
    except OSError as error:
        raise StoreError(f"the device's key cannot be read: {error}") from error
    kept = store.key_path.with_name(_CA_NAME)
    ca_file = config.ca_file or (kept if kept.exists() else None)
    signer = CallSigner(key, identity.credential, clock)
    return Link(identity.server, ca_file=ca_file, signer=signer, clock=clock)


def _made_here(path: Path) -> DeviceKey:
    try:
        return DeviceKey.load_or_create(path)
    except OSError as error:
        raise StoreError(f"the device's key cannot be kept at {path}: {error}") from error


def _keep_ca(key_path: Path, ca_file: Path) -> None:
    from edge_sdk.store.files import write_file

    try:
        write_file(key_path.with_name(_CA_NAME), ca_file.read_bytes())
    except OSError as error:
        raise StoreError(f"the certificate authority cannot be kept: {error}") from error


def _check_answer(answer: enrolment_pb2.EnrolResponse, key: DeviceKey) -> None:
    """The answer must be about this key, and its root one that can verify releases."""
    from google.protobuf.message import DecodeError

    trust.check_root(answer.root)
    try:
        signed = enrolment_pb2.SignedCredential.FromString(answer.credential)
        credential = enrolment_pb2.Credential.FromString(signed.credential)
    except DecodeError as error:
        raise TrustError("the server sent a credential that cannot be read") from error
    if credential.public_key != key.public:
        raise TrustError("the server sent a credential for another key")
    if not answer.tenant == credential.tenant == answer.root.tenant:
        raise TrustError("the server's answer names different tenants", trust.Refusal.TENANT)
    if not answer.device_id or answer.device_id != credential.device_id:
        raise TrustError("the server's answer names no device, or two")
