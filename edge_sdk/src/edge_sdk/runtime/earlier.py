"""Older imprints of one customer that the server's row does not include yet, as one thing.

Theory. Contributions that are grown to a landmark add up (see `dna.imprint`), so what any number of
imprints comes to is one number for each marker. It is kept for one release; under another schema it
is worked out again from what was said, of which equal things in one hour are kept once, with how
often. So a customer who is away from the server for weeks costs a decision no more than any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from edge_sdk.dna.genome import PendingImprint
from edge_sdk.dna.imprint import beside, event_weight, explode, grow, hour_of, shrink, vote
from edge_sdk.engine.release import Release
from edge_sdk.errors import EdgeError
from edge_sdk.messages import event_pb2
from edge_sdk.store.state import StoredImprint

# More different things are kept by the day: what fades within hours is gone by then.
_MOST: Final = 4_096
_DAY: Final = 24

# Hour and serialised Interaction, without its id.
_Key = tuple[int, bytes]
_Said = dict[_Key, int]
# For which release, and by marker the sum and its half-life.
_WorkedOut = tuple[Release, dict[int, tuple[int, int]]]


class Vote(NamedTuple):
    """What one marker (by its index) gets: strength in q24; and its half-life in hours."""

    marker: int
    q24: int
    half_life: int


class Earlier:
    """Imprints of one subject. Immutable but for what it remembers to have worked out."""

    id: Final = ""

    def __init__(self, before: Earlier | None, imprints: Iterable[StoredImprint]) -> None:
        self._said: _Said = dict(before._said) if before is not None else {}
        worked_out, new = before._done if before is not None else (None, ())
        for one in imprints:
            said = event_pb2.Interaction()
            said.CopyFrom(one.interaction)
            said.interaction_id = ""
            key = (hour_of(one.time_ms), said.SerializeToString(deterministic=True))
            self._said[key] = self._said.get(key, 0) + 1
            new = (*new, key)
        if len(self._said) > _MOST:
            by_day: _Said = {}
            for (hour, body), times in self._said.items():
                key = (hour // _DAY * _DAY, body)
                by_day[key] = by_day.get(key, 0) + times
            self._said, worked_out, new = by_day, None, ()
        # Replaced as one: several threads may ask at once.
        self._done: tuple[_WorkedOut | None, tuple[_Key, ...]] = (worked_out, new)

    def __len__(self) -> int:
        return sum(self._said.values())

    def votes(self, release: Release) -> PendingImprint | None:
        """What they give to each marker together; None where that is nothing."""
        worked_out, new = self._done
        if worked_out is not None and worked_out[0] is release:
            values, said = dict(worked_out[1]), [(key, 1) for key in new]
        else:
            values, said = {}, list(self._said.items())
        landmark = release.schema.landmark_hour
        for (hour, body), times in said:
            for index, q24, half_life in votes(release, event_pb2.Interaction.FromString(body)):
                try:
                    grown = times * grow(q24, hour - landmark, half_life)
                except EdgeError:
                    continue  # too far from the landmark: the server will know
                values[index] = (values.get(index, (0, 0))[0] + grown, half_life)
        self._done = ((release, values), ())
        newest = max((hour for hour, _ in self._said), default=0)
        given = tuple(
            (index, shrink(value, newest - landmark, half_life))
            for index, (value, half_life) in values.items()
        )
        return PendingImprint(newest, given) if given else None


def votes(release: Release, said: event_pb2.Interaction) -> list[Vote]:
    """What an interaction gives to each marker under this release, as of its hour."""
    try:
        schema, kind, dna = release.schema, said.kind, dna_of(release, said)
        weight = event_weight(schema, kind, said.amount_micros, said.dwell_ms)
        if dna or not (said.product or said.offer):
            known = {name for name, _ in dna}
            more = beside(schema, kind, said.tender, said.context_markers)
            dna = [*dna, *(one for one in more if one[0] not in known)]
        exploded = explode(schema, kind, dna)
    except EdgeError:
        return []  # written under another schema; the server will know what it means
    numbered = ((release.vocabulary.index(name), q8, hours) for name, q8, hours in exploded)
    return [Vote(at, vote(weight, q8), hours) for at, q8, hours in numbered if at is not None]


def dna_of(release: Release, said: event_pb2.Interaction) -> list[tuple[str, int]]:
    """The markers with their salience (1/256) that an interaction is about."""
    if said.dna:
        return [(one.marker, one.salience_q8) for one in said.dna]
    if said.product:
        known = len(release.vocabulary)
        found = release.products.dna(said.product) or []
        return [(release.vocabulary.name(at), q8) for at, q8 in found if at < known]
    row = release.catalogue.row_of.get(said.offer)
    if row is None:
        return []
    return [(one.marker, one.salience_q8) for one in release.catalogue.offers[row].dna]
