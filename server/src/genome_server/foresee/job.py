"""What one customer of a tenant does next: log → columns → forecasters → an answer.

What everybody does is counted over customers who agreed to learning; the customer who is asked
about agreed to personalisation, which the command sees to. Weights are fitted on the newest fifth
of what happened. Of that at most some thousand cases are looked at, evenly spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.imprint import profile_strengths
from edge_sdk.dna.markers import time_markers
from edge_sdk.dna.schema import HOUR_MS, DnaSchema
from genome_server.doings.categories import CATEGORY, strongest
from genome_server.errors import Refused
from genome_server.foresee import pauses
from genome_server.foresee.columns import NOTHING, Events, Ints, codes, events_of
from genome_server.foresee.meeting import Meeting, category_dna
from genome_server.foresee.model import Forecaster, Meet, fit
from genome_server.foresee.reading import (
    MOST_EVENTS,
    MOST_PEOPLE,
    Happened,
    Story,
    read_story,
)
from genome_server.genomes.consents import counting
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.events import Dna, EventReader
from genome_server.genomes.rows import SubjectState, links_of, needed_schema, person_of
from genome_server.learning.history import History, PastImprint
from genome_server.log.reader import LoggedFrame
from genome_server.store.protocol import CONSENT_LEARNING, CONSENT_PERSONALISATION, Store

LEAST_EVENTS: Final = 50
"""Events of customers who agreed to learning, below which nothing is foretold."""

LEAST_PEOPLE: Final = 20
"""Customers among whom these events must be: the habits of a few would be told as everybody's."""

_MOST_CASES: Final = 4_000
_MOST_SHOWN: Final = 10
_MOST_NAMES: Final = 400
REST: Final = "(others)"
"""What all symbols beyond the 400 most frequent ones of a column are counted as."""


Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Chance:
    """One thing that may come next, and how likely it is."""

    name: str
    chance: float


@dataclass(frozen=True)
class Ahead:
    """What comes next for a customer; `hours` are from `now_ms` on, None where nothing is known."""

    now_ms: int
    own_events: int
    crowd_events: int
    crowd_people: int
    last_ms: int | None
    actions: list[Chance]
    categories: list[Chance]
    channels: list[Chance]
    dayparts: list[Chance]
    weekdays: list[Chance]
    hours: pauses.Span | None
    within_day: float | None
    within_week: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain data: what --json prints."""

        def listed(chances: Sequence[Chance]) -> list[dict[str, Any]]:
            return [{"name": c.name, "chance": round(c.chance, 6)} for c in chances]

        when = None
        if self.hours is not None:
            when = {name: round(value, 2) for name, value in self.hours._asdict().items()}
        return {
            "now_ms": self.now_ms,
            "last_ms": self.last_ms,
            "own_events": self.own_events,
            "crowd": {"events": self.crowd_events, "customers": self.crowd_people},
            "action": listed(self.actions),
            "category": listed(self.categories),
            "channel": listed(self.channels),
            "daypart": listed(self.dayparts),
            "weekday": listed(self.weekdays),
            "hours": when,
            "within_a_day": self.within_day,
            "within_a_week": self.within_week,
        }


@dataclass(frozen=True, eq=False)
class _Columns:
    """All events in order of time, and a last one that is no event: the asked customer, now.

    `crowd` bool[n] says whose customers agreed to learning; `root` is the person of each event.
    """

    who: Ints
    at_ms: Ints
    hour: Ints
    events: list[Happened | None]
    crowd: Mask
    asked: int
    roots: list[bytes]

    @property
    def own(self) -> Mask:
        """The asked customer's events, the last one included."""
        mine: Mask = self.who == self.asked
        return mine

    def of(self, get: Callable[[Happened], str | None]) -> list[str | None]:
        """A fact of every event; None of the one that is none."""
        return [None if event is None else get(event) for event in self.events]


class Foreseer:
    """Answers for one customer of a tenant, as of `now_ms`.

    Hours and days are those of `zone`, or of this machine's. Raises Refused where genomes were
    never built.
    """

    def __init__(
        self, store: Store, subject: bytes, now_ms: int, zone: tzinfo | None = None,
        namespace: str = CATEGORY,
    ) -> None:  # fmt: skip
        schema = needed_schema(store)
        self._store, self._schema, self._subject = store, schema, subject
        self._now_ms, self._zone, self._namespace = now_ms, zone, namespace
        self._dna = StoreDna(store, schema)

    def ahead(self, frames: Iterable[LoggedFrame], events: int = 0) -> Ahead:
        """Read the log, which has about so many events, and say what comes.

        Raises Refused where too little happened.
        """
        columns = self._columns(self._story(frames, events))
        counted = int(columns.crowd.sum())
        people = len(np.unique(columns.who[columns.crowd]))
        if counted < LEAST_EVENTS or people < LEAST_PEOPLE:
            raise Refused(
                f"{counted} events of {people} customers who agreed to learning are too few to "
                f"foresee from; {LEAST_EVENTS} events of {LEAST_PEOPLE} customers are needed"
            )
        state = columns.of(lambda event: f"{event.kind} {event.category or ''}")
        moments = [_moment(hour) for hour in columns.hour.tolist()]
        moments[-1] = (None, None)
        span, day, week = self._pause(columns, state)
        mine = np.flatnonzero(columns.own)[:-1]
        return Ahead(
            now_ms=self._now_ms,
            own_events=len(mine),
            crowd_events=counted,
            crowd_people=people,
            last_ms=int(columns.at_ms[mine[-1]]) if len(mine) else None,
            actions=_next(columns, columns.of(lambda event: event.kind), state),
            categories=self._categories(columns, state),
            channels=_next(columns, columns.of(lambda event: event.channel), state),
            dayparts=_next(columns, [part for part, _ in moments], state),
            weekdays=_next(columns, [day for _, day in moments], state),
            hours=span,
            within_day=day,
            within_week=week,
        )

    def _story(self, frames: Iterable[LoggedFrame], events: int) -> Story:
        def linked(one: bytes) -> list[bytes]:
            states = dict(self._store.genome_states([one]))
            return links_of(states[one]) if one in states else []

        people = max(self._store.genome_count(), 1)
        share = min(1.0, MOST_PEOPLE / people, MOST_EVENTS / max(events, 1))
        return read_story(
            frames, EventReader(self._schema, self._dna.product, self._dna.offer),
            self._dna.product, self._dna.offer,
            namespace=self._namespace, share=share, always=person_of(self._subject, linked),
        )  # fmt: skip

    def _columns(self, story: Story) -> _Columns:
        """Who did what in order of time, up to now."""
        mine = story.persons.root(self._subject)
        silenced = self._silenced(story.persons.members(mine))
        told = sorted(
            (
                event
                for event in story.events
                if event.at_ms <= self._now_ms and event.subject not in silenced
            ),
            key=lambda event: event.at_ms,
        )
        learn = {
            row.subject
            for row in self._store.customers({event.subject for event in told})
            if (row.consents or 0) & CONSENT_LEARNING
        }
        roots = [story.persons.root(event.subject) for event in told]
        numbers = {root: i for i, root in enumerate(dict.fromkeys([*roots, mine]))}
        at_ms = np.array([*(event.at_ms for event in told), self._now_ms], np.int64)
        return _Columns(
            who=np.array([*(numbers[root] for root in roots), numbers[mine]], np.int64),
            at_ms=at_ms,
            hour=np.array([self._local_hour(ms) for ms in at_ms.tolist()], np.int64),
            events=[*told, None],
            crowd=np.array([*(event.subject in learn for event in told), False]),
            asked=numbers[mine],
            roots=list(numbers),
        )

    def _silenced(self, person: Collection[bytes]) -> set[bytes]:
        """Those of the ids of whom is asked about whose doings may not be told of them."""
        if len(person) == 1:
            return set()
        states = dict.fromkeys(person, SubjectState())
        for one, state in self._store.genome_states(person):
            states[one] = SubjectState.from_bytes(state)
        customers = {row.subject: row for row in self._store.customers(person)}
        counted = counting(states, customers, CONSENT_PERSONALISATION, asker=self._subject)
        return set(person) - set(counted)

    def _local_hour(self, ms: int) -> int:
        """Hours since 1970 by the clock on the wall."""
        local = datetime.fromtimestamp(ms / 1000, UTC).astimezone(self._zone)
        offset = local.utcoffset()
        return (ms + round(offset.total_seconds() * 1000 if offset else 0)) // HOUR_MS

    def _categories(self, columns: _Columns, state: list[str | None]) -> list[Chance]:
        """The likeliest categories; what the customer's genome meets is one of the opinions."""
        what = _frequent(columns.of(lambda event: event.category))
        _, names = codes(what)
        if not names:
            return []
        meeting = Meeting(category_dna(self._things()), names)
        past = _Past(self._store, self._schema, columns, meeting)
        return _next(columns, what, state, past.meets)

    def _things(self) -> Iterator[tuple[str, Dna]]:
        """What there is in each category: products, content and offers."""
        offers = ((name, self._dna.offer(name) or ()) for name, _ in self._store.documents("offer"))
        for _, dna in chain(self._dna.products(), offers):
            category = strongest(dna, self._namespace)
            if category is not None:
                yield category, dna

    def _pause(
        self, columns: _Columns, state: list[str | None]
    ) -> tuple[pauses.Span | None, float | None, float | None]:
        """Hours from now until they come again, and the chances of a day and of a week."""
        nothing = None, None, None
        real = np.arange(len(columns.who) - 1)
        # A visit is what happens in one hour: its last event says what it left behind.
        visit = columns.who * (1 << 40) + columns.hour
        last = real[np.sort(_last_of(visit[real]))]
        after, states = codes(_frequent([state[row] for row in last.tolist()]))
        who, hour, crowd = columns.who[last], columns.hour[last], columns.crowd[last]
        order = np.lexsort((np.arange(len(last)), hour, who))
        visits = events_of(who, hour, after, after, len(states), len(states))
        events, _ = pauses.pauses_of(visits, after[order])
        mine = np.flatnonzero(events.who == columns.asked)
        if not len(mine):
            return nothing
        forecaster = _fitted(events.take(crowd[order]), int(columns.hour[-1]), timed=True)
        wanted = np.zeros(len(events), bool)
        wanted[mine[-1]] = True
        own = events.take(events.who == columns.asked)
        _, chances = forecaster.foretell(own, wanted[events.who == columns.asked])
        elapsed = int(columns.hour[-1] - events.hour[mine[-1]])
        left = pauses.ahead(chances, np.array([elapsed]))[0]
        if not left.any():
            return nothing
        found = pauses.span(left, elapsed)
        day, week = (pauses.within(left, elapsed, hours) for hours in (24, 168))
        return pauses.Span(*(max(value - elapsed, 0.0) for value in found)), day, week


class _Past:
    """Genomes as they were: of the crowd from what had happened, of the asked one as it is."""

    def __init__(
        self, store: Store, schema: DnaSchema, columns: _Columns, meeting: Meeting
    ) -> None:
        self._store, self._schema, self._columns = store, schema, columns
        self._vocabulary, self._meeting = store.vocabulary(), meeting
        self._met: dict[int, Floats] = {}

    def meets(self, rows: Ints) -> Floats:
        """How well the genome before each event meets each category; rows are the columns'."""
        new = np.array([row for row in rows.tolist() if row not in self._met], np.int64)
        for who in np.unique(self._columns.who[new]).tolist():
            self._look(self._history(who), new[self._columns.who[new] == who])
        met = [self._met[row] for row in rows.tolist()]
        return np.array(met).reshape(-1, len(self._meeting))

    def _look(self, history: History, rows: Ints) -> None:
        columns, name = self._columns, self._vocabulary.name
        for row in rows.tolist():
            at_ms = int(columns.at_ms[row])
            # What stands in the same hour may be the answer itself.
            before = at_ms + 1 if columns.events[row] is None else at_ms // HOUR_MS * HOUR_MS
            weights = history.features(at_ms, before_ms=before)
            self._met[row] = self._meeting.meets((name(m), w) for m, w, _ in weights if w > 0)

    def _history(self, who: int) -> History:
        columns = self._columns
        mine = [columns.events[row] for row in np.flatnonzero(columns.who == who).tolist()]
        happened = [event for event in mine if event is not None]
        subjects = {event.subject for event in happened} | {columns.roots[who]}
        facts = [fact for row in self._store.customers(subjects) for fact in row.markers]
        profile = profile_strengths(self._schema, self._vocabulary, facts)
        imprints = [PastImprint(e.at_ms, e.at_ms // HOUR_MS, e.votes) for e in happened]
        return History(profile, imprints, self._schema, self._vocabulary)


def _next(
    columns: _Columns,
    what: list[str | None],
    state: list[str | None],
    meets: Callable[[Ints], Floats] | None = None,
) -> list[Chance]:
    """The likeliest of one column; none where nobody has any. `meets` takes the columns' rows."""
    symbol, names = codes(_frequent(what))
    after, states = codes(_frequent(state))
    if not names:
        return []
    order = np.lexsort((np.arange(len(symbol)), columns.hour, columns.who))
    events = events_of(columns.who, columns.hour, symbol, after, len(names), len(states))
    crowd, own = np.flatnonzero(columns.crowd[order]), np.flatnonzero(columns.own[order])

    def among(part: Ints) -> Meet | None:
        return None if meets is None else lambda rows: meets(order[part[rows]])

    forecaster = _fitted(events.take(crowd), int(columns.hour[-1]), timed=False, meet=among(crowd))
    wanted = np.zeros(len(own), bool)
    wanted[-1] = True
    _, chances = forecaster.foretell(events.take(own), wanted, among(own))
    best = np.argsort(-chances[0], kind="stable")[:_MOST_SHOWN]
    return [Chance(names[i], float(chances[0, i])) for i in best.tolist()]


def _fitted(events: Events, now: int, *, timed: bool, meet: Meet | None = None) -> Forecaster:
    """Fit on the newest fifth of what happened: some cases of it, evenly spread."""
    hours = np.sort(events.hour)
    start = int(hours[round(0.8 * len(hours)) - 1]) if len(hours) else now
    newest = np.flatnonzero((events.hour > start) & (events.symbol != NOTHING))
    sample = np.zeros(len(events), bool)
    sample[newest[:: max(1, len(newest) // _MOST_CASES)]] = True
    return fit(events, start, now, timed=timed, meet=meet, sample=sample)


def _frequent(values: Sequence[str | None]) -> list[str | None]:
    """The values, of which the rarest are one: tables of what follows what grow with the square."""
    counts = Counter(value for value in values if value is not None)
    if len(counts) <= _MOST_NAMES:
        return list(values)
    ranked = sorted(counts, key=lambda name: (name == REST, -counts[name], name))
    kept = set(ranked[: _MOST_NAMES - 1])
    return [value if value is None or value in kept else REST for value in values]


def _moment(hour: int) -> tuple[str | None, str | None]:
    """The part of the day and the day of the week of a local hour since 1970."""
    weekday = (hour // 24 + 3) % 7 + 1
    names = dict(name.split(":", 1) for name in time_markers(weekday, hour % 24))
    return names["daypart"], names["weekday"]


def _last_of(keys: Ints) -> Ints:
    """The position of the last of each of some keys."""
    _, from_end = np.unique(keys[::-1], return_index=True)
    found: Ints = len(keys) - 1 - from_end
    return found
