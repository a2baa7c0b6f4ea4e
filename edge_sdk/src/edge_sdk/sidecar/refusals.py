"""How a call is refused: a reason that programs act on, a sentence for people, a status for each
of the two protocols.

As gRPC it is a status with a google.rpc.Status in its trailing metadata, as the server sends it
(docs/wire.md); as HTTP the same as JSON, in the form that google.aip.dev/193 describes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from edge_sdk.sync.transport import DOMAIN, ERROR_INFO_URL
from genome_edge.v1 import errors_pb2

_MAX_TEXT: Final = 200
_MAX_READ: Final = 1_000
_NO_FIELD: Final = r'Message type \S+ has no field named "(.*?)" at [^\n]*\n.*?"\[(.*)\]"\.*'


class Status(NamedTuple):
    """The number and name of a google.rpc.Code, and the HTTP status that goes with it."""

    code: int
    name: str
    http: int


_INVALID: Final = Status(3, "INVALID_ARGUMENT", 400)
_UNAVAILABLE: Final = Status(14, "UNAVAILABLE", 503)

#: By the reason of a refusal. Explained in docs/serve.md.
STATUSES: Final[dict[str, Status]] = {
    "UNAUTHENTICATED": Status(16, "UNAUTHENTICATED", 401),
    "WRONG_HOST": Status(7, "PERMISSION_DENIED", 403),
    "WRONG_ORIGIN": Status(7, "PERMISSION_DENIED", 403),
    "NOT_IN_AUDIENCE": Status(7, "PERMISSION_DENIED", 403),
    "INVALID_ARGUMENT": _INVALID,
    "NOT_JSON": Status(3, "INVALID_ARGUMENT", 415),
    "TOO_LARGE": Status(3, "INVALID_ARGUMENT", 413),
    "LENGTH_REQUIRED": Status(3, "INVALID_ARGUMENT", 411),
    "BAD_DIGEST": _INVALID,
    "BAD_FRAME": _INVALID,
    "FORKED_EPOCH": Status(9, "FAILED_PRECONDITION", 400),
    "SEQUENCE_GAP": Status(11, "OUT_OF_RANGE", 400),
    "NOT_FOUND": Status(5, "NOT_FOUND", 404),
    "UNKNOWN_DECISION": Status(5, "NOT_FOUND", 404),
    "METHOD_NOT_ALLOWED": Status(12, "UNIMPLEMENTED", 405),
    "TOO_SLOW": Status(4, "DEADLINE_EXCEEDED", 408),
    "BUSY": Status(8, "RESOURCE_EXHAUSTED", 429),
    "STORE_FAILED": _UNAVAILABLE,
    "DRAINING": _UNAVAILABLE,
    "INTERNAL": Status(13, "INTERNAL", 500),
}


class CallRefused(Exception):
    """A call that is not answered. `facts` are what a program can act on: field, expected …"""

    def __init__(self, reason: str, message: str, **facts: str | int) -> None:
        super().__init__(short(message))
        self.reason = reason
        self.status = STATUSES[reason]
        self.facts = {key: short(str(value)) for key, value in facts.items()}

    def details(self) -> bytes:
        """The serialised google.rpc.Status."""
        return details_of(self.status.code, str(self), self.reason, self.facts)

    def as_json(self) -> dict[str, Any]:
        """The same as an object for HTTP."""
        info = {
            "@type": ERROR_INFO_URL,
            "reason": self.reason,
            "domain": DOMAIN,
            "metadata": self.facts,
        }
        said = {
            "code": self.status.http,
            "message": str(self),
            "status": self.status.name,
            "details": [info],
        }
        return {"error": said}


def details_of(code: int, message: str, reason: str, facts: Mapping[str, str]) -> bytes:
    """A serialised google.rpc.Status with one ErrorInfo."""
    said = errors_pb2.RpcStatus(code=code, message=message)
    info = errors_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=facts)
    said.details.add(type_url=ERROR_INFO_URL, value=info.SerializeToString())
    return said.SerializeToString()


def unread(method: str, error: Exception) -> CallRefused:
    """Why a body is not the request of a method: protobuf's words, shorter where a field is new."""
    said = str(error)[:_MAX_READ]  # the caller's own words are in it, and there may be megabytes
    said = re.sub(_NO_FIELD, r"there is no \1; there are: \2", said)
    return CallRefused("INVALID_ARGUMENT", f"the body is no {method}: {said}")


def short(text: str) -> str:
    """Cut what repeats what the caller sent: trailing metadata has room for a few kilobytes."""
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
