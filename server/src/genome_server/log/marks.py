"""How far each lane is safe in a backup: the second mark of an acknowledgement.

A tenant of which devices wait for backups has a file of marks beside its log. Each verified
backup writes it anew; a running server sees that at its next acknowledgement. Marks speak of one
log: those of another incarnation count for nothing.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Final

from genome_server.errors import StoreDamaged
from genome_server.files import write_whole
from genome_server.log.reader import LogReader

MARKS: Final = "backup.marks"
"""Name of the file, beside the log."""

_Lane = tuple[str, bytes, int]


def write_marks(folder: Path, incarnation: bytes, backup: LogReader) -> None:
    """Say that what this copy of the log holds is safe."""
    lanes = [
        [device, epoch.hex(), lane, through] for device, epoch, lane, through in backup.lanes()
    ]
    said = {"incarnation": incarnation.hex(), "end": backup.end(), "lanes": lanes}
    write_whole(folder / MARKS, json.dumps(said).encode())


class BackupMarks:
    """A `Replica`: what the latest verified backup holds. Thread-safe.

    Raises StoreDamaged where the file cannot be read.
    """

    def __init__(self, folder: Path, incarnation: bytes) -> None:
        self._path = folder / MARKS
        self._incarnation = incarnation
        self._lock = threading.Lock()
        self._read_at: tuple[int, int] | None = None
        self._through: dict[_Lane, int] | None = None
        self._look()

    def through(self, device: str, epoch: bytes, lane: int) -> int | None:
        """The sequence up to which the lane is in the backup; None where nobody waits for one."""
        with self._lock:
            self._look()
            if self._through is None:
                return None
            return self._through.get((device, epoch, lane), 0)

    def _look(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._read_at = self._through = None
            return
        version = (found.st_mtime_ns, found.st_ino)
        if version == self._read_at:
            return
        try:
            said = json.loads(self._path.read_bytes())
            known = said["incarnation"] == self._incarnation.hex()
            self._through = {
                (device, bytes.fromhex(epoch), lane): through
                for device, epoch, lane, through in (said["lanes"] if known else ())
            }
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDamaged(
                f"{self._path} cannot be read; make a backup, which writes it anew"
            ) from error
        self._read_at = version
