"""What a check of a model says: plain values, without input or output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

Severity = Literal["bad", "warning"]

BAD: Final[Severity] = "bad"
WARNING: Final[Severity] = "warning"

#: A file of the default architecture has 150 KB, and 2.4 KB for each marker that it knows.
MAX_BYTES: Final = 1_000_000
#: Microseconds in which 1,000 offers should be valued on one core.
LATENCY_US: Final = 30.0


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `bad` keeps a model from devices, a `warning` does not.

    `name` is for programs, `cause` says what was found, `advice` what to do.
    """

    name: str
    severity: Severity
    cause: str
    advice: str


@dataclass(frozen=True)
class Budgets:
    """What a model may take. More bytes are bad; more microseconds are worth a warning."""

    max_bytes: int = MAX_BYTES
    latency_us: float = LATENCY_US


@dataclass(frozen=True)
class Checked:
    """What is known of a file after its check.

    `facts` are its `metadata_props`; `golden` is how many golden vectors of its own were played;
    `architecture` is "default" where devices evaluate it without
    the runtime, else "other" (empty: it could not be opened); `latency_us` is the median time for
    1,000 offers on this machine, None where that was not tried.
    """

    bytes: int
    sha256: str
    findings: tuple[Finding, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""
    latency_us: float | None = None
    golden: int = 0

    @property
    def fit(self) -> bool:
        """Whether devices can use it: nothing is bad."""
        return all(one.severity != BAD for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        """It as plain data: what --json prints, and what the report of an import keeps."""
        return {**asdict(self), "fit": self.fit}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Checked:
        """What `to_json` gave."""
        known = {name: data[name] for name in data if name != "fit"}
        return cls(**{**known, "findings": tuple(Finding(**one) for one in data["findings"])})
