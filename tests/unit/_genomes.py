"""A tenant with a store, a log and a few products and offers, for tests of genomes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_sdk.dna.genome import Row
from edge_sdk.dna.imprint import (
    GenomeState,
    contribution,
    encode_row,
    event_weight,
    explode,
    hour_of,
    profile_strengths,
)
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import dna_pb2, event_pb2
from genome_server.genomes.build import BuildReport, build
from genome_server.genomes.rows import row_of
from genome_server.home import Tenant
from genome_server.log import Committer, LogReader
from genome_server.store.protocol import CustomerRow, Store
from genome_server.store.sqlite import SqliteStore

HOUR = 3_600_000
LANDMARK_HOUR = 490_000
NOW_MS = (LANDMARK_HOUR + 200) * HOUR

DNA_YAML = """\
landmark: 2025-11-24T16:00:00+00:00
default_half_life: 48h
quantiser: 2
namespaces:
  brand: 24h
  claim: 240h
  age: {profile: 1.0}
kinds:
  view: 0.25
  buy: {weight: 2, money: 0.25, label: success}
  dismiss: {weight: 1, prefix: "not-", label: refusal}
"""

PRODUCTS: dict[str, dict[str, Any]] = {
    "soap": {"brand": "acme", "dna": [{"marker": "claim:organic", "salience": 0.5}]},
    "bread": {"brand": "mill", "category": "food"},
    "rock": {},
}
OFFERS: dict[str, dict[str, Any]] = {
    "taxi": {"dna": ["ride:taxi", "brand:acme"]},
    "spa": {"dna": ["claim:quiet"]},
}
DNA = {
    "soap": [("brand:acme", 256), ("claim:organic", 128)],
    "bread": [("brand:mill", 256), ("category:food", 256)],
    "rock": [],
    "taxi": [("ride:taxi", 256), ("brand:acme", 256)],
    "spa": [("claim:quiet", 256)],
}


def subject(number: int) -> bytes:
    return bytes([number]) * 16


@dataclass(frozen=True)
class Happened:
    """One event: when it was (hours after the landmark), whose, what."""

    who: int
    hours: int
    payload: event_pb2.Event
    kind: FrameKind

    def frame(self, sequence: int) -> bytes:
        event = event_pb2.Event()
        event.CopyFrom(self.payload)
        at_ms = (LANDMARK_HOUR + self.hours) * HOUR + 5
        event.time.wall_ms = at_ms
        return encode_frame(
            Frame(sequence, subject(self.who), self.kind, at_ms, event.SerializeToString())
        )


def interaction(who: int, hours: int, kind: str, **facts: object) -> Happened:
    said = event_pb2.Interaction(kind=kind, **facts)  # type: ignore[arg-type]
    return Happened(who, hours, event_pb2.Event(interaction=said), FrameKind.INTERACTION)


def outcome(who: int, hours: int, kind: str, offer: str, **facts: object) -> Happened:
    said = event_pb2.Outcome(kind=kind, offer=offer, **facts)  # type: ignore[arg-type]
    return Happened(who, hours, event_pb2.Event(outcome=said), FrameKind.OUTCOME)


def consent(who: int, hours: int, purpose: int, granted: bool) -> Happened:
    said = event_pb2.ConsentChange(purpose=dna_pb2.ConsentPurpose.Name(purpose), granted=granted)
    return Happened(who, hours, event_pb2.Event(consent=said), FrameKind.CONSENT)


def link(who: int, hours: int, other: int, linked: bool = True) -> Happened:
    said = event_pb2.SubjectLink(other_subject=subject(other), linked=linked)
    return Happened(who, hours, event_pb2.Event(link=said), FrameKind.LINK)


@dataclass
class House:
    """A tenant on disk."""

    dir: Path
    tenant: Tenant = field(init=False)
    store: Store = field(init=False)
    device: str = "till-1"
    _sequences: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dir.mkdir(parents=True, exist_ok=True)
        self.tenant = Tenant("test", self.dir)
        self.store = SqliteStore.open(self.tenant.db_path)
        self.write_dna(DNA_YAML)
        self.store.put_documents("product", PRODUCTS.items())
        self.store.put_documents("offer", OFFERS.items())

    def write_dna(self, text: str) -> None:
        self.tenant.dna_path.write_text(text)

    def customer(self, who: int, consents: int = 0, age: str = "") -> None:
        markers = ((f"age:{age}", 256),) if age else ()
        self.store.extend_vocabulary(name for name, _ in markers)
        self.store.put_customers([CustomerRow(subject(who), markers, consents)])

    def log(self, events: Sequence[Happened], device: str = "till-1", cut: int = 100) -> None:
        with Committer(self.tenant.log_path, now_ms=lambda: NOW_MS) as committer:
            for start in range(0, len(events), cut):
                part = events[start : start + cut]
                first = self._sequences.get(device, 0) + 1
                frames = b"".join(e.frame(first + i) for i, e in enumerate(part))
                last = first + len(part) - 1
                digest = hashlib.sha256(frames).digest()
                committer.append_batch(device, b"e" * 16, 1, first, last, frames, digest)
                self._sequences[device] = last

    def build(self, now_ms: int = NOW_MS) -> BuildReport:
        if not self.tenant.log_path.exists():
            return build(self.store, None, self.tenant.dna_path, now_ms=now_ms)
        with LogReader(self.tenant.log_path) as log:
            return build(self.store, log, self.tenant.dna_path, now_ms=now_ms)

    def rows(self) -> dict[bytes, tuple[int, int, dict[str, int]]]:
        """Consents, hour and codes by marker name, of every genome."""
        vocabulary = self.store.vocabulary()
        return {r.subject: named(row_of(r), vocabulary) for r in self.store.genomes()}

    def states(self) -> dict[bytes, bytes]:
        return {record.subject: record.state for record in self.store.genomes()}

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> House:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def named(row: Row, vocabulary: Vocabulary) -> tuple[int, int, dict[str, int]]:
    pairs = zip(row.indices.tolist(), row.codes.tolist(), strict=True)
    return row.consents, row.as_of_hour, {vocabulary.name(i): code for i, code in pairs}


def reference(
    schema: DnaSchema, events: Iterable[Happened], who: int, age: str = ""
) -> tuple[int, dict[str, int]]:
    """A genome, event by event, by the SDK alone: as-of hour and codes by marker name."""
    vocabulary = Vocabulary(bytes(16), [])
    state = GenomeState()
    seen: set[str] = set()
    for event in events:
        said = event.payload.interaction
        if event.kind == FrameKind.OUTCOME:
            done = event.payload.outcome
            said = event_pb2.Interaction(
                kind=done.kind,
                offer=done.offer,
                amount_micros=done.value_micros,
                interaction_id=done.event_id and f"outcome {done.kind} {done.event_id}",
            )
        elif event.kind != FrameKind.INTERACTION:
            continue
        dna = [(d.marker, d.salience_q8) for d in said.dna] or DNA.get(said.product or said.offer)
        if not dna or (said.interaction_id and said.interaction_id in seen):
            continue
        seen.add(said.interaction_id)
        if event.who != who:
            continue
        weight = event_weight(schema, said.kind, said.amount_micros)
        hour = hour_of((LANDMARK_HOUR + event.hours) * HOUR + 5)
        for name, salience, half_life in explode(schema, said.kind, dna):
            vocabulary = vocabulary.extend([name])
            index = vocabulary.index(name)
            assert index is not None
            grown = contribution(weight, salience, hour - schema.landmark_hour, half_life)
            state.add(index, grown, hour)
    facts = [(f"age:{age}", 256)] if age else []
    vocabulary = vocabulary.extend(name for name, _ in facts)
    profile = profile_strengths(schema, vocabulary, facts)
    _, as_of, codes = named(encode_row(state, profile, schema, vocabulary), vocabulary)
    return as_of, codes


def fresh(path: Path) -> closing[House]:
    return closing(House(path))
