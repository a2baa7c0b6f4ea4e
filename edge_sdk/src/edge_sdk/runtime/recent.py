"""What customers were doing before, so that it still counts for a while.

Rules
-----
- It is in memory only: the markers of activities and free attributes whose namespace has a
  half-life in the moment, each with when it last was. A place where somebody was is not among them.
- A stranger's visit remembers for itself and ends with the visit.
- Time is the moment's: the one that the app gave, else the device's clock. What lies after the
  moment did not happen before it.

No lock is taken: what is read is replaced, never changed.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from edge_sdk.dna.schema import DnaSchema

K = TypeVar("K")
V = TypeVar("V")

_CUSTOMERS: Final = 4096
_DOINGS: Final = 16
# What a moment has one of, now, whatever it had before.
_ONLY_NOW: Final = frozenset(
    {"place", "channel", "stage", "language", "daypart", "weekday", "weekend"}
)

#: Markers, each with how many seconds ago it was.
Before = tuple[tuple[str, float], ...]


class Recent(Generic[K, V]):
    """The newest entries, at least `keep` of them. Takes no lock: two dictionaries take turns."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def put(self, key: K, value: V) -> None:
        """Keep an entry."""
        if len(self._new) >= self._keep:
            self._old, self._new = self._new, {}
        self._new[key] = value

    def get(self, key: K) -> V | None:
        """The entry of a key, or None."""
        value = self._new.get(key)
        return self._old.get(key) if value is None else value

    def drop(self, key: K) -> None:
        """Forget the entry of a key, where there is one."""
        self._new.pop(key, None)
        self._old.pop(key, None)

    def keys(self) -> list[K]:
        """The keys of all entries."""
        return list({**self._old, **self._new})


class Trail:
    """What somebody was doing: up to 16 markers, each with when it last was."""

    __slots__ = ("_parts",)

    def __init__(self, doings: tuple[tuple[str, int], ...] = ()) -> None:
        # What went on last, when that was, and what before. Most often it goes on.
        self._parts: tuple[tuple[str, ...], int, tuple[tuple[str, int], ...]] = ((), 0, doings)

    @property
    def doings(self) -> tuple[tuple[str, int], ...]:
        """Markers, each with Unix milliseconds, the newest first."""
        names, at_ms, before = self._parts
        return (*[(name, at_ms) for name in names], *before)[:_DOINGS]

    def amid(self, at_ms: int, now: tuple[str, ...], lasting: tuple[str, ...]) -> Before:
        """What went on before `at_ms` and does not go on `now`; of what does, what is `lasting` is
        part of the trail from now on."""
        names, _, behind = self._parts
        if names == lasting and not behind:
            self._parts = (names, at_ms, behind)
            return ()
        doings = self.doings
        if lasting:
            behind = tuple([doing for doing in doings if doing[0] not in lasting])
            self._parts = (lasting, at_ms, behind[:_DOINGS])
        return tuple(
            [
                (name, (at_ms - then_ms) / 1000)
                for name, then_ms in doings
                if then_ms <= at_ms and name not in now
            ]
        )


class RecentMoments:
    """The trails of customers, of the 4,096 at least that came last. Thread-safe."""

    def __init__(self) -> None:
        self._trails: Recent[bytes, Trail] = Recent(_CUSTOMERS)
        # Of what moments declare, what lasts, by a schema.
        self._lasting: tuple[DnaSchema | None, dict[tuple[str, ...], tuple[str, ...]]] = (None, {})

    def trail(self, subject: bytes) -> Trail:
        """The trail of a customer; from now on it is remembered."""
        trail = self._trails.get(subject)
        if trail is None:
            trail = Trail()
            self._trails.put(subject, trail)
        return trail

    def lasting(self, names: tuple[str, ...], schema: DnaSchema) -> tuple[str, ...]:
        """The markers among `names` that count for a while."""
        of, known = self._lasting
        if of is not schema or len(known) > _CUSTOMERS:
            of, known = self._lasting = (schema, {})
        found = known.get(names)
        if found is None:
            found = known[names] = tuple(name for name in names if _lasts(name, schema))
        return found

    def join(self, subject: bytes, trail: Trail) -> None:
        """The visitor with this trail turned out to be a customer of this device."""
        known = self._trails.get(subject)
        if trail.doings:
            rest = known.doings if known is not None else ()
            newest = dict(sorted((*trail.doings, *rest), key=lambda doing: doing[1]))
            doings = sorted(newest.items(), key=lambda doing: -doing[1])
            self._trails.put(subject, Trail(tuple(doings[:_DOINGS])))

    def whose(self) -> list[bytes]:
        """Of whom there is a trail."""
        return self._trails.keys()

    def forget(self, subject: bytes) -> None:
        """Leave nothing of a customer."""
        self._trails.drop(subject)


def _lasts(name: str, schema: DnaSchema) -> bool:
    namespace = name[: name.index(":")]
    return namespace not in _ONLY_NOW and schema.moment_half_life(namespace) > 0
