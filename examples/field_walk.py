"""One person's real day in New York, walked through the SDK; a page shows what came up where.

    python -m examples.field_walk [--out FILE]

The day is one of the Foursquare check-ins (real: where and when). The offers are made up; what
the model knows of coffee, bars and meals it learned from the answers of the UCI survey (real).
Without these data sets a synthetic day in the synthetic town is walked, and the page says so.
Stops at private places are walked but neither drawn nor named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from edge_sdk import Context, Decision, EdgeClient
from examples import walk_page
from examples.adapters import places_nyc, street, town
from examples.datasets import find
from examples.local_server import LocalServer, expect, parser, play
from examples.scenes import Scene, best_scene, small_town


class Seen(NamedTuple):
    """One check-in: when (local), the kind of place (empty: private), and the cell."""

    at: datetime
    kind: str
    cell: int


def real_day(folder: Path, airports: set[str]) -> list[Seen]:
    """The day, of all, with an airport and the most kinds of place in it, in its order."""
    days: dict[tuple[int, str], list[Seen]] = {}
    for row in places_nyc.read_checkins(folder).to_pylist():
        at = row["utc_date_time"].replace(tzinfo=UTC) + timedelta(minutes=row["utc_offset_min"])
        # Degrees end here: a context keeps the cell alone.
        cell = Context(lat=row["lat"], lng=row["lon"]).cell or 0
        kind = places_nyc.kind_of(row["category_name"]) or ""
        seen = days.setdefault((row["user"], f"{at:%F}"), [])
        if not seen or (kind, cell) != seen[-1][1:]:
            seen.append(Seen(at, kind, cell))

    def rich(day: list[Seen]) -> tuple[bool, int, int]:
        flew = any(places_nyc.within(seen.cell, airports) for seen in day if seen.kind == "airport")
        return flew, len({seen.kind for seen in day}), -len(day)

    best = max(days.values(), key=rich)
    return sorted(best)


def made_up_day() -> list[Seen]:
    """A day in the synthetic town, from the hotel to the airport."""
    first = datetime(2026, 6, 1, 8, tzinfo=UTC)
    kinds = ("hotel", "bakery", "cafe", "bookshop", "gym", "grocery", "station", "bar", "airport")
    hours = enumerate(kinds)
    return [Seen(first + timedelta(hours=1.5 * n), k, int(town.cell_at(k), 16)) for n, k in hours]


def why(decision: Decision) -> str:
    """What spoke for the first offer, and how many others could have been shown."""
    told = decision.explain()
    spoke = [f"{c.marker} {c.difference:+.2f}" for c in told.carriers if abs(c.difference) >= 0.005]
    others = sum(loser.score is not None for loser in told.losers) + len(decision.slots)
    return f"{', '.join(spoke[:3]) or 'no marker spoke for or against it'} · {others} fitted here"


def walk(edge: EdgeClient, day: Sequence[Seen]) -> list[walk_page.Stop]:
    """Decide at every stop, as the app of a stranger would."""
    stops = []
    with edge.session() as visit:
        for seen in day:
            moment = Context(cell=seen.cell, time=seen.at, channel="mobile", activity="walk")
            decision = visit.decide(moment, street.PLACEMENT, 3)
            shown = [
                walk_page.Shown(s.offer.content["title"], min(1.0, s.score), s.reason.lower())
                for s in decision.slots
                if s.offer
            ]
            note = why(decision) if shown else f"nothing to show: {decision.reason.lower()}"
            stops.append(
                walk_page.Stop(f"{seen.at:%H:%M}", seen.kind, f"{seen.cell:x}", shown, note)
            )
    return stops


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when the page is written, else 1."""
    made = parser("examples.field_walk", __doc__)
    made.add_argument("--out", type=Path, default=Path("field-walk.html"))
    made.add_argument("--town", action="store_true", help="walk the synthetic town in any case")
    options = made.parse_args(argv)

    def story(server: LocalServer, scene: Scene, _: argparse.Namespace) -> None:
        places = places_nyc.read_places(scene.places)
        airports = {cell for kind, cells in places if kind == "airport" for cell in cells}
        day = real_day(find("foursquare_nyc"), airports) if scene.real else made_up_day()
        with EdgeClient(server.enrol("phone"), server.address) as edge:
            expect(edge.wait_ready(30), "the phone has its release", str(edge.status.cause))
            stops = walk(edge, day)
        expect(any(stop.shown for stop in stops if stop.kind), "offers came up on the way")
        real = "; ".join(scene.real) or "nothing"
        lead = f"<b>Real:</b> {real}. <b>Made up:</b> {'; '.join(scene.made_up)}."
        page = walk_page.page(f"A day in {scene.name}", lead, stops, places)
        options.out.write_text(page, "utf-8")
        for stop in stops:
            top = stop.shown[0].title if stop.shown else "-"
            print(f"{stop.time}  {stop.kind or '(private)':<18} {top}")
        print(f"the page: {options.out.resolve()}")

    return play(story, options, small_town if options.town else best_scene)


if __name__ == "__main__":
    sys.exit(main())
