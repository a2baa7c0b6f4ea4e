"""The outbox: a durable, ordered queue of what happened, in lanes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Batch:
    """One batch as it goes into a ReportRequest. The same bytes every time until it is acked."""

    epoch: bytes
    lane: int
    first_sequence: int
    last_sequence: int
    frames: bytes = field(repr=False)
    digest: bytes = field(repr=False)


class Outbox:
    """What the report pump uses. Thread-safe; reads only what is committed, of every lane."""

    def next_batch(self) -> Batch | None:
        """The next batch to send (priority 0 first), at most 500 events and 256 KiB; None: none.

        Until it is acked, rewound or set aside the same lane gives the same batch again.
        """
        raise NotImplementedError

    def ack(
        self, batch: Batch, received_through: int, safe_through: int, incarnation: bytes = b""
    ) -> None:
        """Take the server's answer: send on after `received_through`, delete to `safe_through`."""
        raise NotImplementedError

    def rewind(self, epoch: bytes, lane: int, received_through: int) -> None:
        """Send again from `received_through` + 1: the server says that it holds less.

        What is no longer here is declared as evicted.
        """
        raise NotImplementedError

    def new_epoch(self) -> bytes:
        """After FORKED_EPOCH: put what is unsent under a new random epoch and return it."""
        raise NotImplementedError

    def set_aside(self, batch: Batch, reason: str) -> None:
        """After a refusal for good (BAD_FRAME, TOO_LARGE): keep the batch in `rejected/` and send
        tombstones and an eviction in its place, so that the lane goes on."""
        raise NotImplementedError

    def unsent(self) -> int:
        """How many events the server has not yet received, those still in memory included."""
        raise NotImplementedError

    def wait(self, timeout: float) -> bool:
        """Wait until something was committed since the last call; True where something was."""
        raise NotImplementedError
