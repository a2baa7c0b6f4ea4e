"""What a customer can agree to."""

from __future__ import annotations

from enum import IntEnum

from edge_sdk import numbers
from edge_sdk.arguments import shown
from edge_sdk.errors import UsageError


class Purpose(IntEnum):
    """What a customer can agree to."""

    PERSONALISATION = numbers.PERSONALISATION
    LEARNING = numbers.LEARNING
    LOCATION = numbers.LOCATION


def purpose_of(purpose: Purpose | str) -> int:
    """The number of a purpose or of its name. Raises UsageError."""
    if isinstance(purpose, str):
        try:
            return Purpose[purpose.upper()]
        except KeyError:
            known = ", ".join(one.name.lower() for one in Purpose)
            raise UsageError(f"purpose={shown(purpose)} is not allowed: {known}") from None
    if isinstance(purpose, Purpose):
        return purpose
    raise UsageError(f"purpose must be a Purpose or its name, not {shown(purpose)}")
