"""What outlives a process of its customers' routines: the file `routines` of a store.

Rules
-----
- In it are kinds of place by hour and regions, of customers who agree to it: no cell finer than a
  region. It is a line of JSON for each of them, compressed, behind a magic number and a CRC-32; a
  file that is not whole is as good as none, and written anew.
- It is read once, and written every quarter of an hour and at the end. Of what several processes
  know of a customer the file has what one of them knows: the one with the most days.
- Who withdraws, leaves the audience or is erased is gone from it as soon as this device knows, and
  so is whom it no longer knows.

All of it is for the keeper's thread.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edge_sdk.runtime.past import BOTH, Past
from edge_sdk.store.files import write_file

FILE: Final = "routines"
_MAGIC: Final = b"GERT1\n"
_HEAD: Final = len(_MAGIC) + 4
_MOST: Final = 2048
_EVERY_S: Final = 900.0

log = logging.getLogger("edge_sdk.store.device")

States = dict[bytes, Mapping[str, Any]]


class RoutineFile:
    """The file of one store. `consents` gives the bits that hold of a subject."""

    def __init__(self, store: Path, past: Past, consents: Callable[[bytes], int]) -> None:
        self._path = store / FILE
        self._past = past
        self._consents = consents
        self._begun = False
        self._forgotten = 0
        self._next = time.monotonic() + _EVERY_S

    def follow(self) -> None:
        """Leave nothing of those who were forgotten since."""
        if self._past.forgotten != self._forgotten:
            self.save()

    def begin(self) -> None:
        """Go on from what an earlier process knew, once; not before it is known who agreed."""
        if not self._begun:
            self._begun = True
            self._past.resume(self._allowed(read(self._path)))

    def keep(self) -> None:
        """What is due now and then, when it is known who agreed to what."""
        self.begin()
        if time.monotonic() >= self._next:
            self.save()

    def save(self) -> None:
        """Keep what this process knows, where it is more than what the file says."""
        if not self._begun:
            return
        self._next = time.monotonic() + _EVERY_S
        forgotten = self._past.forgotten
        known: States = dict(self._past.routines())
        kept = read(self._path)
        if not known and not kept:
            self._forgotten = forgotten
            return
        for subject, said in kept.items():
            mine = known.get(subject)
            if mine is None or _days(mine) < _days(said):
                known[subject] = said
        wanted = dict(list(self._allowed(known).items())[-_MOST:])
        try:
            if wanted != kept:
                write(self._path, wanted)
            self._forgotten = forgotten
        except OSError as error:
            log.warning("routines are in memory only: %s", error)

    def _allowed(self, states: States) -> States:
        return {one: said for one, said in states.items() if self._consents(one) & BOTH == BOTH}


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


def _crc(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "little")


def _days(state: Mapping[str, Any]) -> int:
    days = state.get("days")
    return days if isinstance(days, int) else 0
