"""Made up: a hotel's screen, its offers, and how its guests respond. Nothing here is measured.

Both the synthetic town and the demonstration on real data put this scene beside
their own rows, so that there is something to learn about guests who look up
flights. The rule by which the made-up guests act is `likelihood`; no part of the
software knows it. The model has to find it in the moments that `moments` writes,
where every guest was shown offers at random:

* who looks up a flight takes the taxi to the airport,
* unless they waved a taxi away before: those take the train,
* and in other moments other offers do better.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from examples.adapters.writing import Row

SCREEN = "lobby-screen"
TAXI, TRAIN = "taxi-to-airport", "train-to-airport"

PLACEMENTS: tuple[Row, ...] = (
    {
        "id": SCREEN,
        "slots": 1,
        "channel": "kiosk",
        "shown": "view",
        "explorer": "greedy",
        "outcome_window_hours": 24,
    },
)


def _offer(offer_id: str, title: str, body: str, dna: Sequence[str], **more: Any) -> Row:
    return {
        "id": offer_id,
        "campaign": "hotel",
        "content": {"title": title, "body": body},
        "dna": [{"marker": marker, "salience": 1.0} for marker in dna],
        "value": 1.0,
        "areas": {"near": ["place:hotel"]},
        "placements": [SCREEN],
        **more,
    }


# Who has just taken a ride is not offered the same ride again the same day.
_ONE_RIDE_A_DAY = [{"count": "redeem", "limit": 1, "window_hours": 12, "scope": "customer"}]

OFFERS: tuple[Row, ...] = (
    _offer(TAXI, "A taxi to the airport", "At the door in five minutes.",
           ["service:taxi"], caps=_ONE_RIDE_A_DAY),
    _offer(TRAIN, "The airport train", "Every quarter of an hour, ticket here.",
           ["service:train"], caps=_ONE_RIDE_A_DAY),
    _offer("late-checkout", "Stay until two", "Keep your room for the afternoon.",
           ["service:late-checkout"]),
    _offer("table-for-tonight", "A table for tonight", "The grill has one left.",
           ["service:dinner"]),
    _offer("spa-hour", "An hour in the spa", "Sauna, pool and quiet.", ["service:spa"]),
    _offer("city-tour", "See the city by boat", "Leaves from the pier at ten.", ["service:tour"]),
)  # fmt: skip

ACTIVITIES = ("flight-search", "restaurant-search", "event-search", "idle")

# What guests take in each kind of moment, where nothing else decides it.
_LIKES = {
    "flight-search": {TAXI: 0.95, TRAIN: 0.2, "late-checkout": 0.15},
    "restaurant-search": {"table-for-tonight": 0.85, "city-tour": 0.15, "spa-hour": 0.15},
    "event-search": {"city-tour": 0.85, "table-for-tonight": 0.3},
    "idle": {"spa-hour": 0.6, "late-checkout": 0.4, "table-for-tonight": 0.2},
}


def likelihood(activity: str, offer: str, waved_taxi_away: bool) -> float:
    """The made-up chance that a guest takes an offer: the rule that the model has to find."""
    if activity == "flight-search" and waved_taxi_away:
        if offer == TAXI:
            return 0.03
        if offer == TRAIN:
            return 0.97
    return _LIKES[activity].get(offer, 0.05)


def moments(
    guests: Sequence[str],
    until: datetime,
    *,
    seed: int,
    prefix: str = "hotel",
    per_guest: int = 17,
    days: int = 45,
) -> list[Row]:
    """Interaction rows of these guests in the `days` before `until`, in order of time.

    Offers were shown at random (rides more often in flight searches, and half as often
    as the others elsewhere), so that what is learned is what guests like and not what
    somebody chose to show them. Were rides shown only to those who look up flights, no
    model could tell that it is for the flights that they are taken.
    """
    rng = random.Random(f"{prefix}:{seed}")
    rows: list[Row] = []
    for guest in guests:
        waved = False
        times = sorted(rng.uniform(0, days * 86_400) for _ in range(per_guest))
        for number, seconds in enumerate(times):
            activity = "flight-search" if rng.random() < 0.5 else rng.choice(ACTIVITIES[1:])
            often = 4.0 if activity == "flight-search" else 0.5
            weights = [often if row["id"] in (TAXI, TRAIN) else 1.0 for row in OFFERS]
            offer = str(rng.choices(OFFERS, weights)[0]["id"])
            taken = rng.random() < likelihood(activity, offer, waved)
            waved = waved or (offer == TAXI and not taken)
            at = until - timedelta(days=days) + timedelta(seconds=int(seconds))
            rows.append(
                {
                    "interaction_id": f"{prefix}-{guest}-{number}",
                    "customer": guest,
                    "kind": "redeem" if taken else "dismiss",
                    "offer": offer,
                    "time": at.isoformat(),
                    "context": {"place": "hotel", "activity": activity, "channel": "kiosk"},
                }
            )
    return sorted(rows, key=lambda row: str(row["time"]))
