"""Rows of one file under the same key: the second is the same again, or contradicts the first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from genome_server.ingest.check import RowError
from genome_server.ingest.kind import Kind

# Columns that tell rows apart, where it is not the id.
_KEYS = {
    "interactions": "interaction_id",
    "signals": "signal_id",
    "browsing": "step",
    "visits": "session",
    "loyalty": "at",
}


class Repeats:
    """Remembers the rows of one file, by a few bytes each."""

    def __init__(self, kind: Kind) -> None:
        self._field = _KEYS.get(kind.name, "id")
        # Line and digest of the first row under each key.
        self._first: dict[str, tuple[int, bytes]] = {}

    def repeats(self, line: int, key: str, row: Mapping[str, Any]) -> bool:
        """Whether a row in its one form says again what an earlier line said. An empty key is none.

        Raises RowError where it says something else under the same key; what stands behind the last
        zero character of a key is what people call it.
        """
        if not key:
            return False
        text = json.dumps(row, sort_keys=True, ensure_ascii=False)
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        first_line, first_digest = self._first.setdefault(key, (line, digest))
        if first_line == line:
            return False
        if digest != first_digest:
            raise RowError(
                self._field,
                f"{key.rpartition(chr(0))[2]!r} stands in line {first_line} too, with other "
                "values; one of the two rows must go",
            )
        return True
