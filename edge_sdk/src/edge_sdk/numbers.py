"""Numbers of the contract that decisions need although they read no message: see proto/."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from edge_sdk.arguments import shown
from edge_sdk.errors import UsageError

# ConsentPurpose
PERSONALISATION: Final = 1
LEARNING: Final = 2
LOCATION: Final = 3


class Purpose(IntEnum):
    """What a customer can agree to."""

    PERSONALISATION = PERSONALISATION
    LEARNING = LEARNING
    LOCATION = LOCATION


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


# Delete.Reason
ERASED: Final = 1
LEFT_AUDIENCE: Final = 2
CONSENT_WITHDRAWN: Final = 3

# PlacementSpec.Shown
SHOWN_ON_VIEW: Final = 2


class Cap:
    """Of Cap.Count, Cap.Scope, Cap.Over and Cap.Calendar."""

    COUNT_VIEW: Final = 1
    COUNT_REDEEM: Final = 2
    SCOPE_DEVICE: Final = 2
    OVER_OFFER: Final = 1
    OVER_CAMPAIGN: Final = 2
    OVER_GROUP: Final = 3
    CALENDAR_UNSPECIFIED: Final = 0
    CALENDAR_HOUR: Final = 1
    CALENDAR_DAY: Final = 2
    CALENDAR_WEEK: Final = 3
    CALENDAR_MONTH: Final = 4
