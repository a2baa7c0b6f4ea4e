"""How often an offer may be shown, and when it is never shown again. No input or output here.

Rules.
- A cap says: at most `limit` views (or redemptions) within a sliding window, for ever where the
  window is 0; for one customer, or for this device whoever stands before it. What nobody in
  particular did counts together, as if nobody were one customer of this device.
- A stop says: once redeemed (or dismissed), never again to that customer. Nobody in particular
  is not a customer: one stranger's refusal stops nothing for the next.
- What matters is decided when something happens, not when an offer is chosen: every event moves
  the moment until which an offer is blocked. A decision only compares those moments with now.
- A clock that is set back lifts no cap: a block ends at a moment, not after a while.

Theory of operation. The ledger keeps, for each (subject, offer, kind), the newest times that its
caps can ask for, and works out from them `blocked until` per subject and for the device. Readers
take no lock: what they read is replaced, never changed. `record` gives the row to persist, `apply`
takes rows from the store (another process may have written them), `prune` says which rows have
become irrelevant.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from edge_sdk.dna.genome import NOBODY
from genome_edge.v1 import release_pb2

VIEW: Final = "view"
REDEEM: Final = "redeem"
DISMISS: Final = "dismiss"
NEVER: Final = (1 << 63) - 1

_HOUR_MS: Final = 3_600_000
# Rows of offers that no release of this device mentions any more are kept this long.
_FORGOTTEN_AFTER_MS: Final = 90 * 24 * _HOUR_MS
_DEVICE: Final = b"device"  # not a subject: those have 16 bytes
_VIEWS: Final = 1024
_SURPLUS: Final = 65_536
# What is kept of an offer without a rule: the next release may have one.
_KEPT_WITHOUT_RULE: Final = 64
_KINDS: Final = {release_pb2.Cap.COUNT_VIEW: VIEW, release_pb2.Cap.COUNT_REDEEM: REDEEM}
_NONE: Final[frozenset[str]] = frozenset()


class CapRow(NamedTuple):
    """One event that counts, as it is persisted. `at_ms` in Unix milliseconds."""

    subject: bytes
    offer: str
    kind: str
    at_ms: int


class Limit(NamedTuple):
    """At most `limit` events of `kind` per window; `window_ms` 0 is for ever."""

    device: bool
    kind: str
    limit: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class CapRule:
    """Everything that can keep one offer away: its limits, and the kinds that stop it."""

    limits: tuple[Limit, ...]
    stops: frozenset[str]

    @classmethod
    def of(cls, spec: release_pb2.OfferSpec) -> CapRule | None:
        """The rule of an offer; None where nothing limits it."""
        limits = tuple(
            Limit(
                cap.scope == release_pb2.Cap.SCOPE_DEVICE,
                _KINDS.get(cap.count, VIEW),
                max(cap.limit, 1),
                cap.window_hours * _HOUR_MS,
            )
            for cap in spec.caps
        )
        wanted = ((REDEEM, spec.stop_after_redeem), (DISMISS, spec.stop_after_dismiss))
        stops = frozenset(kind for kind, wants in wanted if wants)
        return cls(limits, stops) if limits or stops else None

    def keep(self, kind: str) -> int:
        """How many of the newest events of a kind matter."""
        most = max((limit.limit for limit in self.limits if limit.kind == kind), default=0)
        return max(most, int(kind in self.stops))

    def relevant_ms(self, kind: str) -> int:
        """How long an event of a kind matters."""
        windows = [limit.window_ms or NEVER for limit in self.limits if limit.kind == kind]
        return NEVER if kind in self.stops else max(windows, default=0)


class _View(NamedTuple):
    """What is blocked for a subject, for as long as nothing happens and time has not passed."""

    version: int
    from_ms: int
    until_ms: int
    offers: frozenset[str]


class CapLedger:
    """Counts events and says which offers are blocked. Thread-safe; reading takes no lock."""

    def __init__(self, rules: Mapping[str, CapRule], rows: Iterable[CapRow] = ()) -> None:
        self._rules = rules
        self._lock = threading.Lock()
        self._times: dict[tuple[bytes, str, str], list[int]] = {}
        self._until: dict[bytes, dict[str, int]] = {}
        self._version = 0
        self._views: dict[bytes, _View] = {}
        self._surplus: deque[CapRow] = deque(maxlen=_SURPLUS)
        self.apply(rows)

    def record(self, subject: bytes, offer: str, kind: str, at_ms: int) -> CapRow | None:
        """Count an event (view, redeem, dismiss; other kinds count for nothing).

        Returns the row to persist, or None where no cap or stop of the offer asks for it.
        """
        rule = self._rules.get(offer)
        if rule is None or not rule.keep(kind):
            return None
        row = CapRow(subject, offer, kind, at_ms)
        self.apply((row,))
        return row

    def apply(self, rows: Iterable[CapRow]) -> None:
        """Take rows from the store. Each row once: the ledger counts what it is given."""
        with self._lock:
            touched: set[tuple[bytes, str]] = set()
            for row in rows:
                self._add(row)
                touched |= {(row.subject, row.offer), (_DEVICE, row.offer)}
            self._settle(touched)

    def blocked(self, subject: bytes, now_ms: int) -> frozenset[str]:
        """Ids of the offers that may not be shown to this subject (NOBODY: 16 zero bytes) now."""
        if not self._until:
            return _NONE
        view = self._views.get(subject)
        version = self._version
        if view is None or view.version != version or not view.from_ms <= now_ms < view.until_ms:
            until = {**self._until.get(_DEVICE, {})}
            for offer, moment in self._until.get(subject, {}).items():
                until[offer] = max(moment, until.get(offer, 0))
            later = {offer: moment for offer, moment in until.items() if moment > now_ms}
            view = _View(version, now_ms, min(later.values(), default=NEVER), frozenset(later))
            if len(self._views) >= _VIEWS:
                self._views = {}
            self._views[subject] = view
        return view.offers

    def rebind(self, rules: Mapping[str, CapRule]) -> None:
        """Go on under another release's rules; what was counted stays counted."""
        with self._lock:
            self._rules = rules
            self._until = {}
            self._settle({(key, offer) for key, offer, _ in self._times})

    def rows(self) -> Iterator[CapRow]:
        """Everything that still counts, as it would be persisted."""
        with self._lock:
            kept = {key: list(times) for key, times in self._times.items() if key[0] != _DEVICE}
        for (subject, offer, kind), times in kept.items():
            yield from (CapRow(subject, offer, kind, at) for at in times)

    def bound(self, now_ms: int) -> bool:
        """Events that lie ahead were counted while the clock was wrong: they have happened by now.

        Whether there were any. The time must be the server's.
        """
        with self._lock:
            ahead = [key for key, times in self._times.items() if times and times[-1] > now_ms]
            for key in ahead:
                self._times[key] = [min(at, now_ms) for at in self._times[key]]
            self._settle({(key, offer) for key, offer, _ in ahead})
        return bool(ahead)

    def prune(self, now_ms: int) -> list[CapRow]:
        """Forget what can no longer block anything; returns the rows that the store may delete."""
        touched: set[tuple[bytes, str]] = set()
        with self._lock:
            dropped = list(self._surplus)
            self._surplus.clear()
            for (key, offer, kind), times in list(self._times.items()):
                rule = self._rules.get(offer)
                age = _FORGOTTEN_AFTER_MS if rule is None else rule.relevant_ms(kind)
                kept = [at for at in times if age == NEVER or at + age > now_ms]
                if key != _DEVICE:
                    dropped += [CapRow(key, offer, kind, at) for at in times if at + age <= now_ms]
                if len(kept) < len(times):
                    touched.add((key, offer))
                if kept:
                    self._times[key, offer, kind] = kept
                else:
                    del self._times[key, offer, kind]
            self._settle(touched)
        return dropped

    def forget(self, subject: bytes) -> None:
        """Forget one subject (a wiped visit, an erasure). What the device counted stays."""
        with self._lock:
            for key in [key for key in self._times if key[0] == subject]:
                del self._times[key]
            self._until = {key: value for key, value in self._until.items() if key != subject}
            self._version += 1
            self._views = {}

    def _add(self, row: CapRow) -> None:
        rule = self._rules.get(row.offer)
        keep = max(rule.keep(row.kind), 1) if rule is not None else _KEPT_WITHOUT_RULE
        for key in (row.subject, _DEVICE):
            times = self._times.setdefault((key, row.offer, row.kind), [])
            insort(times, row.at_ms)
            if key != _DEVICE:
                self._surplus += [row._replace(at_ms=at) for at in times[:-keep]]
            del times[:-keep]

    def _settle(self, touched: set[tuple[bytes, str]]) -> None:
        """Work out anew until when each touched (subject or device, offer) is blocked."""
        changed: dict[bytes, dict[str, int]] = {}
        for key, offer in touched:
            own = changed.get(key)
            if own is None:
                own = changed[key] = dict(self._until.get(key, {}))
            until = self._blocked_until(key, offer)
            if until:
                own[offer] = until
            else:
                own.pop(offer, None)
        if changed:
            self._until = {**self._until, **changed}
            self._version += 1

    def _blocked_until(self, key: bytes, offer: str) -> int:
        rule = self._rules.get(offer)
        if rule is None:
            return 0
        until = 0
        for device, kind, limit, window_ms in rule.limits:
            times = self._times.get((key, offer, kind), [])
            if device == (key == _DEVICE) and len(times) >= limit:
                until = max(until, times[-limit] + window_ms if window_ms else NEVER)
        if key not in (_DEVICE, NOBODY) and any(
            self._times.get((key, offer, kind)) for kind in rule.stops
        ):
            until = NEVER
        return until
