"""People and moments of the UCI coupon survey: who drives, what goes on, which coupon appears."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import numpy as np

from examples.adapters import coupon
from examples.datasets import find
from tests.bench.world.covariates import Covariates, fitted_logits, numbered

_EXPIRIES: Final = ("2h", "1d")
_MOMENT: Final = (
    "destination", "passanger", "weather", "temperature", "time", "toCoupon_GEQ15min",
    "toCoupon_GEQ25min", "direction_same",
)  # fmt: skip
_ASKED: Final = ("coupon", "expiration")
#: What an adapter says of a moment that belongs to the coupon here.
_OF_THE_COUPON: Final = "coupon-expires"
#: Surveys are answered more kindly than screens: so much less, in log odds.
_SAID_NOT_DONE: Final = -1.5
_PREFIX: Final = "context."
_FIXED: Final = ("place", "activity")


def _profile(row: Mapping[str, str]) -> tuple[str, ...]:
    said = coupon.customer(row)
    own = [
        f"{name.removeprefix('attributes.')}:{value}"
        for name, value in said.items()
        if name.startswith("attributes.")
    ]
    return tuple(sorted([*own, *said["markers"]]))


def _context(row: Mapping[str, str]) -> dict[str, str]:
    said: Mapping[str, Any] = coupon.interaction(0, row, datetime(2026, 1, 1, tzinfo=UTC))
    named = {
        name.removeprefix(_PREFIX): str(value)
        for name, value in said.items()
        if name.startswith(_PREFIX)
    }
    return {name: value for name, value in named.items() if name not in {*_FIXED, _OF_THE_COUPON}}


@lru_cache(maxsize=1)
def covariates() -> Covariates:
    """The survey; ten kinds of offers: five coupons that expire soon or late.

    Raises DataSetMissing.
    """
    rows = list(coupon.read(find("uci_coupon")))
    number = {name: i for i, name in enumerate(dict.fromkeys(row["person"] for row in rows))}
    first = {row["person"]: row for row in reversed(rows)}
    names = (*coupon.PROFILE, *_MOMENT, *_ASKED)
    known = numbered([[row[name] for row in rows] for name in names])
    code = {
        name: {row[name]: value for row, value in zip(rows, known[:, at], strict=True)}
        for at, name in enumerate(names)
        if name in _ASKED
    }
    kinds = [(named, expiry) for named in coupon.COUPONS for expiry in _EXPIRIES]

    def asked(kind: int) -> Any:
        named, expiry = kinds[kind]
        out = known.copy()
        out[:, -2], out[:, -1] = code["coupon"][named], code["expiration"][expiry]
        return out

    label = np.array([float(row["Y"]) for row in rows])
    return Covariates(
        name="coupon",
        place="car",
        people=tuple(_profile(first[name]) for name in number),
        person=np.array([number[row["person"]] for row in rows]),
        hour=np.array([coupon._hour(row["time"]) for row in rows]),
        context=tuple(_context(row) for row in rows),
        kinds=tuple((*coupon.COUPONS[named][2], f"expires:{expiry}") for named, expiry in kinds),
        logit=fitted_logits(known, label, asked, len(kinds)),
        said_not_done=_SAID_NOT_DONE,
    )
