"""What further sources say of the people of the made-up town: a loyalty club, a forum, a web shop.

Everything in it is synthetic, as the town is (`examples.adapters.town`): made from a seed, for
people who do not exist. It shows what rows of `loyalty`, `links`, `signals`, `browsing` and
`visits` look like, and has what such sources have: club cards whose owners are found by an e-mail
address that the shop knows too, two who share one by mistake and are taken apart again, and a card
that nobody claims; people who search, people who stroll through the shelves, and people who come
for a coupon and leave at the basket. Import the town first.

    python -m examples.adapters.club OUT_DIR
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from examples.adapters import town
from examples.adapters.writing import Row, Written, adapter_main, write_csv, write_jsonl

SAYS = "a synthetic club, forum and web shop of the synthetic town; nobody in them exists"
CLUB = "club"

_TIERS = ((5_000, "gold"), (1_000, "silver"), (0, "bronze"))
_TOPICS = ("espresso", "crime-novels", "marathon", "fair-trade", "cocktails", "pastry")
_CHANNELS = ("web", "web", "app")
# What people do before they look at a product, and how their visits begin and end.
_WAYS: Mapping[str, tuple[str, tuple[str, ...], Sequence[str]]] = {
    "searches": ("search", ("home",), ("basket", "checkout", "done")),
    "strolls": ("list", ("home",), ("compare", "reviews")),
    "saves": ("offer", ("campaign",), ("basket", "help")),
}


def loyalty(rng: random.Random, cards: Sequence[str], until: datetime) -> list[Row]:
    """How each card stood two months ago, and stands now."""
    rows: list[Row] = []
    for card in cards:
        points = rng.choice([40, 300, 900, 1_600, 4_000, 7_500])
        for days_ago in (town.DAYS, 1):
            tier = next(name for least, name in _TIERS if points >= least)
            at = (until - timedelta(days=days_ago)).isoformat()
            rows.append(
                {"customer": card, "source": CLUB, "tier": tier, "points": points, "at": at}
            )
            points += rng.randint(0, 900)
    return rows


def links(cards: Sequence[str], people: Sequence[str], until: datetime) -> list[Row]:
    """The addresses that shop and club know; the last two of the cards share one for a day."""
    rows: list[Row] = []
    since = until - timedelta(days=town.DAYS)

    def knows(who: str, source: str, address: str, days: int = 0, linked: bool = True) -> None:
        at = (since + timedelta(days=days)).isoformat()
        rows.append(
            {"customer": who, "source": source, "key": f"{address}@town.example",
             "key_kind": "email", "linked": linked, "at": at}
        )  # fmt: skip

    for card, person in zip(cards[:-1], people, strict=False):
        knows(person, "app", person)
        knows(card, CLUB, person)
    wrong, other = cards[-2], people[len(cards)]
    knows(other, "app", other)
    knows(wrong, CLUB, other, days=3)
    knows(wrong, CLUB, other, days=4, linked=False)
    return rows


def signals(rng: random.Random, people: Sequence[str], until: datetime) -> list[Row]:
    """What some of them wrote in a forum, for and against."""
    rows: list[Row] = []
    for number in range(3 * len(people)):
        at = until - timedelta(hours=rng.randint(1, 24 * town.DAYS))
        row: dict[str, Any] = {
            "signal_id": f"post-{number}",
            "customer": rng.choice(people),
            "topic": sorted(rng.sample(_TOPICS, rng.randint(1, 2))),
            "community": "town-square",
            "sentiment": round(rng.uniform(-1, 1), 1),
            "engagement": rng.choice([0, 0, 1, 4, 15, 120]),
            "platform": "forum",
            "time": at.isoformat(),
        }
        rows.append(row)
    return rows


def browsing(
    rng: random.Random, people: Sequence[str], shop: Sequence[Row], until: datetime
) -> list[Row]:
    """Visits of the web shop, page by page, with the time spent on each."""
    rows: list[Row] = []
    for visit in range(2 * len(people)):
        at = until - timedelta(hours=rng.randint(1, 24 * town.DAYS))
        person, channel = rng.choice(people), rng.choice(_CHANNELS)
        for step in range(1, rng.randint(2, 6)):
            seconds = rng.randint(2, 240)
            rows.append(
                {"customer": person, "session": f"visit-{visit}", "step": step,
                 "action": "click" if step > 1 and seconds > 120 else "browse",
                 "product": str(rng.choice(shop)["id"]), "dwell_ms": seconds * 1000,
                 "channel": channel, "time": at.isoformat()}
            )  # fmt: skip
            at += timedelta(seconds=seconds)
    return rows


def visits(rng: random.Random, clicks: Sequence[Row]) -> list[Row]:
    """The visits whose pages of products `clicks` are, with the pages around them; some bounce."""
    ways: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    for click in clicks:
        person, session = str(click["customer"]), str(click["session"])
        way = ways.setdefault(person, rng.choice(sorted(_WAYS)))
        before, entry, after = _WAYS[way]
        if session not in found:
            found[session] = {
                "customer": person, "session": session, "pages": [*entry], "dwell_ms": 0,
                "channel": click["channel"], "time": click["time"],
            }  # fmt: skip
            found[session]["after"] = after[: rng.randint(0, len(after))]
        found[session]["pages"] += [before, "product"]
        found[session]["dwell_ms"] += click["dwell_ms"]
    for visit in found.values():
        visit["pages"] += visit.pop("after")
        if rng.random() < 0.2:
            visit["pages"] = visit["pages"][:1]
    return list(found.values())


def write(
    out: Path, *, seed: int = 7, customers: int = 60, until: datetime | None = None
) -> Written:
    """Write what is said of the first `customers` of the town into `out`, up to `until` (today)."""
    out.mkdir(parents=True, exist_ok=True)
    end = until or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rng = random.Random(f"club:{seed}")
    people = [f"customer-{number:03}" for number in range(1, customers + 1)]
    cards = [f"card-{number:03}" for number in range(len(people) // 2)]
    clicks = browsing(rng, people, town.products(), end)
    walks = visits(random.Random(f"visits:{seed}"), clicks)
    files = {
        "loyalty.csv": write_csv(
            out / "loyalty.csv",
            ["customer", "source", "tier", "points", "at"],
            loyalty(rng, cards, end),
        ),
        "links.jsonl": write_jsonl(out / "links.jsonl", links(cards, people, end)),
        "signals.jsonl": write_jsonl(out / "signals.jsonl", signals(rng, people, end)),
        "browsing.csv": write_csv(out / "browsing.csv", list(clicks[0]), clicks),
        "visits.jsonl": write_jsonl(out / "visits.jsonl", walks),
    }
    return Written(out, f"{SAYS} (seed {seed})", files)


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a command."""
    return adapter_main("club", (__doc__ or "").splitlines()[0], write, argv)


if __name__ == "__main__":
    sys.exit(main())
