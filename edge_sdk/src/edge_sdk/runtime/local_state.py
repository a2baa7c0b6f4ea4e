"""What this device knows of customers beyond the server's rows: imprints and consents that the
rows do not include yet. No input or output here.

Deciding reads; what it reads is replaced, never changed, so it takes no lock. Something is known
here from the moment when the app says it, before it is on disk; what the store tells later is
merged by the imprint's id.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from edge_sdk.lazy import later
from edge_sdk.store.state import StoredImprint

if TYPE_CHECKING:
    from edge_sdk.runtime import earlier

    Pending = tuple[StoredImprint | earlier.Earlier, ...]
else:
    earlier = later("edge_sdk.runtime.earlier")
    Pending = tuple

_Consent = tuple[bytes, int]
# Imprints of one customer that are kept apart; when there are twice as many the older become one.
_APART: Final = 16


class LocalState:
    """Pending imprints by subject, and pending consents. Thread-safe; readers take no lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pending: dict[bytes, Pending] = {}
        self._consents: dict[bytes, dict[int, bool]] = {}
        self._unwritten: dict[str, StoredImprint] = {}
        self._unwritten_consents: dict[_Consent, bool] = {}
        #: Somebody has said something here since the consents of the store were taken.
        self.spoken = False

    def pending(self, subject: bytes) -> Pending:
        """Imprints of a subject that its row does not include, in the order of their arrival here.

        The same object for as long as nothing changes.
        """
        return self._pending.get(subject, ())

    def consents(self, subject: bytes, said_by_row: int) -> int:
        """The consent bits that hold: those of the row, but for what was said here since."""
        bits = said_by_row
        said_here = self._consents.get(subject)
        if said_here is None:
            return bits
        for purpose, granted in said_here.items():
            bits = bits | 1 << purpose if granted else bits & ~(1 << purpose)
        return bits

    def holding(self) -> AbstractContextManager[object]:
        """Hold off changes: between reading the store and `reload` nothing may be written down."""
        return self._lock

    def imprint(self, imprint: StoredImprint) -> None:
        """Take an imprint at once. One that is known already changes nothing."""
        with self._lock:
            if self._add(self._pending, imprint):
                self._unwritten[imprint.id] = imprint

    def imprint_settled(self, id_: str, *, written: bool) -> None:
        """The imprint is on disk, or turned out to be a repetition of one that is not here."""
        with self._lock:
            imprint = self._unwritten.pop(id_, None)
            if imprint is not None and not written:
                rest = tuple(one for one in self.pending(imprint.subject) if one.id != id_)
                self._pending[imprint.subject] = rest

    def consent(self, subject: bytes, purpose: int, granted: bool) -> None:
        """Take a consent change at once."""
        with self._lock:
            self.spoken = True
            self._unwritten_consents[subject, purpose] = granted
            self._consents[subject] = {**self._consents.get(subject, {}), purpose: granted}

    def consent_settled(self, subject: bytes, purpose: int) -> None:
        """The last consent change of this purpose is on disk."""
        with self._lock:
            self.spoken = True
            self._unwritten_consents.pop((subject, purpose), None)

    def extend(self, imprints: Iterable[StoredImprint]) -> None:
        """Take imprints that other processes wrote."""
        with self._lock:
            for imprint in imprints:
                self._add(self._pending, imprint)

    def reload(self, imprints: Iterable[StoredImprint]) -> None:
        """Take everything that the store holds, in place of what was known from it."""
        with self._lock:
            pending: dict[bytes, Pending] = {}
            for imprint in (*imprints, *self._unwritten.values()):
                self._add(pending, imprint)
            self._pending = pending

    def reload_consents(self, consents: Iterable[tuple[bytes, int, bool]]) -> None:
        """Take every (subject, purpose, granted) that the store holds, in place of those known."""
        with self._lock:
            known: dict[bytes, dict[int, bool]] = {}
            for subject, purpose, granted in consents:
                known.setdefault(subject, {})[purpose] = granted
            for (subject, purpose), granted in self._unwritten_consents.items():
                known.setdefault(subject, {})[purpose] = granted
            self._consents, self.spoken = known, False

    def forked(self) -> LocalState:
        """In a forked child: the same knowledge, without the parent's locks and unwritten events.

        Those are for the parent to write; what it has not written yet comes by the store.
        """
        other = LocalState()
        other._pending = self._pending
        other._consents = self._consents
        return other

    def _add(self, pending: dict[bytes, Pending], imprint: StoredImprint) -> bool:
        known = pending.get(imprint.subject, ())
        if any(one.id == imprint.id for one in known):
            return False
        # A new tuple under a known key: readers see the one before or the one after.
        grown = (*known, imprint)
        if len(grown) > 2 * _APART:
            grown = self._joined(grown)
        pending[imprint.subject] = grown
        return True

    def _joined(self, pending: Pending) -> Pending:
        """The older ones as one, but for those that may still have to be taken back."""
        before = pending[0] if isinstance(pending[0], earlier.Earlier) else None
        single = [one for one in pending if isinstance(one, StoredImprint)]
        old = [one for one in single[:-_APART] if one.id not in self._unwritten]
        if not old:
            return pending
        gone = {one.id for one in old}
        return (earlier.Earlier(before, old), *(one for one in single if one.id not in gone))
