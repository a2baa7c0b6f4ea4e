"""What keeps an offer away from somebody: limits over what has happened. No input or output here.

Rules.
- A cap says: at most `limit` views (or redemptions) within a window; for one customer, or for this
  device whoever stands before it; of one offer, of all offers of its campaign together, or of all
  of its exclusivity group. What nobody in particular did counts together, as if nobody were one
  customer of this device.
- The window slides, lasts for ever, or is the hour, day, week or month of the calendar in the zone
  of the offer. A paced cap spreads over such a window: of its limit there is by any time in it no
  more than the share that has passed, rounded up, and always one.
- After a cool-down's view the offer is not shown to the same customer for a while.
- A stop says: once redeemed (dismissed, or followed by a success), never again to that customer.
  Nobody in particular is not a customer: one stranger's refusal stops nothing for the next.
- What was chosen and not seen yet is held, and counts as a view until it is one or lapses; a
  cool-down begins with a view only.
- A limit ends at a moment, not after a while: a clock that is set back lifts none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from edge_sdk.decision import Reason
from edge_sdk.engine.windows import LONGEST_MS, period
from edge_sdk.engine.zones import HOUR_MS, UTC_ZONE, Zone
from edge_sdk.numbers import Cap as _Cap
from edge_sdk.slices import rest

if TYPE_CHECKING:
    from genome_edge.v1 import release_pb2

VIEW: Final = "view"
REDEEM: Final = "redeem"
DISMISS: Final = "dismiss"
#: Whatever the schema takes for a success.
CONVERT: Final = "convert"
#: Everything that may count, in the order of CapEvent.Kind, from 1.
COUNTED: Final = (VIEW, REDEEM, DISMISS, CONVERT)
NEVER: Final = (1 << 63) - 1

_KINDS: Final = {_Cap.COUNT_VIEW: VIEW, _Cap.COUNT_REDEEM: REDEEM}
_NO_ZONES: Final[Mapping[str, Zone]] = {}

#: What is counted together: Cap.Over, and the id or name.
Counter = tuple[int, str]


class CapRow(NamedTuple):
    """One event that counts, as it is persisted. `at_ms` in Unix milliseconds.

    `subject` has 16 bytes, or none where the event counts for the device only. `claim` says what it
    came of; empty: nobody will say it twice. `campaign` and `group` are the offer's at that time.
    `elsewhere`: another device, or the server, did it, so that it counts for the customer alone.
    """

    subject: bytes
    offer: str
    kind: str
    at_ms: int
    claim: bytes = b""
    campaign: str = ""
    group: str = ""
    elsewhere: bool = False


class Ends(NamedTuple):
    """When a limit stops being reached, in Unix milliseconds: at `blocked_ms` if nothing that is
    held lapses before, at `until_ms` with what does."""

    blocked_ms: int
    until_ms: int
    reason: Reason


class Limit(NamedTuple):
    """At most `limit` events of `kind` of one counter.

    In a sliding window of `window_ms` (0: for ever), or in the `calendar`'s (Cap.Calendar; 0: none)
    in `zone`. `device`: whoever it was. `strangers`: nobody in particular is a customer, too.
    `holds`: what is held counts as well.
    """

    counter: Counter
    kind: str
    limit: int
    device: bool = False
    window_ms: int = 0
    calendar: int = _Cap.CALENDAR_UNSPECIFIED
    zone: Zone = UTC_ZONE
    paced: bool = False
    reason: Reason = Reason.CAPPED
    strangers: bool = True
    holds: bool = True

    @property
    def relevant_ms(self) -> int:
        """How long an event matters; NEVER: for ever."""
        if self.calendar:
            return LONGEST_MS[self.calendar]
        return self.window_ms or NEVER

    def ends(self, times: Sequence[int], held: Sequence[int], now_ms: int) -> Ends | None:
        """When it ends that it is reached; None: it is not.

        `times` are the moments of what counts, `held` those at which what is held lapses, both in
        Unix milliseconds, ascending. Without holds it follows from `times` alone.
        """
        blocked, reason = self._full_until(times, len(held), now_ms)
        if not blocked:
            return None
        since, free = now_ms, blocked
        for lapsed in range(len(held)):
            if max(since, free) < held[lapsed]:
                break
            since = held[lapsed]
            free = max(since, self._full_until(times, len(held) - lapsed - 1, since)[0])
        return Ends(blocked, free, reason)

    def _full_until(self, times: Sequence[int], held: int, now_ms: int) -> tuple[int, Reason]:
        """Until when it is reached for as long as so much is held; 0: it is not."""
        if self.paced:
            return self._paced_until(times, held, now_ms)
        wanted = self.limit - held
        if wanted <= 0:
            return NEVER, self.reason
        if len(times) < wanted:
            return 0, self.reason
        last = times[-wanted]
        if self.calendar:
            return period(self.calendar, last, self.zone)[1], self.reason
        return last + self.window_ms if self.window_ms else NEVER, self.reason

    def _paced_until(self, times: Sequence[int], held: int, now_ms: int) -> tuple[int, Reason]:
        # What lies ahead was counted by another clock: the window is the later one.
        latest = max(now_ms, times[-1]) if times else now_ms
        begin, end = period(self.calendar, latest, self.zone)
        used = len(times) - bisect_left(times, begin) + held
        if not used:
            return 0, Reason.PACED
        if used < self.limit:
            return begin + used * (end - begin) // self.limit + 1, Reason.PACED
        if not held:
            return end, self.reason
        # What is still held when the next window begins counts in that one.
        return (NEVER if held >= self.limit else self._paced_until((), held, end)[0]), self.reason

    def since_ms(self, now_ms: int) -> int:
        """What happened at this moment or later counts now."""
        if self.calendar:
            return period(self.calendar, now_ms, self.zone)[0]
        return now_ms - self.window_ms + 1 if self.window_ms else 0

    def room(self, times: Sequence[int], held: int, now_ms: int) -> int:
        """How many more there may be at once now, if it is not reached.

        `times` are as in `ends`, the last `limit` of them at least; `held` how many are held.
        """
        # What lies ahead was counted by another clock: the window is the later one.
        latest = max(now_ms, times[-1]) if self.paced and times else now_ms
        used = len(times) - bisect_left(times, self.since_ms(latest)) + held
        return self.allowed(now_ms) - used

    def turns(self, now_ms: int) -> int:
        """When the calendar's window ends; what is held then counts in the next one."""
        return period(self.calendar, now_ms, self.zone)[1]

    def allowed(self, now_ms: int) -> int:
        """How many there may be by now in the window."""
        if not self.paced:
            return self.limit
        begin, end = period(self.calendar, now_ms, self.zone)
        return max(1, -(-self.limit * (now_ms - begin) // (end - begin)))


class CapRule(NamedTuple):
    """Everything that can keep one offer away, and what else its events count for."""

    limits: tuple[Limit, ...]
    campaign: str = ""
    group: str = ""

    @classmethod
    def of(
        cls, spec: release_pb2.OfferSpec, zones: Mapping[str, Zone] = _NO_ZONES
    ) -> CapRule | None:
        """The rule of an offer; None where nothing limits it.

        `zones` are those of the release; without its own an offer's calendar is UTC's.
        """
        limits = tuple(_limits(spec, zones))
        return cls(limits, spec.campaign, spec.exclusivity_group) if limits else None


def rules_of(
    offers: Iterable[release_pb2.OfferSpec], zones: Mapping[str, Zone] = _NO_ZONES
) -> dict[str, CapRule]:
    """The rules of a catalogue by offer: of those that are limited, and of those that count for the
    limits of others."""
    offers = offers if isinstance(offers, Sequence) else list(offers)
    rules: dict[str, CapRule] = {}
    for spec in offers:
        rest()
        rule = CapRule.of(spec, zones)
        if rule is not None:
            rules[spec.id] = rule
    shared = {
        limit.counter
        for rule in rules.values()
        for limit in rule.limits
        if limit.counter[0] != _Cap.OVER_OFFER
    }
    for spec in offers if shared else ():
        rest()
        campaign, group = spec.campaign, spec.exclusivity_group
        counts = (_Cap.OVER_CAMPAIGN, campaign) in shared or (_Cap.OVER_GROUP, group) in shared
        if counts and spec.id not in rules:
            rules[spec.id] = CapRule((), campaign, group)
    return rules


def counters_of(offer: str, campaign: str, group: str) -> tuple[Counter, ...]:
    """What an event of an offer counts for."""
    counters: tuple[Counter, ...] = ((_Cap.OVER_OFFER, offer),)
    if campaign:
        counters += ((_Cap.OVER_CAMPAIGN, campaign),)
    if group:
        counters += ((_Cap.OVER_GROUP, group),)
    return counters


def _limits(spec: release_pb2.OfferSpec, zones: Mapping[str, Zone]) -> Iterable[Limit]:
    own = (_Cap.OVER_OFFER, spec.id)
    for cap in spec.caps:
        yield Limit(
            _counter(cap, spec),
            _KINDS.get(cap.count, VIEW),
            max(cap.limit, 1),
            cap.scope == _Cap.SCOPE_DEVICE,
            0 if cap.calendar else cap.window_hours * HOUR_MS,
            cap.calendar,
            zones.get(spec.targeting.zone, UTC_ZONE) if cap.calendar else UTC_ZONE,
            cap.paced and bool(cap.calendar),
        )
    if spec.cool_down_hours:
        pause = spec.cool_down_hours * HOUR_MS
        yield Limit(own, VIEW, 1, window_ms=pause, reason=Reason.COOL_DOWN, holds=False)
    for kind, wanted, reason in (
        (REDEEM, spec.stop_after_redeem, Reason.REDEEMED),
        (CONVERT, spec.stop_after_convert, Reason.CONVERTED),
        (DISMISS, spec.stop_after_dismiss, Reason.DISMISSED),
    ):
        if wanted:
            yield Limit(own, kind, 1, reason=reason, strangers=False)


def _counter(cap: release_pb2.Cap, spec: release_pb2.OfferSpec) -> Counter:
    """What a cap counts; of an offer without campaign or group it is the offer itself."""
    if cap.over == _Cap.OVER_CAMPAIGN and spec.campaign:
        return _Cap.OVER_CAMPAIGN, spec.campaign
    if cap.over == _Cap.OVER_GROUP and spec.exclusivity_group:
        return _Cap.OVER_GROUP, spec.exclusivity_group
    return _Cap.OVER_OFFER, spec.id
