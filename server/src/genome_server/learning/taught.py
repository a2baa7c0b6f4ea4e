"""What a slot of a decision teaches as of a moment, and how much it weighs. Free of I/O.

`outcomes` says how it ended, `delays` what has been heard of such a decision by its age. Rules.
- A slot that nobody viewed, where that counts, teaches nothing; nor does one that was viewed by
  nobody yet while its window is open.
- Where purchases are credited, which come by other ways and when they like, a decision waits until
  its window is over, whatever was heard.
- As long as no success is known of a placement, nobody knows when one would be heard: a refusal
  counts, silence waits for the end of the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from edge_sdk.dna.schema import HOUR_MS
from genome_edge.v1 import event_pb2, release_pb2
from genome_server.learning.outcomes import Verdict
from genome_server.learning.survey import Sources, Survey


class Taught(NamedTuple):
    """How a slot ended; what it weighs, 0 … 1; and whether its window is still open."""

    verdict: Verdict
    weight: float = 1.0
    early: bool = False


#: What weighs less teaches nothing yet, and is left out.
LEAST_WEIGHT: Final = 0.02


class Teacher:
    """Judges the slots of one log as of `now_ms` (Unix)."""

    def __init__(self, sources: Sources, found: Survey, now_ms: int) -> None:
        self._placements: Mapping[str, release_pb2.PlacementSpec] = sources.placements
        self._credits = sources.credit.placements
        self._outcomes = found.outcomes
        self._now_ms = now_ms
        windows = {
            name: placement.outcome_window_hours * HOUR_MS
            for name, placement in sources.placements.items()
            if name not in self._credits
        }
        self._goals = sources.goals
        self._looks = found.delays.looks(windows, now_ms, sources.goals)

    def slot(
        self, record: event_pb2.DecisionRecord, slot: int, at_ms: int, *, credited: bool
    ) -> Taught:
        """What a slot of a known placement teaches; OPEN: nothing yet. `credited`: a purchase is
        credited to it."""
        placement = self._placements[record.placement]
        on_view = placement.shown == release_pb2.PlacementSpec.SHOWN_ON_VIEW
        window_ms = placement.outcome_window_hours * HOUR_MS
        verdict = self._outcomes.verdict(
            record.decision_id,
            slot,
            decided_ms=at_ms,
            window_ms=window_ms,
            shown_on_view=on_view,
            now_ms=self._now_ms,
            goal=self._goals.get(record.placement),
        )
        early = self._now_ms < at_ms + window_ms
        if credited:
            verdict = Verdict.SUCCESS
        if early and record.placement in self._credits:
            return Taught(Verdict.OPEN)
        if verdict in (Verdict.SUCCESS, Verdict.UNSEEN):
            return Taught(verdict, early=early)
        look = self._looks.get(record.placement)
        if look is None:
            return Taught(verdict, early=early)
        seen = not on_view or self._outcomes.seen_ms(record.decision_id, slot) is not None
        refused = self._outcomes.refused(record.decision_id, slot)
        weight = look.weight(self._now_ms - at_ms, refused=refused) if seen else 0.0
        if weight < LEAST_WEIGHT:
            return Taught(Verdict.OPEN)
        return Taught(Verdict.FAILURE, weight, early)
