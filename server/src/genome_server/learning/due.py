"""Whether a training is due. The rule is free of I/O; `look` asks a tenant.

Rules.
- The first is due once the log has FIRST answers. Where they are too few to learn from, as they are
  of too few persons, the training itself says so.
- Another one once there are GROWTH times as many answers as the last one had: what a model can
  still gain is by the share that is new, so that trainings are many at first and few later.
- Or a day after the last one where there is any new answer: tastes turn, and offers come and go.
An answer is an outcome or an interaction that says that an offer was taken or refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from edge_sdk.dna.schema import DnaSchema
from edge_sdk.outbox.frames import FrameKind
from genome_server.errors import Refused
from genome_server.genomes.rows import needed_schema
from genome_server.home import Tenant
from genome_server.learning.survey import is_answer, read_event
from genome_server.log.reader import LogReader
from genome_server.models.shelf import list_models
from genome_server.times import DAY_MS

FIRST: Final = 20
GROWTH: Final = 1.5
_HOUR_MS: Final = 3_600_000
_KINDS: Final = frozenset({FrameKind.OUTCOME, FrameKind.INTERACTION})


@dataclass(frozen=True)
class Trained:
    """The last training: when (Unix ms), with how many answers, out of how many events."""

    at_ms: int
    answers: int
    events: int


@dataclass(frozen=True)
class Due:
    """Whether a training is due, and why or why not; `answers` are those in the log."""

    due: bool
    why: str
    answers: int

    def to_json(self) -> dict[str, Any]:
        """Plain data: what --json prints where nothing is due."""
        return {"due": self.due, "why": self.why, "answers": self.answers}


def judge(answers: int, last: Trained | None, now_ms: int) -> Due:
    """Say whether a training is due with so many answers in the log, `last` being the last one."""
    if last is None:
        if answers >= FIRST:
            return Due(True, f"there are {answers:,} answers, and no model yet", answers)
        return Due(False, f"there are {answers:,} answers; the first takes {FIRST}", answers)
    there = f"there are {answers:,} answers, and were {last.answers:,} at the last training"
    if answers > last.answers and answers >= max(FIRST, GROWTH * last.answers):
        return Due(True, there, answers)
    age_h = (now_ms - last.at_ms) / _HOUR_MS
    if answers > last.answers and now_ms - last.at_ms >= DAY_MS:
        return Due(True, f"{there}, {age_h:.0f} hours ago", answers)
    return Due(
        False,
        f"{there}, {age_h:.1f} hours ago; the next takes {GROWTH:g} times as many, or a day",
        answers,
    )


def look(tenant: Tenant, now_ms: int) -> Due:
    """Say whether a training of a tenant is due; reads what came since the last one.

    Raises Refused where genomes were never built or nothing has happened yet.
    """
    if not tenant.log_path.exists():
        raise Refused("nothing has happened yet; run: genome-server import interactions FILE")
    with closing(tenant.open_store()) as store, LogReader(tenant.log_path) as log:
        schema = needed_schema(store)
        last = last_trained(model.report for model in list_models(tenant.models_dir, store))
        try:
            answers = count_answers(log, schema, last)
        except ValueError:  # another log: it has no batch that ends where the last one was read to
            last = Trained(last.at_ms, 0, 0) if last is not None else None
            answers = count_answers(log, schema, last)
    return judge(answers, last, now_ms)


def count_answers(log: LogReader, schema: DnaSchema, last: Trained | None) -> int:
    """The answers in the log, counting from where the last training had read to."""
    if last is not None and last.events > log.end():
        raise ValueError("the log is shorter than it was")
    answers = 0 if last is None else last.answers
    for frame in log.frames(0 if last is None else last.events, kinds=_KINDS):
        event, _ = read_event(frame)
        answers += event is not None and is_answer(event, schema)
    return answers


def last_trained(reports: Iterable[Mapping[str, Any]]) -> Trained | None:
    """The last training among the reports of models, the one made last first."""
    for report in reports:
        counts = report.get("examples")
        if report.get("origin") == "trained" and isinstance(counts, Mapping):
            # Reports of older versions say no number of answers: all of them are new.
            known = "heard" in counts
            return Trained(
                int(report.get("made_ms", 0)),
                int(counts["heard"]) if known else 0,
                int(counts["events"]) if known else 0,
            )
    return None
