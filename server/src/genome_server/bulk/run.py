"""A whole run: a list in, decisions in the log, a result out; killed anywhere, it goes on there.

    outcome = decide_list(tenant, store, order)
    assert outcome.rows_in == outcome.decided + outcome.rejected

While a part is decided the one before is written and logged. The release is the one with which the
run was begun; what the store knows of customers, what they agreed to, and what is stopped are as
they are when their part comes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_sdk import _posix
from edge_sdk.engine.fitting import Failures
from edge_sdk.runtime.claiming import Claims
from genome_server.bulk.budgets import Budget, Budgets
from genome_server.bulk.crowd import crowd
from genome_server.bulk.deciding import Decided, ListDecider
from genome_server.bulk.lists import FileList, Part, Segment, the_list
from genome_server.bulk.moments import ForAll, MomentMaker, said_for_all
from genome_server.bulk.results import checked_out, join, shown_in, write_part
from genome_server.bulk.work import KEPT_MS, RESUMED_MS, Run, Work
from genome_server.errors import ImportRefused, Refused, UsageError
from genome_server.files import write_whole
from genome_server.ingest.importer import REPORTED_REJECTS
from genome_server.ingest.rejects import Reject
from genome_server.log import Committer, Kept, LogReader
from genome_server.releases.trust import TrustDesk
from genome_server.services.in_force import Standing, load_release
from genome_server.services.server_caps import ledger_from_log
from genome_server.services.shelf import Shelf
from genome_server.services.sync_plan import rows_fit

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

_LOCK: Final = "decide.lock"
_NOBODY: Final = bytes(16)


@dataclass(frozen=True)
class Order:
    """What a command asks for; see `genome-server decide --help`."""

    out: Path
    file: Path | None = None
    format: str | None = None
    audience: str | None = None
    markers: Sequence[str] = ()
    everybody: bool = False
    source: str = "app"
    placement: str = ""
    slots: int = 1
    moment: Sequence[str] = ()
    budgets: Sequence[str] = ()
    reporter: str = ""
    at_ms: int | None = None
    resume: bool = False
    dry_run: bool = False


@dataclass
class Outcome:
    """What became of a list. `per_second` counts the rows that this process decided for."""

    out: Path
    run: str = ""
    release: int = 0
    at_ms: int = 0
    logged: bool = True
    rows_in: int = 0
    decided: int = 0
    rejected: int = 0
    resumed: int = 0
    genomes: int = 0
    shown: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    budgets: dict[str, dict[str, int]] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    rejects_file: Path | None = None
    refused: str | None = None
    notes: list[str] = field(default_factory=list)
    per_second: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether every row of the list was decided for."""
        return self.refused is None and self.rejected == 0

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            **vars(self),
            "out": str(self.out),
            "rejects": [vars(reject) for reject in self.rejects],
            "rejects_file": str(self.rejects_file) if self.rejects_file else None,
            "per_second": round(self.per_second, 1),
        }


def decide_list(
    tenant: Tenant,
    store: Store,
    order: Order,
    progress: Callable[..., None] = lambda *_, **__: None,
) -> Outcome:
    """Decide for a list; `progress` is called as a console's.

    Raises UsageError for an order that makes no sense, Refused or ImportRefused where it cannot be
    done. What is wrong with single rows is in the outcome.
    """
    checked_out(order.out)
    with ExitStack() as stack:
        stack.enter_context(_alone(tenant))
        trust, shelf = TrustDesk(tenant, store), Shelf(tenant, store)
        log = stack.enter_context(Committer(tenant.log_path))
        reader = stack.enter_context(closing(LogReader(tenant.log_path)))
        work = Work(order.out)
        begun = _begun(work, order)
        release = _release(shelf, begun)
        run, members, maker = _settled(store, shelf, release, work, order, begun)
        key = run.key
        if begun is None:
            if not order.dry_run and reader.kept(run.part_key(0), run.at_ms) is not None:
                raise Refused("this very run is in the log; its result was written before")
            kept = members.to_bytes() if isinstance(members, Segment) else None
            work.begin(run, _now_ms(), dry=order.dry_run, members=kept)
        outcome = Outcome(order.out, key.hex(), release.version, run.at_ms, not order.dry_run)
        if not rows_fit(store, release.manifest.lineage):
            outcome.notes.append(
                "the genomes in the store are not of this release's schema, so none is used; "
                "run: genome-server build, then publish"
            )
        budgets = Budgets([Budget(*_split(name), n) for name, n in run.budgets.items()], release)
        # No hold lapses while the run goes on: its clock stands still.
        ledger = ledger_from_log(tenant.dir, reader, release, elapsed=lambda: 0)
        decider = ListDecider(
            release, Claims(ledger), budgets, key, run.at_ms, _reporter(store, order)
        )
        going = _Going(order, work, run, log, reader, decider, outcome)
        going.recall()
        standing = Standing(trust, shelf)
        progress(outcome.rows_in, total=members.total)
        began, before = time.monotonic(), outcome.decided
        try:
            for part in members.parts(store, maker, outcome.rows_in):
                trust.look()
                known = crowd(store, release, (one.subject for one in part.asked))
                terms = standing.terms(release, run.at_ms)
                done = decider.part(
                    outcome.decided, part.asked, known, terms, logged=not order.dry_run
                )
                going.keep(part, done)
                progress(part.rows)
        except ImportRefused as error:
            outcome.refused = str(error)
        finally:
            going.close()
        taken = time.monotonic() - began
        outcome.per_second = (outcome.decided - before) / taken if taken > 0 else 0.0
        outcome.budgets = {
            name: {"limit": limit, "left": budgets.left[name]}
            for name, limit in budgets.limits.items()
        }
        going.finish(tenant.rejects_dir)
    return outcome


class _Going:
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
                kept = self._reader.kept(self._run.part_key(self._parts), _now_ms())
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
        keep = [*done.keep, Kept(once, digest, _NOBODY, _now_ms() + KEPT_MS)]
        if self._log.record(done.events, keep, once).result() is not None:
            raise Refused(f"part {number} of this run is in the log already; see --resume")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _alone(tenant: Tenant) -> Iterator[None]:
    """One run at a time: two would not know of each other's caps."""
    lock = _posix.FileLock.try_acquire(tenant.dir / _LOCK)
    if lock is None:
        raise Refused(f"another run of tenant {tenant.name!r} is under way; wait for its end")
    try:
        yield
    finally:
        lock.release()


def _begun(work: Work, order: Order) -> Run | None:
    """The run to go on with. Raises Refused, UsageError."""
    found = work.begun() if order.resume else None
    if found is None:
        if order.out.exists():
            raise Refused(f"{order.out} is there already; move it away, or name another --out")
        return None
    run, begun_ms, dry = found
    if _now_ms() - begun_ms > RESUMED_MS:
        raise Refused(f"{work.folder}: the run is too old to go on with; delete the folder")
    if dry != order.dry_run:
        which = "with" if dry else "without"
        raise UsageError(f"{work.folder}: the run was begun {which} --dry-run")
    return run


def _release(shelf: Shelf, begun: Run | None) -> Release:
    if begun is not None:
        return load_release(shelf, begun.release_version, Failures())
    newest = shelf.newest()
    if newest is None:
        raise Refused("nothing was published yet; run: genome-server publish")
    return load_release(shelf, newest.version, Failures())


def _settled(
    store: Store, shelf: Shelf, release: Release, work: Work, order: Order, begun: Run | None
) -> tuple[Run, FileList | Segment, MomentMaker]:
    """What run it is, of which list. Raises UsageError where it is not the one that was begun."""
    kept = work.members() if begun is not None else None
    if kept is not None and order.file is None:
        members: FileList | Segment = Segment.kept(kept, order.source)
    else:
        members = the_list(
            store,
            order.file,
            format_=order.format,
            source=order.source,
            audience=order.audience,
            markers=order.markers,
            everybody=order.everybody,
        )
    if isinstance(members, Segment) and not order.placement:
        raise UsageError("--placement is missing: where is it shown?")
    shelved = shelf.get(release.version)
    assert shelved is not None
    moment = said_for_all(order.moment)
    budgets = [Budget.read(text, release) for text in order.budgets]
    now_ms = _now_ms()
    at_ms = now_ms if order.at_ms is None else order.at_ms
    if not 0 <= at_ms <= now_ms:
        raise UsageError("--at lies ahead; for the moment of the decisions: --moment time=…")
    run = Run(
        members.digest.hex(),
        release.version,
        hashlib.sha256(shelved.signed.manifest).hexdigest(),
        at_ms,
        order.placement,
        order.slots,
        order.source,
        moment,
        {str(one): one.limit for one in budgets},
    )
    for_all = ForAll(order.placement, order.slots, order.source, moment)
    maker = MomentMaker(for_all, list(release.placements))
    if order.placement:
        maker.check_placement(order.placement)
    if begun is None:
        return run, members, maker
    other = run.differs(begun)
    if other:
        raise UsageError(f"{work.folder}: the run was begun with another {other}")
    if order.at_ms not in (None, begun.at_ms):
        raise UsageError(f"{work.folder}: the run was begun with another --at")
    return begun, members, maker


def _reporter(store: Store, order: Order) -> str:
    """The audience whose thin clients may report what follows: as said, the segment's, or the only
    one."""
    names = [one.name for one in store.audiences()]
    if order.reporter and order.reporter not in names:
        raise UsageError(f"there is no audience {order.reporter!r}")
    return order.reporter or order.audience or (names[0] if len(names) == 1 else "")


def _split(name: str) -> tuple[str, str]:
    over, _, rest = name.partition(":")
    return over, rest


def _reject(said: str) -> Reject:
    read = json.loads(said)
    return Reject(read["file"], read["line"], read.get("column", ""), read["cause"])
