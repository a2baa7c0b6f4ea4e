"""How many events of which kind the log holds, counted on from where the last count ended."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.log.reader import LogReader

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

_KEY = "log_tally"
_SCOPE = "tally"
_NAMES = {
    FrameKind.TOMBSTONE: "erased",
    FrameKind.INTERACTION: "interactions",
    FrameKind.DECISION: "decisions",
    FrameKind.OUTCOME: "outcomes",
    FrameKind.CONSENT: "consents",
    FrameKind.LINK: "links",
    FrameKind.EVICTED: "evictions",
}
_STEP_EVENTS = 50_000
_LONGEST_KIND = 64
_NO_KIND = "(no kind)"


@dataclass
class Tally:
    """Counts of one log up to an offset. Outcomes that were said twice count once."""

    incarnation: str = ""
    offset: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "incarnation": self.incarnation,
            "offset": self.offset,
            "kinds": dict(self.kinds),
            "outcomes": dict(self.outcomes),
        }


def count_log(store: Store, path: Path) -> Tally:
    """The tally of the log at `path` to its end; an empty one where there is none."""
    if not path.exists():
        return Tally()
    with LogReader(path) as reader:
        incarnation = reader.incarnation.hex()
        while True:
            with store.transaction():
                tally = _kept(store, incarnation)
                before = tally.offset
                _count(store, reader, tally)
                if tally.offset == before:
                    return tally
                store.set_meta(_KEY, json.dumps(tally.as_json()))


def _kept(store: Store, incarnation: str) -> Tally:
    kept = json.loads(store.meta(_KEY) or "{}")
    if kept.get("incarnation") != incarnation:
        return Tally(incarnation)
    return Tally(incarnation, kept["offset"], Counter(kept["kinds"]), Counter(kept["outcomes"]))


def _count(store: Store, reader: LogReader, tally: Tally) -> None:
    said: dict[bytes, str] = {}
    for batch in reader.batches(tally.offset, max_events=_STEP_EVENTS):
        for frame in batch.frames():
            tally.kinds[_name(frame.kind)] += 1
            if frame.kind == FrameKind.OUTCOME:
                _outcome(frame.body, tally, said)
        tally.offset = batch.next_offset
    for key in store.add_interactions(said, f"{_SCOPE}:{tally.incarnation}"):
        tally.outcomes[said[key]] += 1


def _outcome(body: bytes, tally: Tally, said: dict[bytes, str]) -> None:
    try:
        outcome = event_pb2.Event.FromString(body).outcome
    except DecodeError:
        return
    kind = outcome.kind
    if not 0 < len(kind) <= _LONGEST_KIND or not kind.isprintable():
        kind = _NO_KIND  # devices pass on what apps say; this is for people and their terminals
    if outcome.event_id:
        name = f"{outcome.kind}\0{outcome.event_id}"
        said.setdefault(hashlib.blake2b(name.encode(), digest_size=16).digest(), kind)
    else:
        tally.outcomes[kind] += 1


def _name(kind: int) -> str:
    try:
        return _NAMES[FrameKind(kind)]
    except ValueError:
        return "unknown"
