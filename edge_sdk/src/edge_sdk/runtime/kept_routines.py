"""What of routines is kept from one process to the next; see `store.routine_file`.

It is read once, and written every quarter of an hour and at the end. Of what several processes know
of a customer the file has what one of them knows: the one with the most days. Who withdraws, leaves
the audience or is erased is gone from it as soon as this process knows, and so is whom the device
no longer knows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edge_sdk.runtime.past import BOTH, Past
from edge_sdk.store.routine_file import FILE, States, read, write

_MOST: Final = 2048
_EVERY_S: Final = 900.0

log = logging.getLogger("edge_sdk.store.device")


class KeptRoutines:
    """Those of one store, for the keeper's thread. `consents` gives the bits of a subject."""

    def __init__(self, store: Path, past: Past, consents: Callable[[bytes], int]) -> None:
        self._path = store / FILE
        self._past = past
        self._consents = consents
        self._begun = False
        self._forgotten = 0
        self._next = time.monotonic() + _EVERY_S
        self._trouble = ""

    def follow(self) -> None:
        """Leave nothing of those who were forgotten since."""
        if self._past.forgotten != self._forgotten:
            self.save()

    def begin(self) -> None:
        """Go on from what an earlier process knew, once; not before it is known who agreed."""
        if not self._begun:
            self._begun = True
            kept = read(self._path)
            allowed = self._allowed(kept)
            self._past.resume(allowed)
            if len(allowed) < len(kept):
                self.save()

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
            self._trouble = ""
        except OSError as error:
            if str(error) != self._trouble:
                log.warning("the file of routines cannot be written: %s", error)
            self._trouble = str(error)

    def _allowed(self, states: States) -> States:
        return {one: said for one, said in states.items() if self._consents(one) & BOTH == BOTH}


def _days(state: Mapping[str, Any]) -> int:
    days = state.get("days")
    return days if isinstance(days, int) else 0
