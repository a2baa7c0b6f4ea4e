"""The names of what can be imported, apart from the kinds themselves: a command line names them
before it loads anything."""

from __future__ import annotations

from typing import Final

KIND_NAMES: Final = (
    "products",
    "contents",
    "places",
    "placements",
    "offers",
    "customers",
    "loyalty",
    "links",
    "signals",
    "browsing",
    "visits",
    "interactions",
)
"""In the order in which a newcomer imports them."""
