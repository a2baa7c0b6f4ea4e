"""The decisions of a log as they were made, with what their devices knew: what is asked about.

Rules.
- A decision is taken where what followed is known: the placement's window is over, whatever came
  before its end. To take early successes and wait for failures would flatter every policy.
- Of customers who agreed to LEARNING, and of nobody in particular. Who was held out was shown
  nothing, and a decision without candidates had nothing to choose: neither is taken.
- A success is what training counts as one (`learning.outcomes`, `learning.credit`); all else earns
  nothing, also an offer that nobody viewed: a policy's value is by decision.
- The genome is the one that `learning.history` gives for that moment. Whether a device had the same
  is not said here: `target` finds out by doing the decision again.
- Everything that was left out is counted, with the reason. Of more decisions than `MOST` the newest
  are taken.
- Memory stays bounded: the log is read once for the decisions, and once for what those did who are
  in them.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.imprint import profile_strengths
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import HOUR_MS
from edge_sdk.engine.policy import Floats, Indices
from genome_edge.v1 import event_pb2, release_pb2
from genome_server.genomes.events import Effect, Imprint, interaction_key
from genome_server.learning.credit import Bought, Showing
from genome_server.learning.history import History, PastImprint
from genome_server.learning.outcomes import Verdict
from genome_server.learning.survey import Person, Sources, Survey, event_reader, read_event
from genome_server.log.reader import LoggedFrame

#: Decisions that are asked about at most: half a millisecond each.
MOST: Final = 20_000

NO_GENOME: Final[tuple[Indices, Floats]] = (np.zeros(0, np.int64), np.zeros(0, np.float32))


class Past(NamedTuple):
    """A decision: its record as it was reported, whose it is, when, and what came of each slot.

    `person` is a number, equal for decisions of one person; nobody in particular is alone each
    time. `fold` is a number that follows from the person alone, by which persons are dealt out.
    `genome` are marker indices and weights as `learning.history` has them. `success` is by slot.
    `profile` are the markers that the person has without any history, and `returning` says whether
    the genome has any; neither where no genome was used.
    """

    record: event_pb2.DecisionRecord
    person: int
    fold: int
    at_ms: int
    stands_for: float
    genome: tuple[Indices, Floats]
    success: tuple[bool, ...]
    profile: tuple[int, ...] = ()
    returning: bool = False


@dataclass
class PastCounts:
    """What became of the decisions in the log: how many there are, and why some are left out."""

    decisions: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    #: Markers that the moments of decisions had.
    moments: set[str] = field(default_factory=set)


class _Found(NamedTuple):
    """A decision before anything is known of whoever it was for."""

    record: event_pb2.DecisionRecord
    subject: bytes
    at_ms: int
    number: int
    stands_for: float
    fold: int


def fold_number(frame: LoggedFrame, found: Survey) -> int:
    """A number, 32 bits, by which persons are dealt out: equal for all frames of one person.

    Of nobody in particular each event is alone.
    """
    if frame.subject != NOBODY:
        return int.from_bytes(found.persons.root(frame.subject)[:4])
    return (int.from_bytes(frame.epoch[:4]) * 0x9E3779B1 + frame.sequence * 0x85EBCA6B) >> 7


def read_past(
    sources: Sources,
    found: Survey,
    vocabulary: Vocabulary,
    *,
    now_ms: int,
    most: int = MOST,
    on_events: Callable[[int], None] = lambda _: None,
) -> tuple[list[Past], PastCounts]:
    """The newest decisions of the log whose outcome is known at `now_ms`, in order of time."""
    return _Reading(sources, found, vocabulary, now_ms, most, on_events).run()


class _Reading:
    def __init__(
        self,
        sources: Sources,
        found: Survey,
        vocabulary: Vocabulary,
        now_ms: int,
        most: int,
        on_events: Callable[[int], None],
    ) -> None:
        self._sources, self._survey, self._vocabulary = sources, found, vocabulary
        self._now_ms, self._most, self._on_events = now_ms, most, on_events
        self._counts = PastCounts()
        self._known: dict[bytes, Person] = {}
        # By person: all decisions that purchases may be credited to, also those left out.
        self._crediting: defaultdict[bytes, list[_Found]] = defaultdict(list)

    def run(self) -> tuple[list[Past], PastCounts]:
        of_person: defaultdict[bytes, list[_Found]] = defaultdict(list)
        alone = []
        for one in self._decisions():
            if one.subject == NOBODY:
                alone.append(one)
            else:
                of_person[self._survey.persons.root(one.subject)].append(one)
        imprints, bought = self._doings(of_person)
        past: list[Past] = []
        for root in sorted(of_person):
            past += self._of(len(past), root, of_person[root], imprints[root], bought[root])
        for one in alone:
            successes = self._successes(one, ())
            past.append(
                Past(one.record, len(past), one.fold, one.at_ms, one.stands_for, NO_GENOME,
                     successes)
            )  # fmt: skip
        return sorted(past, key=lambda one: one.at_ms), self._counts

    def _decisions(self) -> deque[_Found]:
        """Those that can be asked about, the newest of them."""
        kept: deque[_Found] = deque(maxlen=self._most)
        counts = self._counts
        for number, frame in enumerate(self._sources.frames()):
            if number % 1000 == 999:
                self._on_events(1000)
            event, at_ms = read_event(frame)
            if event is None or not event.HasField("decision"):
                continue
            counts.decisions += 1
            counts.moments.update(event.decision.context_markers)
            stands_for = self._survey.thinned.stands_for(frame)
            fold = fold_number(frame, self._survey)
            one = _Found(event.decision, frame.subject, at_ms, number, stands_for, fold)
            if one.record.placement in self._sources.credit.placements and frame.subject != NOBODY:
                self._crediting[self._survey.persons.root(frame.subject)].append(one)
            why = self._why_not(event.decision, frame.subject, at_ms)
            if why:
                counts.left_out[why] += 1
                continue
            if len(kept) == self._most:
                counts.left_out[f"older than the newest {self._most:,}"] += 1
            kept.append(one)
        return kept

    def _why_not(self, record: event_pb2.DecisionRecord, subject: bytes, at_ms: int) -> str:
        """Why a decision cannot be asked about; empty: it can."""
        placement = self._sources.placements.get(record.placement)
        if placement is None:
            return "of a placement that is not there any more"
        if record.held_out:
            return "held out"
        if not record.candidate_runs:
            return "without an offer to choose from"
        if subject != NOBODY and not self._person(subject).may_learn:
            return "of customers who did not agree to learning"
        if self._now_ms < at_ms + placement.outcome_window_hours * HOUR_MS:
            return "whose outcome may still come"
        return ""

    def _person(self, subject: bytes) -> Person:
        known = self._known.get(subject)
        if known is None:
            known = self._known[subject] = self._sources.person(subject)
        return known

    def _doings(
        self, wanted: Collection[bytes]
    ) -> tuple[
        defaultdict[bytes, list[tuple[bytes, PastImprint]]],
        defaultdict[bytes, list[tuple[bytes, Bought]]],
    ]:
        """What the persons `wanted` (by root) did: imprints and purchases, with who did each."""
        imprints: defaultdict[bytes, list[tuple[bytes, PastImprint]]] = defaultdict(list)
        bought: defaultdict[bytes, list[tuple[bytes, Bought]]] = defaultdict(list)
        once: defaultdict[bytes, set[bytes]] = defaultdict(set)
        reader, persons = event_reader(self._sources), self._survey.persons
        for number, frame in enumerate(self._sources.frames() if wanted else ()):
            if number % 1000 == 999:
                self._on_events(1000)
            root = persons.root(frame.subject)
            if root not in wanted:
                continue
            event, at_ms = read_event(frame)
            if event is None:
                continue
            effect = reader.read(frame)
            key = _once(event, effect)
            if key is not None:
                if key in once[root]:
                    continue
                once[root].add(key)
            if isinstance(effect, Imprint):
                past = PastImprint(at_ms, effect.hour, effect.votes)
                imprints[root].append((frame.subject, past))
            if offers := self._bought(event):
                mine = Bought(at_ms, number, number, offers, event.interaction.kind)
                bought[root].append((frame.subject, mine))
        return imprints, bought

    def _bought(self, event: event_pb2.Event) -> Collection[str]:
        """The offers that an interaction is a purchase of, as far as purchases are credited."""
        said, schema = event.interaction, self._sources.schema
        if not schema.has_kind(said.kind) or schema.kind(said.kind).label <= 0:
            return ()
        return self._sources.credit.bought(said.product, said.offer)

    def _of(
        self,
        number: int,
        root: bytes,
        decisions: list[_Found],
        imprints: list[tuple[bytes, PastImprint]],
        bought: list[tuple[bytes, Bought]],
    ) -> list[Past]:
        """The decisions of one person, in order of time by subject."""
        members = self._survey.persons.members(root)
        agreed = {one: self._person(one) for one in members if self._person(one).may_learn}
        shown = [one for one in self._crediting[root] if one.subject in agreed]
        credited = self._credited(shown, [what for who, what in bought if who in agreed])
        histories: dict[bytes, History] = {}
        past = []
        for one in sorted(decisions, key=lambda one: one.at_ms):
            genome, returning = NO_GENOME, False
            profile: tuple[int, ...] = ()
            if one.record.genome_used:
                if one.subject not in histories:
                    histories[one.subject] = self._history(root, one.subject, imprints, agreed)
                features = histories[one.subject].features(one.at_ms, before_ms=one.at_ms)
                warm = [(index, weight) for index, weight, _ in features if weight]
                genome = (
                    np.array([index for index, _ in warm], np.int64),
                    np.array([weight for _, weight in warm], np.float32),
                )
                profile = tuple(index for index, _, cold in features if cold)
                returning = any(weight != cold for _, weight, cold in features)
            past.append(
                Past(one.record, number, one.fold, one.at_ms, one.stands_for, genome,
                     self._successes(one, credited), profile, returning)
            )  # fmt: skip
        return past

    def _history(
        self,
        root: bytes,
        subject: bytes,
        imprints: list[tuple[bytes, PastImprint]],
        agreed: Mapping[bytes, Person],
    ) -> History:
        """One subject's history; what others of the same person did counts once linked."""
        since = self._survey.persons.linked_since(root)
        visible = [
            past if who == subject else past._replace(visible_ms=max(past.visible_ms, since))
            for who, past in imprints
            if who in agreed
        ]
        schema, vocabulary = self._sources.schema, self._vocabulary
        facts = [fact for person in agreed.values() for fact in person.markers]
        profile = profile_strengths(schema, vocabulary, facts)
        return History(profile, visible, schema, vocabulary)

    def _credited(self, decisions: list[_Found], purchases: list[Bought]) -> set[tuple[bytes, int]]:
        """The slots that a purchase without a decision's id counts as a success of."""
        showing = Showing()
        for one in decisions:
            record = one.record
            placement = self._sources.placements.get(record.placement)
            if placement is not None:
                showing.add_decision(
                    record,
                    placement,
                    self._survey.outcomes,
                    at_ms=one.at_ms,
                    number=one.number,
                    goal=self._sources.goals.get(record.placement),
                )
        return {(each.decision_id, each.slot) for each in showing.credit(purchases)}

    def _successes(self, one: _Found, credited: Collection[tuple[bytes, int]]) -> tuple[bool, ...]:
        placement = self._sources.placements[one.record.placement]
        return tuple(
            (one.record.decision_id, slot) in credited
            or self._survey.outcomes.verdict(
                one.record.decision_id,
                slot,
                decided_ms=one.at_ms,
                window_ms=placement.outcome_window_hours * HOUR_MS,
                shown_on_view=placement.shown == release_pb2.PlacementSpec.SHOWN_ON_VIEW,
                now_ms=self._now_ms,
                goal=self._sources.goals.get(one.record.placement),
            )
            is Verdict.SUCCESS
            for slot in range(len(one.record.slots))
        )


def _once(event: event_pb2.Event, effect: Effect | None) -> bytes | None:
    """The key under which an event counts once, by import and by report."""
    if isinstance(effect, Imprint):
        return effect.once
    said = event.interaction.interaction_id
    return interaction_key(said) if said else None
