"""A visit: one person before one screen.

Rules
-----
- Everything about the visitor is in memory and ends with the visit: the fetched genome, what a
  stranger did, whose token it was. What is reported goes the ordinary way.
- A stranger is nobody, until the first thing that they do: then they get a provisional subject,
  random, for this visit. What they did counts for the decisions of this visit; it is the visit's
  own memory, and no genome of anybody is read. When they identify themselves, the two subjects are
  linked, and from then on their own consent decides.
- What the visitor was doing earlier in the visit still counts, the less the longer ago it was.
- A fetched genome ends with its time to live, too: the visitor is a stranger again.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge_sdk.arguments import is_text, seconds
from edge_sdk.config import Config
from edge_sdk.context import Context
from edge_sdk.decision import Decision, Unknown
from edge_sdk.dna.genome import NOBODY, Genome, Row, rows_from_block
from edge_sdk.errors import ClientClosed, EdgeError, StoreError, UnreachableError, UsageError
from edge_sdk.messages import dna_pb2
from edge_sdk.outbox import recording
from edge_sdk.outbox.redeeming import Redemption
from edge_sdk.runtime.desk import Desk
from edge_sdk.runtime.live import ANYBODY, PERSONALISATION, Live, Visitor, make_genome
from edge_sdk.runtime.local_state import Pending
from edge_sdk.runtime.recent import Trail
from edge_sdk.store.genomes import compatible
from edge_sdk.store.state import StoredImprint

if TYPE_CHECKING:
    from edge_sdk.plugins import Identified


class IdentifyResult(StrEnum):
    """What became of a presence token."""

    LOCAL = "LOCAL"  #: the device knows this customer already
    FETCHED = "FETCHED"  #: the server gave the genome, for this visit
    PENDING = "PENDING"  #: no answer yet; when it comes, the next decision knows
    UNKNOWN = "UNKNOWN"  #: nobody whom this device may know
    OFFLINE = "OFFLINE"  #: the server cannot be asked


@dataclass(eq=False)
class _Visit:
    """What is known in one visit. Replaced as a whole by `wipe`."""

    #: Known to the device by itself: None, or the subject.
    local: bytes | None = None
    provisional: bytes | None = None
    fetched: bytes | None = None
    row: Row | None = field(default=None, repr=False)
    lineage: dna_pb2.Lineage | None = None
    until: float = 0.0
    done: tuple[StoredImprint, ...] = ()
    made: tuple[Live, Pending, Row | None, Genome | None] | None = None
    trail: Trail = field(default_factory=Trail, repr=False)

    def imprint(self, imprint: StoredImprint) -> None:
        """Take what the visitor did."""
        self.done = (*self.done, imprint)

    @property
    def subject(self) -> bytes:
        """Who the visitor is, as far as is known."""
        return self.local or self.fetched or self.provisional or NOBODY


class Session:
    """One visit. Use it in a `with`: it is wiped at the end. Thread-safe."""

    def __init__(self, desk: Callable[[], Desk], config: Config, customer: str | None) -> None:
        self._desk = desk
        self._config = config
        self._lock = threading.Lock()
        self._visit = _Visit()
        self._unknown: tuple[Unknown, ...] = ()
        if customer is not None:
            room = desk().room
            subject = room.customers.subject_of(room.live, customer)
            if subject is None:
                self._unknown = (Unknown("customer", customer, None),)
            else:
                self._visit.local = subject

    # Who it is ----------------------------------------------------------------------------------

    def identify(self, token: str, timeout: float = 2.0) -> IdentifyResult:
        """Say who the visitor is, by a presence token (from a card, a phone, a log-in).

        Waits at most `timeout` seconds. Raises UsageError.
        """
        if not is_text(token) or not token:
            raise UsageError("a presence token is text")
        timeout = seconds("timeout", timeout)
        desk = self._desk()
        live = desk.room.live
        subject = desk.room.customers.subject_of(live, token)
        by_lookup = live.genomes.subject_of(token) is not None
        if subject is not None and (by_lookup or live.row(subject) is not None):
            self._now_is(self._visit, local=subject)
            return IdentifyResult.LOCAL
        return self._fetch(desk, token, timeout)

    def _fetch(self, desk: Desk, token: str, timeout: float) -> IdentifyResult:
        visit = self._visit
        answers: list[IdentifyResult] = []

        def ask() -> None:
            answers.append(self._ask(desk, visit, token, timeout))

        thread = threading.Thread(target=ask, name="genome-edge-identify", daemon=True)
        thread.start()
        thread.join(timeout)
        return answers[0] if answers else IdentifyResult.PENDING

    def _ask(self, desk: Desk, visit: _Visit, token: str, timeout: float) -> IdentifyResult:
        release = desk.room.live.release
        if release is None:
            return IdentifyResult.OFFLINE
        # Late: it brings the network's libraries, which a kiosk without visitors does not need.
        from edge_sdk.sync.updater import identify

        try:
            patience = max(timeout, self._config.call_timeout_s)
            lineage = release.manifest.lineage
            identifier = desk.room.plugins.identifier
            if identifier is None:
                store = desk.keeper.when_open(timeout).store
                found = identify(store, self._config, token, lineage, patience)
            else:
                found = identifier.identify(token, lineage, patience)
            if found is not None and not _is_somebody(found):
                raise ValueError("a visitor is 16 bytes, not all zero, and a time to live")
            row = rows_from_block(found.block)[0] if found and found.block is not None else None
        except (UnreachableError, StoreError, UsageError):
            return IdentifyResult.OFFLINE
        except EdgeError as error:
            desk.keeper.note(error)
            return IdentifyResult.OFFLINE
        except Exception as error:  # noqa: BLE001 an app's identifier fails in its own ways
            desk.room.failures.note("identify", error)
            return IdentifyResult.OFFLINE
        if found is None:
            return IdentifyResult.UNKNOWN
        self._now_is(visit, fetched=found, row=row)
        return IdentifyResult.FETCHED

    def _now_is(
        self,
        visit: _Visit,
        *,
        local: bytes | None = None,
        fetched: Identified | None = None,
        row: Row | None = None,
    ) -> None:
        with self._lock:
            if visit is not self._visit:
                return  # the visit was over before the answer came
            self._unknown = ()
            visit.local = local
            if fetched is not None:
                visit.fetched = fetched.subject
                if fetched.block is not None:
                    visit.row = row
                    visit.lineage = fetched.block.lineage
                visit.until = time.monotonic() + fetched.ttl_s
            stranger, visit.provisional = visit.provisional, None
        if local is not None:
            self._desk().room.past.join(local, visit.trail)
        if stranger is not None and visit.subject != stranger:
            desk = self._desk()
            desk.take(recording.link(visit.subject, stranger, desk.room.clock.stamp()))

    def _current(self) -> _Visit:
        """The visit, without what has outlived its time."""
        visit = self._visit
        if visit.fetched is not None and time.monotonic() >= visit.until:
            self.wipe()
        return self._visit

    def _visitor(self, desk: Desk, visit: _Visit) -> Visitor:
        live, subject = desk.room.live, visit.subject
        if subject == NOBODY:
            return ANYBODY._replace(unknown=self._unknown)
        if visit.local is not None and not visit.done:
            return desk.room.customers.visitor(live, subject.hex())
        if visit.local is not None:
            row, bits = live.row(subject), live.genomes.consents(subject)
        elif visit.fetched is not None:
            row = visit.row if _readable(visit, live) else None
            bits = visit.row.consents if visit.row is not None else 0
        else:
            row, bits = None, PERSONALISATION
        consents = desk.room.local.consents(subject, bits)
        if not consents & PERSONALISATION:
            return Visitor(subject, consents, None, private=True)
        pending = (*desk.room.local.pending(subject), *visit.done)
        made = visit.made
        if made is None or made[0] is not live or made[1] != pending or made[2] is not row:
            made = (live, pending, row, make_genome(live.release, row, pending))
            visit.made = made
        return Visitor(subject, consents, made[3], private=True)

    # What it does -------------------------------------------------------------------------------

    def decide(
        self, context: Context, placement: str, slots: int = 1, *, durable: bool = False
    ) -> Decision:
        """Choose offers for a moment of this visit; as `EdgeClient.decide`."""
        desk = self._desk()
        visit = self._current()
        stays = visit.local is not None or visit.fetched is not None or visit.subject == NOBODY
        return desk.decide(
            self._visitor(desk, visit),
            context,
            placement,
            slots,
            kept=stays,
            trail=None if visit.local is not None else visit.trail,
            durable=durable,
        )

    def report(
        self,
        decision: Decision | str,
        kind: str,
        *,
        slot: int = 0,
        value: float | None = None,
        event_id: str | None = None,
        durable: bool = False,
    ) -> str:
        """Say what followed a decision; as `EdgeClient.report`."""
        desk = self._desk()
        return desk.report(
            decision,
            kind,
            slot=slot,
            value=value,
            event_id=event_id,
            durable=durable,
            memory=self._memory(self._current()),
        )

    def redeem(self, decision: Decision | str, *, slot: int = 0) -> Redemption:
        """Redeem what a decision offered; as `EdgeClient.redeem`."""
        desk = self._desk()
        return desk.redeem(decision, slot, memory=self._memory(self._current()))

    def imprint(
        self,
        kind: str,
        *,
        product: str | None = None,
        dna: Mapping[str, float] | Sequence[str] | None = None,
        interaction_id: str | None = None,
        **facts: Any,
    ) -> str:
        """Say what the visitor did; as `EdgeClient.imprint`."""
        desk = self._desk()
        visit = self._current()
        with self._lock:
            if visit.subject == NOBODY:
                visit.provisional = secrets.token_bytes(16)
        return desk.imprint(
            visit.subject,
            kind,
            product=product,
            dna=dna,
            interaction_id=interaction_id,
            facts=facts,
            memory=self._memory(visit),
        )

    def _memory(self, visit: _Visit) -> _Visit | None:
        """Where what the visitor does is remembered: with the visit, unless the device holds the
        customer's genome anyway."""
        return None if visit.local is not None else visit

    def wipe(self) -> None:
        """Forget the visitor; who comes next is a stranger."""
        with self._lock:
            visit, self._visit = self._visit, _Visit()
            self._unknown = ()
            gone, visit.provisional = visit.provisional, None
            visit.local = visit.fetched = visit.row = visit.lineage = visit.made = None
            visit.done = ()
            visit.trail = Trail()
        if gone is not None:
            with contextlib.suppress(ClientClosed):  # then nothing counts any more
                self._desk().room.ledger.forget(gone)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wipe()


def _is_somebody(found: Identified) -> bool:
    subject = found.subject
    named = isinstance(subject, bytes) and len(subject) == 16 and subject != NOBODY
    return named and found.ttl_s >= 0


def _readable(visit: _Visit, live: Live) -> bool:
    release = live.release
    if release is None or visit.lineage is None:
        return False
    return compatible(visit.lineage, release.manifest.lineage)
