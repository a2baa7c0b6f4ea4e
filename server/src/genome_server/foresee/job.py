"""What one customer of a tenant does next: log → columns → forecasters → an answer.

What everybody does is counted over customers who agreed to learning; the customer who is asked
about agreed to personalisation, which the command sees to. How well that would have foretold the
tenant's own customers is measured on the way, where it was not lately.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import nearest_name
from edge_sdk.dna.schema import HOUR_MS
from genome_server.compare.telling import roughly
from genome_server.doings.categories import CATEGORY, strongest
from genome_server.errors import Refused
from genome_server.foresee import comes, kept, pauses
from genome_server.foresee.columns import Ints, codes
from genome_server.foresee.facets import Columns, Facet, facet, frequent, pause_facet
from genome_server.foresee.meeting import Meeting, category_dna
from genome_server.foresee.moments import moments_of, since_then, states_of, visits_of
from genome_server.foresee.past import Past
from genome_server.foresee.proof import (
    LEAST_PEOPLE,
    Accuracy,
    cut_of,
    score,
    score_comes,
    score_pauses,
)
from genome_server.foresee.reading import (
    MOST_EVENTS,
    MOST_PEOPLE,
    Story,
    drawn,
    read_story,
)
from genome_server.foresee.returns import Visits
from genome_server.genomes.consents import counting
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.events import Dna, EventReader
from genome_server.genomes.rows import SubjectState, links_of, needed_schema, person_of
from genome_server.log.reader import LoggedFrame
from genome_server.store.protocol import CONSENT_LEARNING, CONSENT_PERSONALISATION, Store

LEAST_EVENTS: Final = 50
"""Events of customers who agreed to learning, below which nothing is foretold, and nothing where
they are of fewer than LEAST_PEOPLE: the habits of a few would be told as everybody's."""

_MOST_SHOWN: Final = 10
_OVERDUE: Final = 0.9

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Chance:
    """One thing that may come next, and how likely it is."""

    name: str
    chance: float


@dataclass(frozen=True)
class Coming:
    """Chances that a customer comes from now on, whether or not they ever come again.

    `by_now` is the chance that they had come by now, as it was right after their last visit.
    """

    within_day: float
    within_week: float
    by_now: float

    @property
    def overdue(self) -> bool:
        """Whether of ten such pauses nine would be over."""
        return self.by_now >= _OVERDUE

    def to_json(self) -> dict[str, Any]:
        """It as plain data."""
        return {
            "within_a_day": self.within_day,
            "within_a_week": self.within_week,
            "had_come_by_now": self.by_now,
            "overdue": self.overdue,
        }


@dataclass(frozen=True)
class Ahead:
    """What comes next for a customer; `hours` are from `now_ms` on, None where nothing is known.

    Times are those until the next visit, or until the customer does something of the kind `until`
    again, which was last at `until_ms`.
    """

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
    accuracy: Accuracy
    came_again: bool = True
    """Whether enough customers came again for it to be said when."""
    comes: Coming | None = None
    until: str | None = None
    until_ms: int | None = None

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
            "crowd": {"events": self.crowd_events, "customers": roughly(self.crowd_people)},
            "action": listed(self.actions),
            "category": listed(self.categories),
            "channel": listed(self.channels),
            "daypart": listed(self.dayparts),
            "weekday": listed(self.weekdays),
            "hours": when,
            "within_a_day": self.within_day,
            "within_a_week": self.within_week,
            "until": self.until,
            "until_ms": self.until_ms,
            "comes": self.comes.to_json() if self.comes is not None else None,
            "accuracy": self.accuracy.told(),
        }


class Foreseer:
    """Answers for one customer of a tenant, as of `now_ms`.

    Hours and days are those of `zone`, or of this machine's. `until` is a kind of interaction:
    when it is done next is foretold instead of when they come. Raises Refused where genomes were
    never built, and where the DNA schema has no such kind.
    """

    def __init__(
        self, store: Store, subject: bytes, now_ms: int, zone: tzinfo | None = None,
        namespace: str = CATEGORY, until: str | None = None,
    ) -> None:  # fmt: skip
        schema = needed_schema(store)
        if until is not None and not schema.has_kind(until):
            near = nearest_name(until, [kind.name for kind in schema.kinds])
            hint = f"; did you mean {near!r}?" if near else ""
            raise Refused(f"the DNA schema has no kind {until!r}{hint}")
        self._until = until
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
            few = f"{LEAST_PEOPLE} customers who agreed to learning did anything"
            if people >= LEAST_PEOPLE:
                few = f"{LEAST_EVENTS} events are of customers who agreed to learning"
            raise Refused(
                f"fewer than {few}: too little to foresee from; {LEAST_EVENTS} events of "
                f"{LEAST_PEOPLE} customers are needed"
            )
        facets = self._facets(columns)
        states, now = _states(columns), int(columns.hour[-1])
        pause, hours = pause_facet(columns, states, self._until)
        mine = np.flatnonzero(columns.own)[:-1]
        again = _came_again(pause, hours, now)
        away = _away(columns, pause, again)
        span, day, week = _coming(away)
        if self._until is not None:  # moments are those of the next visit
            any_pause, any_hours = pause_facet(columns, states)
            away = _away(columns, any_pause, _came_again(any_pause, any_hours, now))
        came = columns.visits_with(self._until)
        own_visits = came[columns.own[came]]
        return Ahead(
            now_ms=self._now_ms,
            own_events=len(mine),
            crowd_events=counted,
            crowd_people=people,
            last_ms=int(columns.at_ms[mine[-1]]) if len(mine) else None,
            actions=_likeliest(columns, facets["action"]),
            categories=_likeliest(columns, facets["category"]),
            channels=_likeliest(columns, facets["channel"]),
            dayparts=_likeliest(columns, facets["daypart"], away),
            weekdays=_likeliest(columns, facets["weekday"], away),
            hours=span,
            within_day=day,
            within_week=week,
            accuracy=self._accuracy(columns, facets, pause, hours),
            came_again=again,
            comes=_comes(columns, came) if again else None,
            until=self._until,
            until_ms=int(columns.at_ms[own_visits[-1]]) if len(own_visits) else None,
        )

    def _accuracy(
        self, columns: Columns, facets: dict[str, Facet], pause: Facet, hours: Ints
    ) -> Accuracy:
        """What is kept, where that is of now; else it is measured and kept."""
        told = columns.crowd & columns.drawn
        events, people = int(told.sum()), len(np.unique(columns.who[told]))
        key = f"{self._namespace} {self._zone or 'local'}"
        if self._until is not None:
            key += f" until {self._until}"
        known = kept.read(self._store, key, self._now_ms, events, people)
        if known is not None:
            return known
        cut = cut_of(columns)
        scores: dict[str, Any] = {name: score(one, cut) for name, one in facets.items()}
        scores["time"] = score_pauses(pause, hours, cut)
        rows = columns.visits_with(self._until)
        scores["week"] = score_comes(_visits(columns, rows[told[rows]]), cut)
        found = Accuracy(self._now_ms, events, people, scores)
        kept.write(self._store, key, found)
        return found

    def _facets(self, columns: Columns) -> dict[str, Facet]:
        """What is foretold, but for the pause."""
        state = _states(columns)
        channels = columns.of(lambda event: event.channel)
        # The last event of a visit may well have none: an offer that was seen at home.
        some = np.array([row for row, one in enumerate(channels) if one is not None], np.int64)
        came = some[visits_of(columns.who[some], columns.hour[some])]
        now = len(columns.who) - 1
        over = np.append(came, now)
        said = [channels[row] for row in over.tolist()]
        visits = columns.visits
        at = columns.hour[visits]
        moments = [*moments_of(at[:-1]), (None, None)]
        left = states_of(at)
        return {
            "action": facet(columns, columns.of(lambda event: event.kind), state),
            "category": self._categories(columns, state),
            "channel": facet(columns, said, said, rows=over),
            "daypart": facet(columns, [part for part, _ in moments], left, rows=visits),
            "weekday": facet(columns, [day for _, day in moments], left, rows=visits),
        }

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

    def _columns(self, story: Story) -> Columns:
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
        return Columns(
            who=np.array([*(numbers[root] for root in roots), numbers[mine]], np.int64),
            at_ms=at_ms,
            hour=np.array([self._local_hour(ms) for ms in at_ms.tolist()], np.int64),
            events=[*told, None],
            crowd=np.array([*(event.subject in learn for event in told), False]),
            drawn=np.array([*(drawn(event.subject, story.share) for event in told), False]),
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

    def _categories(self, columns: Columns, state: Sequence[str | None]) -> Facet:
        """Categories; what the customer's genome meets is one of the opinions."""
        what = columns.of(lambda event: event.category)
        _, names = codes(frequent(what))
        if not names:
            return facet(columns, what, state)
        meeting = Meeting(category_dna(self._things()), names)
        crowd = Past(self._store, self._schema, columns, meeting, columns.crowd)
        own = Past(self._store, self._schema, columns, meeting, columns.own, self._subject)
        return facet(columns, what, state, meet=crowd.meets, own_meet=own.meets)

    def _things(self) -> Iterator[tuple[str, Dna]]:
        """What there is in each category: products, content and offers."""
        offers = ((name, self._dna.offer(name) or ()) for name, _ in self._store.documents("offer"))
        for _, dna in chain(self._dna.products(), offers):
            category = strongest(dna, self._namespace)
            if category is not None:
                yield category, dna


@dataclass(frozen=True, eq=False)
class _Away:
    """The asked customer since the last visit: when that was (a local hour), and for how long.

    `pause` float64[CLASSES] is what was foretold right after it, `left` what of it lies ahead:
    zeros where hardly any pause lasts as long, or none is known.
    """

    last: int
    elapsed: int
    pause: Floats
    left: Floats


def _states(columns: Columns) -> list[str | None]:
    return columns.of(lambda event: f"{event.kind} {event.category or ''}")


def _came_again(pause: Facet, hours: Ints, now: int) -> bool:
    """Whether LEAST_PEOPLE of the crowd came again after an hour or more: a pause of whom nothing
    is known is as likely to be of any length."""
    ended = pause.crowd & (hours > 0) & (pause.events.known <= now)
    return len(np.unique(pause.events.who[ended])) >= LEAST_PEOPLE


def _visits(columns: Columns, rows: Ints) -> Visits:
    """Some rows of columns as visits of customers who are numbered anew."""
    _, who = np.unique(columns.who[rows], return_inverse=True)
    return Visits.of(who, columns.hour[rows], int(who.max(initial=-1)) + 1)


def _comes(columns: Columns, rows: Ints) -> Coming | None:
    """Whether the asked customer comes, by visits at some rows; None of who was never seen there,
    or where nobody came twice."""
    now, own = int(columns.hour[-1]), rows[columns.own[rows]]
    learned = comes.fit(_visits(columns, rows[columns.crowd[rows]]), now)
    if learned is None or not len(own):
        return None
    mine = _visits(columns, own)
    day, week = (float(learned.within(mine, now, hours)[0]) for hours in comes.HORIZONS)
    return Coming(day, max(day, week), float(learned.over(mine, now)[0]))


def _away(columns: Columns, pause: Facet, again: bool) -> _Away | None:
    """None of who was never seen. `again`: whether pauses are known at all."""
    mine = np.flatnonzero(pause.own)
    if not len(mine):
        return None
    now, last = int(columns.hour[-1]), int(pause.events.hour[mine[-1]])
    chances = pause.told(pause.fitted(now), int(mine[-1]))
    left = pauses.ahead(chances[None], np.array([now - last]))[0] * again
    return _Away(last, now - last, chances, left)


def _coming(away: _Away | None) -> tuple[pauses.Span | None, float | None, float | None]:
    """Hours from now until they come again, and the chances of a day and of a week."""
    if away is None or not away.left.any():
        return None, None, None
    found = pauses.span(away.left, away.elapsed)
    day, week = (pauses.within(away.left, away.elapsed, hours) for hours in (24, 168))
    return pauses.Span(*(max(value - away.elapsed, 0.0) for value in found)), day, week


def _likeliest(columns: Columns, one: Facet, away: _Away | None = None) -> list[Chance]:
    """The likeliest symbols of a column; none where nobody has any. `away`: it is a moment."""
    if not one.names:
        return []
    now, row = int(columns.hour[-1]), int(np.flatnonzero(one.own)[-1])
    forecaster = one.fitted(now)
    chances = one.told(forecaster, row)
    if away is not None:
        found = None
        if away.left.any():
            found = since_then(chances, one.names, away.pause, away.last, away.elapsed)
        # Away for longer than nearly all: what their last visit was like says nothing any more.
        chances = one.told_of_any(forecaster) if found is None else found
    best = np.argsort(-chances, kind="stable")[:_MOST_SHOWN]
    return [Chance(one.names[i], float(chances[i])) for i in best.tolist()]
