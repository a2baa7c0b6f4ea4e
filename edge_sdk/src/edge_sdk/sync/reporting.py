"""Send what is in the outbox, one batch after the other, and take the server's answers.

Rules
-----
1. A batch is the same bytes every time until it is answered, so a repetition is harmless.
2. No answer: wait, longer each time and never less than the server asked for, and send it again.
   Nothing is ever given up for that.
3. Refused because the device is not believed: keep everything, say so, ask again rarely.
4. Refused because of what is in it: send the first half of it, then a quarter ... until what goes
   through has gone and the one event that does not stands alone; only that one is set aside.
5. A lane whose epoch has forked (this disk is a copy) goes on under a new one, but for what the
   server has of the old one, whoever sent it; a gap is sent again from where the server stands.

`ReportPump.step` does one exchange and says how long to wait before the next; the thread that calls
it is the updater's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_sdk.errors import BadFrame, EdgeError, RefusedError, UnreachableError
from edge_sdk.outbox.frames import HEADER_BYTES, iter_frames
from edge_sdk.outbox.queue import Batch
from edge_sdk.sync.pace import MOST_ASKED_S, Backoff
from edge_sdk.sync.transport import CREDENTIAL_REASONS, ErrorReason
from genome_edge.v1 import report_pb2

if TYPE_CHECKING:
    from edge_sdk.outbox.queue import Outbox

Sender = Callable[[report_pb2.ReportRequest], report_pb2.ReportResponse]

# What is longer is no sequence and no time.
_DIGITS = 18
_CONTENT_REASONS = frozenset(
    {ErrorReason.BAD_FRAME, ErrorReason.TOO_LARGE, ErrorReason.INVALID_ARGUMENT}
)


@dataclass(frozen=True)
class _Caution:
    """Send at most `events` at once until sequence `through` is behind us: one of them is bad."""

    events: int
    through: int


class ReportPump:
    """Empties an outbox through `send`. Not thread-safe: one thread steps it."""

    def __init__(self, outbox: Outbox, send: Sender, backoff: Backoff, refused_wait_s: float):
        self._outbox = outbox
        self._send = send
        self._backoff = backoff
        self._refused_wait_s = refused_wait_s
        self._cautions: dict[tuple[bytes, int], _Caution] = {}
        #: Why the last exchange failed; None after one that went well.
        self.cause: EdgeError | None = None
        #: Events that the server has taken from this pump.
        self.taken = 0

    def step(self) -> float | None:
        """Send one batch. None: there is none; else seconds to wait before the next step.

        Raises StoreError where the outbox cannot be read or written.
        """
        batch = self._outbox.next_batch()
        if batch is None:
            return None
        piece = self._piece(batch)
        try:
            response = self._send(
                report_pb2.ReportRequest(
                    epoch=piece.epoch,
                    lane=piece.lane,
                    first_sequence=piece.first_sequence,
                    last_sequence=piece.last_sequence,
                    frames=piece.frames,
                    digest=piece.digest,
                    incarnation=piece.incarnation,
                )
            )
        except UnreachableError as error:
            self.cause = error
            return self._backoff.after_failure(error.retry_after_s or 0.0)
        except RefusedError as error:
            self.cause = error
            return self._refused(batch, piece, error)
        return self._taken(piece, response)

    def _taken(self, piece: Batch, response: report_pb2.ReportResponse) -> float:
        self.cause = None
        received = min(response.received_through, piece.last_sequence)
        self._outbox.ack(
            piece, received, min(response.safe_through, received), response.incarnation
        )
        self.taken += max(0, received - piece.first_sequence + 1)
        caution = self._cautions.get((piece.epoch, piece.lane))
        if caution is not None and received >= caution.through:
            del self._cautions[piece.epoch, piece.lane]
        if received < piece.first_sequence:  # answered, and nothing moved: do not spin
            return self._backoff.after_failure()
        self._backoff.reset()
        return 0.0

    def _refused(self, batch: Batch, piece: Batch, error: RefusedError) -> float:
        asked = error.facts.get("retry_after_ms")
        asked_s = min(int(str(asked)) / 1000, MOST_ASKED_S) if _is_number(asked) else 0.0
        if error.reason in CREDENTIAL_REASONS:
            return max(self._refused_wait_s, asked_s)
        if error.reason == ErrorReason.FORKED_EPOCH:
            self._cautions.clear()
            at = error.facts.get("sequence")
            self._outbox.forked(batch, int(str(at)) if _is_number(at) else batch.first_sequence)
        elif error.reason == ErrorReason.LOG_CHANGED:
            self._outbox.heed(_bytes(error.facts.get("incarnation")))
        elif error.reason == ErrorReason.SEQUENCE_GAP and _is_number(error.facts.get("expected")):
            self._outbox.rewind(batch, int(error.facts["expected"]) - 1)
        elif error.reason == ErrorReason.BAD_DIGEST and not _is_whole(batch):
            self._set_aside(batch, error)
        elif error.reason in _CONTENT_REASONS:
            return max(self._narrow(batch, piece, error), asked_s)
        return self._backoff.after_failure(asked_s)

    def _narrow(self, batch: Batch, piece: Batch, error: RefusedError) -> float:
        """Send less at once, or set aside what is already alone."""
        events = _count(piece)
        if events < 2:
            self._set_aside(piece, error)
            return self._backoff.after_failure()
        known = self._cautions.get((batch.epoch, batch.lane))
        through = max(piece.last_sequence, known.through if known else 0)
        self._cautions[batch.epoch, batch.lane] = _Caution(events // 2, through)
        return 0.0

    def _set_aside(self, piece: Batch, error: RefusedError) -> None:
        self._cautions.pop((piece.epoch, piece.lane), None)
        self._outbox.set_aside(piece, error.reason)

    def _piece(self, batch: Batch) -> Batch:
        """As much of the batch as may be sent at once: all of it, but after a refusal."""
        caution = self._cautions.get((batch.epoch, batch.lane))
        if caution is None or not _is_whole(batch):
            return batch
        end, last = 0, batch.last_sequence
        for number, frame in enumerate(iter_frames(batch.frames), start=1):
            end += HEADER_BYTES + len(frame.body)
            last = frame.sequence
            if number == caution.events:
                break
        frames = batch.frames[:end]
        digest = hashlib.sha256(frames).digest()
        return replace(batch, last_sequence=last, frames=frames, digest=digest)


def _is_whole(batch: Batch) -> bool:
    """Whether the batch is what the outbox made: its digest holds and its frames can be read."""
    return hashlib.sha256(batch.frames).digest() == batch.digest and _count(batch) > 0


def _count(batch: Batch) -> int:
    """Events in a batch; 0 where its frames cannot be read, so that it cannot be divided."""
    try:
        return sum(1 for _ in iter_frames(batch.frames))
    except BadFrame:
        return 0


def _is_number(text: str | None) -> bool:
    """Whether a fact of a refusal is a number above 0 that a sequence can have."""
    digits = str(text) if text and len(text) <= _DIGITS and text.isascii() else ""
    return digits.isdecimal() and int(digits) > 0


def _bytes(text: str | None) -> bytes:
    """A fact of a refusal in hex digits; empty where it is none."""
    try:
        return bytes.fromhex(text or "")
    except ValueError:
        return b""
