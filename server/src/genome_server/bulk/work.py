"""The folder beside the result where a run keeps what is done: `RESULT.run`.

`run.json` says which run it is, `list.bin` whom a segment holds, and there is one file for each
part. A part is written first, then logged together with its digest under the part's key, and only
then the next one is written. So of what is there, only the last part may be missing from the log:
where it is, it is decided again, and where it is not, it is done.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from genome_server.bulk.results import said_of
from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.times import DAY_MS

#: A run that is to go on is not older, and the log remembers its parts for longer.
RESUMED_MS: Final = 60 * DAY_MS
KEPT_MS: Final = 90 * DAY_MS
_RUN: Final = "run.json"
_LIST: Final = "list.bin"


@dataclass(frozen=True)
class Run:
    """What a run is: from this and what the server knows everything follows.

    `list` and `release` are SHA-256s (hex), of the list and of the release's manifest; `moment` and
    `budgets` are what the command said.
    """

    list: str
    release_version: int
    release: str
    at_ms: int
    placement: str
    slots: int
    source: str
    moment: dict[str, Any]
    budgets: dict[str, int]

    @property
    def key(self) -> bytes:
        """The run's key, 32 bytes."""
        said = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(b"genome-edge/list/v1\n" + said.encode()).digest()

    def part_key(self, number: int) -> bytes:
        """Under which the log knows a part."""
        return b"list\0" + self.key + number.to_bytes(4, "big")

    def differs(self, other: Run) -> str:
        """The first thing in which two runs differ but for their time and release; empty: none."""
        free = ("release_version", "release", "at_ms")
        mine, others = asdict(self), asdict(other)
        return next((name for name in mine if name not in free and mine[name] != others[name]), "")


class Work:
    """The folder of one run."""

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(f"{out.name}.run")

    def begin(self, run: Run, begun_ms: int, *, dry: bool, members: bytes | None) -> None:
        """Make the folder for a run."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if members is not None:
            write_whole(self.folder / _LIST, members)
        said = {"run": asdict(run), "begun_ms": begun_ms, "dry": dry}
        write_whole(self.folder / _RUN, json.dumps(said, sort_keys=True, indent=1).encode())

    def begun(self) -> tuple[Run, int, bool] | None:
        """The run of this folder, when it was begun, and whether nothing of it is logged; None
        where there is none. Raises Refused for what makes no sense."""
        path = self.folder / _RUN
        try:
            said = json.loads(path.read_bytes())
            return Run(**said["run"]), int(said["begun_ms"]), bool(said["dry"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"{path}: cannot be read; delete the folder to begin anew") from error

    def members(self) -> bytes | None:
        """The segment of the run; None: it is of a file."""
        path = self.folder / _LIST
        return path.read_bytes() if path.is_file() else None

    def part(self, number: int) -> Path:
        """Where a part is, or goes."""
        return self.folder / f"{number:06}.parquet"

    def whole(self, number: int) -> dict[str, Any] | None:
        """What a part says beside its rows; None where it is not there. Raises Refused."""
        path = self.part(number)
        if not path.is_file():
            return None
        try:
            return said_of(path)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise Refused(f"{path}: is damaged ({error}); restore it to go on") from error

    def digest(self, number: int) -> bytes:
        """The SHA-256 of a part."""
        with self.part(number).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def end(self) -> None:
        """The result is there: nothing of the run is needed any more."""
        shutil.rmtree(self.folder)
