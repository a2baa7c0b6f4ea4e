"""The token by which local apps show that they may call: a file that only its owner can read.

Whoever can read the file may call. That is the same right as reading the store, in which it lies
unless told otherwise, so the token keeps out other users of the machine and pages in a browser.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Final

from edge_sdk.errors import StoreError, UsageError
from edge_sdk.store.files import write_file

_BYTES: Final = 32
_SHORTEST: Final = 32
_OTHERS: Final = 0o077


def made_token() -> str:
    """A token that nobody knows yet."""
    return secrets.token_urlsafe(_BYTES)


def keep_token(path: Path, token: str) -> None:
    """Write a token to its file, in place of the one there. Raises StoreError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(path, f"{token}\n".encode())
    except OSError as error:
        raise _unusable(path, error) from error


def read_token(path: Path) -> str:
    """The token in the file at `path`, which is made where there is none.

    Raises UsageError for a file that others can read, or that holds no token; StoreError where
    it cannot be read or written.
    """
    try:
        if not path.exists():
            keep_token(path, made_token())
        if path.stat().st_mode & _OTHERS:
            raise UsageError(f"others can read the token in {path}: chmod 600 {path}")
        token = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        token = ""
    except OSError as error:
        raise _unusable(path, error) from error
    if len(token) < _SHORTEST or not token.isprintable() or " " in token:
        raise UsageError(
            f"{path} holds no token: one line of at least {_SHORTEST} characters, or delete it"
        )
    return token


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"the token in {path} cannot be used: {error.strerror}")


class Gate:
    """Says who may come in. Comparing takes the same time wherever the difference lies."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def admits(self, authorization: str | None) -> bool:
        """Whether an `authorization` header or its metadata is `Bearer` with the token."""
        scheme, _, given = (authorization or "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        return same and scheme.lower() == "bearer"

    def key_of(self, name: str) -> str:
        """What opens one file and nothing else: it may stand in an address, the token may not."""
        said = hmac.new(self._token, f"genome-edge/asset\n{name}".encode(), hashlib.sha256)
        return said.hexdigest()[:_SHORTEST]

    def opens(self, name: str, key: str) -> bool:
        """Whether this is the key of the file."""
        return hmac.compare_digest(key.encode("utf-8", "replace"), self.key_of(name).encode())


def default_path(store: Path) -> Path:
    """Where the token of a store lies where nothing else is said."""
    return store / "serve" / "token"
