"""Compiled releases on disk: made by the first process that reads a release, mapped by the others.

    compiled/<key>    magic 8 | key 32 | SHA-256 of key and body 32 | padding to 128 | body

The key is the SHA-256 of the signed manifest, of this version of the code and of everything else
that what was worked out depends on. So another release, another SDK or another interpreter finds
nothing, and whoever finds nothing, or something damaged, works it out from the parts again: nothing
here is needed, and nothing of it is believed before its digest was compared.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import struct
import sys
from collections.abc import Callable, Collection
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_sdk.store.files import remove, write_file
from edge_sdk.version import sdk_version

log = logging.getLogger("edge_sdk.store")

FOLDER: Final = "compiled"
_MAGIC: Final = b"GECOMP1\n"
_HEAD: Final = struct.Struct("<8s32s32s56x")
#: What is compiled is worked out by the code in these.
_CODE: Final = ("engine", "dna", "sync")


def key_of(signed_manifest: bytes) -> bytes:
    """Under which key (32 bytes) a release is found by this code."""
    return hashlib.sha256(hashlib.sha256(signed_manifest).digest() + _code()).digest()


@lru_cache(maxsize=1)
def _code() -> bytes:
    """This very code, as far as names, sizes and times of its files tell, and what runs it."""
    package = Path(__file__).parent.parent
    seen = [sys.version, np.__version__, sys.byteorder]
    try:
        for folder in _CODE:
            with os.scandir(package / folder) as entries:
                files = [(one.name, one.stat()) for one in entries if one.name.endswith(".py")]
            seen += [f"{name} {s.st_size} {s.st_mtime_ns}" for name, s in sorted(files)]
    except OSError:  # in an archive, which has a version
        seen.append(sdk_version())
    return "\n".join(seen).encode()


def read(root: Path, key: bytes) -> memoryview | None:
    """The body under this key in the store at `root`, mapped; None: there is none that is whole."""
    path = root / FOLDER / key.hex()
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # ValueError: it is empty
        return None
    data = memoryview(mapped)
    if len(data) > _HEAD.size:
        magic, named, digest = _HEAD.unpack_from(data)
        body = data[_HEAD.size :]
        if magic == _MAGIC and named == key and _digest(key, body) == digest:
            return body
    log.warning("%s is damaged; it is made anew", path)
    drop(root, key)
    return None


def write(root: Path, key: bytes, freeze: Callable[[Callable[[Any], object]], object]) -> None:
    """Keep what `freeze` gives to the function that it is called with. Where the disk does not
    take it nothing happens: it is for speed only."""
    body: list[bytes] = []
    freeze(lambda piece: body.append(bytes(piece)))
    digest = hashlib.sha256(key)
    for piece in body:
        digest.update(piece)
    try:
        (root / FOLDER).mkdir(mode=0o700, exist_ok=True)
        head = _HEAD.pack(_MAGIC, key, digest.digest())
        write_file(root / FOLDER / key.hex(), b"".join((head, *body)))
    except OSError as error:
        log.warning("a compiled release could not be kept: %s", error)


def drop(root: Path, key: bytes) -> None:
    """Give one up."""
    remove([root / FOLDER / key.hex()])


def keep_only(root: Path, keys: Collection[bytes]) -> None:
    """Delete every other one, and not what another process is writing."""
    wanted = [key.hex() for key in keys]
    try:
        files = (root / FOLDER).iterdir()
        remove(one for one in files if not any(key in one.name for key in wanted))
    except OSError:
        return  # there are none


def _digest(key: bytes, body: memoryview) -> bytes:
    digest = hashlib.sha256(key)
    digest.update(body)
    return digest.digest()
