"""What two models would have earned in the decisions of the log, each and beside the other.

Asked about are the decisions that are newer than all that either learned from, where those suffice
to conclude; else all, and it is said whom that flatters. Both explore as the placements do that the
next release would have. No input or output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import Explorer
from edge_sdk.engine.scoring import open_scorer
from genome_server.learning.export import learned_until
from genome_server.models.shelf import Model
from genome_server.offpolicy.again import Again
from genome_server.offpolicy.estimate import Answer, compare, evaluate
from genome_server.offpolicy.target import Asked, Decisions, Said


@dataclass(frozen=True)
class Earned:
    """Estimates of models A and B on the same decisions: of each, and of B less A.

    `since_ms`: only decisions after this time (Unix) were taken, which neither has learned from;
    None where all were. `flattered` are the ids of models that may have learned from some of them.
    `counts` says what became of the decisions in the log; with `why_not`, a sentence, none could be
    asked about, and there is nothing else.
    """

    counts: Mapping[str, Any]
    why_not: str = ""
    decisions: int = 0
    persons: int = 0
    since_ms: int | None = None
    flattered: tuple[str, ...] = ()
    a: Answer | None = None
    b: Answer | None = None
    difference: Answer | None = None

    def to_json(self) -> dict[str, Any]:
        """It as plain data; what is lacking in words."""
        said = asdict(self)
        for name, answer in (("a", self.a), ("b", self.b), ("difference", self.difference)):
            if answer is not None:
                said[name]["lacks"] = [str(lack) for lack in answer.lacks]
                said[name]["concludes"] = answer.concludes
                for overlap in said[name]["overlaps"]:
                    if not math.isfinite(overlap["errors_off"]):
                        overlap["errors_off"] = None  # JSON knows no infinity
        return said


def earned(
    a: Model,
    b: Model,
    again: Again,
    explorers: Mapping[str, Explorer],
    vocabulary: Vocabulary,
    advance: Callable[..., Any] = lambda *_, **__: None,
) -> Earned:
    """Ask two models about decisions that were done again. Raises TrustError where one is unfit."""
    decisions = again.decisions
    if decisions is None:
        return Earned(again.counts, again.why_not)
    advance(0, total=2 * len(decisions))
    said = [
        decisions.ask(Asked([open_scorer(one.content, vocabulary)], explorers), advance)
        for one in (a, b)
    ]
    learned = {one.id: learned_until(one.content) for one in (a, b)}
    known = [until for until in learned.values() if until is not None]
    if len(known) == len(learned):
        newer = decisions.at_ms > max(known)
        if newer.any():
            found = _asked(decisions, said[0], said[1], newer, again.counts)
            if all(one is not None and one.concludes for one in (found.a, found.b)):
                return Earned(**{**vars(found), "since_ms": max(known)})
    oldest = int(decisions.at_ms.min())
    flattered = tuple(name for name, until in learned.items() if until is None or until >= oldest)
    everything = np.ones(len(decisions), bool)
    found = _asked(decisions, said[0], said[1], everything, again.counts)
    return Earned(**{**vars(found), "flattered": flattered})


def _asked(
    decisions: Decisions,
    a: Said,
    b: Said,
    rows: npt.NDArray[np.bool_],
    counts: Mapping[str, Any],
) -> Earned:
    logged = decisions.logged.rows(rows)
    ours, theirs = a.policy.rows(rows), b.policy.rows(rows)
    return Earned(
        counts,
        decisions=len(logged),
        persons=len(np.unique(logged.person)),
        a=evaluate(logged, ours),
        b=evaluate(logged, theirs),
        difference=compare(logged, theirs, ours),
    )
