"""What an event of the log counts for caps as. Free of I/O; all that count read events here.

It is what the device that said it counted itself: a decision counts as a view where its placement
takes deciding for showing, an outcome as a view where it does not; a redemption or a dismissal as
itself; what the schema takes for a success as one. An interaction that names an offer is a success
or nothing. The claims are those of the device, so that nothing counts twice. What no device could
have claimed (an id of another length, a slot beyond what a claim can name) counts for nothing: no
device would take it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from edge_sdk.decision import Reason
from edge_sdk.engine.cap_rules import CONVERT, VIEW
from edge_sdk.runtime.claiming import claim_of, counted_as
from genome_server.genomes.events import interaction_key

if TYPE_CHECKING:
    from edge_sdk.dna.schema import DnaSchema
    from genome_edge.v1 import event_pb2

_ID_BYTES: Final = 16
_SLOTS: Final = 256
_NOT_SHOWN: Final[Collection[str]] = frozenset({Reason.HOUSE.value, Reason.HELD_OUT.value})


class Shown(Protocol):
    """A placement, as far as it says what counts as a view."""

    @property
    def shown_on_view(self) -> bool:
        """Whether it is a view that counts, and not the decision."""


class Said(Protocol):
    """A release, as far as it says what events count as."""

    @property
    def schema(self) -> DnaSchema:
        """Which kinds are successes."""

    @property
    def placements(self) -> Mapping[str, Shown]:
        """The placements by id."""


class Happened(NamedTuple):
    """Something with an offer, under its claim: a view, redeem, dismiss or convert."""

    claim: bytes
    offer: str
    kind: str


def happened(event: event_pb2.Event, release: Said) -> Iterator[Happened]:
    """What an event counts as."""
    if event.HasField("decision"):
        record = event.decision
        placement = release.placements.get(record.placement)
        if placement is None or not placement.shown_on_view:
            slots = record.slots[:_SLOTS] if len(record.decision_id) == _ID_BYTES else ()
            for number, slot in enumerate(slots):
                if slot.offer and slot.reason not in _NOT_SHOWN:
                    yield Happened(claim_of(record.decision_id, number), slot.offer, VIEW)
    elif event.HasField("outcome") and event.outcome.offer:
        said = event.outcome
        if len(said.decision_id) != _ID_BYTES or said.slot >= _SLOTS:
            return
        placement = release.placements.get(said.placement)
        on_view = placement is None or placement.shown_on_view
        claim = claim_of(said.decision_id, said.slot)
        for kind in counted_as(release.schema, said.kind):
            if counts(kind, on_view):
                yield Happened(claim, said.offer, kind)
    elif event.HasField("interaction") and event.interaction.offer:
        done = event.interaction
        if done.interaction_id and CONVERT in counted_as(release.schema, done.kind):
            yield Happened(interaction_key(done.interaction_id), done.offer, CONVERT)


def counts(kind: str, shown_on_view: bool) -> bool:
    """Say whether an outcome counts: a view only where deciding did not count as one already."""
    return kind != VIEW or shown_on_view
