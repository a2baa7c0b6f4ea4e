"""Where the service listens: loopback or a Unix socket, and nothing else.

HOST:PORT     HOST is localhost, 127.0.0.0/8 or [::1]; port 0 is any that is free
unix:/PATH    a socket that only its owner can open
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from edge_sdk.errors import UsageError

_PRIVATE: Final = 0o077
# What the system takes as the name of a socket, without the byte at its end.
_LONGEST_PATH: Final = 107
_KNOCK_S: Final = 1.0


@dataclass(frozen=True)
class Door:
    """An address to listen on: a socket's `path`, or `host` and `port`."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @property
    def text(self) -> str:
        """As it is said: HOST:PORT or unix:/PATH."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_door(text: str) -> Door:
    """Read an address to listen on. Raises UsageError that says what one looks like."""
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if not path.is_absolute() or len(os.fsencode(path)) > _LONGEST_PATH:
            raise UsageError(
                f"{text!r}: a socket is unix:/PATH, at most {_LONGEST_PATH} bytes long"
            )
        return Door(path=path)
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if port is None or parts.netloc != text or parts.username is not None:
        raise UsageError(f"{text!r} is no address: use 127.0.0.1:PORT or unix:/PATH")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise UsageError(
            f"{text!r} could be reached from elsewhere: this service answers on this machine "
            "only. For other machines there is genome-server"
        )
    return Door(host, port)


def parse_origin(text: str) -> str:
    """An origin as browsers write it. Raises UsageError."""
    said = text.strip().lower()
    parts = urlsplit(said)
    if said != "null" and said != f"{parts.scheme}://{parts.netloc}":
        raise UsageError(f"{text!r} is no origin: use SCHEME://HOST[:PORT], without a path")
    return said


@contextlib.contextmanager
def private_socket(path: Path) -> Iterator[None]:
    """Bind a socket at `path` inside this: nobody else can open it, and a dead one gives way.

    Raises UsageError where somebody listens there already, or something else is in the way. What
    files this process makes meanwhile only their owner can read, too.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(_KNOCK_S)
            with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
                knock.connect(str(path))
                raise UsageError(f"somebody listens at {path} already")
        path.unlink(missing_ok=True)
    elif path.exists():
        raise UsageError(f"{path} is in the way: it is no socket")
    before = os.umask(_PRIVATE)
    try:
        yield
    finally:
        os.umask(before)
