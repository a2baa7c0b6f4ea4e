"""Every check that needs no test run: lint, types, contract, drift, import rule, docs.

python -m tools.check            # all, in order; exit 1 if one fails
python -m tools.check types      # one or some, by name
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
# A virtual environment's scripts lie beside its interpreter.
BIN = Path(PYTHON).parent

CHECKS: dict[str, list[list[str]]] = {
    "lint": [
        [str(BIN / "ruff"), "check", "--quiet", "."],
        [str(BIN / "ruff"), "format", "--check", "--quiet", "."],
    ],
    "types": [[PYTHON, "-m", "mypy", "--no-error-summary"]],
    "contract": [
        [str(BIN / "buf"), "lint", "proto"],
        [str(BIN / "buf"), "format", "--exit-code", "-d", "proto"],
        [str(BIN / "buf"), "breaking", "proto", "--against", "proto/released.binpb"],
    ],
    "drift": [
        [PYTHON, "tools/generate_stubs.py", "--check"],
        [PYTHON, "tools/make_vectors.py", "--check"],
        [PYTHON, "-m", "tools.make_exploration_vectors", "--check"],
        [PYTHON, "-m", "tools.make_trust_vectors", "--check"],
        [PYTHON, "-m", "tools.import_formats", "--check"],
        [PYTHON, "tools/configuration.py", "--check"],
    ],
    "imports": [[PYTHON, "tools/check_imports.py"]],
    "docs": [[PYTHON, "tools/check_docs.py"]],
}


def run(name: str) -> bool:
    """Run one check; print its output only when it fails."""
    started = time.monotonic()
    for command in CHECKS[name]:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shown = " ".join([Path(command[0]).name, *command[1:]])
            print(f"FAILED  {name}: {shown}")
            print(done.stdout + done.stderr)
            return False
    print(f"ok      {name} ({time.monotonic() - started:.1f} s)", flush=True)
    return True


def main(names: list[str]) -> int:
    """Run the named checks, or all of them."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"no check named {', '.join(unknown)}; there are {', '.join(CHECKS)}")
        return 2
    results = [run(name) for name in names or CHECKS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
