"""What customers were doing before, so that it still counts for a while.

Rules
-----
- It is in memory only: the markers of activities and free attributes whose namespace has a
  half-life in the moment, each with when it last was. A place where somebody was is not among them.
- Of a customer it is remembered, and used, only where they agreed to PERSONALISATION. A stranger's
  visit remembers for itself and ends with the visit; nobody in particular has no past.
- Time is the moment's: the one that the app gave, else the device's clock. What lies after the
  moment did not happen before it.

No lock is taken: what is read is replaced, never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_sdk.context import Context
from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.runtime.live import PERSONALISATION, Visitor
from edge_sdk.runtime.recent import Recent

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

_CUSTOMERS: Final = 4096
_DOINGS: Final = 16
# What a moment has one of, now, whatever it had before.
_ONLY_NOW: Final = frozenset(
    {"place", "channel", "stage", "language", "daypart", "weekday", "weekend"}
)


class Trail:
    """What somebody was doing: up to 16 markers, each with when it last was, the newest first."""

    __slots__ = ("doings",)

    def __init__(self, doings: tuple[tuple[str, int], ...] = ()) -> None:
        #: Markers, each with Unix milliseconds.
        self.doings = doings

    def before(self, at_ms: int, now: tuple[str, ...]) -> list[tuple[str, float]]:
        """What went on before `at_ms` and does not go on `now`: markers, each with seconds ago."""
        return [
            (name, (at_ms - then_ms) / 1000)
            for name, then_ms in self.doings
            if then_ms <= at_ms and name not in now
        ]

    def note(self, names: tuple[str, ...], at_ms: int, schema: DnaSchema) -> None:
        """Something goes on at `at_ms`."""
        lasting = [name for name in names if _lasts(name, schema)]
        if lasting:
            rest = (doing for doing in self.doings if doing[0] not in lasting)
            self.doings = (*((name, at_ms) for name in lasting), *rest)[:_DOINGS]


class RecentMoments:
    """The trails of customers. Thread-safe."""

    def __init__(self) -> None:
        self._trails: Recent[bytes, Trail] = Recent(_CUSTOMERS)

    def amid(
        self,
        context: Context,
        visitor: Visitor,
        release: Release | None,
        now_ms: int,
        trail: Trail | None,
    ) -> Context:
        """`context` with what the visitor was doing before, and take down what they do now.

        `trail` is that of a visit; without one it is the customer's on this device.
        """
        if release is None or not isinstance(context, Context):
            return context  # who decides says what is wrong with it
        subject = visitor.subject
        if subject != NOBODY and not visitor.consents & PERSONALISATION:
            self.forget(subject)
            return context
        if trail is None:
            if subject == NOBODY:
                return context
            trail = self._trails.get(subject)
        at_ms = now_ms if context.time is None else int(context.time.timestamp() * 1000)
        declared = context.declared
        before = trail.before(at_ms, declared) if trail is not None and trail.doings else None
        if trail is None and any(_lasts(name, release.schema) for name in declared):
            trail = Trail()
            self._trails.put(subject, trail)
        if trail is not None:
            trail.note(declared, at_ms, release.schema)
        return context.amid(before, ()) if before else context

    def join(self, subject: bytes, trail: Trail) -> None:
        """The visitor with this trail turned out to be a customer of this device."""
        known = self._trails.get(subject)
        if trail.doings:
            rest = known.doings if known is not None else ()
            newest = dict(sorted((*trail.doings, *rest), key=lambda doing: doing[1]))
            doings = sorted(newest.items(), key=lambda doing: -doing[1])
            self._trails.put(subject, Trail(tuple(doings[:_DOINGS])))

    def forget(self, subject: bytes) -> None:
        """Leave nothing of a customer."""
        self._trails.drop(subject)


def _lasts(name: str, schema: DnaSchema) -> bool:
    namespace = name[: name.index(":")]
    return namespace not in _ONLY_NOW and schema.moment_half_life(namespace) > 0
