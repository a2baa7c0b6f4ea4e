"""How long things are."""

from __future__ import annotations

from typing import Final

DAY_MS: Final = 24 * 3_600_000
"""A day, in milliseconds."""
