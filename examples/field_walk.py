"""One person's real day in New York, walked through the SDK; a page shows what came up where.

    python -m examples.field_walk [--out FILE]

The day is one of the Foursquare check-ins (real: where and when). The genome is one of the UCI
survey's people (real, too; that they are the same person is made up), and what the model knows of
coffee, bars and meals it learned from their answers. The offers are made up. Without these data
sets a synthetic day in the synthetic town is walked, and the page says so.
Stops at private places are walked but neither drawn nor named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from edge_sdk import Context, Decision, EdgeClient, Reason
from examples import walk_page
from examples.adapters import places_nyc, street, town
from examples.datasets import find
from examples.local_server import LocalServer, expect, parser, play, until
from examples.scenes import Scene, best_scene, small_town


class Seen(NamedTuple):
    """One check-in: when (local), the kind of place (empty: private), and the cell."""

    at: datetime
    kind: str
    cell: int


def real_day(folder: Path) -> list[Seen]:
    """Of all days with a hotel in them, the one with the most kinds of place, in its order."""
    days: dict[tuple[int, str], list[Seen]] = {}
    for row in places_nyc.read_checkins(folder).sort_by("utc_date_time").to_pylist():
        at = row["utc_date_time"].replace(tzinfo=UTC) + timedelta(minutes=row["utc_offset_min"])
        # Degrees end here: a context keeps the cell alone.
        cell = Context(lat=row["lat"], lng=row["lon"]).cell or 0
        seen = days.setdefault((row["user"], f"{at:%F}"), [])
        if not seen or at - seen[-1].at > timedelta(minutes=10):  # the rest is passing by
            seen.append(Seen(at, places_nyc.kind_of(row["category_name"]) or "", cell))

    def rich(day: list[Seen]) -> tuple[bool, int, int]:
        kinds = {seen.kind for seen in day} - {""}
        return "hotel" in kinds, len(kinds), -len(day)

    return max(days.values(), key=rich)


def made_up_day() -> list[Seen]:
    """A day in the synthetic town, from the hotel to the airport."""
    first = datetime(2026, 6, 1, 8, tzinfo=UTC)
    kinds = ("hotel", "bakery", "cafe", "bookshop", "gym", "grocery", "station", "bar", "airport")
    hours = enumerate(kinds)
    return [Seen(first + timedelta(hours=1.5 * n), k, int(town.cell_at(k), 16)) for n, k in hours]


def why(decision: Decision) -> str:
    """How many offers were left, and which markers weighed most for the one that came up."""
    told = decision.explain()
    fitting = sum(slot.offer is not None for slot in decision.slots)
    fitting += sum(loser.score is not None for loser in told.losers)
    away = sum(Reason.NEAR_PLACE in loser.reasons for loser in told.losers)
    weighed = [
        f"{c.marker} {100 * c.difference:+.0f}"
        for c in told.carriers[:3]
        if abs(c.difference) >= 0.01
    ]
    elsewhere = f", {away} are for other kinds of place" if away else ""
    most = f" What weighed most: {', '.join(weighed)}." if weighed else ""
    return f"{fitting} could be shown here{elsewhere}.{most}"


def walk(edge: EdgeClient, day: Sequence[Seen], customer: str) -> list[walk_page.Stop]:
    """Decide at every stop, as the customer's phone would."""
    stops = []
    for seen in day:
        # To check in is to say where one is: a declared place wins over the place layer.
        moment = Context(cell=seen.cell, place=seen.kind or None, time=seen.at, channel="mobile")
        decision = edge.decide(moment, street.PLACEMENT, 3, customer=customer)
        shown = [
            walk_page.Shown(s.offer.content["title"], min(1.0, s.score), s.reason.lower())
            for s in decision.slots
            if s.offer
        ]
        note = why(decision) if shown else f"nothing to show: {decision.reason.lower()}"
        stops.append(walk_page.Stop(f"{seen.at:%H:%M}", seen.kind, f"{seen.cell:x}", shown, note))
    return stops


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when the page is written, else 1."""
    made = parser("examples.field_walk", __doc__)
    made.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        default=Path("build/field-walk.html"),
        help="where the page goes (default: %(default)s)",
    )
    made.add_argument("--town", action="store_true", help="walk the synthetic town in any case")
    options = made.parse_args(argv)

    def story(server: LocalServer, scene: Scene, _: argparse.Namespace) -> None:
        places = places_nyc.read_places(scene.places)
        day = real_day(find("foursquare_nyc")) if scene.real else made_up_day()
        with EdgeClient(server.enrol("phone"), server.address) as edge:
            expect(edge.wait_ready(30), "the phone has its release", str(edge.status.cause))
            until(lambda: edge.genome(scene.guest), "the phone has the genome")
            stops = walk(edge, day, scene.guest)
        expect(any(stop.shown for stop in stops if stop.kind), "offers came up on the way")
        walked = f"this day, {day[0].at:%d %B %Y}, of one person's check-ins (Foursquare)"
        real = "; ".join((walked, *scene.real)) if scene.real else "nothing"
        mixed = ("that who walks has the genome of one of these people",) if scene.real else ()
        lead = f"<b>Real:</b> {real}. <b>Made up:</b> {'; '.join((*mixed, *scene.made_up))}."
        page = walk_page.page(f"A day in {scene.name}", lead, stops, places)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(page, "utf-8")
        for stop in stops:
            top = stop.shown[0].title if stop.shown and stop.kind else "-"
            print(f"{stop.time}  {stop.kind or '(private)':<18} {top}")
        print(f"the page: {options.out.resolve()}")

    return play(story, options, small_town if options.town else best_scene)


if __name__ == "__main__":
    sys.exit(main())
