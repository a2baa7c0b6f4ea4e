"""From the log to the persons of a campaign: a thin shell round `rules`.

The log is gone through twice, and every event is read once: decisions, links and consents first,
then what was done. So memory holds persons, not events (and the ids that count once).

Decisions that a device gave up by a coin (`learning.thinned`) are not made up for: the coin knows
no group, and who lost their first decision enters by a later one, which no weight brings back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from edge_sdk.decision import Reason
from edge_sdk.dna.genome import NOBODY
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.slices import rest
from genome_edge.v1 import event_pb2
from genome_server.doings.reading import DONE, doings, frames_of
from genome_server.errors import Refused
from genome_server.genomes.events import (
    FUTURE_MS,
    ConsentSaid,
    EventReader,
    LinkSaid,
    time_of,
)
from genome_server.lift.campaigns import Campaign
from genome_server.lift.rules import BASE, Done, Entered, Meetings, Met, Rows, enter
from genome_server.lift.telling import many
from genome_server.releases.features import SLATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_sdk.dna.schema import DnaSchema
    from genome_server.log.reader import LoggedFrame, LogReader
    from genome_server.store.protocol import Store
    from genome_server.store.rows import CustomerRow

_CHOSEN: Final = frozenset({Reason.CHOSEN.name, Reason.EXPLORED.name, Reason.UNSCORED.name})
_DECISION: Final = int(FrameKind.DECISION)
_MET: Final = frozenset({_DECISION, int(FrameKind.LINK), int(FrameKind.CONSENT)})
_REST_EVERY: Final = 256

Advance = Callable[..., None]


@dataclass(frozen=True)
class Asked:
    """What is asked of a log. Times in Unix milliseconds.

    Decisions before `since_ms` do not count; the log is read as it was at `until_ms` (None: to its
    end). `window_ms` None is the campaign's own. `kinds` are those of interactions that count,
    `paid` those in which money counts; with `products` only what was done with one of these counts.
    """

    campaign: Campaign
    kinds: frozenset[str]
    paid: frozenset[str]
    window_ms: int | None
    since_ms: int = 0
    until_ms: int | None = None
    products: frozenset[str] | None = None


@dataclass(frozen=True, eq=False)
class Told:
    """What a log tells of a campaign: its persons, when the log ends (Unix ms), how many decisions
    were passed over as their devices hold nobody out or draw no arm, the placements that held
    somebody out, and of an experiment the groups of its placements by name."""

    rows: Rows
    as_of_ms: int
    older: int
    drawn: frozenset[int]
    groups: Mapping[str, int]


def read(
    log: LogReader, store: Store, schema: DnaSchema, asked: Asked, advance: Advance | None = None
) -> Told:
    """Who is compared and what they did. Raises LogFormatError, and Refused where nobody met it."""
    end = log.end()

    def heard(count: int) -> None:
        if advance is not None:
            advance(count, total=2 * end)

    reader = _Reader(asked, _older(store), schema)
    met = reader.meetings(frames_of(log, _MET, stop=end, heard=heard))
    drawn = _drawn(asked.campaign, met)
    entered = enter(met, _customers(store, met.subjects()), drawn)
    if not len(entered):
        raise Refused(_nobody(asked.campaign, entered, reader.older))
    window_ms = asked.window_ms
    if window_ms is None:
        window_ms = asked.campaign.window_with(reader.groups)
    done = Done(entered, window_ms, asked.kinds, asked.paid, asked.products)
    frames = reader.until(frames_of(log, DONE, stop=end, heard=heard))
    for doing in doings(frames, done.whose, once=done.counts):
        done.take(doing)
    as_of_ms = reader.newest_ms if asked.until_ms is None else asked.until_ms
    return Told(done.rows(), as_of_ms, reader.older, frozenset(drawn), reader.groups)


class _Reader:
    """Reads frames, and notes what there was."""

    def __init__(self, asked: Asked, older: Collection[str], schema: DnaSchema) -> None:
        self.older = 0
        self.newest_ms = 0
        self._asked = asked
        self._older = older
        self._experiment = asked.campaign.experiment
        #: Of an experiment by placement: the group of those for whom it decides.
        self.groups = {self._experiment: BASE}
        self._number = {one.id: n for n, one in enumerate(asked.campaign.placements)}
        # A decision of another placement cannot have these bytes: most need not be taken apart.
        only = [self._experiment] if self._experiment else list(self._number)
        self._only = only[0].encode() if len(only) == 1 else b""
        self._words = EventReader(schema, lambda _: None, lambda _: None)

    def until(self, frames: Iterator[LoggedFrame]) -> Iterator[LoggedFrame]:
        """The frames of the time that is asked about."""
        latest = self._asked.until_ms
        for number, frame in enumerate(frames):
            if number % _REST_EVERY == 0:
                rest()
            at_ms = min(frame.time_ms, frame.received_ms + FUTURE_MS)
            if latest is not None and at_ms >= latest:
                continue
            self.newest_ms = max(self.newest_ms, at_ms)
            yield frame

    def meetings(self, frames: Iterator[LoggedFrame]) -> Meetings:
        """What the log says of decisions, links and consents."""
        found = Meetings(self._asked.since_ms)
        for frame in self.until(frames):
            if frame.kind != _DECISION:
                said = self._words.read(frame)
                if isinstance(said, LinkSaid | ConsentSaid):
                    found.hear(said)
            elif frame.subject != NOBODY and self._only in frame.body:
                self._decision(found, frame)
        return found

    def _decision(self, found: Meetings, frame: LoggedFrame) -> None:
        try:
            event = event_pb2.Event.FromString(frame.body)
        except DecodeError:
            return  # the genomes' consumer says so
        record = event.decision
        if self._experiment:
            self._drawn(found, event, frame)
            return
        placement = self._number.get(record.placement)
        if placement is None or not event.HasField("decision"):
            return
        chosen = [
            slot.offer
            for slot in (record.instead if record.held_out else record.slots)
            if slot.reason in _CHOSEN
        ]
        if not chosen:
            return
        if frame.device in self._older:
            self.older += 1
            return
        offers = self._asked.campaign.offers
        hit = offers is None or not offers.isdisjoint(chosen)
        met = Met(time_of(event, frame), record.decision_id, hit, frame.offset, frame.subject)
        found.meet(placement, met, group=BASE if record.held_out else 0)

    def _drawn(self, found: Meetings, event: event_pb2.Event, frame: LoggedFrame) -> None:
        """Take a decision that drew an arm."""
        record = event.decision
        if record.experiment == self._experiment:
            group = self.groups.setdefault(record.placement, len(self.groups) + BASE)
            met = Met(time_of(event, frame), record.decision_id, True, frame.offset, frame.subject)
            found.meet(0, met, group=group)
        elif record.placement == self._experiment:
            self.older += 1


def _older(store: Store) -> frozenset[str]:
    """The devices that hold nobody out."""
    return frozenset(
        one.id for one in store.devices() if SLATES not in one.status.get("features", ())
    )


def _customers(store: Store, subjects: Collection[bytes]) -> Mapping[bytes, CustomerRow]:
    return {row.subject: row for row in store.customers(subjects)}


def _drawn(campaign: Campaign, met: Meetings) -> set[int]:
    """The placements in which people are drawn: by their documents, or by what the log has."""
    if campaign.experiment:
        return {0}
    declared = {n for n, one in enumerate(campaign.placements) if one.share > 0}
    return declared | met.placements(BASE)


def _nobody(campaign: Campaign, entered: Entered, older: int) -> str:
    """Why nobody is compared."""
    if not campaign.experiment and not any(one.share for one in campaign.placements):
        if campaign.kind == "placement":
            return f"{campaign} holds nobody out: state `holdout` in its document and publish"
        return "no placement holds anybody out: state `holdout` in one's document and publish"
    why = []
    if entered.left_out.without_consent:
        number = entered.left_out.without_consent
        why.append(f"{number:,} {'has' if number == 1 else 'have'} not agreed to learning")
    if entered.left_out.later:
        why.append(f"{entered.left_out.later:,} met it only after their first decision there")
    if older:
        what = "are of devices that hold nobody out"
        if campaign.experiment:
            what = "drew no arm"
        elif older == 1:
            what = "is of a device that holds nobody out"
        why.append(f"{many(older, 'decision')} {what}")
    said = ": " + ", ".join(why) if why else " in the time that is asked about"
    return f"nobody is known to have met {campaign}{said}"
