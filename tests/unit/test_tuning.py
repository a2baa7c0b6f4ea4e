"""The process is changed when the app asks for it, and by nothing else."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc, os
os.environ.pop("OPENBLAS_NUM_THREADS", None)
os.environ["OMP_NUM_THREADS"] = "3"
before = dict(os.environ)
from edge_sdk import Context, tune_process
from edge_sdk.testing import FakeEdge
FakeEdge([{"id": "taxi"}]).decide(Context(), "lobby")
assert dict(os.environ) == before
assert gc.get_freeze_count() == 0 and gc.isenabled()
tune_process()
assert gc.get_freeze_count() > 1000 and gc.isenabled()
assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
assert os.environ["OMP_NUM_THREADS"] == "3", "the app's word stands"
"""


def test_only_when_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
