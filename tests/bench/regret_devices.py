"""The devices of the closed loop: each decides by the real engine, from its own view.

A device has the release and the genome rows of when it last had a line, and on top of the rows the
imprints of what it heard since, by the SDK's own code. What happens waits in its outbox. Only the
wire is left out: what would be streamed is handed over.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from edge_sdk.clock import Stamp
from edge_sdk.context import Context
from edge_sdk.dna.genome import NOBODY, Genome, PendingImprint, Row
from edge_sdk.dna.imprint import hour_of
from edge_sdk.engine.decide import decide
from edge_sdk.engine.release import Release
from edge_sdk.numbers import LEARNING, PERSONALISATION
from edge_sdk.outbox.encoding import bodies
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from edge_sdk.runtime.earlier import votes
from genome_edge.v1 import event_pb2
from genome_server.log import Batch

PLACEMENT: Final = "screen"
AGREED: Final = 1 << PERSONALISATION | 1 << LEARNING


@dataclass(frozen=True, eq=False)
class Published:
    """What the server has for devices: a release, and the genome rows by subject as of a build."""

    release: Release
    rows: Mapping[bytes, Row]
    built_ms: int


class Heard(NamedTuple):
    """An answer that the rows of a device may lack; `sent_ms` is None until it was reported."""

    kind: str
    offer: str
    at_ms: int
    sent_ms: int | None = None


class Shown(NamedTuple):
    """A decision, as what follows it needs it."""

    decision_id: bytes
    subject: bytes
    offer: str


@dataclass
class Device:
    """One device. `personal`: it reads genomes; `imprints`: answers go into them."""

    name: str
    seed: int
    holds: Published
    personal: bool
    imprints: bool
    _sequence: int = 0
    _outbox: list[bytes] = field(default_factory=list)
    _heard: defaultdict[bytes, list[Heard]] = field(default_factory=lambda: defaultdict(list))
    _genomes: dict[bytes, Genome] = field(default_factory=dict)

    def decide(self, moment: int, subject: bytes, context: Context, at_ms: int) -> Shown:
        """Decide for a subject; the offer is empty where none may be shown."""
        key = f"{self.seed}:{moment}".encode()
        digest = hashlib.blake2b(key, digest_size=24).digest()
        decision, record = decide(
            self.holds.release,
            context,
            PLACEMENT,
            1,
            genome=self._genome(subject) if self.personal else None,
            consents=AGREED if self.personal else 0,
            seed=int.from_bytes(digest[16:], "little"),
            decision_id=digest[:16],
            now_ms=at_ms,
            subject=subject,
        )
        body, _ = bodies(record, _stamp(at_ms), private=False)
        self._put(subject, FrameKind.DECISION, at_ms, body)
        offer = decision.slots[0].offer
        return Shown(digest[:16], subject, offer.id if offer is not None else "")

    def hear(self, shown: Shown, kind: str, at_ms: int) -> None:
        """An answer: it imprints here at once, and waits to be reported."""
        said = event_pb2.Outcome(
            decision_id=shown.decision_id, kind=kind, offer=shown.offer, placement=PLACEMENT
        )
        event = event_pb2.Event(time=_stamp(at_ms).to_proto(), outcome=said)
        subject = shown.subject if self.imprints else NOBODY
        self._put(subject, FrameKind.OUTCOME, at_ms, event.SerializeToString())
        if self.imprints:
            self._heard[subject].append(Heard(kind, shown.offer, at_ms))
            self._genomes.pop(subject, None)

    def sync(self, newest: Published, at_ms: int) -> Batch | None:
        """Take what is newest and hand over what waits; None: nothing does."""
        for subject, heard in list(self._heard.items()):
            left = [one for one in heard if one.sent_ms is None or one.sent_ms > newest.built_ms]
            self._heard[subject] = [
                one if one.sent_ms is not None else one._replace(sent_ms=at_ms) for one in left
            ]
        if newest is not self.holds:
            self.holds = newest
            self._genomes.clear()
        if not self._outbox:
            return None
        frames = b"".join(self._outbox)
        first = self._sequence - len(self._outbox) + 1
        digest = hashlib.sha256(frames).digest()
        self._outbox.clear()
        return Batch(self.name, bytes(16), 0, first, self._sequence, frames, digest)

    def _genome(self, subject: bytes) -> Genome:
        """The row of a subject and what it lacks, made once until either changes."""
        known = self._genomes.get(subject)
        if known is None:
            release = self.holds.release
            pending = [self._pending(one) for one in self._heard.get(subject, ())]
            row = self.holds.rows.get(subject)
            known = Genome(row, release.schema, release.vocabulary, pending)
            self._genomes[subject] = known
        return known

    def _pending(self, one: Heard) -> PendingImprint:
        said = event_pb2.Interaction(kind=one.kind, offer=one.offer)
        given = tuple((at, q24) for at, q24, _ in votes(self.holds.release, said))
        return PendingImprint(hour_of(one.at_ms), given)

    def _put(self, subject: bytes, kind: FrameKind, at_ms: int, body: bytes) -> None:
        self._sequence += 1
        self._outbox.append(encode_frame(Frame(self._sequence, subject, kind, at_ms, body)))


def _stamp(at_ms: int) -> Stamp:
    return Stamp(at_ms, 0, b"", 0)
