"""Looks at the canaries of a tenant when it is time to, and does what the rules say.

Rules.
- That a canary is to be rolled back is kept before anything is done. What is left to do is found
  out at every tick, by what is there, until all of it is done: the release first, which is
  urgent, then its model. In between no release takes that model (`releases.publish`).
- A look counts from its time on: what a clock that was ahead looked at later than now is looked at
  again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from edge_sdk.errors import EdgeError
from genome_server.canary.kept import CLOCK_MS, Canary, canaries, keep
from genome_server.canary.rules import Action, Seen, Verdict, figures, judge, looks_due, refusal
from genome_server.canary.tally import begin_of, heard, seen
from genome_server.canary.worth import worths_of
from genome_server.errors import GenomeServerError, Refused
from genome_server.genomes.rows import needed_schema
from genome_server.home import Tenant
from genome_server.log.reader import LogReader
from genome_server.models.shelf import model_in, promotions, roll_back_model
from genome_server.releases.manage import promote, rollback
from genome_server.releases.publish import manifest_of
from genome_server.store.protocol import ReleaseRow, Store

log = logging.getLogger(__name__)


def tick(tenant: Tenant, now_ms: int) -> list[Canary]:
    """Take the looks that are due, and act; returns the canaries of which something was said."""
    with closing(tenant.open_store()) as store:
        turns = {"watched": _look, "rolling back": _roll_back}
        some = [one for one in canaries(store) if one.state in turns]
        found = [turns[one.state](tenant, store, one, now_ms) for one in some]
    return [one for one in found if one is not None]


def as_it_stands(store: Store, canary: Canary, now_ms: int) -> Canary:
    """A canary as the next tick leaves it where somebody decided otherwise since the last one: it
    is watched no longer, and why. It is not kept."""
    why = _over(store, store.release(canary.version)) if canary.state == "watched" else None
    return canary if why is None else canary.ended(now_ms, why)


def look_now(tenant: Tenant, store: Store, canary: Canary, now_ms: int) -> tuple[Seen, Verdict]:
    """What a look would see and say at this moment. It counts for nothing and does nothing."""
    row = store.release(canary.version)
    if row is None:
        raise Refused(f"there is no release {canary.version}")
    elapsed_ms = now_ms - canary.since_ms
    found = _seen(tenant, store, canary, row, now_ms)
    look = max(1, looks_due(elapsed_ms, canary.bounds.first_look_ms))
    verdict = judge(found, canary.bounds, look=look, elapsed_ms=elapsed_ms)
    return found, _behind(canary, now_ms) or verdict


def _look(tenant: Tenant, store: Store, canary: Canary, now_ms: int) -> Canary | None:
    row = store.release(canary.version)
    why = _over(store, row)
    if row is None or why is not None:
        return _keep(store, canary.ended(now_ms, why or "the release is gone"))
    elapsed_ms = now_ms - canary.since_ms
    due = looks_due(elapsed_ms, canary.bounds.first_look_ms)
    verdict = refusal(heard(row, store.devices(), canary.since_ms), canary.bounds)
    saw: Mapping[str, Any] = {}
    if verdict is None and due > canary.looked(now_ms):
        found = _seen(tenant, store, canary, row, now_ms)
        saw = figures(found)
        verdict = judge(found, canary.bounds, look=due, elapsed_ms=elapsed_ms)
    if verdict is None:
        behind = _behind(canary, now_ms)
        if behind is None:
            return None
        return _say_once(tenant, store, canary, canary.looked(now_ms), now_ms, behind)
    if verdict.action is Action.WAIT:
        return _keep(store, canary.after(due, now_ms, verdict, figures=saw))
    if verdict.action is Action.ROLL_BACK:
        begun = canary.after(due, now_ms, verdict, "rolling back", saw)
        return _roll_back(tenant, store, _keep(store, begun), now_ms) or begun
    try:
        promote(tenant, canary.version, now_ms=now_ms)
    except (EdgeError, GenomeServerError) as error:
        failed = Verdict(Action.WAIT, f"{verdict.action.value}, which failed: {error}")
        return _say_once(tenant, store, canary, due, now_ms, failed)
    _log_done(tenant, canary, verdict)
    return _keep(store, canary.after(due, now_ms, verdict, "promoted", saw))


def _roll_back(tenant: Tenant, store: Store, canary: Canary, now_ms: int) -> Canary | None:
    """Do what is left to do of rolling back, wherever it was broken off; None: nothing new to say.

    Somebody who gave the release to all, or another one out, meanwhile has decided otherwise.
    """
    row = store.release(canary.version)
    if row is None:
        return _keep(store, canary.ended(now_ms, "the release is gone"))
    failed = "roll back, which failed"
    try:
        if not row.withdrawn:
            why = _over(store, row)
            if why is not None:
                return _keep(store, canary.ended(now_ms, why))
            rollback(tenant, channel=canary.channel, now_ms=now_ms)
        bad = model_in(manifest_of(row))
        failed = f"the release is rolled back, its model {bad} not yet"
        left = _take_back(tenant, store, canary, bad, now_ms)
    except (EdgeError, GenomeServerError, OSError) as error:
        verdict = Verdict(Action.WAIT, f"{failed}: {error}")
        return _say_once(tenant, store, canary, canary.looked(now_ms), now_ms, verdict)
    done = Verdict(Action.ROLL_BACK, canary.decided)
    _log_done(tenant, canary, done)
    if canary.looks[-1].why != done.why:  # that it failed was said last
        left = left or "it is done now"
    if left:
        number = canary.looked(now_ms)
        canary = canary.after(number, now_ms, Verdict(Action.WAIT, left))
    return _keep(store, replace(canary, state="rolled back"))


def _take_back(tenant: Tenant, store: Store, canary: Canary, bad: str, now_ms: int) -> str:
    """Let the next release take the model that devices have again, or it would bring the bad one;
    what else there is to say of it."""
    row = store.release(channel=canary.channel)
    good = model_in(manifest_of(row)) if row is not None else ""
    if bad == good or bad != promotions(store).current:
        return ""
    reason = f"release {canary.version} was rolled back: {canary.decided}"
    with store.transaction():
        # What devices have now may lie several models back.
        while good in promotions(store).standing[:-1] and promotions(store).current != good:
            roll_back_model(tenant.models_dir, store, reason=reason, now_ms=now_ms)
    if promotions(store).current == good:
        return ""
    return (
        f"the next release would take model {bad} again: what devices have now was never "
        "promoted (genome-server train, or models promote ID)"
    )


def _log_done(tenant: Tenant, canary: Canary, verdict: Verdict) -> None:
    log.warning(
        "tenant %s: release %d of channel %s: %s, because %s",
        tenant.name, canary.version, canary.channel, verdict.action.value, verdict.why,
    )  # fmt: skip


def _behind(canary: Canary, now_ms: int) -> Verdict | None:
    """What is said where the clock went back: looks are counted by time."""
    if now_ms < canary.since_ms - CLOCK_MS:
        why = "to before the canary: set it right; no look counts until then"
    elif canary.looks and now_ms < canary.looks[-1].at_ms - CLOCK_MS:
        why = "to before its last look: what was looked at later than now is looked at again"
    else:
        return None
    return Verdict(Action.WAIT, f"this server's clock went back {why}")


def _say_once(
    tenant: Tenant, store: Store, canary: Canary, number: int, now_ms: int, verdict: Verdict
) -> Canary | None:
    """Remember and log what will be found again at every tick until somebody does something."""
    if canary.looks and canary.looks[-1].why == verdict.why:
        return None
    log.error("tenant %s: release %d: %s", tenant.name, canary.version, verdict.why)
    return _keep(store, canary.after(number, now_ms, verdict))


def _over(store: Store, row: ReleaseRow | None) -> str | None:
    """Why a canary needs no watching any more; None: it does."""
    if row is None:
        return None
    if row.withdrawn:
        return "it was withdrawn"
    if row.share >= 1:
        return "the whole channel has it"
    newer = (one for one in store.releases() if one.channel == row.channel)
    if any(one.version > row.version and not one.withdrawn for one in newer):
        return "another release came after it"
    return None


def _seen(tenant: Tenant, store: Store, canary: Canary, row: ReleaseRow, now_ms: int) -> Seen:
    if not tenant.log_path.exists():
        return Seen((), (), heard(row, store.devices(), canary.since_ms))
    with LogReader(tenant.log_path) as events:
        batches = events.batches(begin_of(events, canary.since_ms))
        schema, worths = needed_schema(store), worths_of(tenant, store)
        return seen(batches, store, canary, row, schema, now_ms, worths)


def _keep(store: Store, canary: Canary) -> Canary:
    keep(store, canary)
    return canary
