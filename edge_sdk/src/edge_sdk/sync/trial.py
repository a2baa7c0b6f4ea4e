"""Try a release in a process of its own before this one relies on it.

Well signed does not mean well made. A model that ends or stalls the process that loads it must not
take the app with it, and parsing a large release beside a thread that decides would slow that
thread down. So the first load, the golden vectors included, happens in a child; what it says is a
refusal or nothing.

The child says that it has started before it loads anything. Silence before that means that no
interpreter could be started from here (an app frozen into one binary, no room for a process), and
the release is then tried in this process, with a line in the log. Silence after it is the release's
doing.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from edge_sdk.errors import TrustError
from edge_sdk.sync.installing import load, read_parts
from edge_sdk.sync.trust import Refusal
from genome_edge.v1 import release_pb2

log = logging.getLogger(__name__)

TRIAL_TIMEOUT_S = 120.0
_STARTED = "started"


def try_release(
    root: Path, manifest: release_pb2.Manifest, *, timeout_s: float = TRIAL_TIMEOUT_S
) -> None:
    """Load a release, whose verified parts lie in the store at `root`, in a child process.

    Raises TrustError with the reason of the Nack: what `installing.load` raises, and MODEL where
    the child ends without a word or takes longer than `timeout_s` seconds.
    """
    command = [sys.executable or "python", "-m", __name__, str(root)]
    # The child finds the packages where this process found them.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command,
            input=manifest.SerializeToString(),
            capture_output=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TrustError(f"it did not load within {timeout_s:g} s", Refusal.MODEL) from None
    except OSError as error:
        return _try_here(root, manifest, str(error))
    said = done.stdout.decode(errors="replace").splitlines()
    if not said or said[0] != _STARTED:
        return _try_here(root, manifest, f"{command[0]} ended with {done.returncode}")
    if len(said) < 2:
        raise TrustError(
            f"it ends the process that loads it (exit status {done.returncode})", Refusal.MODEL
        )
    refusal = json.loads(said[1])
    if refusal:
        raise TrustError(refusal["message"], Refusal(refusal["reason"]))
    return None


def _try_here(root: Path, manifest: release_pb2.Manifest, why: str) -> None:
    log.warning("no process can be started to try a release in (%s): trying it here", why)
    load(manifest, _parts(root, manifest))


def _parts(root: Path, manifest: release_pb2.Manifest) -> dict[str, bytes]:
    from edge_sdk.store.files import Parts

    return read_parts(Parts(root).read, manifest)


def main(root: str) -> None:
    """The child: a line when it has started, and one with the refusal, or an empty object."""
    answer = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    print(_STARTED, file=answer, flush=True)
    manifest = release_pb2.Manifest.FromString(sys.stdin.buffer.read())
    refusal: dict[str, str] = {}
    try:
        load(manifest, _parts(Path(root), manifest))
    except TrustError as error:
        refusal = {"reason": error.reason or Refusal.FORMAT, "message": str(error)}
    print(json.dumps(refusal), file=answer, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
