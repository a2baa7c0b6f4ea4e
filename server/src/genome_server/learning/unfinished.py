"""What a training that was broken off has left, so that the next one goes on from there.

Rules.
- Nothing of customers is kept: only weights, figures of folds, and how far the log was read. The
  examples are read again, as of the same time and up to the same place; if they are not the same
  any more (somebody withdrew, something was erased or imported), the training begins anew.
- The same goes for other settings, other versions of the libraries, and after a day.
- A training has begun when its examples are enough (`accept`): one that was refused before leaves
  nothing, or the next would be refused by what the log was then.
- A part is whole or not there. A training that went on ends with the weights that it would have
  ended with.
- Two trainings at once do not mix: each has a folder by its settings. Who begins anew takes away
  what others left; one that is still going on then loses what it had kept, and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from genome_server.files import write_whole
from genome_server.learning.examples import Examples, OfferTable
from genome_server.learning.kin import Kin
from genome_server.times import DAY_MS

_BEGUN: Final = "begun.json"
#: Seconds between two savings of a training's state.
EVERY_S: Final = 5.0

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class AsOf:
    """Where a training stands: its time, and the end of the log that it reads."""

    now_ms: int
    log_end: int


class Unfinished:
    """A folder for one training of a tenant; `prefix` names the part that is being worked on."""

    def __init__(self, folder: Path, *, every_s: float = EVERY_S, prefix: str = "") -> None:
        self._root = self._folder = folder
        self._every_s = every_s
        self._prefix = prefix
        self._begins: AsOf | None = None
        self._saved_s = time.monotonic()

    def part(self, name: str) -> Unfinished:
        """Return the same folder for one part of the training."""
        prefix = f"{self._prefix}{name}-"
        return Unfinished(self._folder, every_s=self._every_s, prefix=prefix)

    def as_of(self, settings: str, now: AsOf) -> AsOf:
        """Return where a training with these settings was broken off less than a day ago, or `now`.

        What other trainings left is taken away.
        """
        digest = hashlib.sha256(settings.encode()).hexdigest()
        self._folder = self._root / digest[:16]
        found = _begun(self._folder / _BEGUN)
        if found is not None:
            fresh = 0 <= now.now_ms - found.now_ms < DAY_MS
            if fresh and found.log_end <= now.log_end:
                return found
        self.finish()
        self._begins = now
        return now

    def accept(self, examples: Examples) -> bool:
        """Return whether the examples are those that what was left is about; else forget it."""
        if self._begins is not None:
            self._keep(_BEGUN, json.dumps(asdict(self._begins)).encode())
        digest = _digest(examples).encode()
        known = self._folder / "examples"
        if known.exists() and known.read_bytes() == digest:
            return True
        for part in self._folder.glob("*.npz"):
            part.unlink()
        self._keep(known.name, digest)
        return False

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Return what was saved, None where nothing was."""
        path = self._folder / f"{self._prefix}{name}.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as kept:
            return dict(kept)

    def save(self, name: str, arrays: Arrays) -> None:
        """Keep this in place of what was saved before."""
        whole = io.BytesIO()
        np.savez(whole, **arrays)  # type: ignore[arg-type]  # NumPy's stub means its own option
        self._keep(f"{self._prefix}{name}.npz", whole.getvalue())
        self._saved_s = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved_s >= self._every_s

    def finish(self) -> None:
        """Take everything away: the training is done."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _keep(self, name: str, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / name, data)


def _begun(path: Path) -> AsOf | None:
    """Return as of when a training began; None where nothing says it that can be read."""
    try:
        return AsOf(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _digest(examples: Examples) -> str:
    """Return the SHA-256 of all that is learned from."""
    digest = hashlib.sha256()
    for one in fields(examples):
        value = getattr(examples, one.name)
        parts: tuple[Any, ...] = (value,)
        if isinstance(value, OfferTable):
            parts = (value.index, value.weight)
        elif isinstance(value, Kin):
            parts = (value.of, value.sign, value.met)
        elif value is None:
            parts = ()
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
