"""Asking the gate: what the file itself, the shelf and the log say of a model, through all checks.

What reads the log (`heard`) is loaded where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edge_sdk.dna.markers import Vocabulary
from genome_edge.v1 import release_pb2
from genome_server.gate import checks
from genome_server.gate.kept import guess_of
from genome_server.gate.parity import runtime_parity
from genome_server.gate.rules import Check, Limits, State, Verdict
from genome_server.home import Tenant
from genome_server.learning.export import ModelFacts, untrained_model
from genome_server.models.check import check_model
from genome_server.models.findings import Budgets, Checked
from genome_server.models.samples import Samples, samples_of
from genome_server.models.shelf import Model, model_id, model_in, promotions, report_of
from genome_server.releases.publish import manifest_of
from genome_server.store.protocol import DEFAULT_CHANNEL, ReleaseRow, Store

if TYPE_CHECKING:
    from genome_server.learning.job import Progress

_TRIES: Final = 3
_BY_THE_LOG: Final = ("calibration", "leak", "starvation", "segments", "off-policy")


@dataclass(frozen=True)
class InForce:
    """The release that a whole channel has, and its model."""

    row: ReleaseRow
    manifest: release_pb2.Manifest
    model: str


def in_force(store: Store, channel: str) -> InForce | None:
    """What all devices of a channel have; where it has nothing of its own, those of "stable"."""
    for name in dict.fromkeys((channel, DEFAULT_CHANNEL)):
        for row in store.releases():
            if row.channel == name and not row.withdrawn and row.share >= 1:
                manifest = manifest_of(row)
                return InForce(row, manifest, model_in(manifest))
    return None


def judge(
    tenant: Tenant,
    store: Store,
    model: Model,
    *,
    against: InForce | None,
    placements: Sequence[release_pb2.PlacementSpec],
    limits: Limits,
    now_ms: int,
    progress: Progress,
) -> Verdict:
    """Put a model through all checks; `placements` are those of the release that would take it.

    Raises Refused where genomes were never built, or a part of the release in force is gone.
    """
    vocabulary = store.vocabulary()
    samples = samples_of(tenant, store)
    with progress("Trying the file", None):
        checked = _checked(model, vocabulary, samples, limits)
    name = against.model if against is not None else ""
    untrained = model_id(untrained_model(ModelFacts(vocabulary.lineage, vocabulary_size=0)))
    first = name in ("", untrained)
    contract = checks.contract(checked)
    if contract.state is State.STOP:  # it cannot be asked anything
        return Verdict(model.id, name, first, now_ms, (contract, checks.size(checked, limits)))
    own = model.report.get("origin", "trained") == "trained"
    found = [
        contract,
        checks.parity(_trainers(model.report), own, runtime_parity(model, vocabulary, samples)),
        checks.latency(checked, limits),
        checks.size(checked, limits),
    ]
    if not tenant.log_path.exists():
        why = "nothing has happened yet"
        found += [Check(one, State.CANNOT_TELL, why) for one in _BY_THE_LOG]
        return Verdict(model.id, name, True, now_ms, tuple(found))
    from genome_server.gate.heard import log_checks

    heard = log_checks(
        tenant, store, model, against=against, placements=placements, limits=limits,
        now_ms=now_ms, progress=progress,
    )  # fmt: skip
    found += heard.checks
    return Verdict(
        model.id, name, first or not heard.decisions, now_ms, tuple(found), heard.pictures,
        guess=not first and knows_more(tenant, store, model, against),
    )  # fmt: skip


def _checked(model: Model, vocabulary: Vocabulary, samples: Samples, limits: Limits) -> Checked:
    """What is wrong with the file, and the least time of three that it took: other work on this
    machine only ever adds to it."""
    budgets = Budgets(limits.max_bytes, limits.latency_us)
    best = check_model(model.content, vocabulary, samples, budgets, beside=model.golden)
    for _ in range(_TRIES - 1):
        if best.latency_us is None or best.latency_us <= limits.latency_us:
            break
        again = check_model(model.content, vocabulary, samples, budgets, beside=model.golden)
        if again.latency_us is not None and again.latency_us < best.latency_us:
            best = again
    return best


def knows_more(tenant: Tenant, store: Store, model: Model, against: InForce | None) -> bool:
    """Whether the model in force went out to all untold, and `train` made this one out of more
    examples than that one. One that was out and was taken back is no guess: it is known."""
    if against is None or guess_of(store, against.row.channel) != against.model:
        return False
    taken_back = any(
        one.withdrawn and model_in(manifest_of(one)) == model.id for one in store.releases()
    )
    if taken_back or model.id in promotions(store).withdrawn:
        return False
    theirs, ours = (
        _examples(report) for report in (report_of(tenant.models_dir, against.model), model.report)
    )
    return theirs is not None and ours is not None and ours > theirs


def _examples(report: Mapping[str, Any]) -> int | None:
    """Of how many examples `train` made a model; None: it did not, or nothing says so."""
    counts = report.get("examples")
    many = counts.get("examples") if isinstance(counts, Mapping) else None
    own = report.get("origin", "trained") == "trained"
    return many if own and type(many) is int else None


def _trainers(report: Mapping[str, Any]) -> float | None:
    """By how much the file was off the trainer when it was made."""
    said = (report.get("parity") or {}).get("max_difference")
    return float(said) if said is not None else None
