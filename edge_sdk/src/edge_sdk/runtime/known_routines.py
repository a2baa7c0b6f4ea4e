"""The routines of the customers of a device, as decisions learn and use them.

A routine is learned from, and used for, a customer who agreed to LOCATION and to PERSONALISATION;
one that withdraws is forgotten, and taken out of what all customers do together. It learns once an
hour for each cell and kind of place: who stays is not somebody who comes again and again. What it
says is worked out then, too, before it learns of the moment, and holds until the next time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from edge_sdk.context import Context
from edge_sdk.engine.cells import parent, resolution
from edge_sdk.engine.routines import (
    STAY_RESOLUTION,
    Everybody,
    Markers,
    Routine,
    kinds_of,
    when_of,
)

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

_CUSTOMERS: Final = 4096


class _Known(NamedTuple):
    """A routine, the moment for which it was asked, and what it said."""

    routine: Routine
    moment: tuple[object, ...] = ()
    said: Markers = ()


class KnownRoutines:
    """Routines by customer, of the 4,096 that came last. Thread-safe; no lock is taken for a moment
    that is still the same."""

    def __init__(self, keep: int = _CUSTOMERS) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._everybody = Everybody()
        # The one that came last is at the end.
        self._known: dict[bytes, _Known] = {}

    def markers(self, subject: bytes, context: Context, release: Release, now_ms: int) -> Markers:
        """What the customer's routine says of a moment, which it learns from."""
        cell = context.cell
        if cell is None:
            return ()
        local = context.local_time(now_ms)
        kinds = (
            kinds_of(release.places.resolve(cell)) if context.place is None else (context.place,)
        )
        stay = parent(cell, min(STAY_RESOLUTION, resolution(cell)))
        moment = (stay, kinds[:1], local.weekday, local.hour, local.ms // 86_400_000)
        known = self._known.get(subject)
        if known is not None and known.moment == moment:
            return known.said
        with self._lock:
            known = self._known.get(subject)  # another thread may have been first
            when = when_of(local)
            routine = known.routine if known is not None else Routine()
            said = routine.markers(cell, kinds, when, self._everybody)
            routine.note(cell, kinds, when, self._everybody)
            self._known.pop(subject, None)
            self._known[subject] = _Known(routine, moment, said)
            if len(self._known) > self._keep:
                self._drop(next(iter(self._known)))
        return said

    def forget(self, subject: bytes) -> bool:
        """Leave nothing of a customer; whether there was something."""
        if subject not in self._known:
            return False
        with self._lock:
            return self._drop(subject)

    def _drop(self, subject: bytes) -> bool:
        known = self._known.pop(subject, None)
        if known is not None:
            self._everybody.forget(known.routine)
        return known is not None

    def derived(self) -> dict[bytes, dict[str, Any]]:
        """By customer what may outlive the process, of the one that came last at the end."""
        found = {}
        for subject in self.whose():
            with self._lock:  # one at a time: who decides goes first
                known = self._known.get(subject)
                if known is not None and known.routine.days:
                    found[subject] = known.routine.derived()
        return found

    def resume(self, subject: bytes, said: Mapping[str, Any]) -> None:
        """Go on from what `derived` gave in an earlier process; what is none is passed over."""
        with self._lock:
            known = self._known.get(subject) or _Known(Routine())
            try:
                known.routine.resume(said, self._everybody)
            except (ValueError, TypeError, KeyError, AttributeError):
                return
            self._known[subject] = known
            if len(self._known) > self._keep:
                self._drop(next(iter(self._known)))

    def whose(self) -> list[bytes]:
        """Of whom there is a routine."""
        with self._lock:
            return list(self._known)
