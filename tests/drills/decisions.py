"""Devices of simulated worlds decide, and customers say what they agree to; and what must hold.

Replayable: what is on disk of a decision says what was answered, and the release as the server
published it gives the same answer again. Private: no row is read of a customer who did not agree,
nor of anybody else. What a customer last said on a device counts before what the row says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from edge_sdk.context import Context
from edge_sdk.decision import Decision
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.decide import check_replay
from edge_sdk.runtime.live import PERSONALISATION
from edge_sdk.store.genomes import compatible
from edge_sdk.store.state import decision_of, find_decision, recent_decisions
from genome_edge.v1 import event_pb2
from tests.drills.findings import Wrong
from tests.drills.region import CUSTOMERS, Device
from tests.drills.town import Town, subject_of

if TYPE_CHECKING:
    from tests.drills.worlds import World

_PLACES: Final = (None, "hotel", "airport")
_ALL: Final = 1 << 20

#: Of each slot: offer (empty: none), reason, propensity.
Answer = tuple[tuple[str, str, float], ...]


class Consents:
    """What customers last said on a device; None: it may not have reached the disk.

    A copy shares nothing with it that changes.
    """

    def __init__(self) -> None:
        self.said: dict[bytes, bool | None] = {}

    def note(self, subject: bytes, granted: bool | None) -> None:
        """It is said, and for sure where it is not None."""
        self.said = {**self.said, subject: granted}

    def doubt(self, subjects: Iterable[bytes] | None = None) -> None:
        """Of these, or all, it may be forgotten."""
        unsure = self.said if subjects is None else self.said.keys() & set(subjects)
        self.said = {**self.said, **dict.fromkeys(unsure)}

    def holds(self, subject: bytes, said_by_row: int) -> bool | None:
        """Whether the customer's row may be read; None: it cannot be told."""
        return self.said.get(subject, bool(said_by_row & PERSONALISATION))


def decide(world: World, at: int) -> None:
    """Somebody is decided for."""
    dice, device = world.dice, world.devices[at]
    customer = dice.choice((None, *range(CUSTOMERS)))
    context = Context(place=dice.choice(_PLACES))
    name = None if customer is None else str(customer)
    decision, read = device.decide(name, context, dice.randrange(1, 4))
    world._note(f"decides for {name or 'nobody'}", at)
    world.tried["decided with a genome"] += decision.genome_used
    world.laws[at].answers[decision.id] = _answer_of(decision)
    _check_made(device, decision)
    subject = NOBODY if customer is None else subject_of(customer)
    _check_privacy(world, at, subject, decision, read)
    _check_kept(device, world.town, decision)


def agree(world: World, at: int) -> None:
    """A customer agrees to be known, or withdraws."""
    device, consents = world.devices[at], world.laws[at].consents
    number, granted = world.dice.randrange(CUSTOMERS), world.dice.random() < 0.5
    subject = subject_of(number)
    if subject not in {row.subject for row in device.store.genomes().rows()}:
        return
    world._note(f"customer {number} {'agrees' if granted else 'withdraws'}", at)
    consents.note(subject, None)

    def settled(outcome: str) -> None:
        if not outcome:
            consents.note(subject, granted)

    device.consent(subject, granted, settled)


def check_answers(device: Device, town: Town, answers: dict[str, Answer]) -> None:
    """Every decision that is kept was given so, and can be made again. Raises Wrong, StoreError."""
    with device.store.read() as connection:
        records = [decision_of(frame) for frame in recent_decisions(connection, _ALL)]
    for record in records:
        id_ = record.decision_id.hex()
        kept = _answer_in(record)  # of one whose answer nobody saw the device was switched off
        if answers.get(id_, kept) != kept:
            raise Wrong(f"decision {id_} was {answers[id_]}; it is kept as {kept}")
        _check_replay(town, record)


def _check_made(device: Device, decision: Decision) -> None:
    active = device.store.active_release()
    if decision.release != (active.version if active is not None else 0):
        raise Wrong(f"it decides from release {decision.release}, which is not the active one")


def _check_privacy(
    world: World, at: int, subject: bytes, decision: Decision, read: frozenset[bytes]
) -> None:
    device, town = world.devices[at], world.town
    row = town.moments.get(device.store.genome_cursor(), {}).get(subject)
    may = False if row is None else world.laws[at].consents.holds(subject, row.consents)
    world.tried["decided without consent"] += row is not None and may is False
    if not read <= {subject}:
        raise Wrong("a row was read of somebody else than who is decided for")
    if may is False and (read or decision.genome_used):
        raise Wrong(f"the genome of {subject.hex()[:6]} was read, who did not agree")
    active, lineage = device.store.active_release(), device.store.genome_lineage()
    if row is None or active is None or lineage is None:
        return
    if may and not decision.genome_used and compatible(active.manifest.lineage, lineage):
        raise Wrong(f"{subject.hex()[:6]} agreed, and is decided for without a genome")


def _check_kept(device: Device, town: Town, decision: Decision) -> None:
    with device.store.read() as connection:
        frame = find_decision(connection, bytes.fromhex(decision.id))
    if frame is None:
        if not device.writer.waiting():
            raise Wrong(f"decision {decision.id} is kept nowhere")
        return
    record = decision_of(frame)
    if _answer_in(record) != _answer_of(decision):
        raise Wrong(f"decision {decision.id} is not kept as it was given")
    _check_replay(town, record)


def _check_replay(town: Town, record: event_pb2.DecisionRecord) -> None:
    if record.release_version:
        release = town.compiled(record.release_version)
        if differences := check_replay(release, record):
            id_ = record.decision_id.hex()
            raise Wrong(f"decision {id_} cannot be made again: {'; '.join(differences)}")


def _answer_of(decision: Decision) -> Answer:
    return tuple(
        (slot.offer.id if slot.offer is not None else "", slot.reason.value, slot.propensity)
        for slot in decision.slots
    )


def _answer_in(record: event_pb2.DecisionRecord) -> Answer:
    return tuple((slot.offer, slot.reason, slot.propensity) for slot in record.slots)
