"""What the server itself showed and heard, as it counts against caps, read back from the log.

The server counts as one device; what it did stands in lanes of its own, one for each incarnation
of the log. To read all of them at every start would take longer from year to year. So what matters
to the caps is kept in a file beside the log, with the sequence of each lane up to which it speaks:
only what came after is read. The file can be lost: it is made anew from the log.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_sdk.clock import since_boot_ms
from edge_sdk.decision import Reason
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.caps import VIEW, CapLedger, CapRow
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.runtime.claiming import claim_of, counted_as
from genome_edge.v1 import event_pb2
from genome_server.files import write_whole
from genome_server.log import SERVER, LogReader
from genome_server.log.erase import SERVER_CAPS
from genome_server.log.reader import LogBatch

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

_WORTH_EVENTS: Final = 5_000
_WANTED: Final = (FrameKind.DECISION, FrameKind.OUTCOME)

_Through = dict[bytes, int]


class LoggedCaps:
    """The ledger of what the log says of the server, which may grow by the hands of others.

    `elapsed` is as the ledger has it.
    """

    def __init__(
        self,
        folder: Path,
        log: LogReader,
        release: Release,
        elapsed: Callable[[], int] = since_boot_ms,
    ) -> None:
        self._log = log
        rows, self._through = _read(folder / SERVER_CAPS)
        self.ledger = CapLedger(release.catalogue.caps, rows, elapsed)
        read = self.follow(release)
        self.ledger.prune(time.time_ns() // 1_000_000)
        if read >= _WORTH_EVENTS:
            _write(folder / SERVER_CAPS, self.ledger, self._through)

    def follow(self, release: Release) -> int:
        """Count what is new in the log, under the rules of a release; how many events were read.

        Not for several threads at once. What this process logged itself is known by its claim.
        """
        read = 0
        for epoch, lane, newest in self._log.device_lanes(SERVER):
            after = self._through.get(epoch, 0)
            for batch in self._log.device_batches(SERVER, epoch, lane, after=after):
                if batch.last > newest:
                    break
                self.ledger.apply(list(_counted(batch, release, self.ledger)))
                read += batch.count
            self._through[epoch] = newest
        return read


def counts(kind: str, shown_on_view: bool) -> bool:
    """Say whether an outcome counts: a view only where deciding did not count as one already."""
    return kind != VIEW or shown_on_view


def _counted(batch: LogBatch, release: Release, ledger: CapLedger) -> Iterator[CapRow]:
    """What a batch counts for the caps of a release."""
    for frame in batch.frames(_WANTED):
        if frame.subject == NOBODY:
            continue
        event = event_pb2.Event.FromString(frame.body)
        for decision_id, slot, offer, kind in _happened(event, release):
            claim = claim_of(decision_id, slot)
            row = ledger.row(frame.subject, offer, kind, frame.time_ms, claim)
            if row is not None:
                yield row


def _happened(event: event_pb2.Event, release: Release) -> Iterator[tuple[bytes, int, str, str]]:
    """By decision and slot: the offers with which something happened, and what that counts as."""
    if event.HasField("decision"):
        record = event.decision
        placement = release.placements.get(record.placement)
        if placement is None or not placement.shown_on_view:
            for number, slot in enumerate(record.slots):
                if slot.offer and slot.reason != Reason.HOUSE.value:
                    yield record.decision_id, number, slot.offer, VIEW
    elif event.HasField("outcome") and event.outcome.offer:
        said = event.outcome
        placement = release.placements.get(said.placement)
        if counts(said.kind, placement is None or placement.shown_on_view):
            for kind in counted_as(release.schema, said.kind):
                yield said.decision_id, said.slot, said.offer, kind


def _read(path: Path) -> tuple[list[CapRow], _Through]:
    """What the file holds; nothing where it is not there or cannot be read."""
    try:
        said = json.loads(path.read_bytes())
        rows = [
            CapRow(bytes.fromhex(s), str(o), str(k), int(at), bytes.fromhex(claim), *map(str, of))
            for s, o, k, at, claim, *of in said["rows"]
        ]
        return rows, {bytes.fromhex(epoch): int(n) for epoch, n in said["through"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [], {}


def _write(path: Path, ledger: CapLedger, through: _Through) -> None:
    rows = [
        (
            row.subject.hex(),
            row.offer,
            row.kind,
            row.at_ms,
            row.claim.hex(),
            row.campaign,
            row.group,
        )
        for row in ledger.rows()
    ]
    said = {"through": {epoch.hex(): n for epoch, n in through.items()}, "rows": rows}
    write_whole(path, json.dumps(said).encode())
