"""UCI in-vehicle coupon survey → import files. Everything here is real but what is listed below.

A row of the survey is one moment in a car: who drives, what goes on, which coupon
appears, and whether the driver would take it (`Y`).

    a person (567 in the whole set)  → a customer with profile markers
    one of the five coupons          → an offer
    a row with Y=1 / Y=0             → an interaction `redeem` / `dismiss` with its moment

Rows in = interactions out. Answers on an ordered scale are given twice: as said
(`age:26`) and as steps up to it (`age-at-least:21`, `age-at-least:26`), so that a
model can learn both "just these" and "these and everyone above".

Made up: the dates (one day per answer, in the order of the survey and at the hour
that it names, since the survey has no dates), the titles of the offers, and the
consent (to answer the survey is taken as agreeing to personalisation and learning).

    python -m examples.adapters.coupon OUT_DIR
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from examples.adapters.writing import Row, Written, adapter_main, write_csv, write_jsonl
from examples.datasets import find

# Columns that say who the person is; the same in every row of a person.
PROFILE = (
    "gender", "age", "maritalStatus", "has_children", "education", "occupation", "income", "car",
    "Bar", "CoffeeHouse", "CarryAway", "RestaurantLessThan20", "Restaurant20To50",
)  # fmt: skip

_VISITS = ("never", "less1", "1~3", "4~8", "gt8")
_VISIT_STEPS = dict(zip(_VISITS, ("0", "less-than-1", "1", "4", "9"), strict=True))
_INCOMES = (
    "Less than $12500", "$12500 - $24999", "$25000 - $37499", "$37500 - $49999", "$50000 - $62499",
    "$62500 - $74999", "$75000 - $87499", "$87500 - $99999", "$100000 or More",
)  # fmt: skip
_AGES = {"below21": "16", "50plus": "50"}
_EDUCATION = {
    "Some High School": ("some-high-school", "0"),
    "High School Graduate": ("high-school", "1"),
    "Some college - no degree": ("some-college", "2"),
    "Associates degree": ("associate", "3"),
    "Bachelors degree": ("bachelor", "4"),
    "Graduate degree (Masters or Doctorate)": ("graduate", "5"),
}
# column → (namespace, steps from least to most as written into markers)
_ORDINALS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "age": ("age", ("16", "21", "26", "31", "36", "41", "46", "50")),
    "income": ("income", tuple(str(12_500 * step) for step in range(9))),
    "education": ("education-level", ("0", "1", "2", "3", "4", "5")),
    "Bar": ("bar-visits", tuple(_VISIT_STEPS.values())),
    "CoffeeHouse": ("coffee-visits", tuple(_VISIT_STEPS.values())),
    "CarryAway": ("carry-out-visits", tuple(_VISIT_STEPS.values())),
    "RestaurantLessThan20": ("cheap-restaurant-visits", tuple(_VISIT_STEPS.values())),
    "Restaurant20To50": ("dear-restaurant-visits", tuple(_VISIT_STEPS.values())),
}
_NOMINAL = {
    "gender": "gender", "maritalStatus": "marital-status", "has_children": "children",
    "education": "education", "occupation": "occupation", "car": "car",
}  # fmt: skip

COUPONS: Mapping[str, tuple[str, str, list[str]]] = {
    "Bar": ("coupon-bar", "A drink at the bar", ["coupon:bar"]),
    "Coffee House": ("coupon-coffee-house", "A coffee on the house", ["coupon:coffee-house"]),
    "Carry out & Take away": (
        "coupon-carry-out",
        "Dinner to take away",
        ["coupon:carry-out", "food:meal"],
    ),
    "Restaurant(<20)": (
        "coupon-restaurant-under-20",
        "Lunch under 20 dollars",
        ["coupon:restaurant-under-20", "food:meal"],
    ),
    "Restaurant(20-50)": (
        "coupon-restaurant-20-50",
        "Dinner for 20 to 50 dollars",
        ["coupon:restaurant-20-50", "food:meal"],
    ),
}

PLACEMENT = "in-car"
FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
_COLUMNS = (
    *PROFILE, "destination", "passanger", "weather", "temperature", "time", "coupon", "expiration",
    "toCoupon_GEQ15min", "toCoupon_GEQ25min", "direction_same", "Y",
)  # fmt: skip


def read(folder: Path) -> Iterator[Mapping[str, str]]:
    """The rows of the survey in file order, each with `person`.

    The published file names no person: a person is then who gave the same
    thirteen answers about themselves. Raises `ValueError` for a missing column.
    """
    ours = folder / "coupons.csv"
    path = ours if ours.is_file() else folder / "in-vehicle-coupon-recommendation.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        if missing := set(_COLUMNS) - set(reader.fieldnames or ()):
            raise ValueError(f"{path}: no column {', '.join(sorted(missing))}")
        for row in reader:
            if not row.get("person"):
                said = "|".join(row[column] for column in PROFILE)
                row["person"] = hashlib.sha256(said.encode()).hexdigest()[:12]
            yield row


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _step(column: str, value: str) -> str:
    """The value of an ordered answer as it stands in markers; empty where there was none."""
    if not value:
        return ""
    if column == "income":
        return str(12_500 * _INCOMES.index(value))
    if column == "education":
        return _EDUCATION[value][1]
    if column == "age":
        return _AGES.get(value, value)
    return _VISIT_STEPS[value]


def customer(row: Mapping[str, str]) -> Row:
    """The customer behind a row: attributes as said, and the steps of the ordered ones."""
    attributes = {
        name: _EDUCATION[row[column]][0] if column == "education" else _slug(row[column])
        for column, name in _NOMINAL.items()
        if row[column]
    }
    steps: list[str] = []
    for column, (name, scale) in _ORDINALS.items():
        here = _step(column, row[column])
        if here:
            if column != "education":  # said already, by name
                attributes[name] = here
            steps += [f"{name}-at-least:{step}" for step in scale[1 : scale.index(here) + 1]]
    return {
        "id": row["person"],
        "markers": steps,
        "consent": ["personalisation", "learning"],
        **{f"attributes.{name}": value for name, value in attributes.items()},
    }


def _hour(time: str) -> int:
    number, half = int(time[:-2]), time[-2:]
    return number % 12 + (12 if half == "PM" else 0)


def interaction(number: int, row: Mapping[str, str], at: datetime) -> Row:
    """Row `number` of the file as what the person did with the coupon at `at`."""
    minutes = next((m for m in (25, 15) if row[f"toCoupon_GEQ{m}min"] == "1"), 5)
    return {
        "interaction_id": f"coupon-survey-{number}",
        "customer": row["person"],
        "kind": "redeem" if row["Y"] == "1" else "dismiss",
        "offer": COUPONS[row["coupon"]][0],
        "time": at.isoformat(),
        "context.place": "car",
        "context.activity": "driving",
        "context.destination": _slug(row["destination"]),
        "context.company": _slug(row["passanger"]),
        "context.weather": _slug(row["weather"]),
        "context.temperature": row["temperature"],
        "context.survey-time": row["time"].lower(),
        "context.coupon-expires": row["expiration"],
        "context.minutes-away": str(minutes),
        "context.on-the-way": "yes" if row["direction_same"] == "1" else "no",
    }


def offers(placements: Sequence[str] = (PLACEMENT,)) -> list[Row]:
    """The five coupons of the survey as offers; titles are made up."""
    return [
        {
            "id": offer_id,
            "campaign": "coupon-survey",
            "content": {"title": title, "body": f"Coupon of the survey: {named}"},
            "dna": [{"marker": marker, "salience": 1.0} for marker in dna],
            "value": 1.0,
            "placements": list(placements),
        }
        for named, (offer_id, title, dna) in COUPONS.items()
    ]


def placements() -> list[Row]:
    """Where the survey's coupons appear: a screen in the car."""
    return [
        {
            "id": PLACEMENT,
            "slots": 3,
            "channel": "car",
            "shown": "decide",
            "explorer": "squarecb",
            "outcome_window_hours": 24,
        }
    ]


def write(
    out: Path,
    folder: Path | None = None,
    *,
    first_day: datetime = FIRST_DAY,
    offer_placements: Sequence[str] = (PLACEMENT,),
) -> Written:
    """Write customers, offers, placements and interactions of the survey into `out`.

    Raises `DataSetMissing` where `folder` is not given and the set is not at hand.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = list(read(folder or find("uci_coupon")))
    people: dict[str, Row] = {}
    answers: list[Row] = []
    nth: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        person = row["person"]
        if person not in people:
            people[person] = customer(row)
        day = nth[person] = nth.get(person, -1) + 1
        at = first_day + timedelta(days=day, hours=_hour(row["time"]), seconds=number % 3600)
        answers.append(interaction(number, row, at))
    names = {*_NOMINAL.values(), *(name for name, _ in _ORDINALS.values())} - {"education-level"}
    attributes = [f"attributes.{name}" for name in sorted(names)]
    files = {
        "customers.csv": write_csv(
            out / "customers.csv", ["id", "consent", *attributes, "markers"], people.values()
        ),
        "offers.jsonl": write_jsonl(out / "offers.jsonl", offers(offer_placements)),
        "placements.jsonl": write_jsonl(out / "placements.jsonl", placements()),
        "interactions.csv": write_csv(out / "interactions.csv", list(answers[0]), answers),
    }
    return Written(out, f"{len(rows):,} answers of {len(people)} people (real)", files)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when written, 1 when the data set is not at hand."""
    return adapter_main(
        "coupon", "Turn the UCI coupon survey (real) into import files.", write, argv
    )


if __name__ == "__main__":
    sys.exit(main())
