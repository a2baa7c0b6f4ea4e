"""What the README says works when it is pasted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def quickstart() -> str:
    """The block after the quickstart mark."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.search(r"<!-- quickstart -->\n```python\n(.*?)```", text, re.DOTALL)
    assert match, "the README has lost its quickstart"
    return match[1]


def test_the_quickstart_runs_as_pasted() -> None:
    code = quickstart()
    assert len(code.splitlines()) <= 15
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("taxi-to-airport ")
