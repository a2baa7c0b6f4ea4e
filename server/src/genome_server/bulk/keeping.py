"""Keeping what a run decides: each part is written and logged while the next one is decided."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.dna.genome import NOBODY
from genome_server.bulk.results import join, shown_in, write_part
from genome_server.bulk.work import KEPT_MS
from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.ingest.importer import REPORTED_REJECTS
from genome_server.ingest.rejects import Reject
from genome_server.log import Kept

if TYPE_CHECKING:
    from genome_server.bulk.deciding import Decided, ListDecider
    from genome_server.bulk.lists import Part
    from genome_server.bulk.order import Order, Outcome
    from genome_server.bulk.work import Run, Work
    from genome_server.log import Committer, LogReader


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


class Keeper:
    """Keeps what is decided, part after part, and says what came of all of them."""

    def __init__(
        self,
        order: Order,
        work: Work,
        run: Run,
        log: Committer,
        reader: LogReader,
        decider: ListDecider,
        outcome: Outcome,
    ) -> None:
        self._order = order
        self._work = work
        self._run = run
        self._log = log
        self._reader = reader
        self._decider = decider
        self._outcome = outcome
        self._parts = 0
        self._aside: list[str] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="parts")
        self._waiting: Future[None] | None = None

    def recall(self) -> None:
        """Go through the parts that are done. Raises Refused where one is not what it was."""
        while (said := self._work.whole(self._parts)) is not None:
            if said.get("run") != self._run.key.hex():
                raise Refused(f"{self._work.part(self._parts)}: is of another run")
            if not self._order.dry_run:
                kept = self._reader.kept(self._run.part_key(self._parts), now_ms())
                if kept is None:
                    break  # written, and not logged: it is decided again
                if kept[0] != self._work.digest(self._parts):
                    raise Refused(
                        f"{self._work.part(self._parts)}: is not what was logged; restore the "
                        "file to go on"
                    )
            self._decider.recall(shown_in(self._work.part(self._parts)))
            self._count(said)
            self._outcome.resumed += said["rows"]

    def keep(self, part: Part, done: Decided) -> None:
        """Write and log a part while the next one is decided."""
        said = {
            "run": self._run.key.hex(),
            "rows": part.rows,
            "decided": len(part.asked),
            "genomes": done.genomes,
            "shown": sum(1 for row in done.rows if row.offer),
            "reasons": Counter(row.reason for row in done.rows),
            "unknown": done.unknown,
            "aside": [one.said for one in part.aside],
        }
        number = self._parts
        self._count(said)
        self._wait()
        self._waiting = self._pool.submit(self._write, number, done, said)

    def close(self) -> None:
        """Wait for what is still written. Raises what went wrong with it."""
        try:
            self._wait()
        finally:
            self._pool.shutdown()

    def finish(self, rejects_dir: Path) -> None:
        """Put the parts together, and forget them."""
        out, work = self._order.out, self._work
        self._outcome.rejects = [_reject(said) for said in self._aside[:REPORTED_REJECTS]]
        if self._aside:
            rejects_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = rejects_dir / f"moments-{self._run.key.hex()[:16]}.jsonl"
            text = "".join(f"{said}\n" for said in self._aside)
            write_whole(path, text.encode(errors="backslashreplace"))
            self._outcome.rejects_file = path
        said = {"run": self._run.key.hex(), "release": self._run.release_version}
        join(map(work.part, range(self._parts)), out, {**said, "at_ms": self._run.at_ms})
        work.end()

    def _count(self, said: dict[str, Any]) -> None:
        outcome = self._outcome
        outcome.rows_in += said["rows"]
        outcome.decided += said["decided"]
        outcome.rejected += len(said["aside"])
        outcome.genomes += said["genomes"]
        outcome.shown += said["shown"]
        outcome.reasons.update(said["reasons"])
        outcome.unknown.update(said["unknown"])
        self._aside += said["aside"]
        self._parts += 1

    def _wait(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.result()

    def _write(self, number: int, done: Decided, said: dict[str, Any]) -> None:
        write_part(self._work.part(number), done.rows, said)
        if self._order.dry_run:
            return
        once, digest = self._run.part_key(number), self._work.digest(number)
        keep = [*done.keep, Kept(once, digest, NOBODY, now_ms() + KEPT_MS)]
        if self._log.record(done.events, keep, once).result() is not None:
            raise Refused(f"part {number} of this run is in the log already; see --resume")


def _reject(said: str) -> Reject:
    read = json.loads(said)
    return Reject(read["file"], read["line"], read.get("column", ""), read["cause"])
