"""From the log to what a look sees: what devices did under the canary, and the others meanwhile.

Rules.
- Counted are decisions from the moment the canary went out to one horizon before the look, and
  successes within the horizon: so early and late decisions have the same time to succeed.
- The canary's side are its devices' decisions from it; what they decided before they had it counts
  for nobody. The others' side are decisions of devices that it is not meant for.
- What a device lets expect is its own rate in the week before, as far as it decided enough then:
  everybody's rate counts with it like so many decisions as bring ten successes.
- Of the others a fair sample is read where they are many: four times the canary's share.
- Who was held out was shown nothing on purpose and is left out, as is everybody who did not agree
  to learning; what nobody in particular did is nobody's data and counts.
"""

from __future__ import annotations

import hashlib
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
from genome_server.canary.kept import Canary
from genome_server.canary.rules import Seen, Tally
from genome_server.documents import goals_of
from genome_server.genomes.events import time_of
from genome_server.learning.outcomes import Outcomes, Verdict
from genome_server.log.reader import LogBatch, LogReader
from genome_server.store.protocol import CONSENT_LEARNING, DeviceRow, ReleaseRow, Store
from genome_server.times import DAY_MS

BEFORE_MS: Final = 7 * DAY_MS
"""How long before the canary the past is that devices are compared with."""
_OTHERS: Final = 4
_PRIOR_SUCCESSES: Final = 10.0
_LONGEST_HORIZON_MS: Final = DAY_MS
_KINDS: Final = frozenset({int(FrameKind.DECISION), int(FrameKind.OUTCOME)})
_SHOWN: Final = frozenset({Reason.CHOSEN.name, Reason.EXPLORED.name, Reason.UNSCORED.name})


class _Made(NamedTuple):
    """A decision that counts."""

    device: str
    at_ms: int
    after: bool
    placement: str
    slots: int
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


def count(
    batches: Iterable[LogBatch],
    canary: Canary,
    of: dict[str, bool],
    schema: DnaSchema,
    agreed: Callable[[bytes], bool],
    now_ms: int,
    goals: Mapping[str, Collection[str]],
) -> tuple[list[Tally], list[Tally]]:
    """The tallies of the canary's devices and of the others, of the log as of `now_ms`.

    `batches` begin with those of `BEFORE_MS` before the canary. `of` is what `sides` says, and
    `agreed` whether a subject agreed to learning; `goals` by placement which kinds are a success
    there, where it says.
    """
    horizon = horizon_of(now_ms - canary.since_ms)
    until = now_ms - horizon
    made: dict[bytes, _Made] = {}
    outcomes = Outcomes()
    for frame in chain.from_iterable(batch.frames(_KINDS) for batch in batches):
        rest()
        if frame.kind == FrameKind.DECISION and frame.device not in of:
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
                outcomes.add(outcome.decision_id, outcome.slot, label, at_ms, outcome.kind)
            continue
        record = event.decision
        if (
            not event.HasField("decision")
            or record.held_out
            or not canary.since_ms - BEFORE_MS <= at_ms <= until
            or not (frame.subject == NOBODY or agreed(frame.subject))
        ):
            continue
        after = at_ms >= canary.since_ms
        if after and of[frame.device] != (record.release_version == canary.version):
            continue
        reasons = {slot.reason for slot in record.slots}
        made.setdefault(
            record.decision_id,
            _Made(
                frame.device,
                at_ms,
                after,
                record.placement,
                len(record.slots),
                not reasons.isdisjoint(_SHOWN),
                Reason.UNSCORED.name in reasons,
            ),
        )
    before, since = _Counts(), _Counts()
    for decision, one in made.items():
        verdicts = (
            outcomes.verdict(
                decision,
                slot,
                decided_ms=one.at_ms,
                window_ms=horizon,
                shown_on_view=False,
                now_ms=now_ms,
                goal=goals.get(one.placement),
            )
            for slot in range(one.slots)
        )
        success = Verdict.SUCCESS in verdicts
        counts = (since if one.after else before)[one.device]
        for place, counted in enumerate((True, success, one.shown, one.unscored)):
            counts[place] += counted
    expected = _expectation(before)
    both: tuple[list[Tally], list[Tally]] = ([], [])
    for device, found in since.items():
        tally = Tally(found[0], found[1], found[2], found[3], found[0] * expected(device))
        both[not of[device]].append(tally)
    return both


class _Counts(defaultdict[str, list[int]]):
    """Decisions, successes, shown and unscored by device."""

    def __init__(self) -> None:
        super().__init__(lambda: [0, 0, 0, 0])


def _expectation(before: _Counts) -> Callable[[str], float]:
    """The rate of success that is expected of a device after what there was before."""
    decisions = sum(one[0] for one in before.values())
    successes = sum(one[1] for one in before.values())
    if not successes:
        return lambda device: 0.0  # noqa: ARG005 nobody's past says anything
    rate = successes / decisions
    prior = _PRIOR_SUCCESSES / rate

    def expected(device: str) -> float:
        mine = before.get(device, (0, 0))
        return (mine[1] + _PRIOR_SUCCESSES) / (mine[0] + prior)

    return expected


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


def heard(row: ReleaseRow, devices: Iterable[DeviceRow], since_ms: int) -> tuple[int, int, float]:
    """How many devices the canary is meant for that were heard of since, how many of them refused
    something and have not taken it, and the share of the others that refused something.

    What a device refused last it says until it takes a release: it may be older than the canary.
    """
    meant, others = [], []
    for device in devices:
        if device.channel == row.channel and not device.revoked and device.seen_ms >= since_ms:
            refusing = bool(device.status.get("last_nack"))
            if not row.covers(device.id):
                others.append(refusing)
            else:
                meant.append(refusing and device.status.get("release") != row.version)
    return len(meant), sum(meant), sum(others) / max(len(others), 1)


def seen(
    batches: Iterable[LogBatch],
    store: Store,
    canary: Canary,
    row: ReleaseRow,
    schema: DnaSchema,
    now_ms: int,
) -> Seen:
    """What a look sees at `now_ms`."""
    known: dict[bytes, bool] = {}

    def agreed(subject: bytes) -> bool:
        if subject not in known:
            customer = store.customer(subject)
            consents = customer.consents if customer is not None else None
            known[subject] = bool((consents or 0) & CONSENT_LEARNING)
        return known[subject]

    goals = goals_of(store.documents("placement"))
    devices = [device for device in store.devices() if not device.revoked]
    ours, others = count(batches, canary, sides(row, devices), schema, agreed, now_ms, goals)
    return Seen(ours, others, *heard(row, devices, canary.since_ms))


def _sampled(row: ReleaseRow, device: str) -> bool:
    digest = hashlib.sha256(f"others:{row.version}:{device}".encode()).digest()
    return int.from_bytes(digest[:8]) < min(1.0, _OTHERS * row.share) * 2.0**64
