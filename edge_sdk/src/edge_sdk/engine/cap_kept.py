"""The rows that a ledger keeps, each once, by what it came of. No input or output here.

What this device counted is known by claim and kind, whoever it was: it may name nobody any more.
What was counted elsewhere is known by its subject as well: of two customers who are one person each
is told what the other did. Where a device hears of its own rows again they are the same.
"""

from __future__ import annotations

from edge_sdk.engine.cap_rules import CapRow

#: Claim and kind; with the subject where it was elsewhere; a number where there is no claim.
Key = tuple[bytes, str] | tuple[bytes, str, bytes] | int


class Kept:
    """Rows by their keys. Not thread-safe."""

    def __init__(self) -> None:
        self._rows: dict[Key, CapRow] = {}
        self._unnamed = 0

    def copy(self) -> dict[Key, CapRow]:
        """Everything, as it is now. Thread-safe."""
        return self._rows.copy()

    def still(self, rows: list[tuple[Key, CapRow]]) -> list[tuple[Key, CapRow]]:
        """Those of some rows that are under their keys, unchanged."""
        return [(key, row) for key, row in rows if self._rows.get(key) is row]

    def viewed(self, claim: bytes, kind: str) -> bool:
        """Whether this device counted something of this kind under a claim."""
        return (claim, kind) in self._rows

    def knows(self, row: CapRow) -> bool:
        """Whether a row counts already."""
        if not row.claim:
            return False
        own = self._rows.get((row.claim, row.kind))
        if not row.elsewhere:
            return own is not None
        same = own is not None and own.subject == row.subject
        return same or (row.claim, row.kind, row.subject) in self._rows

    def key(self, row: CapRow) -> Key:
        """The key of a row that is not known."""
        if row.elsewhere:
            return (row.claim, row.kind, row.subject)
        if row.claim:
            return (row.claim, row.kind)
        self._unnamed += 1
        return self._unnamed

    def told(self, row: CapRow) -> Key | None:
        """The key of what was heard from elsewhere before this device said it itself."""
        key = (row.claim, row.kind, row.subject)
        return key if not row.elsewhere and key in self._rows else None

    def put(self, key: Key, row: CapRow) -> None:
        """Keep a row under its key."""
        self._rows[key] = row

    def pop(self, key: Key) -> CapRow:
        """Give up a row."""
        return self._rows.pop(key)
