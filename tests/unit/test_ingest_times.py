"""Times as files have them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from genome_server.ingest.check import RowError
from genome_server.ingest.times import local_time


def test_a_time_keeps_its_offset() -> None:
    at = local_time("time", "2026-03-01T18:05:00+01:00")
    assert at == datetime(2026, 3, 1, 17, 5, tzinfo=UTC)
    assert at.isoformat() == "2026-03-01T18:05:00+01:00"


@pytest.mark.parametrize("text", ["", "noon", "2026-03-01T18:05:00", "2026-02-30T00:00:00Z"])
def test_another_is_refused_with_its_column(text: str) -> None:
    with pytest.raises(RowError, match=r"^updated: .* is not a time with its offset") as no:
        local_time("updated", text)
    assert no.value.column == "updated"
