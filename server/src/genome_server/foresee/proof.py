"""How well a tenant's own customers would have been foretold, beside what is plain. Free of I/O.

Rules.
- The newest fifth of what happened is held out. What foretells has learned from what others knew
  before that, in the way in which it learns for an answer.
- Asked about are the last things that each customer did in the held-out part, ten of each at most,
  of some thousand in all, evenly spread; each from what the customer had done before it.
- Whose events they are agreed to learning. Below 20 customers, on either side of the cut, nothing
  is measured, and it is said why. Sums over so many are all that is kept.
- Rivals know the same: what most customers do, what this customer did most often, chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from genome_server.compare.telling import roughly
from genome_server.foresee import comes, pauses
from genome_server.foresee.columns import NOTHING, Events, Ints
from genome_server.foresee.facets import Columns, Facet
from genome_server.foresee.returns import WEEK, Visits, moments
from genome_server.foresee.rivals import interval, plain, plain_pauses

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LEAST_PEOPLE: Final = 20
"""Customers among whom something is measured: fewer say little, and of themselves too much."""

_OF_EACH: Final = 10
_MOST_CASES: Final = 2_000
_HALF: Final = 0.5
_FORMAT: Final = 3


@dataclass(frozen=True)
class Score:
    """How well one column was foretold, in cases of so many customers.

    `unit` "share": `ours` and `rivals` (popularity, frequency, uniform) are the shares of cases in
    which what was likeliest came. `unit` "h": mean absolute errors in hours (of popularity and
    frequency). `gain_low` to `gain_high` is the 95 % interval of how much better than the best
    rival, `best`, ours was, in the unit; below 0 it was worse. Of what was said with the chance
    `said`, on average, `came` happened: that of the likeliest, or of the 80 % interval.
    """

    unit: str
    cases: int
    customers: int
    ours: float
    rivals: dict[str, float]
    best: str
    gain_low: float
    gain_high: float
    said: float
    came: float

    @property
    def verdict(self) -> str:
        """Whether it beats the best rival: better, worse, or even where the interval holds 0."""
        if self.gain_low > 0:
            return "better"
        return "worse" if self.gain_high < 0 else "even"


@dataclass(frozen=True)
class Accuracy:
    """What was measured at `as_of_ms`, out of `events` of `customers` who agreed to learning.

    `scores` by column: a Score, or why there is none.
    """

    as_of_ms: int
    events: int
    customers: int
    scores: dict[str, Score | str]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data: what is kept."""
        scores = {
            name: {"why_not": one}
            if isinstance(one, str)
            else {**asdict(one), "verdict": one.verdict}
            for name, one in self.scores.items()
        }
        return {
            "format": _FORMAT,
            "as_of_ms": self.as_of_ms,
            "events": self.events,
            "customers": self.customers,
            "scores": scores,
        }

    def told(self) -> dict[str, Any]:
        """Return it as plain data for others: customers are told roughly."""
        data = self.to_json()
        for one in (data, *data["scores"].values()):
            if "customers" in one:
                one["customers"] = roughly(one["customers"])
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Accuracy | None:
        """Read what `to_json` gave; None where that was written in another format."""
        if data.get("format") != _FORMAT:
            return None
        scores: dict[str, Score | str] = {}
        for name, one in data["scores"].items():
            facts = {key: value for key, value in one.items() if key != "verdict"}
            scores[name] = one["why_not"] if "why_not" in one else Score(**facts)
        return cls(data["as_of_ms"], data["events"], data["customers"], scores)


def cut_of(columns: Columns) -> int:
    """The local hour since 1970 up to which is learned: the newest fifth comes after it."""
    hours = np.sort(columns.hour[columns.crowd & columns.drawn])
    return int(hours[round(0.8 * len(hours)) - 1]) if len(hours) else 0


def score(facet: Facet, cut: int) -> Score | str:
    """How well the likeliest symbol is what came; or why that is not measured."""
    wanted = held_out(facet, cut)
    if isinstance(wanted, str):
        return wanted
    forecaster = facet.fitted(cut, facet.drawn)
    rows, part = _among(facet)
    asked = wanted[rows]
    meet = facet.meet
    at, chances = forecaster.foretell(
        part, asked, None if meet is None else lambda some: meet(rows[some])
    )
    true, who = part.symbol[at], part.who[at]
    right = {"ours": chances.argmax(axis=1) == true}
    found: dict[str, list[bool]] = {"popularity": [], "frequency": []}
    for row, said in plain(part, cut, asked):
        for name, of in found.items():
            of.append(bool(said[name].argmax() == part.symbol[row]))
    right |= {name: np.array(of) for name, of in found.items()}
    shares = {name: float(each.mean()) for name, each in right.items()}
    ours = shares.pop("ours")
    shares["uniform"] = 1.0 / len(facet.names)
    best = max(shares, key=lambda name: shares[name])
    rival = right[best].astype(float) if best in right else np.full(len(true), shares[best])
    low, high = interval(right["ours"] - rival, who)
    said_so = float(chances.max(axis=1).mean())
    return Score(
        "share", len(true), len(np.unique(who)), ours, shares, best, low, high, said_so, ours
    )


def score_pauses(facet: Facet, hours: Ints, cut: int) -> Score | str:
    """How far off the median of the time to next is; `hours` int64[n] as `pauses_of` gives them.

    Of customers of whom a next visit is known, right after the visit before it.
    """
    wanted = held_out(facet, cut)
    if isinstance(wanted, str):
        return wanted
    forecaster = facet.fitted(cut, facet.drawn)
    rows, part = _among(facet)
    at, chances = forecaster.foretell(part, wanted[rows])
    true, who = hours[rows][at], part.who[at]
    low, middle, high = (pauses.quantile(chances, share) for share in (0.1, 0.5, 0.9))
    inside = (np.floor(low) <= true) & (true <= np.ceil(high))
    said = plain_pauses(part, hours[rows], cut, at)
    errors = {name: np.abs(said[name] - true) for name in ("popularity", "frequency")}
    ours = np.abs(middle - true)
    means = {name: float(each.mean()) for name, each in errors.items()}
    best = min(means, key=lambda name: means[name])
    gain = interval(errors[best] - ours, who)
    return Score(
        "h", len(true), len(np.unique(who)), float(ours.mean()), means, best, *gain,
        0.8, float(inside.mean()),
    )  # fmt: skip


def score_comes(visits: Visits, cut: int) -> Score | str:
    """How often it was right whether somebody comes within a week, come again or not.

    Of the visits of those among whom it is measured: asked of everybody who was seen by then, at
    up to eight hours after the cut.
    """
    seen = len(np.unique(visits.who[visits.hour <= cut]))
    if seen < LEAST_PEOPLE:
        return _too_few("came before the newest fifth of the log")
    asked = moments(cut, int(visits.hour.max()), WEEK)
    learned = comes.fit(visits, cut)
    if not asked or learned is None:
        return "the newest fifth of the log is shorter than a week, or nobody came again before it"
    before = comes.came_before(visits, int(visits.hour.min()), cut, WEEK)
    gap = comes.crowd_gap(visits, cut)
    parts: list[tuple[Ints, Mask, Floats, Floats]] = []
    for now in asked:
        who, came = comes.came_by(visits, now, WEEK)
        chances = learned.within(visits, now, WEEK)[who]
        own = -np.expm1(-WEEK / comes.own_gaps(visits, now, gap)[who])
        parts.append((who, came, chances, own))
    every = max(1, -(-sum(len(part[0]) for part in parts) // _MOST_CASES))
    who, came, chances, own = (
        np.concatenate(column)[::every] for column in zip(*parts, strict=True)
    )
    right = {
        "popularity": (before.share > _HALF) == came,
        "frequency": (own > _HALF) == came,
    }
    shares = {name: float(each.mean()) for name, each in right.items()} | {"uniform": _HALF}
    best = max(shares, key=lambda name: shares[name])
    rival = right[best].astype(float) if best in right else np.full(len(came), _HALF)
    ours = (chances > _HALF) == came
    low, high = interval(ours - rival, who)
    said = float(np.maximum(chances, 1 - chances).mean())
    found = float(ours.mean())
    people = len(np.unique(who))
    return Score("share", len(came), people, found, shares, best, low, high, said, found)


def _among(facet: Facet) -> tuple[Ints, Events]:
    """The rows of whom it is measured among, and their events."""
    rows = np.flatnonzero(facet.crowd & facet.drawn)
    return rows, facet.events.take(rows)


def held_out(facet: Facet, cut: int) -> Mask | str:
    """What is asked about, bool[n]; or why nothing is."""
    events = facet.events
    there = facet.crowd & facet.drawn & (events.symbol != NOTHING)
    before = there & (events.hour <= cut) & (events.known <= cut)
    known = len(np.unique(events.who[before]))
    if known < LEAST_PEOPLE:
        return _too_few("did something of the kind before the newest fifth of the log")
    late = np.flatnonzero(there & (events.hour > cut))
    # Counted from each customer's newest one on: rows stand by customer and time.
    who = events.who[late]
    ends = np.searchsorted(who, who, side="right")
    late = late[ends - np.arange(len(late)) <= _OF_EACH]
    late = late[:: max(1, -(-len(late) // _MOST_CASES))]
    people = len(np.unique(events.who[late]))
    if people < LEAST_PEOPLE:
        return _too_few("did something of the kind in the newest fifth of the log")
    wanted = np.zeros(len(events), bool)
    wanted[late] = True
    return wanted


def _too_few(did: str) -> str:
    return (
        f"fewer than {LEAST_PEOPLE} customers who agreed to learning {did}; so many are needed to "
        "measure it"
    )
