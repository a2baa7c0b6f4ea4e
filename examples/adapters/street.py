"""Made up: offers along the streets of New York, near places that are real.

The survey's people answered in a car; nobody asked them in a café. So the field
walk has offers of its own, shown only near places of their kind. Where an offer
has the DNA of one of the survey's coupons, what the model learned from the
survey's answers speaks for it or against it; the rest starts from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from examples.adapters.writing import Row

PLACEMENT = "phone"

PLACEMENTS: tuple[Row, ...] = (
    {
        "id": PLACEMENT,
        "slots": 3,
        "channel": "mobile",
        "shown": "decide",
        "explorer": "greedy",
        "outcome_window_hours": 24,
    },
)


def _near(kind: str, offer_id: str, title: str, dna: Sequence[str]) -> Row:
    return {
        "id": offer_id,
        "campaign": "street",
        "content": {"title": title},
        "dna": [{"marker": marker, "salience": 1.0} for marker in dna],
        "value": 1.0,
        "areas": {"near": [f"place:{kind}"]},
        "placements": [PLACEMENT],
        # Whoever has seen it three times today has seen it.
        "caps": [{"count": "view", "limit": 3, "window_hours": 24, "scope": "customer"}],
    }


OFFERS: tuple[Row, ...] = (
    _near("cafe", "flat-white", "A flat white on the house", ["coupon:coffee-house"]),
    _near("bar", "first-round", "The first round is ours", ["coupon:bar"]),
    _near("restaurant", "lunch-menu", "Lunch under 20 dollars",
          ["coupon:restaurant-under-20", "food:meal"]),
    _near("restaurant", "chefs-table", "The chef's table tonight",
          ["coupon:restaurant-20-50", "food:meal"]),
    _near("deli", "sandwich-to-go", "A sandwich to take along", ["coupon:carry-out", "food:meal"]),
    _near("bakery", "warm-bagel", "A bagel, still warm", ["coupon:carry-out"]),
    _near("grocery", "dinner-box", "Everything for dinner in a box", ["coupon:carry-out"]),
    _near("hotel", "airport-car", "A car to the airport", ["service:taxi"]),
    _near("airport", "lounge-hour", "An hour in the lounge", ["service:lounge"]),
    _near("gym", "protein-shake", "A shake after training", ["service:bar-of-the-gym"]),
    _near("subway", "morning-paper", "Today's paper, free", ["service:paper"]),
    _near("station", "window-seat", "A window seat, upgraded", ["service:train"]),
    _near("park", "ice-cream", "Ice cream, two scoops", ["service:ice-cream"]),
    _near("cinema", "popcorn", "Popcorn with your ticket", ["service:popcorn"]),
    _near("theater", "interval-drink", "Drinks ready at the interval", ["service:drinks"]),
    _near("museum", "audio-guide", "The audio guide, free", ["service:guide"]),
    _near("stadium", "team-scarf", "A scarf for today's game", ["service:scarf"]),
    _near("shop", "free-delivery", "Delivered free, today", ["service:delivery"]),
    _near("bookshop", "paperback", "The second paperback, free", ["service:book"]),
    _near("drugstore", "sun-cream", "Sun cream, small", ["service:cream"]),
    _near("campus", "student-print", "Ten pages printed, free", ["service:print"]),
)  # fmt: skip
