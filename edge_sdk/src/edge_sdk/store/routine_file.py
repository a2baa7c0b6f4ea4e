"""What outlives a process of its customers' routines: the file `routines` of a store.

In it are kinds of place by hour and regions, of customers who agree to it: no cell finer than a
region. It is a line of JSON for each of them, compressed, behind a magic number and a CRC-32; a
file that is not whole is as good as none, and written anew.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge_sdk.store.files import write_file

FILE: Final = "routines"
_MAGIC: Final = b"GERT1\n"
_HEAD: Final = len(_MAGIC) + 4
_SUBJECT_BYTES: Final = 16

States = dict[bytes, Mapping[str, Any]]


def read(path: Path) -> States:
    """What a file says, by subject; nothing where there is none, or none that is whole."""
    try:
        data = path.read_bytes()
        body = data[_HEAD:]
        if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : _HEAD] != _crc(body):
            return {}
        found: States = {}
        for line in zlib.decompress(body).splitlines():
            subject, state = json.loads(line)
            found[bytes.fromhex(subject)] = dict(state)
        return found
    except (OSError, ValueError, TypeError, zlib.error):
        return {}


def write(path: Path, states: Mapping[bytes, Mapping[str, Any]]) -> None:
    """Write a file that `read` reads; without anybody in it, none. Raises OSError."""
    if not states:
        path.unlink(missing_ok=True)
        return
    # Line by line, so that who decides meanwhile need not wait for all of it.
    packer = zlib.compressobj(6)
    packed = [
        packer.compress(json.dumps([subject.hex(), state]).encode() + b"\n")
        for subject, state in states.items()
    ]
    body = b"".join([*packed, packer.flush()])
    write_file(path, _MAGIC + _crc(body) + body)


def erase(store: Path, subjects: bytes) -> None:
    """Leave nothing of these (16 bytes each, joined) in the file of a store. Raises OSError."""
    path = store / FILE
    gone = {subjects[at : at + _SUBJECT_BYTES] for at in range(0, len(subjects), _SUBJECT_BYTES)}
    kept = read(path)
    if not gone.isdisjoint(kept):
        write(path, {one: state for one, state in kept.items() if one not in gone})


def _crc(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "little")
