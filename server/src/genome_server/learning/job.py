"""One training from beginning to end: log → examples → evaluation → model → proof → file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np

from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary
from edge_sdk.dna.schema import HOUR_MS, DnaSchema
from genome_server.documents import goals_of, placement_spec
from genome_server.errors import Refused, TooLittleToLearn
from genome_server.genomes.consents import tells_home
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.rows import needed_schema
from genome_server.home import Tenant
from genome_server.learning.credit import CreditRules
from genome_server.learning.dataset import Counts, load_examples
from genome_server.learning.enough import NEEDED, enough
from genome_server.learning.evaluate import Evaluation, evaluate
from genome_server.learning.examples import Examples
from genome_server.learning.export import (
    ModelFacts,
    Parity,
    learned_until,
    model_facts,
    prove_parity,
    tower_model,
    towers_of,
)
from genome_server.learning.probes import random_probes, real_probes
from genome_server.learning.survey import Person, Sources, survey
from genome_server.learning.towers import Indices, Towers
from genome_server.learning.train import Settings, score, train
from genome_server.learning.unfinished import AsOf, Unfinished
from genome_server.learning.warm import GoneOn, judge, new_rows, settings_of
from genome_server.log.reader import LogReader
from genome_server.models.shelf import Model, list_models, load_model, promotions, save_model
from genome_server.store.protocol import CONSENT_LEARNING, Store

_PROBES = 256
_UNFINISHED = "training"


class Advance(Protocol):
    """Moves a progress bar on."""

    def __call__(self, steps: int = 1, *, total: int | None = None) -> None:
        """Add `steps`; `total` sets what there is to do once that is known."""
        ...


# Given a label and a total (None: not known yet), the bar of one stage.
Progress = Callable[[str, int | None], AbstractContextManager[Advance]]


@dataclass(frozen=True)
class TrainingReport:
    """What a training used, found and made. `seconds` is by stage."""

    model_id: str
    model_bytes: int
    counts: Counts
    # None where it went on from a model; `warm` then says what that was worth.
    evaluation: Evaluation | None
    parity: Parity
    settings: Settings
    seconds: Mapping[str, float]
    # Whether it went on from where an earlier one was broken off.
    resumed: bool = False
    warm: GoneOn | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data: what --json prints."""
        return {"model": self.model_id, **_report(self)}


@contextmanager
def _silence(label: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG001
    yield lambda steps=1, *, total=None: None  # noqa: ARG005


def run_training(
    tenant: Tenant,
    settings: Settings | None = None,
    *,
    quick: bool = False,
    warm: bool = False,
    now_ms: int | None = None,
    progress: Progress = _silence,
) -> TrainingReport:
    """Train on the log of a tenant and keep the model for the next release.

    `warm` goes on from the model that was trained last, with what is new since.

    Raises Refused where genomes were never built or examples are too few, and
    ExportError where the file does not do what the trainer does. One that was broken off goes on
    where it was, see `unfinished`.
    """
    settings = settings or Settings()
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    clock = _Clock()
    with closing(tenant.open_store()) as store:
        make = _warmly if warm else _from_scratch
        made = make(_Work(tenant, store, settings, quick, now_ms, progress, clock))
        examples = made.examples
        facts = ModelFacts(
            vocabulary_lineage=made.vocabulary.lineage,
            vocabulary_size=len(made.vocabulary),
            trained_ms=examples.newest_ms,
            auc_by_person=None if made.evaluation is None else made.evaluation.headline,
            examples=len(examples),
        )
        model = tower_model(made.towers, facts)
        probes = chain(
            random_probes(examples, _PROBES, settings.seed),
            real_probes(examples, _PROBES, settings.seed),
        )
        parity = prove_parity(model, lambda probe: score(made.towers, probe), probes)
        clock.lap("export")
        report = TrainingReport(
            "", len(model), made.counts, made.evaluation, parity, made.settings, clock.seconds,
            made.resumed, made.warm,
        )  # fmt: skip
        name = save_model(tenant.models_dir, store, model, _report(report))
    if not warm:
        Unfinished(tenant.dir / _UNFINISHED).finish()
    return replace(report, model_id=name)


class _Work(NamedTuple):
    """What a training is given."""

    tenant: Tenant
    store: Store
    settings: Settings
    quick: bool
    now_ms: int
    progress: Progress
    clock: _Clock


class _Made(NamedTuple):
    """Towers, what they learned from, and what is known of them."""

    towers: Towers
    examples: Examples
    counts: Counts
    vocabulary: Vocabulary
    settings: Settings
    evaluation: Evaluation | None = None
    warm: GoneOn | None = None
    resumed: bool = False


def _from_scratch(work: _Work) -> _Made:
    tenant, settings, quick = work.tenant, work.settings, work.quick
    left = Unfinished(tenant.dir / _UNFINISHED)
    as_of = left.as_of(_identity(settings, quick=quick), AsOf(work.now_ms, _log_end(tenant)))
    gathered = _gather(tenant, work.store, as_of.now_ms, work.progress, stop=as_of.log_end)
    examples, counts, vocabulary = gathered
    check_enough(examples, counts)
    resumed = left.accept(examples)
    work.clock.lap("examples")
    with work.progress("Evaluating", None) as advance:
        evaluation = evaluate(
            examples, settings, quick=quick, on_step=_advancing(advance), left=left
        )
    work.clock.lap("evaluation")
    with work.progress("Training", None) as advance:
        towers = train(examples, None, settings, _advancing(advance), left.part("last"))
    work.clock.lap("training")
    return _Made(towers, examples, counts, vocabulary, settings, evaluation, resumed=resumed)


def _warmly(work: _Work) -> _Made:
    base = _last_trained(work.tenant, work.store)
    facts, start = model_facts(base.content), towers_of(base.content)
    gathered = _gather(work.tenant, work.store, work.now_ms, work.progress)
    examples, counts, vocabulary = gathered
    if facts.get("vocabulary_lineage") != vocabulary.lineage.hex():
        raise Refused(
            f"model {base.id} is of another vocabulary; train from scratch, without --warm"
        )
    windows = [
        placement_spec(document).outcome_window_hours * HOUR_MS
        for _, document in work.store.documents("placement")
    ]
    rows = new_rows(examples, learned_until(base.content) or 0, max(windows, default=0))
    _check_new(examples, rows, base.id)
    work.clock.lap("examples")
    settings = settings_of(work.settings)
    with work.progress("Evaluating", None) as advance:
        found = judge(examples, rows, start, base.id, settings, _advancing(advance))
    work.clock.lap("evaluation")
    with work.progress("Training", None) as advance:
        towers = train(examples, rows, settings, _advancing(advance), start=start)
    work.clock.lap("training")
    if np.array_equal(towers.hidden_weight, start.hidden_weight):
        raise TooLittleToLearn(
            f"nothing that is new makes model {base.id} better for persons who were held back: it "
            "stays as it is"
        )
    return _Made(towers, examples, counts, vocabulary, settings, warm=found)


def _last_trained(tenant: Tenant, store: Store) -> Model:
    """Return the model trained last that was not rolled back from. Raises Refused where there is
    none."""
    withdrawn = promotions(store).withdrawn
    for one in list_models(tenant.models_dir, store):
        if one.report.get("origin") == "trained" and one.id not in withdrawn:
            return load_model(tenant.models_dir, one.id)
    raise Refused("no model was trained yet that could be gone on from: genome-server train")


def _check_new(examples: Examples, rows: Indices, base: str) -> None:
    """Refuse where what is new is too little to learn from."""
    if not enough(examples, rows):
        good = int((examples.label[rows] > 0).sum())
        persons = len(np.unique(examples.person[rows]))
        raise TooLittleToLearn(
            f"too little is new since model {base}: {len(rows)} examples ({good} successes) of "
            f"{persons} persons; {NEEDED}"
        )


def sources_of(store: Store, log: LogReader, *, stop: int | None = None) -> Sources:
    """Return where the examples of a tenant come from; of the log, what is before `stop`.

    Raises Refused where genomes were never built: their schema is the examples'.
    """
    schema = needed_schema(store)
    dna = StoreDna(store, schema)

    def person(subject: bytes) -> Person:
        row = store.customer(subject)
        if row is None:
            return Person()
        # As in the rows that a model is given to score: without where somebody lives.
        facts = tuple(fact for fact in row.markers if not tells_home(fact[0]))
        return Person(facts, bool((row.consents or 0) & CONSENT_LEARNING))

    return Sources(
        frames=partial(log.frames, stop=stop),
        person=person,
        product_dna=dna.product,
        offers={offer: dna.offer(offer) or () for offer, _ in store.documents("offer")},
        placements={
            name: placement_spec(document) for name, document in store.documents("placement")
        },
        schema=schema,
        credit=CreditRules.of(store.documents("placement"), store.documents("offer")),
        goals=checked_goals(store, schema),
    )


def checked_goals(store: Store, schema: DnaSchema) -> dict[str, frozenset[str]]:
    """By placement the kinds that are a success there, where it says.

    Raises Refused for a kind that the schema does not call a success: nothing would ever succeed.
    """
    goals = goals_of(store.documents("placement"))
    good = {rule.name for rule in schema.kinds if rule.label > 0}
    for placement, goal in goals.items():
        for kind in sorted(goal - good):
            raise Refused(
                f"placement {placement!r}: dna.yaml does not call {kind!r}, its goal, a success; "
                f"it so calls {', '.join(sorted(good)) or 'no kind'}"
            )
    return goals


def check_enough(examples: Examples, counts: Counts) -> None:
    """Refuse, with what there is and what is needed, where a model would mean nothing."""
    successes = counts.successes
    failures = counts.examples - successes
    persons = len(np.unique(examples.person))
    if enough(examples, np.arange(len(examples))):
        return
    raise TooLittleToLearn(
        f"too little to learn from: {counts.examples} examples ({successes} successes, "
        f"{failures} failures) of {persons} persons; {NEEDED}. {left_out(counts)}"
    )


def left_out(counts: Counts) -> str:
    """Return a sentence on what gave no examples, and why."""
    reasons = [
        (
            counts.without_consent,
            f"of {counts.persons_without_consent} persons who did not agree to learning",
        ),
        (counts.not_viewed, "were never viewed"),
        (counts.still_open, "may still be answered"),
        (counts.unknown_offer, "name an offer that is not there"),
        (counts.unknown_placement, "name a placement that is not there"),
    ]
    said = [f"{number} {why}" for number, why in reasons if number]
    return f"Left out: {', '.join(said)}." if said else "Nothing was left out."


def _log_end(tenant: Tenant) -> int:
    """Return the end of the log; 0 where there is none."""
    if not tenant.log_path.exists():
        return 0
    with LogReader(tenant.log_path) as log:
        return log.end()


def _identity(settings: Settings, *, quick: bool) -> str:
    """Return all that the weights depend on beside the examples, as text."""
    versions = [version(name) for name in ("genome-edge-server", "jax", "jaxlib", "numpy", "optax")]
    return repr((settings, quick, versions))


def _gather(
    tenant: Tenant, store: Store, now_ms: int, progress: Progress, *, stop: int | None = None
) -> tuple[Examples, Counts, Vocabulary]:
    """Read the log, up to `stop`. Markers of moments get their indices here."""
    if not tenant.log_path.exists():
        raise Refused("nothing has happened yet; run: genome-server import interactions FILE")
    with LogReader(tenant.log_path) as log:
        sources = sources_of(store, log, stop=stop)
        with progress("Reading the log", 2 * log.end()) as advance:
            found = survey(sources, advance)
            offered = (name for dna in sources.offers.values() for name, _ in dna)
            vocabulary = store.extend_vocabulary(
                [*BUILTIN_MARKERS, *offered, *found.frequent_markers()]
            )
            examples, counts = load_examples(
                sources, found, vocabulary, now_ms=now_ms, on_events=advance
            )
    return examples, counts, vocabulary


def _advancing(advance: Advance) -> Callable[[int, int], None]:
    """Return what moves a bar to `done` of `total`."""
    before = 0

    def move(done: int, total: int) -> None:
        nonlocal before
        advance(done - before, total=total)
        before = done

    return move


def _report(report: TrainingReport) -> dict[str, Any]:
    found = report.evaluation
    measured: dict[str, Any] = {}
    if found is not None:
        person, random = found.by_person, found.random
        measured = {
            "auc_by_person": {"cold": person.cold.auc, "history": person.with_history.auc},
            "auc_random": {"cold": random.cold.auc, "history": random.with_history.auc},
            "evaluation": found.to_json(),
        }
    if report.warm is not None:
        measured["warm"] = report.warm.to_json()
    return {
        **measured,
        "bytes": report.model_bytes,
        "examples": {**asdict(report.counts), "examples": report.counts.examples},
        "parity": asdict(report.parity),
        "settings": asdict(report.settings),
        "resumed": report.resumed,
        "seconds": {stage: round(seconds, 3) for stage, seconds in report.seconds.items()},
    }


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = now - self._last
        self._last = now
