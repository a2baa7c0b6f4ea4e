"""What the server itself showed and heard, as it counts against caps, read back from the log.

The server counts as one device; what it did stands in lanes of its own, one for each incarnation
of the log. To read all of them at every start would take longer from year to year. So what matters
to the caps is kept in a file beside the log, with the sequence of each lane up to which it speaks:
only what came after is read. The file can be lost: it is made anew from the log.

What customers did on devices stands in the store, and is asked for when they are decided for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_sdk.clock import since_boot_ms
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.caps import CapLedger, CapRow
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.counting.happened import happened
from genome_server.files import write_whole
from genome_server.log import SERVER, LogReader
from genome_server.log.erase import SERVER_CAPS
from genome_server.log.reader import LogBatch

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release
    from genome_server.store.protocol import Store

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

    def hear(self, store: Store, subjects: Iterable[bytes]) -> None:
        """Count what these subjects did on devices, as far as the store knows it."""
        self.ledger.apply(store.cap_events_of({one for one in subjects if one != NOBODY}))


def _counted(batch: LogBatch, release: Release, ledger: CapLedger) -> Iterator[CapRow]:
    """What a batch counts for the caps of a release."""
    for frame in batch.frames(_WANTED):
        if frame.subject == NOBODY:
            continue
        event = event_pb2.Event.FromString(frame.body)
        for claim, offer, kind in happened(event, release):
            row = ledger.row(frame.subject, offer, kind, frame.time_ms, claim)
            if row is not None:
                yield row


def _read(path: Path) -> tuple[list[CapRow], _Through]:
    """What the file holds; nothing where it is not there or cannot be read."""
    try:
        said = json.loads(path.read_bytes())
        rows = [
            CapRow(bytes.fromhex(s), str(o), str(k), int(at), bytes.fromhex(claim), str(c), str(g))
            for s, o, k, at, claim, c, g in said["rows"]
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
        if not row.elsewhere
    ]
    said = {"through": {epoch.hex(): n for epoch, n in through.items()}, "rows": rows}
    write_whole(path, json.dumps(said).encode())
