"""How well a routine that is learned on the device tells what comes next, and where home is.

Check-ins in New York in order of time. What comes is asked before each check-in of the last fifth
of each person's, of somebody who knows all check-ins before it: of a routine, and of what it must
be better than: what is most popular, what this person does most, and what most often follows what
was last (Markov). The routine learns places and hours only; whether a cell is a home or an office
is known to us from what the check-in says, and to nobody else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import h3.api.basic_int as h3

from edge_sdk.context import LocalTime
from edge_sdk.engine.cells import DEFAULT_RESOLUTION, parent
from edge_sdk.engine.habits import When
from edge_sdk.engine.routines import HOME, MOVE_RESOLUTION, WORK, Everybody, Routine, when_of
from examples.adapters import places_nyc
from examples.datasets import DataSetMissing, find
from tests.bench.figures import Figures

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 as the file has it
_TESTED: Final = 0.2
_HOURS: Final = 8
_AT: Final = {"home": (HOME, "Home (private)"), "work": (WORK, "Office")}
_LEAST_SEEN: Final = 10


class Seen(NamedTuple):
    """One check-in; `late`: it is one of the last fifth of this person's."""

    person: int
    category: str
    cell: int
    when: When
    late: bool


def read() -> list[Seen]:
    """Read the data set. Raises DataSetMissing where it is not on this machine."""
    table = places_nyc.read_checkins(find("foursquare_nyc")).sort_by("utc_date_time")
    left = Counter(table["user"].to_pylist())
    whole = dict(left)
    found = []
    for row in table.to_pylist():
        person = row["user"]
        local = row["utc_date_time"] + timedelta(minutes=row["utc_offset_min"])
        ms = round((row["utc_date_time"] - _EPOCH).total_seconds() * 1000)
        late = left[person] <= round(whole[person] * _TESTED)
        left[person] -= 1
        cell = h3.latlng_to_cell(row["lat"], row["lon"], DEFAULT_RESOLUTION)
        when = when_of(LocalTime(ms, local.isoweekday(), local.hour))
        found.append(Seen(person, row["category_name"], cell, when, late))
    return found


class Baselines:
    """What is most popular, what a person does most, and what follows what was last."""

    def __init__(self) -> None:
        self._counts: dict[Hashable, Counter[Hashable]] = defaultdict(Counter)
        self._last: dict[int, tuple[Hashable, float]] = {}
        self.right: Counter[str] = Counter()

    def ask(self, seen: Seen, symbol: Hashable) -> None:
        """Count who knows what comes."""
        for name, key in self._keys(seen).items():
            known = self._counts.get(key) or Counter()
            self.right[name] += [one for one, _ in known.most_common(1)] == [symbol]

    def learn(self, seen: Seen, symbol: Hashable) -> None:
        """It came."""
        for key in self._keys(seen).values():
            self._counts[key][symbol] += 1
        self._last[seen.person] = symbol, seen.when.days

    def _keys(self, seen: Seen) -> dict[str, Hashable]:
        last = self._last.get(seen.person)
        fresh = last is not None and seen.when.days - last[1] < _HOURS / 24
        return {
            "popularity": "all",
            "user": ("of", seen.person),
            "markov": ("after", last[0] if last is not None and fresh else None),
        }


def next_ones(checkins: list[Seen], figures: Figures) -> None:
    """Accuracy at 1 of the next category and of the next cell (resolution 7)."""
    routines: dict[int, Routine] = defaultdict(Routine)
    everybody = Everybody()
    # A cell comes next as a kind of place does: routines of these take cells for kinds.
    wanderings: dict[int, Routine] = defaultdict(Routine)
    everywhere = Everybody()
    plain = {"category": Baselines(), "cell": Baselines()}
    right: Counter[str] = Counter()
    asked = 0
    for seen in checkins:
        routine = routines[seen.person]
        truth = {"category": seen.category, "cell": parent(seen.cell, MOVE_RESOLUTION)}
        if seen.late:
            asked += 1
            kinds = routine.likely_kinds(seen.when, everybody)
            cells = wanderings[seen.person].likely_kinds(seen.when, everywhere)
            right["category"] += bool(kinds) and kinds[0][0] == truth["category"]
            right["cell"] += bool(cells) and cells[0][0] == f"{truth['cell']:x}"
        for name, symbol in truth.items():
            if seen.late:
                plain[name].ask(seen, symbol)
            plain[name].learn(seen, symbol)
        routine.note(seen.cell, (seen.category,), seen.when, everybody)
        cell = f"{truth['cell']:x}"
        wanderings[seen.person].note(seen.cell, (cell,), seen.when, everywhere)
    for name, baselines in plain.items():
        for rival in ("popularity", "user", "markov"):
            figures.add(f"routine.{name}.{rival}", baselines.right[rival] / asked, "accuracy@1")
        figures.add(f"routine.{name}.ours", right[name] / asked, "accuracy@1")


def home_and_work(checkins: list[Seen], figures: Figures) -> None:
    """How often `routine:home` and `routine:work` are right, and how often they are there."""
    counts = Counter((seen.person, seen.category) for seen in checkins)
    routines: dict[int, Routine] = defaultdict(Routine)
    everybody = Everybody()
    told: Counter[str] = Counter()
    for seen in checkins:
        routine = routines[seen.person]
        if seen.late:
            names = {name for name, _ in routine.markers(seen.cell, (), seen.when, everybody)}
            for at, (marker, category) in _AT.items():
                if counts[seen.person, category] < _LEAST_SEEN:
                    continue  # nobody knows where they live
                told[f"{at}.said"] += marker in names
                told[f"{at}.true"] += seen.category == category
                told[f"{at}.right"] += marker in names and seen.category == category
        routine.note(seen.cell, (), seen.when, everybody)
    for at in _AT:
        figures.add(f"routine.{at}.precision", told[f"{at}.right"] / told[f"{at}.said"], "share")
        figures.add(f"routine.{at}.recall", told[f"{at}.right"] / told[f"{at}.true"], "share")


def run(figures: Figures) -> None:
    """The next category and cell against what is plain, and home and work against what was said."""
    try:
        checkins = read()
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    next_ones(checkins, figures)
    home_and_work(checkins, figures)
