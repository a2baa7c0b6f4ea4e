"""What followed each decision, and what that makes of it as an example.

Rules.
- A success within the placement's window is a success, whatever else happened. Where the placement
  has a goal, another success is none: it tells that the offer was seen.
- A refusal is a failure. So is silence, once the window has closed, but only of an offer
  that was seen: where an offer counts as shown when it is viewed, one that nobody
  viewed says nothing about it.
- While the window is open, silence says nothing yet for certain; `delays` has what it weighs.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection
from enum import Enum

VIEW = "view"


class Verdict(Enum):
    """What a decided slot teaches."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNSEEN = "unseen"
    OPEN = "open"


class Outcomes:
    """Outcomes by decision and slot. They may come in any order and more than once."""

    def __init__(self) -> None:
        # decision id → (slot, label, time, kind); most decisions have none or one.
        self._by_decision: defaultdict[bytes, list[tuple[int, int, int, str]]] = defaultdict(list)

    def add(self, decision_id: bytes, slot: int, label: int, time_ms: int, kind: str = "") -> None:
        """Note an outcome whose kind has this label: +1 success, -1 refusal, 0 neither (a view)."""
        self._by_decision[decision_id].append((slot, label, time_ms, sys.intern(kind)))

    def seen_ms(self, decision_id: bytes, slot: int) -> int | None:
        """When something was first said of a slot, Unix milliseconds: by then it had been seen."""
        said = self._by_decision.get(decision_id, ())
        return min((time_ms for at, _, time_ms, _ in said if at == slot), default=None)

    def refused(self, decision_id: bytes, slot: int) -> bool:
        """Whether a refusal was said of a slot."""
        said = self._by_decision.get(decision_id, ())
        return any(at == slot and label < 0 for at, label, *_ in said)

    def verdict(
        self,
        decision_id: bytes,
        slot: int,
        *,
        decided_ms: int,
        window_ms: int,
        shown_on_view: bool,
        now_ms: int,
        goal: Collection[str] | None = None,
    ) -> Verdict:
        """Return what the slot of a decision teaches as of `now_ms`. Times in Unix milliseconds.

        `goal` are the kinds that are a success there; None: all with the label.
        """
        until = decided_ms + window_ms
        labels = {
            0 if label > 0 and goal is not None and kind not in goal else label
            for at, label, time_ms, kind in self._by_decision.get(decision_id, ())
            if at == slot and time_ms <= until
        }
        if 1 in labels:
            return Verdict.SUCCESS
        if -1 in labels:
            return Verdict.FAILURE
        if now_ms < until:
            return Verdict.OPEN
        return Verdict.UNSEEN if shown_on_view and not labels else Verdict.FAILURE
