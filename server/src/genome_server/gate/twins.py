"""Twins of a model that `train` made: the same training, each time without some of the persons.

A twin has not seen the persons that it is asked about, as the model itself will not have seen those
whom it meets next. It has seen fewer than the model has, and so it is no better than it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, Final

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import Scorer
from edge_sdk.engine.scoring import open_scorer
from edge_sdk.outbox.frames import FrameKind
from genome_server.errors import Refused
from genome_server.learning.dataset import load_examples
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.job import check_enough
from genome_server.learning.survey import Sources, Survey, survey
from genome_server.learning.train import Settings, train
from genome_server.log.reader import LoggedFrame
from genome_server.offpolicy.past import fold_number

TWINS: Final = 3
_ANONYMOUS: Final = (FrameKind.DECISION, FrameKind.INTERACTION)


def settings_of(report: Mapping[str, Any]) -> Settings | None:
    """How a model was trained, by its report; None where it does not say, or says it otherwise than
    this version does."""
    if report.get("origin", "trained") != "trained":
        return None
    found = _made(Settings, report.get("settings"))
    return found if isinstance(found, Settings) else None


def _made(kind: Any, said: Any) -> Any:
    """What `asdict` said of a dataclass whose fields have defaults; None where it has others."""
    usual = kind()
    if not isinstance(said, Mapping) or said.keys() != {one.name for one in fields(usual)}:
        return None
    made = {}
    for name, value in said.items():
        default = getattr(usual, name)
        made[name] = _made(type(default), value) if is_dataclass(default) else value
        if made[name] is None and value is not None:
            return None
    return kind(**made)


def train_twins(
    sources: Sources,
    found: Survey,
    vocabulary: Vocabulary,
    settings: Settings,
    *,
    now_ms: int,
    then: bool = False,
) -> list[Scorer] | None:
    """A scorer for each part of the persons (`Past.fold` modulo their number), trained without it;
    None where too little is left to train on. `found` is the survey of the whole log.

    `then`: from the log as it was at `now_ms` (Unix), when the model was trained.
    """
    frames, known = sources.frames, found
    if then:
        frames = partial(_received, sources, now_ms)
        known = survey(replace(sources, frames=frames))
    twins = []
    for part in range(TWINS):
        some = replace(sources, frames=partial(_others, frames, found, part))
        examples, counts = load_examples(some, known, vocabulary, now_ms=now_ms)
        try:
            check_enough(examples, counts)
        except Refused:
            return None
        facts = ModelFacts(vocabulary.lineage, len(vocabulary), examples.newest_ms)
        towers = train(examples, None, replace(settings, seed=settings.seed + part))
        twins.append(open_scorer(tower_model(towers, facts), vocabulary))
    return twins


def _received(sources: Sources, now_ms: int) -> Iterator[LoggedFrame]:
    """The log as it was."""
    return (frame for frame in sources.frames() if frame.received_ms <= now_ms)


def _others(
    frames: Callable[[], Iterable[LoggedFrame]], found: Survey, part: int
) -> Iterator[LoggedFrame]:
    """A log without what the persons of one part did."""
    for frame in frames():
        everybodys = frame.subject == NOBODY and frame.kind not in _ANONYMOUS
        if everybodys or fold_number(frame, found) % TWINS != part:
            yield frame
