"""Every error of the SDK.

    EdgeError
    ├── UsageError            the caller's own mistake; raised where it is made
    │   ├── InvalidContext      a moment that cannot be: two places at once, no such cell
    │   ├── InvalidMarker       not `namespace:value`
    │   ├── UnknownDecision     an outcome for a decision that nobody made here
    │   └── ClientClosed        a call after close()
    ├── StoreError            the device's disk; raised by durable writes only
    │   ├── DiskFull
    │   └── StoreCorrupt
    ├── FormatError           bytes that are not what they should be
    │   └── BadFrame            with the offset at which they stop making sense
    ├── LandmarkExhausted     an event too far after the landmark to be counted
    ├── TrustError            something unsigned, expired, altered or older than what is held
    ├── RefusedError          the server understood and said no; `reason` says why
    └── UnreachableError      no answer

`UsageError` is your mistake; everything else is the world's. `decide` raises
nothing but `UsageError`: the others are found in `status.cause`.
"""

from __future__ import annotations

from collections.abc import Mapping


class EdgeError(Exception):
    """Base of every error that Genome Edge raises on purpose."""


class UsageError(EdgeError):
    """The caller's own mistake; the message says how to put it right."""


class InvalidContext(UsageError):
    """A context that no moment can have."""


class InvalidMarker(UsageError):
    """A text that is not a marker, `namespace:value`."""


class UnknownDecision(UsageError):
    """A decision id that this device does not know."""


class ClientClosed(UsageError):
    """The client was used after `close()`."""


class StoreError(EdgeError):
    """The device's store could not keep or give what was asked."""


class DiskFull(StoreError):
    """No room is left for the store."""


class StoreCorrupt(StoreError):
    """A file of the store is not what was written."""


class FormatError(EdgeError):
    """Bytes from elsewhere that do not have the form that they should have."""


class BadFrame(FormatError):
    """A sequence of frames that is cut or malformed.

    `offset` is the position, in bytes, of the first frame that cannot be read;
    everything before it is whole.
    """

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"frame at byte {offset}: {why}")
        self.offset = offset
        self.why = why


class LandmarkExhausted(EdgeError):
    """An imprint lies more doublings after the landmark than int64 strengths can take."""


class TrustError(EdgeError):
    """Something that must be proven was not: signature, digest, expiry or version.

    `reason` is one of the reasons of a Nack in docs/wire.md, or empty.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class RefusedError(EdgeError):
    """The server refused; `reason` is one of the reasons of docs/wire.md.

    `facts` are what a program can act on: server_time_ms, expected, limit ...
    """

    def __init__(
        self, reason: str, message: str = "", facts: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.facts = dict(facts or {})


class UnreachableError(EdgeError):
    """The server gave no answer, or asked to be left alone for `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
