"""From the log to examples.

Two kinds of example:

- *Answers*: an interaction that names an offer and whose kind is a success or a refusal.
- *Decisions*: each slot that was shown, joined with what followed (see `outcomes`).

Rules.
- Nothing looks ahead. A decision knows what happened before it. An answer knows what
  happened before its hour: an import gives one time for a visit, so what stands in the
  same hour (the basket beside the coupon) may be the answer itself.
- Examples see the person as devices do: through the same rows, see `history`.
- Only subjects who agreed to LEARNING give examples, or a history to those that they are
  linked to. What nobody in particular did is nobody's data and stays.
- A decision whose window is open weighs what has been heard of such by its age, see `taught`.
- A purchase that a decision is credited with (see `credit`) is no answer of its own beside it; it
  is one of an id that agreed to LEARNING, and so is the decision.
- Memory stays bounded: the log is read once to survey it and then once for each part
  of the persons; nothing is written in between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.imprint import profile_strengths
from edge_sdk.dna.markers import Vocabulary, split
from edge_sdk.dna.schema import HOUR_MS
from genome_edge.v1 import event_pb2
from genome_server.genomes.events import Effect, Imprint, interaction_key
from genome_server.learning.credit import Bought, Credited, Showing
from genome_server.learning.examples import Examples, ExamplesBuilder, OfferTable
from genome_server.learning.history import History, PastImprint
from genome_server.learning.kin import Kin
from genome_server.learning.outcomes import Verdict
from genome_server.learning.survey import (
    Person,
    Sources,
    Survey,
    event_reader,
    label_of,
    read_event,
)
from genome_server.learning.taught import Teacher

_EVENTS_PER_PART = 2_000_000


@dataclass
class Counts:
    """What became of the moments in the log."""

    events: int = 0
    # Outcomes and interactions in the log that are a success or a refusal.
    heard: int = 0
    answers: int = 0
    decisions: int = 0
    successes: int = 0
    # Purchases without a decision's id that a decision is credited with.
    credited: int = 0
    # Slots of decisions whose window is open; they weigh what has been heard of such by their age.
    early: int = 0
    persons: int = 0
    # Left out, and why.
    without_consent: int = 0
    persons_without_consent: int = 0
    not_viewed: int = 0
    still_open: int = 0
    unknown_offer: int = 0
    unknown_placement: int = 0

    @property
    def examples(self) -> int:
        """All examples."""
        return self.answers + self.decisions


class _Moment(NamedTuple):
    """A moment in a subject's life and what was offered in it.

    `offered` is (offer row, success, propensity, weight), see `taught` for the weight. `context`
    holds its markers and their saliences. `stands_for` is how many such moments it stands for, see
    `thinned`.
    """

    answer: bool
    subject: bytes
    time_ms: int
    before_ms: int
    context: Mapping[str, float]
    genome_used: bool
    offered: tuple[tuple[int, bool, float, float], ...]
    stands_for: float = 1.0


class _Told(NamedTuple):
    """A decision, or an interaction that may be an answer or a purchase; `number` counts the log.

    `stands_for` is how many such events it stands for, see `thinned`.
    """

    subject: bytes
    event: event_pb2.Event
    at_ms: int
    number: int
    stands_for: float


@dataclass
class _Life:
    """All that the log says about one person, in the order of the log."""

    imprints: list[tuple[bytes, PastImprint]] = field(default_factory=list)
    told: list[_Told] = field(default_factory=list)
    ids: set[bytes] = field(default_factory=set)


def load_examples(
    sources: Sources,
    found: Survey,
    vocabulary: Vocabulary,
    *,
    now_ms: int,
    on_events: Callable[[int], None] | None = None,
) -> tuple[Examples, Counts]:
    """Return the examples of the log as of `now_ms`, in order of time, and what was left out."""
    return _Loader(sources, found, vocabulary, now_ms).run(on_events)


class _Loader:
    """Turns lives into examples, one part of the persons after the other."""

    def __init__(
        self, sources: Sources, found: Survey, vocabulary: Vocabulary, now_ms: int
    ) -> None:
        self._sources = sources
        self._survey = found
        self._vocabulary = vocabulary
        self._now_ms = now_ms
        self._offer_row = {offer: row for row, offer in enumerate(sources.offers)}
        self._builder = ExamplesBuilder()
        self._counts = Counts(events=found.events, heard=found.answers)
        self._number = 0
        self._teacher = Teacher(sources, found, now_ms)

    def run(self, on_events: Callable[[int], None] | None) -> tuple[Examples, Counts]:
        parts = 1 + self._survey.events // _EVENTS_PER_PART
        for part in range(parts):
            for life in self._lives(part, parts, on_events):
                self._learn(life)
        self._counts.persons = self._number
        table = OfferTable.build(
            {
                offer: [
                    (index, salience_q8 / 256)
                    for name, salience_q8 in dna
                    if (index := self._vocabulary.index(name)) is not None
                ]
                for offer, dna in self._sources.offers.items()
            }
        )
        kin = Kin.build(self._sources.schema, self._vocabulary)
        return self._builder.build(table, _fields(self._vocabulary), kin), self._counts

    def _lives(
        self, part: int, parts: int, on_events: Callable[[int], None] | None
    ) -> Iterator[_Life]:
        """Yield the lives of this part of the persons, by subject; nobody's moments one by one."""
        reader, persons = event_reader(self._sources), self._survey.persons
        lives: dict[bytes, _Life] = {}
        for number, frame in enumerate(self._sources.frames()):
            if on_events is not None and number % 1000 == 999:
                on_events(1000)
            root = persons.root(frame.subject)
            if int.from_bytes(root[:8]) % parts != part:
                continue
            life = lives.setdefault(root, _Life())
            event, at_ms = read_event(frame)
            if event is None:
                continue
            effect = reader.read(frame)
            key = _once(event, effect)
            if key is not None:
                if key in life.ids:
                    continue
                life.ids.add(key)
            if isinstance(effect, Imprint):
                past = PastImprint(at_ms, effect.hour, effect.votes)
                life.imprints.append((frame.subject, past))
            if event.HasField("decision"):
                stands_for = self._survey.thinned.stands_for(frame)
                life.told.append(_Told(frame.subject, event, at_ms, number, stands_for))
            elif label_of(event.interaction, self._sources.schema) or self._bought(event):
                life.told.append(_Told(frame.subject, event, at_ms, number, 1.0))
        anonymous = lives.pop(NOBODY, _Life())
        for root in sorted(lives):
            yield lives[root]
        for told in anonymous.told:
            yield _Life(told=[told])

    def _bought(self, event: event_pb2.Event) -> Collection[str]:
        """The offers that an interaction is a purchase of, as far as purchases are credited."""
        said, schema = event.interaction, self._sources.schema
        if not schema.has_kind(said.kind) or schema.kind(said.kind).label <= 0:
            return ()
        return self._sources.credit.bought(said.product, said.offer)

    def _credit(self, life: _Life, agreed: Collection[bytes]) -> list[Credited]:
        """The purchases of one person that their decisions are credited with."""
        showing, purchases = Showing(), []
        for told in life.told:
            if told.subject == NOBODY or told.subject not in agreed:
                continue
            record = told.event.decision
            placement = self._sources.placements.get(record.placement)
            if not told.event.HasField("decision"):
                if offers := self._bought(told.event):
                    purchases.append(
                        Bought(
                            told.at_ms,
                            told.number,
                            told.number,
                            offers,
                            told.event.interaction.kind,
                        )
                    )
            elif placement is not None and record.placement in self._sources.credit.placements:
                showing.add_decision(
                    record,
                    placement,
                    self._survey.outcomes,
                    at_ms=told.at_ms,
                    number=told.number,
                    goal=self._sources.goals.get(record.placement),
                )
        return showing.credit(purchases)

    def _moment(self, told: _Told, credited: Collection[tuple[bytes, int]]) -> _Moment | None:
        subject, event, at_ms = told.subject, told.event, told.at_ms
        if event.HasField("interaction"):
            said = event.interaction
            label = label_of(said, self._sources.schema)
            if not label:
                return None
            row = self._offer_row.get(said.offer)
            if row is None:
                self._counts.unknown_offer += 1
                return None
            before_ms = at_ms // HOUR_MS * HOUR_MS
            context = dict.fromkeys(said.context_markers, 1.0)
            offer = (row, label > 0, 1.0, 1.0)
            return _Moment(True, subject, at_ms, before_ms, context, True, (offer,))
        if event.HasField("decision"):
            record = event.decision
            offered = tuple(self._shown(record, at_ms, credited))
            context = _saliences(record)
            if offered:
                used = record.genome_used
                return _Moment(
                    False, subject, at_ms, at_ms, context, used, offered, told.stands_for
                )
        return None

    def _shown(
        self,
        record: event_pb2.DecisionRecord,
        at_ms: int,
        credited: Collection[tuple[bytes, int]],
    ) -> Iterator[tuple[int, bool, float, float]]:
        """Yield (offer row, success, propensity, weight) of the slots that teach something."""
        placement = self._sources.placements.get(record.placement)
        for number, slot in enumerate(record.slots):
            if not slot.offer:
                continue
            row = self._offer_row.get(slot.offer)
            if placement is None or row is None:
                self._counts.unknown_placement += placement is None
                self._counts.unknown_offer += placement is not None
                continue
            slot_credited = (record.decision_id, number) in credited
            taught = self._teacher.slot(record, number, at_ms, credited=slot_credited)
            self._counts.not_viewed += taught.verdict is Verdict.UNSEEN
            self._counts.still_open += taught.verdict is Verdict.OPEN
            if taught.verdict in (Verdict.SUCCESS, Verdict.FAILURE):
                self._counts.early += taught.early
                yield row, taught.verdict is Verdict.SUCCESS, slot.propensity, taught.weight

    def _learn(self, life: _Life) -> None:
        """Add the examples of one person: of those of their subjects that agreed."""
        if not life.told:
            return
        learned = False
        persons = self._survey.persons
        members = persons.members(persons.root(life.told[0].subject))
        known = {s: self._sources.person(s) if s != NOBODY else Person() for s in members}
        agreed = {s: person for s, person in known.items() if s == NOBODY or person.may_learn}
        found = self._credit(life, agreed)
        self._counts.credited += len(found)
        spent = {credit.key for credit in found}
        credited = {(credit.decision_id, credit.slot) for credit in found}
        told = (one for one in life.told if one.number not in spent)
        all_moments = [m for one in told if (m := self._moment(one, credited)) is not None]
        for subject in members:
            moments = [moment for moment in all_moments if moment.subject == subject]
            if moments and subject not in agreed:
                self._counts.persons_without_consent += 1
                self._counts.without_consent += sum(len(moment.offered) for moment in moments)
                continue
            history = self._history(subject, life, agreed)
            for moment in sorted(moments, key=lambda moment: moment.before_ms):
                self._add(moment, history)
                learned = True
        self._number += learned

    def _history(self, subject: bytes, life: _Life, agreed: Mapping[bytes, Person]) -> History:
        """The history of one subject; what others of the same person did counts once linked."""
        persons = self._survey.persons
        since = persons.linked_since(persons.root(subject))
        imprints = [
            past if whose == subject else past._replace(visible_ms=max(past.visible_ms, since))
            for whose, past in life.imprints
            if whose in agreed
        ]
        facts = [fact for person in agreed.values() for fact in person.markers]
        schema, vocabulary = self._sources.schema, self._vocabulary
        profile = profile_strengths(schema, vocabulary, facts)
        return History(profile, imprints, schema, vocabulary)

    def _add(self, moment: _Moment, history: History) -> None:
        query = []
        if moment.genome_used:
            query = history.features(moment.time_ms, before_ms=moment.before_ms)
        of_person = len(query)
        for name, salience in moment.context.items():
            index = self._vocabulary.index(name)
            if index is not None:
                query.append((index, salience, salience))
        for row, label, propensity, weight in moment.offered:
            self._builder.add(
                query,
                offer=row,
                label=label,
                propensity=propensity,
                person=self._number,
                time_ms=moment.time_ms,
                stands_for=moment.stands_for * weight,
                of_person=of_person,
            )
            self._counts.answers += moment.answer
            self._counts.decisions += not moment.answer
            self._counts.successes += label


def _saliences(record: event_pb2.DecisionRecord) -> dict[str, float]:
    """The markers of a decision's moment, as strong as they were when it was made."""
    names = record.context_markers
    said = record.context_saliences_q8 or [256] * len(names)
    return {name: salience_q8 / 256 for name, salience_q8 in zip(names, said, strict=False)}


def _once(event: event_pb2.Event, effect: Effect | None) -> bytes | None:
    """Return the key under which an event counts once, by import and by report."""
    if isinstance(effect, Imprint):
        return effect.once
    # An answer to an offer without DNA leaves no imprint, and is an answer all the same.
    said = event.interaction.interaction_id
    return interaction_key(said) if said else None


def _fields(vocabulary: Vocabulary) -> NDArray[np.int32]:
    """Return the number of each marker's namespace, int32 (V,)."""
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(split(name)[0], len(numbers)) for name in vocabulary], np.int32
    )
