"""Looks at the canaries of a tenant when it is time to, and does what the rules say."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from edge_sdk.errors import EdgeError
from genome_server.canary.kept import Canary, State, canaries, keep
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

_STATES: Final[dict[Action, State]] = {
    Action.PROMOTE: "promoted",
    Action.ROLL_BACK: "rolled back",
}

_CLOCK_MS: Final = 60_000
"""A clock that is set right by less is not worth a word."""

log = logging.getLogger(__name__)


def tick(tenant: Tenant, now_ms: int) -> list[Canary]:
    """Take the looks that are due, and act; returns the canaries of which something was said."""
    with closing(tenant.open_store()) as store:
        watched = [one for one in canaries(store) if one.state == "watched"]
        found = [_look(tenant, store, one, now_ms) for one in watched]
    return [one for one in found if one is not None]


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
    if verdict is None and due > canary.looked:
        found = _seen(tenant, store, canary, row, now_ms)
        saw = figures(found)
        verdict = judge(found, canary.bounds, look=due, elapsed_ms=elapsed_ms)
    if verdict is None:
        behind = _behind(canary, now_ms)
        if behind is None:
            return None
        return _say_once(tenant, store, canary, canary.looked, now_ms, behind)
    if verdict.action is Action.WAIT:
        return _keep(store, canary.after(due, now_ms, verdict, figures=saw))
    try:
        said = verdict._replace(why=verdict.why + _act(tenant, store, canary, verdict, now_ms))
    except (EdgeError, GenomeServerError) as error:
        failed = Verdict(Action.WAIT, f"{verdict.action.value}, which failed: {error}")
        return _say_once(tenant, store, canary, due, now_ms, failed)
    log.warning(
        "tenant %s: release %d of channel %s: %s, because %s",
        tenant.name, canary.version, canary.channel, said.action.value, said.why,
    )  # fmt: skip
    return _keep(store, canary.after(due, now_ms, said, _STATES[said.action], saw))


def _act(tenant: Tenant, store: Store, canary: Canary, verdict: Verdict, now_ms: int) -> str:
    """Promote or roll back; what else there is to say of it."""
    if verdict.action is Action.PROMOTE:
        promote(tenant, canary.version, now_ms=now_ms)
        return ""
    row = store.release(canary.version)
    moved = rollback(tenant, channel=canary.channel, now_ms=now_ms)
    bad, good = (model_in(manifest_of(one)) if one is not None else "" for one in (row, moved.row))
    if bad == good or bad != promotions(store).current:
        return ""
    # Or the next release would bring it again. What devices have now may lie several models back.
    reason = f"release {canary.version} was rolled back: {verdict.why}"
    while good in promotions(store).standing[:-1] and promotions(store).current != good:
        roll_back_model(tenant.models_dir, store, reason=reason, now_ms=now_ms)
    if promotions(store).current == good:
        return ""
    return (
        f"; but the next release would take model {bad} again: what devices have now was never "
        "promoted (genome-server train, or models promote ID)"
    )


def _behind(canary: Canary, now_ms: int) -> Verdict | None:
    """What is said where the clock went back: looks are counted by time, so none is due."""
    newest_ms = max((look.at_ms for look in canary.looks), default=canary.since_ms)
    if now_ms >= max(newest_ms, canary.since_ms) - _CLOCK_MS:
        return None
    why = "this server's clock went back to before the canary or its last look"
    return Verdict(Action.WAIT, f"{why}: set it right; no look counts until then")


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
