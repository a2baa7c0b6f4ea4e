"""What a decision knows of a visitor's past: what they were doing before, and their routine.

Consent comes first: of a customer who did not agree to PERSONALISATION nothing is remembered, and
of one who did not agree to LOCATION no routine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from edge_sdk import numbers
from edge_sdk.context import Context, unix_ms
from edge_sdk.dna.genome import NOBODY
from edge_sdk.runtime.live import PERSONALISATION, Visitor
from edge_sdk.runtime.recent import RecentMoments, Trail

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release
    from edge_sdk.runtime.known_routines import KnownRoutines

LOCATION: Final = 1 << numbers.LOCATION
#: Who has a routine agreed to both.
BOTH: Final = PERSONALISATION | LOCATION


class Past:
    """The past of the visitors of a device. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moments = RecentMoments()
        # Made for the first who agreed: what learns is loaded late.
        self._routines: KnownRoutines | None = None
        #: How often somebody's routine was forgotten; what was kept of it must go, too.
        self.forgotten = 0

    def amid(
        self,
        context: Context,
        visitor: Visitor,
        release: Release | None,
        now_ms: int,
        trail: Trail | None,
    ) -> Context:
        """`context` amid the visitor's past, which it becomes part of.

        `trail` is what was done in a visit that the device must not remember; a customer of the
        device has another.
        """
        if release is None or not isinstance(context, Context):
            return context  # who decides says what is wrong with it
        subject, consents = visitor.subject, visitor.consents
        if subject != NOBODY and not consents & PERSONALISATION:
            self.forget((subject,))
            return context
        said: tuple[tuple[str, float], ...] = ()
        if trail is None:
            if subject == NOBODY:
                return context
            if consents & LOCATION:
                routines = self._routines if self._routines is not None else self._known()
                said = routines.markers(subject, context, release, now_ms)
            elif self._routines is not None:
                self._forget_routine(subject)
            trail = self._moments.trail(subject)
        at_ms = now_ms if context.time is None else unix_ms(context.time)
        declared = context.declared
        lasting = self._moments.lasting(declared, release.schema)
        before = trail.amid(at_ms, declared, lasting)
        return context.amid(before, said) if before or said else context

    def join(self, subject: bytes, trail: Trail) -> None:
        """The visitor with this trail turned out to be a customer of this device."""
        self._moments.join(subject, trail)

    def forget(self, subjects: Iterable[bytes]) -> None:
        """Leave nothing of these customers."""
        for subject in subjects:
            self._moments.forget(subject)
            self._forget_routine(subject)

    def review(self, consents: Callable[[bytes], int]) -> None:
        """Forget those who have withdrawn since, or are no longer known: `consents` gives the bits
        that hold of a subject."""
        self.forget(one for one in self._moments.whose() if not consents(one) & PERSONALISATION)
        routines = self._routines
        if routines is not None:
            for subject in routines.whose():
                if consents(subject) & BOTH != BOTH:
                    self._forget_routine(subject)

    def routines(self) -> dict[bytes, dict[str, Any]]:
        """By customer what may outlive the process of routines; see `Routine.derived`."""
        return self._routines.derived() if self._routines is not None else {}

    def resume(self, kept: Mapping[bytes, Mapping[str, Any]]) -> None:
        """Go on from what `routines` gave in an earlier process."""
        for subject, said in kept.items():
            self._known().resume(subject, said)

    def _forget_routine(self, subject: bytes) -> None:
        if self._routines is not None and self._routines.forget(subject):
            self.forgotten += 1

    def _known(self) -> KnownRoutines:
        with self._lock:
            if self._routines is None:
                from edge_sdk.runtime.known_routines import KnownRoutines

                self._routines = KnownRoutines()
            return self._routines
