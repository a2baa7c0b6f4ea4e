"""A check in a process of its own, under the limits that devices set themselves.

A model from somewhere else may take all memory, never end, or end the process that runs it. Devices
try it in a child first (`edge_sdk.sync.worker`); so does whoever takes it in.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Final

from edge_sdk import _posix
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.sync.worker import TIMEOUT_S, limits
from genome_server.errors import Refused
from genome_server.models.check import check_model
from genome_server.models.findings import BAD, Budgets, Checked, Finding
from genome_server.models.samples import Samples

_STARTED: Final = b"started\n"
_ADVICE: Final = "look for shapes that grow with the input, and for tensors that are made in it"


def check_apart(
    content: bytes,
    vocabulary: Vocabulary,
    samples: Samples | None = None,
    budgets: Budgets | None = None,
    *,
    beside: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Checked:
    """Return what `check_model` says, from a process of its own.

    A model that ends that process, or takes longer than `timeout_s` seconds, is a finding. Raises
    Refused where no process can be started.
    """
    asked = {
        "content": base64.b64encode(content).decode(),
        "lineage": vocabulary.lineage.hex(),
        "markers": list(vocabulary),
        "samples": (samples or Samples()).to_json(),
        "budgets": asdict(budgets or Budgets()),
        "beside": beside,
    }
    found_in = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(len(content))],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=timeout_s,
            env={**os.environ, "PYTHONPATH": found_in},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _ended(content, f"it was not done within {timeout_s:g} s")
    except OSError as error:
        raise Refused(f"no process can be started to try the model: {error}") from error
    before, started, answer = done.stdout.partition(_STARTED)
    if not started:
        said = (before + done.stderr).decode(errors="replace").strip().splitlines()
        raise Refused(f"no process can be started to try the model: {''.join(said[-1:])}")
    if not answer:
        return _ended(content, f"it ends the process that runs it (exit status {done.returncode})")
    return Checked.from_json(json.loads(answer))


def _ended(content: bytes, cause: str) -> Checked:
    """What is known of a model that ended its process: what is in the file, and that it did."""
    bare = check_model(content, Vocabulary(bytes(16), []), only_file=True)
    finding = Finding("ends-the-process", BAD, cause, _ADVICE)
    return replace(bare, findings=(*bare.findings, finding))


def main(size: str) -> None:
    """The child: a line when it has started, and one with the answer."""
    answer = sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints is no answer
    answer.write(_STARTED)
    answer.flush()
    asked = json.loads(sys.stdin.buffer.read())
    _posix.restrain(*limits(int(size)))
    checked = check_model(
        base64.b64decode(asked["content"]),
        Vocabulary(bytes.fromhex(asked["lineage"]), asked["markers"]),
        Samples.from_json(asked["samples"]),
        Budgets(**asked["budgets"]),
        beside=asked["beside"],
    )
    answer.write(json.dumps(checked.to_json()).encode())
    answer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
