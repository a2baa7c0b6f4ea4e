"""What an app hands over, looked at where it comes in: showing it, and refusing what cannot be.

A message about a wrong argument must itself not fail (an int of ten thousand digits has no repr),
must stay short, and must not carry a coordinate: messages end up in logs.
"""

from __future__ import annotations

import threading
from numbers import Real
from typing import Final, TypeGuard

from edge_sdk.errors import UsageError

_SHOWN: Final = 100
#: More than any name that can be imported has; a name is in every event about it.
MAX_NAME: Final = 256


def shown(value: object) -> str:
    """A value as messages show it: short, and never a failure."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  whatever an app's own class does in there
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 4] + " ..."


def shown_plain(value: object) -> str:
    """As `shown`, but only the type of what may hold a position: pairs, mappings, fractions."""
    if value is None or isinstance(value, str | int):
        return shown(value)
    return f"<{type(value).__name__}>"


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value is text that can be written anywhere: half a surrogate pair cannot."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def seconds(name: str, value: object) -> float:
    """A time to wait, no longer than the system can. Raises UsageError."""
    if not isinstance(value, bool) and isinstance(value, Real):
        try:
            number = float(value)
        except OverflowError:
            number = threading.TIMEOUT_MAX if value == abs(value) else 0.0
        if number == number:  # not NaN
            return min(max(number, 0.0), threading.TIMEOUT_MAX)
    raise UsageError(f"{name}={shown(value)} is not allowed: a number of seconds")
