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

from edge_sdk.store.state import StoredImprint

_Consent = tuple[bytes, int]


class LocalState:
    """Pending imprints by subject, and pending consents. Thread-safe; readers take no lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pending: dict[bytes, tuple[StoredImprint, ...]] = {}
        self._consents: dict[bytes, dict[int, bool]] = {}
        self._unwritten: dict[str, StoredImprint] = {}
        self._unwritten_consents: dict[_Consent, bool] = {}

    def pending(self, subject: bytes) -> tuple[StoredImprint, ...]:
        """Imprints of a subject that its row does not include, in the order of their arrival here.

        The same object for as long as nothing changes.
        """
        return self._pending.get(subject, ())

    def consents(self, subject: bytes, said_by_row: int) -> int:
        """The consent bits that hold: those of the row, but for what was said here since."""
        bits = said_by_row
        for purpose, granted in self._consents.get(subject, {}).items():
            bits = bits | 1 << purpose if granted else bits & ~(1 << purpose)
        return bits

    def holding(self) -> AbstractContextManager[object]:
        """Hold off changes: between reading the store and `reload` nothing may be written down."""
        return self._lock

    def imprint(self, imprint: StoredImprint) -> None:
        """Take an imprint at once. One that is known already changes nothing."""
        with self._lock:
            if _add(self._pending, imprint):
                self._unwritten[imprint.id] = imprint

    def imprint_settled(self, id_: str, *, written: bool) -> None:
        """The imprint is on disk, or turned out to be a repetition of one that is not here."""
        with self._lock:
            imprint = self._unwritten.pop(id_, None)
            if imprint is not None and not written:
                rest = tuple(one for one in self.pending(imprint.subject) if one.id != id_)
                self._pending = {**self._pending, imprint.subject: rest}

    def consent(self, subject: bytes, purpose: int, granted: bool) -> None:
        """Take a consent change at once."""
        with self._lock:
            self._unwritten_consents[subject, purpose] = granted
            self._consents[subject] = {**self._consents.get(subject, {}), purpose: granted}

    def consent_settled(self, subject: bytes, purpose: int) -> None:
        """The last consent change of this purpose is on disk."""
        with self._lock:
            self._unwritten_consents.pop((subject, purpose), None)

    def extend(self, imprints: Iterable[StoredImprint]) -> None:
        """Take imprints that other processes wrote."""
        with self._lock:
            for imprint in imprints:
                _add(self._pending, imprint)

    def reload(self, imprints: Iterable[StoredImprint]) -> None:
        """Take everything that the store holds, in place of what was known from it."""
        with self._lock:
            pending: dict[bytes, tuple[StoredImprint, ...]] = {}
            for imprint in (*imprints, *self._unwritten.values()):
                _add(pending, imprint)
            self._pending = pending

    def reload_consents(self, consents: Iterable[tuple[bytes, int, bool]]) -> None:
        """Take every (subject, purpose, granted) that the store holds, in place of those known."""
        with self._lock:
            known: dict[bytes, dict[int, bool]] = {}
            for subject, purpose, granted in consents:
                known.setdefault(subject, {})[purpose] = granted
            for (subject, purpose), granted in self._unwritten_consents.items():
                known.setdefault(subject, {})[purpose] = granted
            self._consents = known

    def forked(self) -> LocalState:
        """In a forked child: the same knowledge, without the parent's locks and unwritten events.

        Those are for the parent to write; what it has not written yet comes by the store.
        """
        other = LocalState()
        other._pending = self._pending
        other._consents = self._consents
        return other


def _add(pending: dict[bytes, tuple[StoredImprint, ...]], imprint: StoredImprint) -> bool:
    known = pending.get(imprint.subject, ())
    if any(one.id == imprint.id for one in known):
        return False
    # A new tuple under a known key: readers see the one before or the one after.
    pending[imprint.subject] = (*known, imprint)
    return True
