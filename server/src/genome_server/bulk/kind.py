"""The rows of a list: for whom, and for which moment, something is to be chosen."""

from __future__ import annotations

from typing import Final

from genome_server.ingest.kind import Kind, kind_of
from genome_server.ingest.terms import (
    CELL,
    CELL_ITEM,
    free,
    id_,
    list_,
    number,
    object_,
    text,
    time,
    whole,
)

#: Fields that say who is asked for and where it is shown; all others are of the moment.
_ASKING: Final = ("id", "customer", "source", "placement", "slots")

MOMENTS: Final[Kind] = kind_of(
    "moments",
    "Moments: for whom, when and where something is to be chosen, for `genome-server decide`. "
    "What a row does not say is what the command says for all rows.",
    [],
    {
        "id": id_(
            "Your id of the row, the number of a receipt for one; the result has it too.",
            "receipt-4711",
        ),
        "customer": id_("The customer's id. Left out: nobody in particular.", "c-1001"),
        "source": text(
            "Whose id it is; `app` if left out.",
            "app",
            pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
            **{"x-expected": "lower-case letters, digits and hyphens"},
        ),
        "placement": text("Where it is shown.", "newsletter", minLength=1, maxLength=120),
        "slots": whole("How many offers are shown at most.", 1, 1, 64),
        "time": time("The moment, local time with its offset.", "2026-03-01T18:05:00+01:00"),
        "cell": {
            **CELL_ITEM,
            "description": "The H3 cell where it is.",
            "examples": [CELL],
        },
        "lat": {
            **number("Latitude in degrees instead of a cell; needs `lng`.", 48.2, -90, 90),
            "x-private": True,
        },
        "lng": {**number("Longitude in degrees.", 16.37, -180, 180), "x-private": True},
        "place": text("The kind of place.", "hotel", minLength=1, maxLength=120),
        "activity": text("What goes on.", "flight-search", minLength=1, maxLength=120),
        "channel": text("On which channel.", "email", minLength=1, maxLength=120),
        "stage": text("Before, during or after a purchase.", "after", maxLength=120),
        "basket": list_(
            "The products of the basket or receipt.",
            id_("A product's id.", "p-espresso"),
            "p-espresso",
            "p-milk",
        ),
        "recent": list_(
            "What went on before, with how many seconds ago it was. A JSON text in CSV.",
            object_(
                "An activity.",
                {
                    "activity": text("What went on.", "flight-search", minLength=1, maxLength=120),
                    "ago_s": number("How many seconds ago.", 300, 0, 3e9),
                },
                required=["activity", "ago_s"],
            ),
            {"activity": "flight-search", "ago_s": 300},
        ),
        "language": text("In which language: BCP 47.", "de", maxLength=64),
        "attributes": free(
            "Anything else of the moment; each becomes a marker.", {"weather": "rainy"}
        ),
    },
    alternatives=(("lat", "lng"), ("cell",)),
)

#: The fields of the moment.
OF_THE_MOMENT: Final = tuple(name for name in MOMENTS.properties if name not in _ASKING)
