"""Times as files have them: local, with their offset."""

from __future__ import annotations

from datetime import datetime

from genome_server.ingest.check import RowError


def local_time(column: str, text: str) -> datetime:
    """The time in a column. Raises RowError where it is none, or has no offset."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise RowError(
            column, f"{text!r} is not a time with its offset, such as 2026-03-01T18:05:00+01:00"
        )
    return at
