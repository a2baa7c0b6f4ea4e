"""What offers may be worth, and what placements may ask: as much as a score can hold.

A score is a number in 16.16 fixed point with 32 bits. Beyond it every worth would score the same,
so that offers of very different worth would be drawn alike. A device still reads a release with
such an offer, and holds its score at the end of the range.
"""

from __future__ import annotations

from typing import Final

from edge_sdk.engine.documents import MICROS
from edge_sdk.engine.policy import ONE, SCORE_MAX
from genome_edge.v1 import release_pb2

#: The most that a score holds, and below 0 the least, in the tenant's currency unit.
MAX_WORTH: Final = SCORE_MAX // ONE

_MEND: Final = (
    f"a score holds {-MAX_WORTH:,} to {MAX_WORTH:,}; say the value and cost of all offers, and "
    "least_worth, in a larger unit, such as thousands"
)


def beyond_offer(spec: release_pb2.OfferSpec) -> list[str]:
    """What is wrong with an offer's worth, as "field: sentence"; empty: a score can hold it."""
    worth = spec.value_micros - spec.cost_micros
    if abs(worth) <= MAX_WORTH * MICROS:
        return []
    field, other = ("value", "cost") if worth > 0 else ("cost", "value")
    return [f"{field}: with its {other} the offer is worth {_said(worth)}, and {_MEND}"]


def beyond_placement(spec: release_pb2.PlacementSpec) -> list[str]:
    """What is wrong with a placement's least worth, as "field: sentence"; empty: nothing."""
    least = spec.least_worth_micros
    if abs(least) <= MAX_WORTH * MICROS:
        return []
    return [f"least_worth: it is {_said(least)}, and {_MEND}"]


def _said(micros: int) -> str:
    return f"{micros / MICROS:,.6f}".rstrip("0").rstrip(".")
