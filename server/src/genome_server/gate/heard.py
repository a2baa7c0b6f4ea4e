"""What the log says of a model at the gate: its examples, and its decisions done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.scoring import open_scorer
from edge_sdk.engine.slates import Slate
from genome_edge.v1 import release_pb2
from genome_server.gate import checks
from genome_server.gate.emptied import emptied
from genome_server.gate.floors import least_shares
from genome_server.gate.parts import parts_of
from genome_server.gate.rules import Check, Limits, State
from genome_server.gate.run import InForce
from genome_server.gate.shown_by import examples_checks
from genome_server.gate.starving import starvation
from genome_server.gate.twins import settings_of, train_twins
from genome_server.gate.weigh import gained, offered, offered_in, segments, weigh
from genome_server.home import Tenant
from genome_server.learning.dataset import load_examples
from genome_server.learning.examples import Examples
from genome_server.learning.export import learned_until
from genome_server.learning.job import Progress, sources_of
from genome_server.learning.survey import Sources, Survey, survey
from genome_server.log.reader import LogReader
from genome_server.models.shelf import Model, report_of
from genome_server.offpolicy.again import done_again, explorers_of
from genome_server.offpolicy.past import Past, PastCounts, read_past
from genome_server.offpolicy.target import Asked, Decisions, Said
from genome_server.releases.publish import part_content
from genome_server.store.protocol import Store


@dataclass(frozen=True)
class Heard:
    """The checks, the figures of the report page, and how many decisions the log has."""

    checks: tuple[Check, ...]
    pictures: Mapping[str, Any]
    decisions: int


@dataclass(frozen=True)
class _Log:
    """What the log says."""

    sources: Sources
    survey: Survey
    examples: Examples
    past: Sequence[Past]
    counts: PastCounts
    now_ms: int


def log_checks(
    tenant: Tenant,
    store: Store,
    model: Model,
    *,
    against: InForce | None,
    placements: Sequence[release_pb2.PlacementSpec],
    limits: Limits,
    now_ms: int,
    progress: Progress,
) -> Heard:
    """All checks that need the log. Raises Refused as `run.judge` does."""
    vocabulary = store.vocabulary()
    with LogReader(tenant.log_path) as log:
        heard = _read(store, log, vocabulary, now_ms, progress)
        found, pictures = examples_checks(
            tenant, model, heard.examples, heard.survey, heard.past, heard.counts, vocabulary,
            limits, progress,
        )  # fmt: skip
        if against is None:
            found += _unweighed("there is no model in force to compare it with")
        else:
            more, shown = _weighed(
                tenant, store, model, against, placements, heard, vocabulary, limits, progress
            )
            found += more
            pictures |= shown
    return Heard(tuple(found), pictures, heard.counts.decisions)


def _read(
    store: Store, log: LogReader, vocabulary: Vocabulary, now_ms: int, progress: Progress
) -> _Log:
    sources = sources_of(store, log)
    with progress("Reading the log", 4 * log.end()) as advance:
        found = survey(sources, advance)
        examples, _ = load_examples(sources, found, vocabulary, now_ms=now_ms, on_events=advance)
        past, counts = read_past(sources, found, vocabulary, now_ms=now_ms, on_events=advance)
    return _Log(sources, found, examples, past, counts, now_ms)


def _unweighed(why: str, figures: Mapping[str, Any] | None = None) -> list[Check]:
    names = ("starvation", "segments", "off-policy")
    return [Check(name, State.CANNOT_TELL, why, figures or {}) for name in names]


def _weighed(
    tenant: Tenant,
    store: Store,
    model: Model,
    against: InForce,
    placements: Sequence[release_pb2.PlacementSpec],
    heard: _Log,
    vocabulary: Vocabulary,
    limits: Limits,
    progress: Progress,
) -> tuple[list[Check], dict[str, Any]]:
    """What the decisions of the log say of it beside the model in force."""
    with progress("Doing decisions again", len(heard.past)) as advance:
        again = done_again(tenant, store, heard.past, heard.counts, advance)
    decisions, counts = again.decisions, dict(again.counts)
    slates = {one.id: Slate.of(one) for one in placements}
    bare = emptied(again.choosy, open_scorer(model.content, vocabulary), slates, vocabulary)
    if decisions is None:
        unknown = _unweighed(again.why_not, counts)
        starving = starvation((), 0, {}, (), bare)
        if starving.figures["emptied"]:
            unknown[0] = starving
        return unknown, {"decisions": counts}
    content = part_content(tenant, next(p for p in against.manifest.parts if p.name == "model"))
    parts = parts_of([one.past for one in decisions.rebuilt], vocabulary)
    rows = list(parts.values())
    with progress("Asking both models", 2 * len(decisions)) as advance:
        ours = decisions.ask(
            Asked([open_scorer(model.content, vocabulary)], explorers_of(placements)), advance, rows
        )
        theirs = decisions.ask(
            Asked([open_scorer(content, vocabulary)], explorers_of(_published(tenant, against))),
            advance,
            rows,
        )
    beside = weigh(
        decisions,
        ours,
        theirs,
        learned=(learned_until(model.content), learned_until(content)),
        twins=_twins(model.report, heard, vocabulary, decisions, placements, progress),
        twins_in_force=_twins(
            report_of(tenant.models_dir, against.model),
            heard,
            vocabulary,
            decisions,
            _published(tenant, against),
            progress,
            then=True,
        ),
        limits=limits,
    )
    gains = segments(decisions, beside, parts, limits)
    least = least_shares(decisions, explorers_of(placements), rows)
    found = [
        starvation(
            offered(decisions, ours, theirs, least[0]),
            len(decisions),
            offered_in(decisions, ours, theirs, parts, least[1:]),
            gains,
            bare,
        ),
        checks.segments(gains),
        checks.off_policy(beside.weighed, "", limits),
    ]
    pictures = {
        "decisions": counts,
        "segments": found[1].figures["segments"],
        "offers": gained(decisions, beside),
    }
    return found, pictures


def _twins(
    report: Mapping[str, Any],
    heard: _Log,
    vocabulary: Vocabulary,
    decisions: Decisions,
    placements: Sequence[release_pb2.PlacementSpec],
    progress: Progress,
    *,
    then: bool = False,
) -> Callable[[], Said | None]:
    """What makes and asks the twins of a model; `then`: from the log as it was when it was made."""

    def make() -> Said | None:
        settings, made_ms = settings_of(report), report.get("made_ms")
        if settings is None or (then and not made_ms):
            return None
        now_ms = int(made_ms or 0) if then else heard.now_ms
        with progress("Training without those who are asked about", None):
            twins = train_twins(
                heard.sources, heard.survey, vocabulary, settings, now_ms=now_ms, then=then
            )
        return None if twins is None else decisions.ask(Asked(twins, explorers_of(placements)))

    return make


def _published(tenant: Tenant, release: InForce) -> Sequence[release_pb2.PlacementSpec]:
    part = next(one for one in release.manifest.parts if one.name == "placements")
    return release_pb2.PlacementList.FromString(part_content(tenant, part)).placements
