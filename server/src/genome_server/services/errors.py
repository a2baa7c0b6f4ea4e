"""How a refusal travels: a status, a reason that programs act on, a sentence for people.

Services raise `CallRefusedError`; the interceptor in `auth` turns it into a gRPC
status whose trailing metadata carries a google.rpc.Status with one ErrorInfo.
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Any, Final, NoReturn

import grpc

from edge_sdk.sidecar.refusals import details_of, short
from edge_sdk.sync.transport import DETAILS_KEY

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_CODES: dict[str, grpc.StatusCode] = {
    "UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "CLOCK_SKEW": grpc.StatusCode.UNAUTHENTICATED,
    "CREDENTIAL_REVOKED": grpc.StatusCode.PERMISSION_DENIED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "CODE_INVALID": grpc.StatusCode.PERMISSION_DENIED,
    "CODE_USED": grpc.StatusCode.PERMISSION_DENIED,
    "CODE_EXPIRED": grpc.StatusCode.PERMISSION_DENIED,
    "NOT_IN_AUDIENCE": grpc.StatusCode.PERMISSION_DENIED,
    "TOKEN_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "TOKEN_EXPIRED": grpc.StatusCode.FAILED_PRECONDITION,
    "FORKED_EPOCH": grpc.StatusCode.FAILED_PRECONDITION,
    "SEQUENCE_GAP": grpc.StatusCode.OUT_OF_RANGE,
    "LOG_CHANGED": grpc.StatusCode.FAILED_PRECONDITION,
    "BAD_DIGEST": grpc.StatusCode.INVALID_ARGUMENT,
    "BAD_FRAME": grpc.StatusCode.INVALID_ARGUMENT,
    "TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_ARGUMENT": grpc.StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_PLACEMENT": grpc.StatusCode.NOT_FOUND,
    "UNKNOWN_DECISION": grpc.StatusCode.NOT_FOUND,
    "NO_RELEASE": grpc.StatusCode.FAILED_PRECONDITION,
    "DRAINING": grpc.StatusCode.UNAVAILABLE,
    "NO_ROOM": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_STREAMS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}


class CallRefusedError(Exception):
    """A call that is not answered. `facts` become the metadata of its ErrorInfo."""

    def __init__(self, reason: str, message: str, **facts: str | int) -> None:
        super().__init__(short(message))
        self.reason = reason
        self.code = _CODES[reason] if reason else grpc.StatusCode.UNAVAILABLE
        self.facts = {key: short(str(value)) for key, value in facts.items()}


class NotNowError(CallRefusedError):
    """A call that cannot be answered now, whoever makes it: callers come again.

    It travels without an ErrorInfo, like a server that is not there: a reason tells an SDK that
    the server has decided, and that trying again is in vain.
    """

    def __init__(self, message: str) -> None:
        super().__init__("", message)


def failed(error: BaseException | None) -> CallRefusedError:
    """What a caller is told of an error that nobody meant to raise."""
    while error is not None:
        if _no_room(error):
            return CallRefusedError("NO_ROOM", "the server has no room on its disk")
        error = error.__cause__
    return CallRefusedError("INTERNAL", "the server failed")


def _no_room(error: BaseException) -> bool:
    """Whether the disk took nothing more. SQLite says "full" for ENOSPC only; a quota, or a limit
    on the size of files, looks like a write that failed."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_WRITE")
    return isinstance(error, OSError) and error.errno in _FULL


def details(error: CallRefusedError) -> bytes:
    """Return the serialised google.rpc.Status of a refusal."""
    return details_of(error.code.value[0], str(error), error.reason, error.facts)


async def abort(context: Any, error: CallRefusedError) -> NoReturn:
    """End a call with a refusal; never returns."""
    said = () if isinstance(error, NotNowError) else ((DETAILS_KEY, details(error)),)
    await context.abort(error.code, str(error), trailing_metadata=said)
    raise AssertionError("abort returned")
