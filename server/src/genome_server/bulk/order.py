"""What is asked of a run over a list, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genome_server.ingest.rejects import Reject


@dataclass(frozen=True)
class Order:
    """What a command asks for; see `genome-server decide --help`."""

    out: Path
    file: Path | None = None
    format: str | None = None
    audience: str | None = None
    markers: Sequence[str] = ()
    everybody: bool = False
    source: str = "app"
    placement: str = ""
    slots: int = 1
    moment: Sequence[str] = ()
    budgets: Sequence[str] = ()
    reporter: str = ""
    at_ms: int | None = None
    resume: bool = False
    dry_run: bool = False


@dataclass
class Outcome:
    """What became of a list. `per_second` counts the rows that this process decided for."""

    out: Path
    run: str = ""
    release: int = 0
    at_ms: int = 0
    logged: bool = True
    rows_in: int = 0
    decided: int = 0
    rejected: int = 0
    resumed: int = 0
    genomes: int = 0
    shown: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    budgets: dict[str, dict[str, int]] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    rejects_file: Path | None = None
    refused: str | None = None
    notes: list[str] = field(default_factory=list)
    per_second: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether every row of the list was decided for."""
        return self.refused is None and self.rejected == 0

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            **vars(self),
            "out": str(self.out),
            "rejects": [vars(reject) for reject in self.rejects],
            "rejects_file": str(self.rejects_file) if self.rejects_file else None,
            "per_second": round(self.per_second, 1),
        }
