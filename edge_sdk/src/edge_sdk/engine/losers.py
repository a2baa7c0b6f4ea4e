"""Why offers are not shown: every reason, and more of each for people.

Reasons are worked out from the offers as they were written, one by one, and not with the compiled
catalogue that decided: the two must agree, which tests hold them to. docs/reasons.md lists them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from edge_sdk.decision import NEVER_MS, Reason, Tier
from edge_sdk.engine.cap_views import Rooms
from edge_sdk.engine.catalogue import Catalogue
from edge_sdk.engine.gates import TIME_REASONS, fits, untimely
from edge_sdk.engine.policy import ONE
from edge_sdk.engine.record import Inputs, Record
from edge_sdk.engine.rooms import room_of
from edge_sdk.explanation import Loser
from edge_sdk.messages import dna_pb2, release_pb2
from edge_sdk.sync.trust import FEATURES

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# So many names are told of what an offer asks for.
_NAMES: Final = 5


class _Drawn(NamedTuple):
    """What was drawn, and from what: what candidates lost to."""

    release: Release
    picked: dict[str, int]  # by offer: its row
    scores: dict[int, int]  # by row of a candidate
    least: int  # the lowest priority of what was drawn
    groups: dict[int, str]  # by exclusivity group that is taken: who took it
    categories: Counter[int]  # how many of each were drawn
    most: int
    campaigns: Counter[str]  # how many of each were drawn
    rooms: Rooms

    @classmethod
    def of(cls, release: Release, record: Record) -> _Drawn:
        catalogue = release.catalogue
        slots = [s for s in record.instead or record.slots if s.reason is not Reason.HOUSE]
        shown = [slot.offer.id for slot in slots if slot.offer is not None]
        rows = {name: catalogue.row_of[name] for name in shown}
        scores: dict[int, int] = {}
        if record.rows is not None and record.scores is not None:
            scores = dict(zip(record.rows.tolist(), record.scores.tolist(), strict=True))
        slate = release.placements[record.inputs.placement].slate
        return cls(
            release,
            rows,
            scores,
            min((int(catalogue.priorities[row]) for row in rows.values()), default=0),
            {int(catalogue.groups[row]): name for name, row in rows.items()},
            Counter(int(catalogue.categories[row]) for row in rows.values()),
            slate.most if slate is not None else 0,
            Counter(catalogue.offers[row].campaign for row in rows.values()),
            record.inputs.rooms,
        )

    def reasons(self, row: int, held_out: bool) -> dict[Reason, str]:
        """Why a candidate was not shown."""
        catalogue = self.release.catalogue
        offer = catalogue.offers[row]
        if offer.id in self.picked:  # it would have been shown
            return {Reason.HELD_OUT: ""} if held_out else {}
        group, category = int(catalogue.groups[row]), int(catalogue.categories[row])
        found: dict[Reason, str] = {}
        if group and group in self.groups:
            found[Reason.EXCLUSIVE] = f"{self.groups[group]} of {offer.exclusivity_group} is shown"
        if self.most and category and self.categories[category] >= self.most:
            found[Reason.CATEGORY] = f"{self.most} of {offer.category} shown already"
        room = room_of(catalogue, self.rooms, row) if self.rooms else 0
        if room and self.campaigns[offer.campaign] >= room:
            found[Reason.CAPPED] = f"this decision used up the {room} left of {offer.campaign}"
        if not found and offer.priority < self.least:
            found[Reason.PRIORITY] = f"{offer.priority}; what is shown has {self.least}"
        return found or {Reason.SCORE: ""}


def losers(
    release: Release, record: Record, asked: Collection[str] | None, worths: Callable[[], Worths]
) -> list[Loser]:
    """Who was not shown of the offers that are `asked` about (None: all), the closest first.

    `worths` gives the scores, by row, of what is worth too little; it is called where there is any.
    """
    catalogue, inputs = release.catalogue, record.inputs
    drawn = _Drawn.of(release, record)
    shown = {slot.offer.id for slot in record.slots if slot.offer is not None}
    capped = set(record.capped.tolist()) if record.capped is not None else set()
    names = _names(release, inputs)
    rows = range(len(catalogue)) if asked is None else catalogue.rows_of(frozenset(asked))
    found = []
    for row in map(int, rows):
        offer = catalogue.offers[row]
        if offer.id in shown:
            continue
        told: dict[Reason, str] = {}
        if inputs.tier in (Tier.HOUSE, Tier.EMPTY):
            told[Reason.EXPIRED] = ""
        told |= {why: _device(why, offer, inputs) for why in inputs.withheld.reasons(row)}
        told |= {why: _detail(why, offer, inputs, names, catalogue)
                 for why in failing(offer, inputs, names, catalogue)}  # fmt: skip
        until_ms = 0
        if row in capped:
            why, until_ms = inputs.why_blocked.get(offer.id, (Reason.CAPPED.value, 0))
            told[Reason(why)] = _until(until_ms)
        score = drawn.scores.get(row)
        if score is not None:
            told |= drawn.reasons(row, bool(record.instead))
        elif not told:
            least, score = worths().least, worths().scores.get(row)
            worth = "" if score is None else f"worth {score / ONE:.4f}; "
            told[Reason.TOO_LITTLE] = f"{worth}at least {least / ONE:.4f} is asked"
        value = None if score is None else score / ONE
        found.append(Loser(offer.id, tuple(told), value, tuple(told.values()), until_ms))
    # Those that came closest first; the sort is stable, so the rest stays in catalogue order.
    return sorted(found, key=lambda one: -np.inf if one.score is None else one.score, reverse=True)


class Worths(NamedTuple):
    """What a placement asks at least, and by row what offers are worth, in 2^-16."""

    least: int
    scores: Mapping[int, int]


def failing(
    offer: release_pb2.OfferSpec, inputs: Inputs, names: frozenset[str], catalogue: Catalogue
) -> list[Reason]:
    """Every reason why an offer as it is written is not eligible; empty where it is.

    `names` are the markers of the moment and of the genome, where one was read; zones, and the
    sizes and arms of placements, are those of `catalogue`.
    """
    where, targeting = inputs.where, offer.targeting
    base = catalogue.bases.get(where.placement, where.placement)
    untimely_for = untimely(targeting, where, catalogue.zones)
    cells = [int(cell, 16) for cell in targeting.cells]
    holds = {
        Reason.FEATURE: set(FEATURES).issuperset(offer.required_features),
        Reason.TIER: not where.restricted or targeting.valid_until_ms > 0,
        Reason.AREA: not cells or not set(inputs.parents).isdisjoint(cells),
        Reason.NEAR_PLACE: _any_of(targeting.near_places, where.places),
        **{reason: reason not in untimely_for for reason in TIME_REASONS},
        Reason.CHANNEL: not targeting.channels or where.channel in targeting.channels,
        Reason.PLACEMENT: _any_of(targeting.placements, {where.placement, base}),
        Reason.SIZE: fits(offer, catalogue.sizes.get(where.placement, ())),
        Reason.CONSENT: not offer.purpose or bool(inputs.consents >> offer.purpose & 1),
        Reason.ALL_OF: names.issuperset(targeting.all_of),
        Reason.ANY_OF: _any_of(targeting.any_of, names),
        Reason.NONE_OF: names.isdisjoint(targeting.none_of),
    }
    return [reason for reason, fulfilled in holds.items() if not fulfilled]


def _any_of(asked: Collection[str], names: Set[str]) -> bool:
    return not asked or not names.isdisjoint(asked)


def _names(release: Release, inputs: Inputs) -> frozenset[str]:
    known = len(release.vocabulary)
    own = (release.vocabulary.name(i) for i in inputs.genome_indices.tolist() if i < known)
    return frozenset(inputs.moment.names).union(own)


def _device(reason: Reason, offer: release_pb2.OfferSpec, inputs: Inputs) -> str:
    if reason is Reason.STOPPED:
        return f"stop list {inputs.withheld.stop_list_version}"
    if reason is Reason.OFFLINE:
        return f"it allows {offer.max_offline_age_hours} h without the server"
    return ""


def _detail(
    reason: Reason,
    offer: release_pb2.OfferSpec,
    inputs: Inputs,
    names: frozenset[str],
    catalogue: Catalogue,
) -> str:
    """What there is to say of a reason for which an offer is not eligible."""
    where, targeting = inputs.where, offer.targeting
    listed: dict[Reason, tuple[str, Iterable[str]]] = {
        Reason.FEATURE: ("needs", set(offer.required_features) - set(FEATURES)),
        Reason.NEAR_PLACE: ("for", targeting.near_places),
        Reason.CHANNEL: (f"{where.channel or 'no channel'} here; for", targeting.channels),
        Reason.PLACEMENT: ("for", targeting.placements),
        Reason.SIZE: ("comes in", offer.sizes),
        Reason.ALL_OF: ("without", set(targeting.all_of) - names),
        Reason.ANY_OF: ("asks for one of", targeting.any_of),
        Reason.NONE_OF: ("with", names.intersection(targeting.none_of)),
    }
    if reason in listed:
        said, what = listed[reason]
        return f"{said} {_some(what)}"
    if reason is Reason.AREA:
        return "the cell is not known" if inputs.cell is None and not inputs.parents else ""
    if reason is Reason.CONSENT:
        purpose = dna_pb2.ConsentPurpose.Name(offer.purpose)
        return f"to {purpose.removeprefix('CONSENT_PURPOSE_').lower()}"
    if reason in (Reason.DAY, Reason.HOUR):
        return _clock(targeting.zone, inputs, catalogue)
    return _validity(reason, targeting, where.ms)


def _clock(zone: str, inputs: Inputs, catalogue: Catalogue) -> str:
    weekday, hour = inputs.where.weekday, inputs.where.hour
    if zone:
        local = catalogue.zones[zone].hour_of_week(inputs.where.ms)
        weekday, hour = local // 24 + 1, local % 24
    return f"it is {_DAYS[weekday - 1]}, {hour} h" + (f" in {zone}" if zone else "")


def _validity(reason: Reason, targeting: release_pb2.Targeting, ms: int) -> str:
    """From or until when an offer is valid."""
    if reason is Reason.BETWEEN:
        return f"again from {_time(min(w.from_ms for w in targeting.windows if w.from_ms > ms))}"
    if reason is Reason.NOT_STARTED:
        return f"from {_time(targeting.valid_from_ms)}"
    return f"until {_time(targeting.valid_until_ms)}" if reason is Reason.ENDED else ""


def _until(ms: int) -> str:
    if ms >= NEVER_MS:
        return "for good"
    return f"until {_time(ms)}" if ms else ""


def _time(ms: int) -> str:
    try:
        at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
    except OverflowError:
        return f"{ms} ms"
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - _NAMES
    return ", ".join(ordered[:_NAMES]) + (f" and {more} more" if more > 0 else "")
