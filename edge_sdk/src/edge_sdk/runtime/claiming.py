"""Taking what is limited, so that no two decisions of a store ever take the last one.

What a decision chose is taken before it is shown: in this process by the ledger's lock, among the
processes of a store by turns at its file of claims. Where others took something of it meanwhile,
the decision is made again without that, a few times, and in the end without anything that others
could take. Its own offers do not compete: it is told how much room there is. What is not limited
pays nothing.

Where the file cannot be used (a full disk, no store) this process counts for itself. Where another
process does not end its turn in time, what is limited is not shown.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_sdk import _posix
from edge_sdk.arguments import is_whole
from edge_sdk.decision import Decision, Reason
from edge_sdk.engine.cap_holds import Hold
from edge_sdk.engine.cap_rules import CONVERT, DISMISS, REDEEM, VIEW, CapRow
from edge_sdk.engine.cap_views import NONE_BLOCKED, Blocked
from edge_sdk.engine.caps import CapLedger
from edge_sdk.store.reservations import ClaimFile, Record

if TYPE_CHECKING:
    from edge_sdk.dna.schema import DnaSchema
    from edge_sdk.engine.record import Record as DecisionRecord
    from edge_sdk.engine.release import Release

log = logging.getLogger("edge_sdk")

#: A view is held for so long after a decision that is shown when it is viewed.
HOLD_MS: Final = 300_000
# Kinds that count by their own names.
_COUNTED: Final = frozenset({VIEW, REDEEM, DISMISS})
# How often a decision is made; at last without everything that others could take.
_TRIES: Final = 4
_PATIENCE_S: Final = 0.1
_EARLY: Final = 10_000
# What another process keeps from being taken is asked for again after this.
_BUSY_MS: Final = 1_000
_NOT_SHOWN: Final = frozenset({Reason.HOUSE, Reason.HELD_OUT})

#: Makes a decision with these offers kept away; again, where one was made, from the same draw.
Choose = Callable[[Blocked, "DecisionRecord | None"], "tuple[Decision, DecisionRecord]"]
_Wanted = Sequence[tuple[bytes, str]]
_Failed = Mapping[str, tuple[str, int]]


def claim_of(decision_id: bytes, slot: int) -> bytes:
    """What a view, a redemption or a dismissal of a slot counts under."""
    return decision_id + bytes((slot,))


def counted_as(schema: DnaSchema, kind: str) -> list[str]:
    """What an outcome of a kind counts as: itself, and a success where the schema takes it for
    one."""
    kinds = [kind] if kind in _COUNTED else []
    if schema.has_kind(kind) and schema.kind(kind).label > 0:
        kinds.append(CONVERT)
    return kinds


class Claims:
    """What was taken, by this process and by the others of its store. Thread-safe."""

    def __init__(self, ledger: CapLedger) -> None:
        self.ledger = ledger
        self._lock = threading.Lock()
        self._file: ClaimFile | None = None
        self._reload: Callable[[], Iterable[CapRow]] = tuple
        # What was taken before there was a file, the last of it.
        self._early: deque[Record] = deque(maxlen=_EARLY)
        # The store whose file was shared last.
        self._store: Path | None = None
        self._said = ""

    # The file -----------------------------------------------------------------------------------

    def attach(self, file: ClaimFile, reload: Callable[[], Iterable[CapRow]]) -> None:
        """Share a file from now on. `reload` gives everything that the store holds."""
        self._store = file.store
        try:
            with self._lock:
                if not file.turns.take(_PATIENCE_S * 10):
                    raise OSError("another process does not end its turn at the file of claims")
                try:
                    self._learn(file.open())
                    file.append(self._early)
                    self._early.clear()
                finally:
                    file.turns.give()
                before, self._file, self._reload = self._file, file, reload
            if before is not None:
                before.close()
        except OSError as error:
            self._trouble(error)
            file.close()

    def detach(self) -> None:
        """Leave the file: the store is closed."""
        # Not while somebody reads or writes it: its number may be another file's the next moment.
        if self._lock.acquire(timeout=10 * _PATIENCE_S):
            try:
                self.abandon()
            finally:
                self._lock.release()

    def abandon(self) -> None:
        """In a forked child: leave the parent's file, whatever its threads were at."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def forked(self, ledger: CapLedger) -> Claims:
        """In a forked child, which knows by its ledger what the parent knew: share the same file,
        before the child has opened the store."""
        other = Claims(ledger)
        if self._store is not None:
            with contextlib.suppress(OSError):
                file = ClaimFile(self._store, _posix.boot_id(), ledger.elapsed)
                other.attach(file, ledger.rows)
        return other

    def follow(self) -> None:
        """Learn what other processes have taken."""
        file = self._file
        try:
            if file is not None and file.news():
                with self._turn():
                    pass
        except OSError:
            pass  # who takes something finds out, too, and says so

    def shared(self) -> set[bytes]:
        """Who took or holds anything by the file of claims."""
        with contextlib.suppress(TimeoutError, OSError), self._turn() as file:
            return file.subjects() if file is not None else set()
        return {row.subject for row in self.ledger.rows()}  # whoever it is: not told now

    # Asking and taking --------------------------------------------------------------------------

    def blocking(self, subject: bytes, now_ms: int, slots: int = 1) -> Blocked:
        """What may not be shown to a subject now, and why; and what one decision of so many slots
        may show of campaigns."""
        self.follow()
        return self.ledger.blocking(subject, now_ms, slots if is_whole(slots) else 1)

    def take(
        self, subject: bytes, wanted: _Wanted, now_ms: int, *, hold: bool, kept: bool = True
    ) -> tuple[tuple[CapRow, ...], _Failed]:
        """Take the views of offers, all of them or none; the rows to persist, or what failed.

        With `hold` they are held until they are viewed, or lapse; the rows say what is. `kept` is
        False for somebody whom the device must not remember: what they take counts for the device
        alone.
        """
        if not wanted:
            return (), {}
        try:
            with self._turn() as file:
                rows, failed, lapse = self._take(subject, wanted, now_ms, hold)
                told = rows if kept else [row._replace(subject=b"") for row in rows]
                self._tell(
                    file,
                    [
                        Record.taken(row, self.ledger.elapsed())
                        if lapse is None
                        else Record.held(row, lapse)
                        for row in told
                    ],
                )
        except TimeoutError:
            refused = [offer for _, offer in wanted if self.ledger.limited(offer, subject)]
            if refused:
                return (), dict.fromkeys(refused, (Reason.CAPPED.value, now_ms + _BUSY_MS))
            # It counts for others, who learn of it from the store, and nothing can keep it away.
            rows, failed, _ = self._take(subject, wanted, now_ms, hold)
        return tuple(rows) if hold else self.told(rows, kept=kept), failed

    def _take(
        self, subject: bytes, wanted: _Wanted, now_ms: int, hold: bool
    ) -> tuple[list[CapRow], _Failed, int | None]:
        """The rows, or what failed, and when they lapse."""
        lapse = self.ledger.elapsed() + HOLD_MS if hold else None
        return (*self.ledger.take(subject, wanted, now_ms, lapse), lapse)

    def told(self, rows: Iterable[CapRow], *, kept: bool) -> tuple[CapRow, ...]:
        """What others, and the store, may know of rows; `kept` as in `take`."""
        if kept:
            return tuple(rows)
        return tuple(
            row._replace(subject=b"")
            for row in rows
            if self.ledger.counts_for_all(row.offer, row.kind)
        )

    def settle(self, rows: Sequence[CapRow]) -> None:
        """Tell the other processes that what was held has happened. The ledger knows already."""
        with contextlib.suppress(TimeoutError):  # else they learn of it from the store
            if rows:
                with self._turn() as file:
                    self._tell(file, [Record.taken(row, self.ledger.elapsed()) for row in rows])

    def let_go(self, rows: Sequence[CapRow], *, kept: bool) -> None:
        """What was held will not happen: it lapses now; `kept` as in `take`."""
        now = self.ledger.elapsed()
        for row in rows:
            self.ledger.hold(Hold(row.claim, row.subject, row.offer, now, row.campaign, row.group))
        with contextlib.suppress(TimeoutError):  # else it lapses for them in its time
            if rows:
                with self._turn() as file:
                    self._tell(file, [Record.held(row, now) for row in self.told(rows, kept=kept)])

    def count(
        self, subject: bytes, offer: str, kinds: Iterable[str], now_ms: int, claim: bytes
    ) -> tuple[CapRow, ...]:
        """Count what has happened, whatever is blocked; the rows to persist."""
        rows = [self.ledger.row(subject, offer, kind, now_ms, claim) for kind in kinds]
        return self.tell([row for row in rows if row is not None])

    def tell(self, rows: Sequence[CapRow]) -> tuple[CapRow, ...]:
        """Count rows, here and for every process; those that are new."""
        if not rows:
            return ()
        with contextlib.suppress(TimeoutError), self._turn() as file:
            new = self.ledger.apply(rows)
            self._tell(file, [Record.taken(row, self.ledger.elapsed()) for row in new])
            return tuple(new)
        return tuple(self.ledger.apply(rows))  # the others learn of it from the store

    # Under the lock -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _turn(self) -> Iterator[ClaimFile | None]:
        """A turn at the file, read to its end; None: there is none. Raises TimeoutError."""
        if not self._lock.acquire(timeout=_PATIENCE_S):
            raise TimeoutError
        try:
            file = self._file
            if file is None:
                yield None
                return
            if not file.turns.take(_PATIENCE_S):
                raise TimeoutError
            try:
                yield file if self._read(file) else None
            finally:
                file.turns.give()
        finally:
            self._lock.release()

    def _read(self, file: ClaimFile) -> bool:
        """Learn what is new in the file; whether it can be used."""
        try:
            records, missed = file.read()
        except OSError as error:
            self._trouble(error)
            return False
        if missed:
            self.ledger.apply(self._reload())
        self._learn(records)
        return True

    def _learn(self, records: Iterable[Record]) -> None:
        rows = []
        for record in records:
            row, hold = record.row(), record.hold()
            if row is not None:
                rows.append(row)
            elif hold is not None:
                self.ledger.hold(hold)
        if rows:
            self.ledger.apply(rows)

    def _tell(self, file: ClaimFile | None, records: list[Record]) -> None:
        if file is None and self._file is None:
            self._early += records
        elif file is not None and records:
            try:
                file.append(records)
                self._said = ""
            except OSError as error:
                self._trouble(error)

    def _trouble(self, error: OSError) -> None:
        if str(error) != self._said:
            log.warning("caps are counted by each process for itself: %s", error)
        self._said = str(error)


def within_caps(
    claims: Claims,
    release: Release | None,
    subject: bytes,
    now_ms: int,
    slots: int,
    choose: Choose,
    *,
    kept: bool = True,
    hold: bool = False,
) -> tuple[Decision, DecisionRecord, tuple[CapRow, ...]]:
    """Make a decision and take what it shows; with the rows to persist with it.

    `slots` is how many are asked for. `choose` must come to the same decision from the same draw
    and what is kept away. `kept` as in `Claims.take`. With `hold` what is shown at once is only
    held, for `Claims.settle` or `let_go`. Raises what `choose` raises.
    """
    if release is None or not release.catalogue.caps:
        return (*choose(NONE_BLOCKED, None), ())
    blocked = claims.blocking(subject, now_ms, slots)
    decision, record = choose(blocked, None)
    taken: dict[str, tuple[str, int]] = {}
    placement = release.placements.get(decision.placement)
    on_view = placement is not None and placement.shown_on_view
    hold = hold or on_view
    for left in range(_TRIES, 0, -1):
        wanted, forced = _wanted(claims, release, subject, decision)
        rows, failed = claims.take(subject, wanted, now_ms, hold=hold, kept=kept)
        if not failed:
            break
        if left == 2:  # one more is enough without what others could take
            contested = _contested(claims.ledger, release, subject)
            taken = {**dict.fromkeys(contested, (Reason.CAPPED.value, now_ms + _BUSY_MS)), **taken}
        taken |= failed
        if left > 1:
            # What others took leaves less room, too.
            blocked = claims.ledger.blocking(subject, now_ms, slots).and_also(taken)
            decision, record = choose(blocked, record)
    for claim, offer in forced if not on_view else ():
        rows += claims.count(subject, offer, (VIEW,), now_ms, claim)
    return decision, record, () if on_view else rows


def _contested(ledger: CapLedger, release: Release, subject: bytes) -> list[str]:
    """The offers that others could take away: what must be taken, and can be kept from this
    subject. What only counts for others is none."""
    return [
        offer
        for offer in release.catalogue.caps
        if ledger.counts(offer, VIEW, subject) and ledger.limited(offer, subject)
    ]


def _wanted(
    claims: Claims, release: Release, subject: bytes, decision: Decision
) -> tuple[list[tuple[bytes, str]], list[tuple[bytes, str]]]:
    """The claims and offers that a decision shows and that count; and those that a test forces."""
    wanted: list[tuple[bytes, str]] = []
    forced: list[tuple[bytes, str]] = []
    limited, ledger = release.catalogue.caps, claims.ledger
    for number, slot in enumerate(decision.slots):
        offer = slot.offer
        if offer is None or offer.id not in limited or slot.reason in _NOT_SHOWN:
            continue
        if ledger.counts(offer.id, VIEW, subject):
            into = forced if slot.reason is Reason.FORCED else wanted
            into.append((claim_of(bytes.fromhex(decision.id), number), offer.id))
    return wanted, forced
