"""Heavy and doubtful work, done in a process of its own.

Well signed does not mean well made. A model that ends or stalls the process that loads it must not
take the app with it, and reading a large release or a whole audience beside a thread that decides
would slow that thread down. So the first load of a release (the golden vectors included), turning
genome content into the file that is mapped, and folding patches into it happen in a child, under
limits of memory and time.

The child says that it has started before it does anything. Silence before that means that no
interpreter could be started from here (an app frozen into one binary, no room for a process), and
the work is then done in this process, with a line in the log. Silence after it is the work's doing.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_sdk import _posix
from edge_sdk.errors import FormatError, StoreCorrupt, StoreError, TrustError
from edge_sdk.sync.trust import Refusal
from genome_edge.v1 import dna_pb2, release_pb2

if TYPE_CHECKING:
    from edge_sdk.store.genome_files import Files

log = logging.getLogger(__name__)

TIMEOUT_S = 120.0
_STARTED: Final = "started"
_MEMORY: Final = 2 << 30
# Of one byte that is read at most so many are made.
_GROWTH: Final = 6


def limits(size: int) -> tuple[int, int]:
    """What a child may take that reads `size` bytes: memory beyond what it has, in bytes, and
    seconds of the processor."""
    return _MEMORY + _GROWTH * size, int(TIMEOUT_S)


class _Died(Exception):
    """The child ended without a word, or was too slow; the text says which."""


def try_release(
    root: Path, manifest: release_pb2.Manifest, *, timeout_s: float = TIMEOUT_S
) -> None:
    """Load a release, whose verified parts lie in the store at `root`.

    Raises TrustError with the reason of the Nack: what `installing.load` raises, and MODEL where
    the child ends without a word or takes longer than `timeout_s` seconds.
    """
    size = sum(part.size for part in manifest.parts if not part.asset)
    try:
        _ask("release", root, manifest.SerializeToString(), size, timeout_s)
    except _Died as died:
        raise TrustError(f"the release {died}", Refusal.MODEL) from None


def write_content(
    root: Path, lineage: dna_pb2.Lineage, content: Path, *, timeout_s: float = TIMEOUT_S
) -> Files:
    """Turn genome content into the files of the store at `root` that are mapped.

    Raises FormatError where it is none, also where the child ends without a word; and OSError.
    """
    data = json.dumps([str(content), lineage.SerializeToString().hex()]).encode()
    try:
        return _files(_ask("content", root, data, content.stat().st_size, timeout_s))
    except _Died as died:
        raise FormatError(f"genome content {died}") from None


def compact(root: Path, *, timeout_s: float = TIMEOUT_S) -> tuple[int, Files]:
    """Write what the store at `root` holds into new files without patches.

    Returns the change up to which they are current, too. Raises StoreError and OSError.
    """
    size = sum(entry.stat().st_size for entry in (root / "genomes").iterdir())
    try:
        answer = _ask("compact", root, b"", size, timeout_s)
    except _Died as died:
        raise StoreError(f"folding patches into the snapshot {died}") from None
    return answer.pop("change"), _files(answer)


def _files(answer: dict[str, Any]) -> Files:
    from edge_sdk.store.genome_files import Files

    return Files(**answer)


def _ask(verb: str, root: Path, data: bytes, size: int, timeout_s: float) -> dict[str, Any]:
    """What a verb answers; raises what it raises, and _Died. `size` is how much it has to read."""
    if getattr(sys, "frozen", False):  # another one of the app would start
        return _do_here(verb, root, data, "this app is its own interpreter")
    command = [sys.executable or "python", "-m", __name__, verb, str(root), str(size)]
    # The child finds the packages where this process found them; an import looks only at text.
    found_in = os.pathsep.join(path for path in sys.path if isinstance(path, str) and path)
    environment = {**os.environ, "PYTHONPATH": found_in, "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        if _answer(late.stdout or b"") is None:
            return _do_here(verb, root, data, f"{command[0]} says nothing")
        raise _Died(f"was not done within {timeout_s:g} s") from None
    except OSError as error:
        return _do_here(verb, root, data, str(error))
    said = _answer(done.stdout)
    if said is None:
        return _do_here(verb, root, data, f"{command[0]} ended with {done.returncode}")
    if not said:
        raise _Died(f"ends the process that reads it (exit status {done.returncode})")
    answer: dict[str, Any] = json.loads(said)
    if "failed" in answer:
        raise _raised(**answer)
    return answer


def _answer(said: bytes) -> str | None:
    """The line of the child that comes after it has started; None: it has not. What is said before
    is somebody else's, who has a word in the start of every interpreter here."""
    lines = said.decode(errors="replace").splitlines()
    if _STARTED not in lines:
        return None
    return next(iter(lines[lines.index(_STARTED) + 1 :]), "")


def _do_here(verb: str, root: Path, data: bytes, why: str) -> dict[str, Any]:
    log.warning("no process can be started (%s): doing its work here (%s)", why, verb)
    return _VERBS[verb](root, data)


def _raised(failed: str, message: str, detail: Any) -> Exception:
    """The error of the child, as it was raised there."""
    if failed == "TrustError":
        return TrustError(message, Refusal(detail or Refusal.FORMAT))
    if failed == "OSError":
        return OSError(detail, message)
    kinds = {kind.__name__: kind for kind in (FormatError, StoreCorrupt)}
    return kinds.get(failed, StoreError)(message)


def _try_release(root: Path, data: bytes) -> dict[str, Any]:
    from edge_sdk.store.files import Parts
    from edge_sdk.sync.installing import load, read_parts

    manifest = release_pb2.Manifest.FromString(data)
    load(manifest, read_parts(Parts(root).read, manifest))
    return {}


def _write_content(root: Path, data: bytes) -> dict[str, Any]:
    from edge_sdk.store.genome_files import write_content

    content, lineage = json.loads(data)
    files = write_content(
        root / "genomes", dna_pb2.Lineage.FromString(bytes.fromhex(lineage)), Path(content)
    )
    return files._asdict()


def _compact(root: Path, data: bytes) -> dict[str, Any]:  # noqa: ARG001 every verb takes some
    from edge_sdk.store.database import Database
    from edge_sdk.store.files import DATABASE
    from edge_sdk.store.genome_files import write_view
    from edge_sdk.store.genomes import GenomeShelf

    database = Database(root / DATABASE)
    try:
        view = GenomeShelf(database, root).view()
    finally:
        database.close()
    return {"change": view.change, **write_view(root / "genomes", view)._asdict()}


_VERBS: Final[dict[str, Callable[[Path, bytes], dict[str, Any]]]] = {
    "release": _try_release,
    "content": _write_content,
    "compact": _compact,
}


def main(verb: str, root: str, size: str) -> None:
    """The child: a line when it has started, and one with the answer or what went wrong."""
    answer = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    print(_STARTED, file=answer, flush=True)
    data = sys.stdin.buffer.read()
    _posix.restrain(*limits(int(size)))
    said: dict[str, Any]
    try:
        said = _VERBS[verb](Path(root), data)
    except TrustError as error:
        said = {"failed": "TrustError", "message": str(error), "detail": error.reason}
    except OSError as error:
        said = {"failed": "OSError", "message": str(error), "detail": error.errno or 0}
    except (FormatError, StoreError) as error:
        said = {"failed": type(error).__name__, "message": str(error), "detail": ""}
    print(json.dumps(said), file=answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
