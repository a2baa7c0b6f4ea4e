"""What a model must show before it is published, as a list of named checks. Free of I/O.

Rules
-----
1. Each check says pass, stop or cannot tell, with a reason and the figures behind it. What cannot
   be told is never called a pass.
2. One stop stops the model, whichever it is.
3. What cannot be told holds a model up where a model is in force and has decided: it would be
   replaced on a guess. It does not hold up a first model, which nothing can be compared with, nor a
   release for a share of the devices that is watched: the canary finds out what the log cannot say.
   Nor does it protect a guess: where the model in force went out to all untold, one that `train`
   made of more examples may take its place untold, too, unless what is known speaks against it.
   What was told to be no worse, what a watch promoted, what a person let out and what devices came
   back to has earned its place.
4. A person may publish all the same. They say why, and that is kept.

What a check goes by is worked out elsewhere (`measure`, `weigh`), and which figure is too much in
`checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from genome_server.models.findings import MAX_BYTES


class State(StrEnum):
    """What a check says."""

    FINE = "pass"
    STOP = "stop"
    CANNOT_TELL = "cannot tell"


class Outcome(StrEnum):
    """What all checks say together."""

    PASSED = "passed"
    STOPPED = "stopped"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Limits:
    """What is allowed; a tenant's own are kept in its store (`kept.limits`).

    `max_bytes` of the file, `latency_us` for 1,000 offers, `calibration` is the greatest error of
    its probabilities. `margin` is how far below 0 an interval of `confidence` may begin that has 0
    in it, as a share of the value in force.
    """

    max_bytes: int = MAX_BYTES
    latency_us: float = 100.0
    calibration: float = 0.03
    margin: float = 0.10
    confidence: float = 0.95


@dataclass(frozen=True)
class Check:
    """One check: what it says, why in a sentence, and its figures as plain data. `against`: it
    cannot be told, but what is known speaks against the model."""

    name: str
    state: State
    reason: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    against: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a model.

    `against` is the model in force (empty: none). `first`: there is none that has decided anything,
    so that what cannot be told holds nothing up; and neither does it where the one in force is a
    `guess`, which knows less than this one. `pictures` are the figures of the report page.
    """

    model: str
    against: str
    first: bool
    at_ms: int
    checks: tuple[Check, ...]
    pictures: Mapping[str, Any] = field(default_factory=dict)
    guess: bool = False

    @property
    def outcome(self) -> Outcome:
        """What all checks say together."""
        states = {check.state for check in self.checks}
        if State.STOP in states:
            return Outcome.STOPPED
        better_informed = self.guess and not any(check.against for check in self.checks)
        if State.CANNOT_TELL in states and not (self.first or better_informed):
            return Outcome.CANNOT_TELL
        return Outcome.PASSED

    @property
    def untold(self) -> bool:
        """Whether it passes though something of it could not be told."""
        unknown = any(one.state is State.CANNOT_TELL for one in self.checks)
        return unknown and self.outcome is Outcome.PASSED

    @property
    def why_open(self) -> str:
        """Why what cannot be told of it holds nothing up; empty: all can, or it does."""
        if not self.untold:
            return ""
        if self.first:
            return "nothing is in force that has decided anything"
        return "the one in force went out untold, and this one has learned from more"

    def opens(self, *, watched: bool) -> bool:
        """Whether a release may take the model; `watched`: for a share, and taken back by itself
        where it does badly."""
        return self.outcome is Outcome.PASSED or (watched and self.outcome is Outcome.CANNOT_TELL)

    def reasons(self) -> list[str]:
        """What holds the model up, a sentence each."""
        wanted = State.STOP if self.outcome is Outcome.STOPPED else State.CANNOT_TELL
        return [f"{one.name}: {one.reason}" for one in self.checks if one.state is wanted]

    def to_json(self) -> dict[str, Any]:
        """It as plain data."""
        return {**asdict(self), "outcome": self.outcome.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """What `to_json` gave."""
        checks = tuple(Check(**{**one, "state": State(one["state"])}) for one in data["checks"])
        known = {name: data[name] for name in data if name != "outcome"}
        return cls(**{**known, "checks": checks})
