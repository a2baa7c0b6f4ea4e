"""From the log to what a look sees: what devices did under the canary, and the others meanwhile.

Rules.
- Counted are decisions from the moment the canary went out to one horizon before the look, and
  successes within the horizon: so early and late decisions have the same time to succeed.
- The canary's side are its devices' decisions from it; what they decided before they had it counts
  for nobody. The others' side are decisions of devices that it is not meant for.
- A success earns what the offer is worth in the release that the decision was made from, value less
  cost, as devices rank by it and as the gate counts it. An offer that says no value is worth 1. A
  decision that shows what its release does not have, or whose release is gone, is left out and
  counted.
- A decision counts for as many as it stands for, where a device could not keep all (`thinned`).
- What a device lets expect is its own rate in the week before (`counts`).
- Of the others a fair sample is read where they are many: four times the canary's share.
- Who was held out was shown nothing on purpose and is left out, as is everybody who did not agree
  to learning; what nobody in particular did is nobody's data and counts.
"""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from edge_sdk.decision import Reason
from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.slices import rest
from genome_edge.v1 import event_pb2
from genome_server.canary.counts import Counts, compared
from genome_server.canary.kept import Canary
from genome_server.canary.rules import Heard, Seen
from genome_server.canary.worth import Worths
from genome_server.documents import goals_of
from genome_server.genomes.events import time_of
from genome_server.learning.outcomes import Outcomes, Verdict
from genome_server.learning.thinned import Thinned
from genome_server.log.reader import LogBatch, LoggedFrame, LogReader
from genome_server.store.protocol import CONSENT_LEARNING, DeviceRow, ReleaseRow, Store
from genome_server.times import DAY_MS

BEFORE_MS: Final = 7 * DAY_MS
"""How long before the canary the past is that devices are compared with."""
_OTHERS: Final = 4
_LONGEST_HORIZON_MS: Final = DAY_MS
_KINDS: Final = frozenset(map(int, (FrameKind.DECISION, FrameKind.OUTCOME, FrameKind.EVICTED)))
_SHOWN: Final = frozenset({Reason.CHOSEN.name, Reason.EXPLORED.name, Reason.UNSCORED.name})


class _Made(NamedTuple):
    """A decision that counts; `frame` is its own, without the body. `offers` are by slot."""

    frame: LoggedFrame
    at_ms: int
    after: bool
    placement: str
    release: int
    offers: tuple[str, ...]
    shown: bool
    unscored: bool


def horizon_of(elapsed_ms: int) -> int:
    """Within how many milliseconds a success counts: a quarter of the time, a day at most."""
    return min(elapsed_ms // 4, _LONGEST_HORIZON_MS)


def sides(row: ReleaseRow, devices: Iterable[DeviceRow]) -> dict[str, bool]:
    """The devices that are compared, and whether the canary is meant for them."""
    found = {}
    for device in devices:
        if device.channel != row.channel:
            continue
        if row.covers(device.id):
            found[device.id] = True
        elif _sampled(row, device.id):
            found[device.id] = False
    return found


class _Read(NamedTuple):
    """What a reading of the log found: decisions by id, and what tells what became of them."""

    made: dict[bytes, _Made]
    outcomes: Outcomes
    thinned: Thinned


def _read(
    batches: Iterable[LogBatch],
    canary: Canary,
    of: Mapping[str, bool],
    schema: DnaSchema,
    agreed: Callable[[bytes], bool],
    until_ms: int,
) -> _Read:
    """Read the decisions that count, up to `until_ms`, of devices that are compared (`of`, as
    `sides` says), and all successes; `agreed` is whether a subject agreed to learning."""
    found = _Read({}, Outcomes(), Thinned())
    for frame in chain.from_iterable(batch.frames(_KINDS) for batch in batches):
        rest()
        if frame.kind != FrameKind.OUTCOME and frame.device not in of:
            continue
        try:
            event = event_pb2.Event.FromString(frame.body)
        except DecodeError:
            continue  # the genomes' consumer says so
        at_ms = time_of(event, frame)
        if event.HasField("outcome"):
            outcome = event.outcome
            label = schema.kind(outcome.kind).label if schema.has_kind(outcome.kind) else 0
            if label > 0:
                kind = outcome.kind
                found.outcomes.add(outcome.decision_id, outcome.slot, label, at_ms, kind)
            continue
        if event.HasField("evicted"):
            found.thinned.add(frame, event.evicted)
            continue
        record = event.decision
        if (
            not event.HasField("decision")
            or record.held_out
            or not canary.since_ms - BEFORE_MS <= at_ms <= until_ms
            or not (frame.subject == NOBODY or agreed(frame.subject))
        ):
            continue
        after = at_ms >= canary.since_ms
        if after and of[frame.device] != (record.release_version == canary.version):
            continue
        reasons = {slot.reason for slot in record.slots}
        found.made.setdefault(
            record.decision_id,
            _Made(
                frame._replace(body=b""),
                at_ms,
                after,
                record.placement,
                record.release_version,
                tuple(sys.intern(slot.offer) for slot in record.slots),
                not reasons.isdisjoint(_SHOWN),
                Reason.UNSCORED.name in reasons,
            ),
        )
    return found


def _counted(
    read: _Read, goals: Mapping[str, Collection[str]], worths: Worths, horizon_ms: int, now_ms: int
) -> tuple[Counts, Counts]:
    """What was done before the canary and since; `goals` by placement which kinds are a success
    there, where it says."""
    shown: defaultdict[int, set[str]] = defaultdict(set)
    for one in read.made.values():
        shown[one.release].update(filter(None, one.offers))
    worth = worths(shown)
    before, since = Counts(), Counts()
    for decision, one in read.made.items():
        rest()
        counts, known = since if one.after else before, worth.get(one.release, {})
        offers = [(slot, offer) for slot, offer in enumerate(one.offers) if offer]
        if not all(offer in known for _, offer in offers):
            counts.left_out += 1
            continue
        earned = [
            known[offer]
            for slot, offer in offers
            if read.outcomes.verdict(
                decision,
                slot,
                decided_ms=one.at_ms,
                window_ms=horizon_ms,
                shown_on_view=False,
                now_ms=now_ms,
                goal=goals.get(one.placement),
            )
            is Verdict.SUCCESS
        ]
        for _, offer in offers:
            counts.worths[offer].add(known[offer])
        counts.add(
            one.frame.device,
            read.thinned.stands_for(one.frame),
            earned,
            shown=one.shown,
            unscored=one.unscored,
        )
    return before, since


def begin_of(log: LogReader, since_ms: int) -> int:
    """Where in the log to begin reading: before all that was received in `BEFORE_MS` before one
    that went out at `since_ms`, or later."""
    many = 256
    while True:
        start = log.start_of_last(many)
        first = next(log.batches(start, max_events=1), None)
        if start == 0 or first is None or first.received_ms < since_ms - BEFORE_MS:
            return start
        many *= 4


def heard(row: ReleaseRow, devices: Iterable[DeviceRow], since_ms: int) -> Heard:
    """What devices of the channel said of the canary since `since_ms`.

    What a device refused last it says until it takes a release: it may be older than the canary.
    """
    known = [one for one in devices if one.channel == row.channel and not one.revoked]
    meant, others = [], []
    for device in known:
        if device.seen_ms >= since_ms:
            refusing = bool(device.status.get("last_nack"))
            if not row.covers(device.id):
                others.append(refusing)
            else:
                meant.append(refusing and device.status.get("release") != row.version)
    covered = sum(row.covers(one.id) for one in known)
    usual = sum(others) / max(len(others), 1)
    return Heard(covered, len(known) - covered, len(meant), sum(meant), usual)


def seen(
    batches: Iterable[LogBatch],
    store: Store,
    canary: Canary,
    row: ReleaseRow,
    schema: DnaSchema,
    now_ms: int,
    worths: Worths,
) -> Seen:
    """What a look sees at `now_ms`."""
    known: dict[bytes, bool] = {}

    def agreed(subject: bytes) -> bool:
        if subject not in known:
            customer = store.customer(subject)
            consents = customer.consents if customer is not None else None
            known[subject] = bool((consents or 0) & CONSENT_LEARNING)
        return known[subject]

    devices = [device for device in store.devices() if not device.revoked]
    of, horizon_ms = sides(row, devices), horizon_of(now_ms - canary.since_ms)
    read = _read(batches, canary, of, schema, agreed, now_ms - horizon_ms)
    goals = goals_of(store.documents("placement"))
    before, since = _counted(read, goals, worths, horizon_ms, now_ms)
    return compared(before, since, of, heard(row, devices, canary.since_ms))


def _sampled(row: ReleaseRow, device: str) -> bool:
    digest = hashlib.sha256(f"others:{row.version}:{device}".encode()).digest()
    return int.from_bytes(digest[:8]) < min(1.0, _OTHERS * row.share) * 2.0**64
