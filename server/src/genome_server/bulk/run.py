"""A whole run: a list in, decisions in the log, a result out; killed anywhere, it goes on there.

    outcome = decide_list(tenant, store, order)
    assert outcome.rows_in == outcome.decided + outcome.rejected

While a part is decided the one before is written and logged. The release is the one with which the
run was begun; what the store knows of customers, what they agreed to, and what is stopped are as
they are when their part comes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final

from edge_sdk import _posix
from edge_sdk.engine.fitting import Failures
from edge_sdk.runtime.claiming import Claims
from genome_server.bulk.budgets import Budget, Budgets
from genome_server.bulk.crowd import crowd
from genome_server.bulk.deciding import ListDecider
from genome_server.bulk.keeping import Keeper, now_ms
from genome_server.bulk.lists import FileList, Segment, the_list
from genome_server.bulk.moments import ForAll, MomentMaker, said_for_all
from genome_server.bulk.order import Order, Outcome
from genome_server.bulk.results import checked_out
from genome_server.bulk.work import RESUMED_MS, Run, Work
from genome_server.counting.consumer import catch_up
from genome_server.errors import ImportRefused, Refused, UsageError
from genome_server.log import Committer, LogReader
from genome_server.releases.trust import TrustDesk
from genome_server.services.in_force import Standing, load_release
from genome_server.services.server_caps import LoggedCaps
from genome_server.services.shelf import Shelf
from genome_server.services.sync_plan import rows_fit

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

_LOCK: Final = "decide.lock"


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
        work, reporter = Work(order.out), _reporter(store, order)
        begun = _begun(work, order)
        release = _release(shelf, begun)
        run, members, maker = _settled(store, shelf, release, work, order, begun)
        key = run.key
        if begun is None:
            if not order.dry_run and reader.kept(run.part_key(0), run.at_ms) is not None:
                raise Refused("this very run is in the log; its result was written before")
            kept = members.to_bytes() if isinstance(members, Segment) else None
            work.begin(run, now_ms(), dry=order.dry_run, members=kept)
        outcome = Outcome(order.out, key.hex(), release.version, run.at_ms, not order.dry_run)
        if not rows_fit(store, release.manifest.lineage):
            outcome.notes.append(
                "the genomes in the store are not of this release's schema, so none is used; "
                "run: genome-server build, then publish"
            )
        if order.markers and not members.total:
            outcome.notes.append(
                "no customer has the profile marker " + " or ".join(map(repr, order.markers))
            )
        budgets = Budgets([Budget(*_split(name), n) for name, n in run.budgets.items()], release)
        # No hold lapses while the run goes on: its clock stands still.
        catch_up(tenant)
        caps = LoggedCaps(tenant.dir, reader, release, elapsed=lambda: 0)
        decider = ListDecider(release, Claims(caps.ledger), budgets, key, run.at_ms, reporter)
        keeper = Keeper(order, work, run, log, reader, decider, outcome)
        keeper.recall()
        standing = Standing(trust, shelf)
        progress(outcome.rows_in, total=members.total)
        began, before = time.monotonic(), outcome.decided
        try:
            for part in members.parts(store, maker, outcome.rows_in):
                trust.look()
                known = crowd(store, release, (one.subject for one in part.asked))
                terms = standing.terms(release, run.at_ms)
                caps.hear(store, known)
                done = decider.part(
                    outcome.decided, part.asked, known, terms, logged=not order.dry_run
                )
                keeper.keep(part, done)
                progress(part.rows)
        except ImportRefused as error:
            outcome.refused = str(error)
        finally:
            keeper.close()
        taken = time.monotonic() - began
        outcome.per_second = (outcome.decided - before) / taken if taken > 0 else 0.0
        outcome.budgets = {
            name: {"limit": limit, "left": budgets.left[name]}
            for name, limit in budgets.limits.items()
        }
        keeper.finish(tenant.rejects_dir)
    return outcome


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
    found = work.begun()
    if found is not None and not order.resume:
        raise Refused(
            f"{work.folder}: a run was begun here and not ended; --resume goes on with it, and "
            "without the folder it is forgotten"
        )
    if found is None:
        if order.out.exists():
            raise Refused(f"{order.out} is there already; move it away, or name another --out")
        return None
    run, begun_ms, dry = found
    if now_ms() - begun_ms > RESUMED_MS:
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
    at_ms = now_ms() if order.at_ms is None else order.at_ms
    if not 0 <= at_ms <= now_ms():
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
