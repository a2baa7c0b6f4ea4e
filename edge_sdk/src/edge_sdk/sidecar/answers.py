"""What is written back over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from edge_sdk.sidecar.refusals import CallRefused

JSON: Final = "application/json"


class Answer(NamedTuple):
    """What is written back."""

    status: int
    body: bytes
    kind: str = JSON
    headers: Mapping[str, str] = {}


def answered(data: Mapping[str, Any]) -> Answer:
    """An object."""
    return Answer(HTTPStatus.OK, json.dumps(data, ensure_ascii=False).encode())


def refused(refusal: CallRefused) -> Answer:
    """A refusal."""
    headers = {"WWW-Authenticate": "Bearer"} if refusal.reason == "UNAUTHENTICATED" else {}
    body = json.dumps(refusal.as_json(), ensure_ascii=False).encode()
    return Answer(refusal.status.http, body, headers=headers)


def busy() -> bytes:
    """What a connection hears for which there is no room."""
    answer = refused(CallRefused("BUSY", "too many connections at once"))
    head = (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        f"Content-Type: {answer.kind}\r\nContent-Length: {len(answer.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + answer.body


def nothing_at(path: str, otherwise: bool) -> CallRefused:
    """There is nothing at a path, or only for the other verb."""
    if otherwise:
        return CallRefused("METHOD_NOT_ALLOWED", f"{path} takes the other of GET and POST")
    return CallRefused("NOT_FOUND", f"there is nothing at {path}")
