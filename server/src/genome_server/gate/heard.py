"""What the log says of a model at the gate: its examples, and its decisions done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import Explorer, explorer
from edge_sdk.engine.release import Release
from edge_sdk.engine.scoring import open_scorer
from edge_sdk.errors import EdgeError
from genome_edge.v1 import release_pb2
from genome_server.documents import joint_placements
from genome_server.errors import Refused
from genome_server.gate import checks
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
from genome_server.offpolicy.past import Past, PastCounts, read_past
from genome_server.offpolicy.target import Asked, Decisions, Rebuilt, Said, rebuild
from genome_server.releases.publish import manifest_of, part_content
from genome_server.store.protocol import Store

#: So many of the decisions that had a choice must come out again, or none of them is believed.
_COMES_OUT: Final = 0.5
_NO_CHOICE: Final = "it had no choice"


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
        rebuilt, why = rebuild(heard.past, releases_of(tenant, store), vocabulary, advance)
    counts = _counted(heard, rebuilt, why)
    choices = len(heard.past) - why[_NO_CHOICE]
    if not rebuilt or len(rebuilt) < _COMES_OUT * choices:
        said = _told(counts)
        return _unweighed(said, counts), {"decisions": counts}
    decisions = Decisions(rebuilt, vocabulary, joint_placements(store.documents("placement")))
    content = part_content(tenant, next(p for p in against.manifest.parts if p.name == "model"))
    counts["judged_by_whole_slates"] = int(decisions.joint.sum())
    parts = parts_of(decisions)
    rows = list(parts.values())
    with progress("Asking both models", 2 * len(rebuilt)) as advance:
        ours = decisions.ask(
            Asked([open_scorer(model.content, vocabulary)], _explorers(placements)), advance, rows
        )
        theirs = decisions.ask(
            Asked([open_scorer(content, vocabulary)], _explorers(_published(tenant, against))),
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
    found = [
        starvation(
            offered(decisions, ours, theirs),
            len(rebuilt),
            offered_in(decisions, ours, theirs, parts),
            gains,
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
        return None if twins is None else decisions.ask(Asked(twins, _explorers(placements)))

    return make


def releases_of(tenant: Tenant, store: Store) -> Callable[[int], Release | None]:
    """Releases by version, each loaded once; None where one is gone or cannot be read."""
    known: dict[int, Release | None] = {}
    alike: dict[tuple[bytes, ...], Release] = {}

    def load(version: int) -> Release | None:
        row = store.release(version)
        if row is None:
            return None
        manifest = manifest_of(row)
        parts = [part for part in manifest.parts if not part.asset]
        key = tuple(part.sha256 for part in parts if part.name != "golden")
        if key not in alike:
            try:
                contents = {part.name: part_content(tenant, part) for part in parts}
                alike[key] = Release.from_parts(manifest, contents)
            except (Refused, EdgeError):
                return None
        return alike[key]

    def release_of(version: int) -> Release | None:
        if version not in known:
            known[version] = load(version)
        return known[version]

    return release_of


def _published(tenant: Tenant, release: InForce) -> Sequence[release_pb2.PlacementSpec]:
    part = next(one for one in release.manifest.parts if one.name == "placements")
    return release_pb2.PlacementList.FromString(part_content(tenant, part)).placements


def _explorers(placements: Sequence[release_pb2.PlacementSpec]) -> dict[str, Explorer]:
    return {one.id: explorer(one.explorer, one.gamma, one.floor) for one in placements}


def _counted(heard: _Log, rebuilt: Sequence[Rebuilt], why: Counter[str]) -> dict[str, Any]:
    return {
        "in_the_log": heard.counts.decisions,
        "left_out": dict(heard.counts.left_out),
        "asked_about": len(heard.past),
        "come_out": len(rebuilt),
        "do_not_come_out": dict(why),
    }


def _told(counts: Mapping[str, Any]) -> str:
    """Why decisions cannot be gone by, in a sentence."""
    reasons = {**counts["left_out"], **counts["do_not_come_out"]}
    said = ", ".join(f"{number:,}: {why}" for why, number in sorted(
        reasons.items(), key=lambda pair: -pair[1]))  # fmt: skip
    told = f" ({said})" if said else ""
    return (
        f"of {counts['in_the_log']:,} decisions in the log {counts['come_out']:,} can be done again"
        f"{told}"
    )
