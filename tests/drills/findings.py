"""What a drill tried and found."""

from __future__ import annotations

from dataclasses import dataclass, field


class Wrong(Exception):
    """Something does not hold."""


@dataclass
class Findings:
    """Filled by a drill while it plays. `tried` counts rounds, or what the drill's unit says."""

    tried: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fail(self, round_number: int, text: str) -> None:
        """Something did not hold in this round."""
        self.failures.append(f"round {round_number}: {text}")

    def note(self, text: str) -> None:
        """Something that a reader wants to know: what was tried, how often."""
        self.notes.append(text)
