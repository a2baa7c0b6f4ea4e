"""What follows a decision is taken down: reports, redemptions, and what customers do."""

from __future__ import annotations

import hashlib
import os
import string
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from edge_sdk.arguments import MAX_NAME, is_whole, shown
from edge_sdk.decision import Decision, Unknown
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_rules import CONVERT, REDEEM, VIEW, CapRow
from edge_sdk.engine.decide import MAX_SLOTS
from edge_sdk.errors import StoreError, UnknownDecision, UsageError
from edge_sdk.lazy import later
from edge_sdk.outbox import recording
from edge_sdk.outbox.entries import LOST, WRITTEN, Entry
from edge_sdk.runtime.claiming import claim_of, counted_as
from edge_sdk.runtime.keeper import Keeper
from edge_sdk.runtime.local_state import LocalState
from edge_sdk.runtime.recent import Recent
from edge_sdk.runtime.room import Room
from edge_sdk.store import state as store_state
from edge_sdk.store.state import StoredImprint

if TYPE_CHECKING:
    from edge_sdk.outbox import redeeming
else:
    redeeming = later("edge_sdk.outbox.redeeming")

_REMEMBERED: Final = 2_048
# A decision of another process is on disk at most this much later than it was shown.
_SOON_S: Final = 0.2
_AGAIN_S: Final = 0.02
# How often the log says that the same name is not known.
_TELL_AGAIN_S: Final = 60.0
_ID_LENGTH: Final = 32
_HEX: Final = frozenset(string.hexdigits)


class Memory(Protocol):
    """Where a private visit keeps what its visitor did."""

    def imprint(self, imprint: StoredImprint) -> None:
        """Take an imprint at once."""


class Made(NamedTuple):
    """What has to be known of a decision to take down what followed it: the offers' ids by slot
    (empty: none)."""

    subject: bytes
    placement: str
    offers: tuple[str, ...]
    private: bool = False


class Aftermath:
    """Takes down what follows. Thread-safe."""

    def __init__(self, room: Room, keeper: Keeper) -> None:
        self.room = room
        self.keeper = keeper
        self.consenting = threading.Lock()
        self._made: Recent[str, Made] = Recent(_REMEMBERED)
        self._told: Recent[tuple[str, str], float] = Recent(_REMEMBERED)

    def made(self, decision: Decision, made: Made) -> None:
        """Know of a decision what is needed to take down what follows."""
        self._made.put(decision.id, made)

    def keep_decision(self, entry: Entry, *, kept: bool) -> None:
        """Put a decision on disk, with the views in `entry.caps`, which are held so far: they count
        from the commit on. `kept` as in `Claims.take`.

        Raises StoreError: then nothing of it is written, and nothing counts. Only where the disk
        began to write it and did not end in time it may still be, and counts from then on.
        """
        claims, rows, late = self.room.claims, entry.caps, threading.Event()
        entry.caps = claims.told(rows, kept=kept)
        entry.guard = lambda _: LOST if late.is_set() else WRITTEN

        def count(outcome: str) -> None:
            if outcome == WRITTEN:
                claims.ledger.apply(rows)

        entry.settled = count
        try:
            self.keeper.put_durably(entry, self.room.config.durable_timeout_s)
        except StoreError:
            late.set()
            claims.let_go(rows, kept=kept)
            raise
        claims.settle(entry.caps)

    def note_unknown(self, unknown: Unknown) -> None:
        """Count a name that is not known, and have the log say so."""
        self.room.counts.add(f"unknown_{unknown.kind}")
        key = (unknown.kind, unknown.name)
        now = time.monotonic()
        told = self._told.get(key)
        if told is None or now - told > _TELL_AGAIN_S:
            self._told.put(key, now)
            self.keeper.tell(unknown)

    # What followed ------------------------------------------------------------------------------

    def report(
        self,
        decision: Decision | str,
        kind: str,
        *,
        slot: int = 0,
        value: float | None = None,
        event_id: str | None = None,
        durable: bool = False,
        memory: Memory | None = None,
    ) -> str:
        """Take down what followed a decision; returns the event's id.

        Raises UsageError (UnknownDecision for what is not an id), and with `durable` StoreError.
        """
        id_ = decision_id(decision)
        _check_slot(slot)
        self.check_kind(kind)
        micros = recording.scaled("value", value, 1_000_000)
        name = (
            os.urandom(16).hex() if event_id is None else recording.event_name("event_id", event_id)
        )
        made = self._find(id_)
        offer = _offer_in(made, slot, id_) if made is not None else ""
        subject = made.subject if made is not None else NOBODY
        placement = made.placement if made is not None else ""
        said = recording.Outcome(
            bytes.fromhex(id_), slot, kind, name, offer=offer, placement=placement,
            value_micros=micros,
        )  # fmt: skip
        entry = recording.outcome(
            said,
            subject,
            self.room.clock.stamp(),
            self._counted(made, said),
            once=event_id is not None,
        )
        self._take_outcome(made, entry, memory, durable=durable)
        return name

    def _take_outcome(
        self, made: Made | None, entry: Entry, memory: Memory | None, *, durable: bool
    ) -> str:
        if made is not None and made.private and memory is None:
            entry.imprint = None  # the visit is over, and the device keeps nothing of it
        return self.take(entry, memory=memory, durable=durable)

    def _counted(self, made: Made | None, said: recording.Outcome) -> tuple[CapRow, ...]:
        """What an outcome counts for caps: a view, where the decision did not count as one."""
        release = self.room.live.release
        if made is None or not said.offer or release is None or not release.catalogue.caps:
            return ()
        known = release.placements.get(made.placement)
        kinds = self._kinds(said.kind)
        if known is not None and not known.shown_on_view:
            kinds = [kind for kind in kinds if kind != VIEW]
        claim = claim_of(said.decision_id, said.slot)
        now_ms = self.room.clock.now_ms()
        return self.room.claims.count(made.subject, said.offer, kinds, now_ms, claim)

    def _kinds(self, kind: str) -> list[str]:
        release = self.room.live.release
        return counted_as(release.schema, kind) if release is not None else []

    def redeem(
        self, decision: Decision | str, slot: int = 0, memory: Memory | None = None
    ) -> redeeming.Redemption:
        """Redeem what a decision offered, on disk before it is granted.

        Raises UnknownDecision for what is not an id, UsageError for a slot that the decision does
        not have, and StoreError where the disk does not take it: it was not granted then.
        """
        id_ = decision_id(decision)
        _check_slot(slot)
        refused = partial(redeeming.Redemption, False, decision=id_, slot=slot)
        made = self._find(id_)
        if made is None:
            return refused(redeeming.RedemptionReason.UNKNOWN_DECISION)
        offer = _offer_in(made, slot, id_)
        if not offer:
            return refused(redeeming.RedemptionReason.NOTHING_OFFERED)
        now_ms = self.room.clock.now_ms()
        if self._has_ended(offer, now_ms):
            return refused(redeeming.RedemptionReason.ENDED, offer=offer)
        release = self.room.live.release
        rule = release.catalogue.caps.get(offer) if release is not None else None
        ledger, claim = self.room.ledger, claim_of(bytes.fromhex(id_), slot)
        counted = (
            ledger.row(made.subject, offer, kind, now_ms, claim) for kind in self._kinds(REDEEM)
        )
        caps = tuple(row for row in counted if row is not None)
        name = f"redeem:{id_}:{slot}"
        said = recording.Outcome(
            bytes.fromhex(id_), slot, REDEEM, name, offer=offer, placement=made.placement
        )
        stamp = self.room.clock.stamp()
        entry = recording.outcome(said, made.subject, stamp, caps, urgent=True)
        entry.guard = redeeming.guard(said.decision_id, slot, made.subject, rule, now_ms)
        outcome = self._take_outcome(made, entry, memory, durable=True)
        if outcome != WRITTEN:
            return refused(redeeming.RedemptionReason(outcome), offer=offer)
        self.room.claims.tell(caps)
        return redeeming.Redemption(
            True, redeeming.RedemptionReason.GRANTED, id_, slot, offer, name
        )

    def _has_ended(self, offer: str, now_ms: int) -> bool:
        release = self.room.live.release
        row = release.catalogue.row_of.get(offer) if release is not None else None
        if release is None or row is None:
            return False  # withdrawn meanwhile; who was offered it may still have it
        until = release.catalogue.offers[row].targeting.valid_until_ms
        return bool(until) and now_ms >= until

    def imprint(
        self,
        subject: bytes,
        kind: str,
        *,
        product: str | None,
        dna: Mapping[str, float] | Sequence[str] | None,
        interaction_id: str | None,
        facts: Mapping[str, Any],
        durable: bool = False,
        memory: Memory | None = None,
    ) -> str:
        """Take down what a customer did; returns the interaction's id. Raises UsageError, and with
        `durable` StoreError."""
        self.check_kind(kind)
        once = interaction_id is not None
        name = recording.event_name("interaction_id", interaction_id) if once else ""
        stamp = self.room.clock.stamp()
        said = recording.read_interaction(
            kind,
            name or os.urandom(16).hex(),
            product=product,
            dna=dna,
            facts=facts,
            now_ms=stamp.server_ms,
        )
        release = self.room.live.release
        if product is not None and release is not None and release.products.dna(product) is None:
            self.note_unknown(Unknown("product", product, None))
        entry = recording.interaction(said, subject, stamp, once=once)
        if said.offer and CONVERT in self._kinds(kind):
            claim = hashlib.blake2b(said.interaction_id.encode(), digest_size=16).digest()
            now_ms = self.room.clock.now_ms()
            entry.caps = self.room.claims.count(subject, said.offer, (CONVERT,), now_ms, claim)
        self.take(entry, memory=memory, durable=durable)
        return said.interaction_id

    def check_kind(self, kind: str) -> None:
        """Refuse a kind that the schema does not have, naming the nearest; UsageError."""
        if not isinstance(kind, str) or not 0 < len(kind) <= MAX_NAME or not kind.isprintable():
            raise UsageError(f"kind={shown(kind)} is not allowed: text such as 'view'")
        release = self.room.live.release
        if release is not None:
            release.schema.kind(kind)

    def take(self, entry: Entry, *, memory: Memory | None = None, durable: bool = False) -> str:
        """Hand an event to the writer; what it imprints counts from now on.

        Returns WRITTEN or, with `durable`, why it was not written, and raises StoreError.
        """
        imprint = recording.stored(entry)
        local = self.room.local
        if memory is not None:  # a visit: it keeps what its visitor did, the store does not
            entry.imprint = None
        if not durable:
            if imprint is not None and memory is not None:
                memory.imprint(imprint)
            elif imprint is not None:
                local.imprint(imprint)
                entry.settled = partial(_settle, local, imprint.id)
            self.keeper.put(entry)
            return WRITTEN
        outcome = self.keeper.put_durably(entry, self.room.config.durable_timeout_s)
        if outcome == WRITTEN and imprint is not None:
            if memory is not None:
                memory.imprint(imprint)
            else:
                local.extend((imprint,))
        return outcome

    # Which decision -----------------------------------------------------------------------------

    def _find(self, id_: str, wait_s: float = _SOON_S) -> Made | None:
        """What is known of a decision, here or in the store; None: nothing, even a moment later."""
        made = self._made.get(id_)
        if made is not None:
            return made
        key = bytes.fromhex(id_)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                with self.keeper.when_open(_SOON_S).store.read() as connection:
                    frame = store_state.find_decision(connection, key)
            except StoreError:
                return None
            if frame is not None:
                record = store_state.decision_of(frame)
                offers = tuple(slot.offer for slot in record.slots)
                return Made(frame.subject, record.placement, offers)
            if time.monotonic() > deadline:
                return None
            time.sleep(_AGAIN_S)


def _settle(local: LocalState, id_: str, outcome: str) -> None:
    local.imprint_settled(id_, written=outcome == WRITTEN)


def decision_id(decision: Decision | str) -> str:
    """The id of a decision. Raises UnknownDecision for what cannot be one."""
    id_ = decision.id if isinstance(decision, Decision) else decision
    if not isinstance(id_, str) or len(id_) != _ID_LENGTH or not _HEX.issuperset(id_):
        raise UnknownDecision(f"{shown(id_)} is no decision's id: those have 32 hex characters")
    return id_.lower()


def _offer_in(made: Made, slot: int, id_: str) -> str:
    if slot >= len(made.offers):
        raise UsageError(f"decision {id_} has {len(made.offers)} slots; there is no slot {slot}")
    return made.offers[slot]


def _check_slot(slot: object) -> None:
    if not is_whole(slot) or not 0 <= slot < MAX_SLOTS:
        raise UsageError(f"there is no slot {shown(slot)}")
