"""Who publishes asks the gate here: whether a release may take a model.

The gate is not asked where nothing new would go out: of the model that all devices of the channel
have (or those of "stable", where it has no release of its own), of one that is out already for at
least the share that is asked for, and of one that a rollback came back to (the way back must always
be open, at once). What was said lately is gone by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genome_edge.v1 import release_pb2
from genome_server.documents import joint_placements
from genome_server.errors import Refused
from genome_server.gate.kept import (
    Said,
    keep,
    keep_despite,
    limits,
    page_path,
    remember_guess,
    state_of,
    verdicts,
)
from genome_server.gate.page import page_of
from genome_server.gate.rules import Outcome, Verdict
from genome_server.gate.run import in_force, judge, knows_more
from genome_server.home import Tenant
from genome_server.log.reader import LogReader
from genome_server.models.shelf import Model, model_in, promotions
from genome_server.releases.publish import manifest_of
from genome_server.store.protocol import ReleaseRow, Store

if TYPE_CHECKING:
    from genome_server.learning.job import Advance, Progress


@contextmanager
def silence(label: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG001
    """The progress of nothing."""
    yield lambda steps=1, *, total=None: None  # noqa: ARG005


@dataclass(frozen=True)
class Opened:
    """What the gate `said` of a model that may go out (None: it was not asked), and the `reason`
    for which it goes out all the same (empty: the gate lets it)."""

    said: Said | None = None
    notes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def outcome(self) -> Outcome | None:
        """What it said in a word."""
        return None if self.said is None else self.said.verdict.outcome

    def went_out(self, store: Store, models_dir: Path, row: ReleaseRow, *, other: bool) -> None:
        """Remember how the model went out; `other`: devices had another one before. Call it in the
        transaction that issues the release."""
        untold = self.said is not None and self.said.verdict.untold
        if row.share >= 1 and (other or self.said is not None):
            model = model_in(manifest_of(row))
            remember_guess(store, row.channel, model if untold else "")
        if self.said is not None and self.reason:
            keep_despite(models_dir, self.said, self.reason)

    def stayed(self) -> tuple[str, ...]:
        """The notes, where nothing came of publishing: nothing went out despite the gate."""
        if not self.reason:
            return self.notes
        return ("nothing new is out, so no reason is kept (--despite-gate)",)


def ask(
    tenant: Tenant,
    store: Store,
    model: Model,
    *,
    channel: str,
    share: float,
    watched: bool,
    placements: Sequence[release_pb2.PlacementSpec],
    despite: str,
    dry_run: bool,
    now_ms: int,
    progress: Progress,
) -> Opened:
    """Let a model through. Raises Refused, with the reasons, where it may not go out.

    `despite` says why it goes out all the same: call `went_out` of what is returned when it does.
    """
    if why_not_asked(store, model.id, channel, share):
        return Opened()
    said = verdict_on(
        tenant, store, model, channel=channel, placements=placements, now_ms=now_ms,
        progress=progress, dry_run=dry_run,
    )  # fmt: skip
    verdict = said.verdict
    if verdict.opens(watched=watched):
        unknown = [f"the gate cannot tell of {one}" for one in _unknown(verdict)]
        return Opened(said, tuple(unknown))
    if despite:
        held = [f"despite the gate: {reason}" for reason in verdict.reasons()]
        return Opened(said, tuple(held), despite)
    raise Refused(refusal(verdict, None if dry_run else page_path(tenant.models_dir, model.id)))


def verdict_on(
    tenant: Tenant,
    store: Store,
    model: Model,
    *,
    channel: str,
    placements: Sequence[release_pb2.PlacementSpec],
    now_ms: int,
    progress: Progress,
    dry_run: bool = False,
    anew: bool = False,
) -> Said:
    """What the gate says of a model: what it said lately (unless `anew`), or now; kept with its
    page unless with `dry_run`."""
    allowed, against = limits(store), in_force(store, channel)
    joint = joint_placements(store.documents("placement"))
    state = state_of(
        model, against.model if against else "", placements, joint, allowed,
        guess=knows_more(tenant, store, model, against),
    )  # fmt: skip
    end = 0
    if tenant.log_path.exists():
        with LogReader(tenant.log_path) as log:
            end = log.end()
    before = verdicts(tenant.models_dir, model.id)
    if before and not anew and before[-1].holds(state, end, now_ms):
        return before[-1]
    verdict = judge(
        tenant, store, model, against=against, placements=placements, limits=allowed,
        now_ms=now_ms, progress=progress,
    )  # fmt: skip
    said = Said(verdict, state, end)
    if not dry_run:
        keep(tenant.models_dir, said, page_of(said, model.report))
    return said


def refusal(verdict: Verdict, page: Path | None) -> str:
    """Why a model may not go out, and what can be done."""
    lines = [f"model {verdict.model} does not pass the gate:"]
    lines += [f"  {reason}" for reason in verdict.reasons()]
    if page is not None:
        lines.append(f"The report is in {page}.")
    ways = ["train another", "keep the one before (genome-server models rollback)"]
    if verdict.outcome is Outcome.CANNOT_TELL:
        ways.append("let a watched canary find out (publish --share 5% --watch)")
    ways.append("publish it all the same and say why (--despite-gate REASON)")
    lines.append(f"You can {', '.join(ways[:-1])}, or {ways[-1]}.")
    return "\n".join(lines)


def _unknown(verdict: Verdict) -> Iterable[str]:
    return (f"{one.name}: {one.reason}" for one in verdict.checks if one.state == "cannot tell")


def why_not_asked(store: Store, model: str, channel: str, share: float = 1.0) -> str:
    """Why `publish` would not ask the gate about a model; empty: it would."""
    against = in_force(store, channel)
    if against is not None and against.model == model:
        return "all devices have it already"
    newest = store.release(channel=channel)
    if newest is not None and newest.share >= share and model_in(manifest_of(newest)) == model:
        return "it is out for as many already"
    return "a rollback came back to it" if _came_back(store, model) else ""


def _came_back(store: Store, model: str) -> bool:
    """Whether the next release takes the model because a rollback came back to it, and devices have
    had it before."""
    record = promotions(store)
    if record.current != model or not record.history:
        return False
    last = record.history[-1]
    carried = any(model_in(manifest_of(row)) == model for row in store.releases())
    return last.kind == "rolled back" and last.model == model and carried
