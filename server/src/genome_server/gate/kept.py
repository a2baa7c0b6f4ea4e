"""What is remembered of the gate: a tenant's limits, and what was said of each model.

Limits lie in the store. Verdicts lie beside the model that they are about, models/ID/gate.json, the
newest last, and the newest one's report page as gate.html; both are figures about many persons and
of nobody.

A verdict holds while nothing changed that it depends on: the model and the golden vectors that came
with it, the one in force, the policies of placements and the limits. Of the log it is allowed to be
a day behind, where the model passed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from genome_edge.v1 import release_pb2
from genome_server.files import write_whole
from genome_server.gate.rules import Limits, Outcome, Verdict
from genome_server.models.shelf import Model
from genome_server.store.protocol import Store
from genome_server.times import DAY_MS

_LIMITS_KEY: Final = "gate_limits"
_GUESSES_KEY: Final = "gate_guesses"
_MOST_KEPT: Final = 20
_FILE: Final = "gate.json"
_PAGE: Final = "gate.html"


@dataclass(frozen=True)
class Said:
    """A verdict, what it depended on, where the log ended, and why it was published all the same
    (empty: it was not)."""

    verdict: Verdict
    state: str
    log_end: int
    despite: str = ""

    def holds(self, state: str, log_end: int, now_ms: int) -> bool:
        """Whether it can be gone by instead of asking again."""
        if self.state != state:
            return False
        fresh = 0 <= now_ms - self.verdict.at_ms < DAY_MS
        return self.log_end == log_end or (fresh and self.verdict.outcome is Outcome.PASSED)

    def to_json(self) -> dict[str, Any]:
        """It as plain data, in which every number is one."""
        data: dict[str, Any] = _finite(
            {
                "verdict": self.verdict.to_json(),
                "state": self.state,
                "log_end": self.log_end,
                "despite": self.despite,
            }
        )
        return data


def limits(store: Store) -> Limits:
    """What a tenant allows."""
    said = store.meta(_LIMITS_KEY)
    return Limits() if said is None else Limits(**json.loads(said))


def set_limits(store: Store, chosen: Limits) -> None:
    """Remember what a tenant allows from now on."""
    store.set_meta(_LIMITS_KEY, json.dumps(asdict(chosen)))


def guess_of(store: Store, channel: str) -> str:
    """The model that went out untold to all devices of a channel last; empty: what did was told."""
    return str(_guesses(store).get(channel, ""))


def remember_guess(store: Store, channel: str, model: str) -> None:
    """Remember that a model went out untold to all devices of a channel; empty: one that was told
    did. Call it in the transaction that issues the release."""
    found = {**_guesses(store), channel: model}
    store.set_meta(_GUESSES_KEY, json.dumps({name: one for name, one in found.items() if one}))


def _guesses(store: Store) -> dict[str, str]:
    said = store.meta(_GUESSES_KEY)
    return {} if said is None else dict(json.loads(said))


def state_of(
    model: Model,
    against: str,
    placements: Iterable[release_pb2.PlacementSpec],
    joint: Iterable[str],
    chosen: Limits,
    *,
    guess: bool,
) -> str:
    """A name for all that a verdict depends on but the log; `joint` are the placements in which all
    slots influence each other, `guess` whether what is in force is one that knows less."""
    parts = [one.SerializeToString(deterministic=True).hex() for one in placements]
    text = json.dumps(
        [model.id, model.golden, against, sorted(parts), sorted(joint), asdict(chosen), guess]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def verdicts(models_dir: Path, model: str) -> list[Said]:
    """What was said of a model, the newest last. What cannot be read was never said."""
    try:
        data = json.loads((models_dir / model / _FILE).read_bytes())
        return [_said(one) for one in data["verdicts"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def keep(models_dir: Path, said: Said, text: str) -> Path:
    """Remember a verdict, and `text` as its page; where the page is."""
    folder = models_dir / said.verdict.model
    _write(folder, [*verdicts(models_dir, said.verdict.model), said])
    page = page_path(models_dir, said.verdict.model)
    write_whole(page, text.encode())
    return page


def keep_despite(models_dir: Path, said: Said, reason: str) -> None:
    """Remember that a model was published whatever its newest verdict says, and why."""
    before = verdicts(models_dir, said.verdict.model)
    if before and before[-1].verdict.at_ms == said.verdict.at_ms:
        before = before[:-1]
    _write(models_dir / said.verdict.model, [*before, replace(said, despite=reason)])


def page_path(models_dir: Path, model: str) -> Path:
    """Where a model's report page is, once there is a verdict."""
    return models_dir / model / _PAGE


def _write(folder: Path, found: list[Said]) -> None:
    data = {"verdicts": [one.to_json() for one in found[-_MOST_KEPT:]]}
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / _FILE, f"{text}\n".encode())


def _said(data: Mapping[str, Any]) -> Said:
    verdict = Verdict.from_json(data["verdict"])
    return Said(verdict, data["state"], data["log_end"], data["despite"])


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
