"""The way to the server: addresses, TLS, deadlines, proofs, and what errors mean.

A server is named in one of these ways:

    https://HOST[:PORT]   TLS; the port is 443 where none is given
    http://HOST:PORT      no TLS, on this machine only: localhost, 127.0.0.0/8, [::1]
    unix:/PATH            no TLS, a socket on this machine
    HOST:PORT             `http` where HOST is this machine, else `https`

Without TLS, genomes and proofs would be readable on the way: anything but this machine is refused.

grpc is imported when the first channel is made, not with this module.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from edge_sdk._posix import quiet_grpc
from edge_sdk.clock import LATEST_MS
from edge_sdk.errors import EdgeError, RefusedError, UnreachableError, UsageError
from edge_sdk.sync.keys import CallSigner, Metadata, ServerClock
from genome_edge.v1 import (
    enrolment_pb2,
    errors_pb2,
    identify_pb2,
    report_pb2,
    sync_pb2,
)

MAX_RECEIVE_BYTES = 16 << 20
MAX_SEND_BYTES = 8 << 20
DETAILS_KEY = "grpc-status-details-bin"
ERROR_INFO_URL = "type.googleapis.com/google.rpc.ErrorInfo"
DOMAIN = "genome-edge"

Request = TypeVar("Request")
Response = TypeVar("Response")


class ErrorReason(StrEnum):
    """Why a server refuses a call; the `reason` of a RefusedError. Explained in docs/wire.md."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    CREDENTIAL_REVOKED = "CREDENTIAL_REVOKED"
    CLOCK_SKEW = "CLOCK_SKEW"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    CODE_INVALID = "CODE_INVALID"
    CODE_USED = "CODE_USED"
    CODE_EXPIRED = "CODE_EXPIRED"
    NOT_IN_AUDIENCE = "NOT_IN_AUDIENCE"
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105  a reason, not a secret
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105
    FORKED_EPOCH = "FORKED_EPOCH"
    SEQUENCE_GAP = "SEQUENCE_GAP"
    LOG_CHANGED = "LOG_CHANGED"
    BAD_DIGEST = "BAD_DIGEST"
    BAD_FRAME = "BAD_FRAME"
    TOO_LARGE = "TOO_LARGE"
    UNKNOWN_PLACEMENT = "UNKNOWN_PLACEMENT"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNKNOWN_DECISION = "UNKNOWN_DECISION"
    NO_RELEASE = "NO_RELEASE"
    DRAINING = "DRAINING"
    NO_ROOM = "NO_ROOM"
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    INTERNAL = "INTERNAL"


# The device is not believed, now or any more: trying again soon changes nothing.
CREDENTIAL_REASONS = frozenset(
    {
        ErrorReason.UNAUTHENTICATED,
        ErrorReason.CREDENTIAL_REVOKED,
        ErrorReason.CLOCK_SKEW,
        ErrorReason.PERMISSION_DENIED,
    }
)


@dataclass(frozen=True)
class Address:
    """Where a server is: `target` in gRPC's words, and whether TLS is spoken there."""

    text: str
    target: str
    tls: bool


@dataclass(frozen=True)
class Method(Generic[Request, Response]):
    """One RPC: its full name, which is what a proof signs, and how its messages are written."""

    path: str
    encode: Callable[[Request], bytes]
    decode: Callable[[bytes], Response]


ENROL: Method[enrolment_pb2.EnrolRequest, enrolment_pb2.EnrolResponse] = Method(
    "/genome_edge.v1.EnrolmentService/Enrol",
    enrolment_pb2.EnrolRequest.SerializeToString,
    enrolment_pb2.EnrolResponse.FromString,
)
IDENTIFY: Method[identify_pb2.IdentifyRequest, identify_pb2.IdentifyResponse] = Method(
    "/genome_edge.v1.IdentifyService/Identify",
    identify_pb2.IdentifyRequest.SerializeToString,
    identify_pb2.IdentifyResponse.FromString,
)
REPORT: Method[report_pb2.ReportRequest, report_pb2.ReportResponse] = Method(
    "/genome_edge.v1.ReportService/Report",
    report_pb2.ReportRequest.SerializeToString,
    report_pb2.ReportResponse.FromString,
)
SYNC: Method[sync_pb2.SyncRequest, sync_pb2.SyncResponse] = Method(
    "/genome_edge.v1.SyncService/Sync",
    sync_pb2.SyncRequest.SerializeToString,
    sync_pb2.SyncResponse.FromString,
)


def parse_address(text: str) -> Address:
    """Read a server's address. Raises UsageError that says what an address looks like."""
    text = text.strip()
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise UsageError(f"{text!r} is no address: a socket is unix:/PATH, with a whole path")
        return Address(text, text, tls=False)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    if scheme not in ("", "http", "https"):
        raise UsageError(f"{text!r} is no address: use https://HOST:PORT, http:// on this machine")
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{text!r} is no address: {error}") from error
    if not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise UsageError(f"{text!r} is no address: use https://HOST:PORT")
    local = _is_loopback(host)
    tls = scheme == "https" or (not scheme and not local)
    if not tls and not local:
        raise UsageError(
            f"{text!r} would send genomes in the clear: without TLS only this machine can be "
            f"reached (localhost, 127.0.0.1, [::1], unix:/PATH). Use https://{rest}"
        )
    if port is None and scheme != "https":
        scheme = scheme or ("http" if local else "https")
        raise UsageError(f"{text!r} names no port: use {scheme}://{host}:PORT")
    shown = f"[{host}]" if ":" in host else host
    return Address(text, f"{shown}:{port or 443}", tls)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SyncCall:
    """An open sync stream: iterate to receive. `cancel` ends it from any thread."""

    def __init__(self, call: Any, address: Address) -> None:
        self._call = call
        self._address = address

    def __iter__(self) -> Iterator[sync_pb2.SyncResponse]:
        """Yield messages until the server ends the stream; raises what `Link.call` raises."""
        import grpc

        try:
            yield from self._call
        except grpc.RpcError as error:
            raise explain(error, self._address) from error

    def cancel(self) -> None:
        """End the stream; the iteration stops with UnreachableError."""
        self._call.cancel()


class Link:
    """One channel to one server. Thread-safe. Nothing is connected before the first call."""

    def __init__(
        self,
        server: str,
        *,
        ca_file: Path | None = None,
        signer: CallSigner | None = None,
        clock: ServerClock | None = None,
    ) -> None:
        """Raises UsageError for an address or a certificate file that cannot be used."""
        self.address = parse_address(server)
        self.clock = clock or ServerClock()
        self._signer = signer
        with quiet_grpc():
            self._channel = _open_channel(self.address, ca_file)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every call and the connection."""
        self._channel.close()

    def call(
        self, method: Method[Request, Response], request: Request, timeout_s: float
    ) -> Response:
        """Make one call, signed where the link has a key.

        A refusal for CLOCK_SKEW corrects the clock and tries once more. Raises RefusedError
        (the server said no) or UnreachableError (it said nothing, or to come back later).
        """
        try:
            return self._call_once(method, request, timeout_s)
        except RefusedError as error:
            if not self.heed_clock(error):
                raise
        return self._call_once(method, request, timeout_s)

    def open_sync(self, requests: Iterator[sync_pb2.SyncRequest]) -> SyncCall:
        """Open a sync stream; what `requests` yields is sent as it comes. Never blocks."""
        stub = self._channel.stream_stream(SYNC.path, SYNC.encode, SYNC.decode)
        return SyncCall(stub(requests, metadata=self._metadata(SYNC.path)), self.address)

    def heed_clock(self, error: RefusedError) -> bool:
        """Take the time from a CLOCK_SKEW refusal; False where there is none to take."""
        told = _number(error.facts.get("server_time_ms"))
        if error.reason != ErrorReason.CLOCK_SKEW or not told:
            return False
        self.clock.hear(told)
        return True

    def _call_once(
        self, method: Method[Request, Response], request: Request, timeout_s: float
    ) -> Response:
        import grpc

        stub = self._channel.unary_unary(method.path, method.encode, method.decode)
        try:
            response: Response = stub(
                request, timeout=timeout_s, metadata=self._metadata(method.path)
            )
        except grpc.RpcError as error:
            raise explain(error, self.address) from error
        return response

    def _metadata(self, path: str) -> Metadata:
        return self._signer.metadata(path) if self._signer else ()


def _open_channel(address: Address, ca_file: Path | None) -> Any:
    import grpc

    options = [
        ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
        ("grpc.max_send_message_length", MAX_SEND_BYTES),
        # A connection that died silently is noticed in 80 s even where nothing is said.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # The callers' own backoff decides; the channel's stays below it.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if address.tls:
        credentials = grpc.ssl_channel_credentials(_read_ca(ca_file))
        return grpc.secure_channel(address.target, credentials, options)
    # A proxy for the outside world has no business between two processes here.
    options.append(("grpc.enable_http_proxy", 0))
    return grpc.insecure_channel(address.target, options)


def _read_ca(ca_file: Path | None) -> bytes | None:
    if ca_file is None:
        return None
    try:
        return ca_file.read_bytes()
    except OSError as error:
        raise UsageError(f"the certificate authority {ca_file} cannot be read: {error}") from error


def explain(error: Any, address: Address) -> EdgeError:
    """What a grpc.RpcError means: RefusedError where the server decided, else UnreachableError."""
    import grpc

    code, details = error.code(), error.details() or ""
    info = _error_info(error)
    if info is not None and info.reason == ErrorReason.DRAINING:
        return UnreachableError(
            f"{address.text} is about to stop",
            (_number(info.metadata.get("retry_after_ms")) or 0) / 1000,
        )
    if info is not None and info.reason in (ErrorReason.INTERNAL, ErrorReason.NO_ROOM):
        return UnreachableError(f"{address.text} failed: {details}")
    if info is not None:
        return RefusedError(info.reason, details, info.metadata)
    # Other codes without an ErrorInfo are a proxy's or a crash: no reason to give an event up.
    refusals = {
        grpc.StatusCode.UNAUTHENTICATED: ErrorReason.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED: ErrorReason.PERMISSION_DENIED,
    }
    if code in refusals:
        return RefusedError(refusals[code], f"{address.text} refused the call: {details}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return UnreachableError(f"what answers at {address.text} is no Genome Edge server")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return UnreachableError(f"{address.text} did not answer in time")
    # gRPC wraps the cause in its own words; what follows the last of them is the cause.
    details = details.rpartition("last error: ")[2].removeprefix("UNKNOWN: ")
    return UnreachableError(f"{address.text} cannot be reached: {details}")


def _error_info(error: Any) -> errors_pb2.ErrorInfo | None:
    """The genome-edge ErrorInfo of an error; None where there is none that can be read."""
    from google.protobuf.message import DecodeError

    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_KEY:
            continue
        try:
            for detail in errors_pb2.RpcStatus.FromString(value).details:
                if detail.type_url == ERROR_INFO_URL:
                    info = errors_pb2.ErrorInfo.FromString(detail.value)
                    if info.domain == DOMAIN:
                        return info
        except DecodeError:
            return None
    return None


def _number(text: str | None) -> int | None:
    """Milliseconds that the server said: a moment of this calendar, or a time that is shorter."""
    if not text or not text.isascii() or not text.isdecimal() or len(text) > len(str(LATEST_MS)):
        return None
    return min(int(text), LATEST_MS)
