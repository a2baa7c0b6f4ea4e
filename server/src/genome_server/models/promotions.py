"""Which model the next release takes, and how that came to be. No input or output.

Rules
-----
1. What was trained or promoted last is what the next release takes.
2. A rollback goes to the one before. What was rolled back from is not gone back to: a second
   rollback goes further back, and only a promotion brings a model forward again.
3. Every change is remembered with its time and reason, the newest thousand of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from genome_server.errors import Refused

Kind = Literal["trained", "promoted", "rolled back", "found"]

_KEPT: Final = 1000


@dataclass(frozen=True)
class Promotion:
    """From `at_ms` (Unix; 0: not known) on the next release takes `model`, because of `reason`."""

    model: str
    at_ms: int
    kind: Kind
    reason: str


@dataclass(frozen=True)
class Promotions:
    """`standing`: the models that a rollback goes back along, the one in force last.

    `history`: every change, the newest last.
    """

    standing: tuple[str, ...] = ()
    history: tuple[Promotion, ...] = ()

    @property
    def current(self) -> str | None:
        """The model that the next release takes."""
        return self.standing[-1] if self.standing else None

    @property
    def before(self) -> str | None:
        """The model that a rollback goes back to."""
        return self.standing[-2] if len(self.standing) > 1 else None

    @property
    def withdrawn(self) -> frozenset[str]:
        """The models that were rolled back from, and not promoted again since."""
        found: set[str] = set()
        before = ""
        for entry in self.history:
            if entry.kind == "rolled back":
                found.add(before)
            found.discard(entry.model)
            before = entry.model
        return frozenset(found)

    def found(self, model: str) -> Promotions:
        """With a model in force that nothing was remembered of: an earlier version put it there."""
        if model == self.current:
            return self
        return self._with(model, Promotion(model, 0, "found", "put there by an earlier version"))

    def promoted(
        self, model: str, *, at_ms: int, reason: str, kind: Kind = "promoted"
    ) -> Promotions:
        """With another model in force; the same where it is already."""
        if model == self.current:
            return self
        return self._with(model, Promotion(model, at_ms, kind, reason))

    def rolled_back(self, *, at_ms: int, reason: str) -> Promotions:
        """With the model before in force. Raises Refused where there is none."""
        if self.before is None:
            now = f" before model {self.current}" if self.current else ""
            raise Refused(
                f"there was no model{now} to go back to; genome-server models list shows which "
                "there are, and genome-server models promote ID takes one of them"
            )
        entry = Promotion(self.before, at_ms, "rolled back", reason)
        history = (*self.history, entry)[-_KEPT:]
        return replace(self, standing=self.standing[:-1], history=history)

    def to_json(self) -> dict[str, Any]:
        """It as plain data."""
        return {"standing": list(self.standing), "history": [asdict(one) for one in self.history]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Promotions:
        """What `to_json` gave."""
        history = tuple(Promotion(**one) for one in data["history"])
        return cls(tuple(data["standing"]), history)

    def _with(self, model: str, entry: Promotion) -> Promotions:
        return Promotions(
            (*self.standing, model)[-_KEPT:],
            (*self.history, entry)[-_KEPT:],
        )
