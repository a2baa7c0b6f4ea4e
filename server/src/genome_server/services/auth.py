"""Who is calling, and whether they may.

The policy of each RPC stands in the contract as its `authorisation` option; it is
read from the descriptors once, and a method without one keeps the server from
starting. The interceptor stands before every handler: it proves the caller, looks
up the policy, leaves a `Caller` for the handler, and turns refusals into statuses.
Tenant and audience come from the credential, never from a field of a request.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import sys
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from genome_edge.v1 import authorisation_pb2
from genome_server.errors import GenomeServerError
from genome_server.services import credentials
from genome_server.services.errors import CallRefusedError, abort, failed
from genome_server.services.room import Room
from genome_server.services.rooms import Rooms

ANYONE = authorisation_pb2.ROLE_ANYONE
DEVICE = authorisation_pb2.ROLE_DEVICE
THIN = authorisation_pb2.ROLE_THIN

#: Not of our contract, and of no interest to anyone who may not see them.
_INFRASTRUCTURE = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
_KNOWN_CREDENTIALS = 65_536
_MAX_TIME_DIGITS = 18

log = logging.getLogger(__name__)


class PolicyError(GenomeServerError):
    """An RPC has no authorisation policy: the server does not start."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: `name` is a device's id or a thin client's name."""

    room: Room
    role: int
    name: str
    audience: str


_CALLER: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Return who makes the current call. Only inside handlers of proven calls."""
    return _CALLER.get()


def policies(services: Iterable[Any]) -> dict[str, frozenset[int]]:
    """Read the roles that may call each method of these service descriptors.

    Raises PolicyError naming every method without a policy, and for one that streams in
    one direction only, which the interceptor would not stand before.
    """
    found: dict[str, frozenset[int]] = {}
    missing = []
    for service in services:
        for method in service.methods:
            name = f"/{service.full_name}/{method.name}"
            if method.client_streaming != method.server_streaming:
                raise PolicyError(f"{name} streams one way; such calls are not guarded")
            policy = method.GetOptions().Extensions[authorisation_pb2.authorisation]
            roles = frozenset(policy.roles) - {authorisation_pb2.ROLE_UNSPECIFIED}
            if roles:
                found[name] = roles
            else:
                missing.append(name)
    if missing:
        raise PolicyError(
            "these RPCs say nothing about who may call them (option genome_edge.v1.authorisation): "
            + ", ".join(missing)
        )
    return found


class Authenticator:
    """Proves callers against the tenants of this server. Thread-safe; blocks (SQLite, Ed25519)."""

    def __init__(
        self,
        rooms: Rooms,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._rooms = rooms
        self._now_ms = now_ms
        # Credentials whose issuer was checked before: a second signature less for each call.
        self._known: OrderedDict[bytes, credentials.Claimed] = OrderedDict()

    def knows(self, metadata: Mapping[str, str | bytes]) -> bool:
        """Whether the caller's credential was checked before, so that little is left to do."""
        return metadata.get("genome-edge-credential-bin") in self._known

    def prove(self, method: str, metadata: Mapping[str, str | bytes]) -> Caller:
        """Say who makes this call. Raises CallRefusedError."""
        credential = metadata.get("genome-edge-credential-bin")
        if isinstance(credential, bytes):
            return self._device(method, metadata, credential)
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        if scheme.lower() == "bearer" and token:
            return self._thin(token.strip())
        raise CallRefusedError("UNAUTHENTICATED", "the call carries no credential")

    def _device(
        self, method: str, metadata: Mapping[str, str | bytes], credential: bytes
    ) -> Caller:
        claimed = self._known.get(credential)
        if claimed is None:
            claimed = credentials.parse(credential)
        room = self._rooms.of(claimed.tenant)
        if room is None:
            raise CallRefusedError("UNAUTHENTICATED", "the credential was not issued here")
        if credential not in self._known:
            credentials.check_issuer(claimed, room.credential_key.public)
            self._remember(credential, claimed)
        proof = metadata.get("genome-edge-proof-bin")
        stated = str(metadata.get("genome-edge-time", ""))
        digits = len(stated) <= _MAX_TIME_DIGITS and stated.isascii() and stated.isdigit()
        if not isinstance(proof, bytes) or not digits:
            raise CallRefusedError("UNAUTHENTICATED", "the call carries no proof")
        credentials.check_proof(
            claimed.public_key, proof, method, int(stated), credential, self._now_ms()
        )
        device = room.store.device(claimed.device_id)
        if device is None or device.public_key != claimed.public_key:
            raise CallRefusedError("UNAUTHENTICATED", "this device is not enrolled here")
        if device.revoked:
            raise CallRefusedError("CREDENTIAL_REVOKED", "this device's credential was revoked")
        return Caller(room, DEVICE, device.id, sys.intern(device.audience))

    def _thin(self, token: str) -> Caller:
        room = self._rooms.of(credentials.tenant_of(token))
        thin = room.store.thin_by_hash(credentials.secret_hash(token)) if room else None
        if room is None or thin is None:
            raise CallRefusedError("UNAUTHENTICATED", "nobody was given this token")
        if thin.revoked:
            raise CallRefusedError("CREDENTIAL_REVOKED", "this token was revoked")
        return Caller(room, THIN, thin.name, thin.audience)

    def _remember(self, credential: bytes, claimed: credentials.Claimed) -> None:
        self._known[credential] = claimed
        while len(self._known) > _KNOWN_CREDENTIALS:
            self._known.popitem(last=False)


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Stands before every handler. Methods without a policy are refused."""

    def __init__(
        self,
        policy: Mapping[str, frozenset[int]],
        authenticator: Authenticator,
        pool: Executor,
    ) -> None:
        self._policy = policy
        self._authenticator = authenticator
        self._pool = pool
        # By method, the handler and its guarded form: one for all calls.
        self._guarded: dict[str, tuple[grpc.RpcMethodHandler, grpc.RpcMethodHandler]] = {}
        #: Set when the server is about to stop: callers are told to come back.
        self.draining = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Put the check between gRPC and the handler of a call."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(_INFRASTRUCTURE):
            return handler
        guarded = self._guarded.get(method)
        if guarded is None or guarded[0] is not handler:
            guarded = self._guarded[method] = (handler, self._stand_before(method, handler))
        return guarded[1]

    def _stand_before(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        roles = self._policy.get(method, frozenset())
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._guard(method, roles, handler.stream_stream),
                lenient(handler.request_deserializer),
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._guard(method, roles, handler.unary_unary),
            lenient(handler.request_deserializer),
            handler.response_serializer,
        )

    def _guard(
        self, method: str, roles: frozenset[int], behaviour: Callable[[Any, Any], Awaitable[Any]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def guarded(request: Any, context: Any) -> Any:
            try:
                if self.draining:
                    raise CallRefusedError(
                        "DRAINING", "the server is about to stop", retry_after_ms=come_back_ms()
                    )
                await self._admit(method, roles, context)
                if request is None:
                    raise CallRefusedError("INVALID_ARGUMENT", "the message cannot be read")
                return await behaviour(request, context)
            except CallRefusedError as refusal:
                log.info("refused %s: %s", method, refusal.reason or refusal.code.name)
                await abort(context, refusal)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001  a caller gets a status, the log the place
                log.error("failed %s: %s", method, _place(error))
                await abort(context, failed(error))

        return guarded

    async def _admit(self, method: str, roles: frozenset[int], context: Any) -> None:
        if ANYONE in roles:
            return
        metadata = dict(context.invocation_metadata() or ())
        prove = self._authenticator.prove
        if self._authenticator.knows(metadata):
            # One signature, which holds the interpreter on whatever thread, and one look into the
            # store: to go to another thread and back costs as much again.
            who = prove(method, metadata)
        else:
            loop = asyncio.get_running_loop()
            who = await loop.run_in_executor(self._pool, prove, method, metadata)
        if who.role not in roles:
            raise CallRefusedError("PERMISSION_DENIED", f"this caller may not call {method}")
        _CALLER.set(who)


def lenient(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Read a message, or None where it is none: gRPC would answer UNKNOWN and log a traceback."""

    def read(content: bytes) -> Any:
        try:
            return deserialize(content)
        except DecodeError:
            return None

    return read


def come_back_ms() -> int:
    """Return when to come back after a restart: spread, so that not all do so at once."""
    return random.randint(500, 3_000)


def _place(error: Exception) -> str:
    """Describe an unexpected error without the values in it, which may name a customer."""
    spots = []
    trace = error.__traceback__
    while trace is not None:
        spots.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    said = f": {error}" if isinstance(error, sqlite3.Error | OSError) else ""
    return f"{type(error).__name__}{said} at {' > '.join(spots[-6:])}"
