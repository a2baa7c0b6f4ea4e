"""Check who may import whom.

1. `edge_sdk` never imports `genome_server`, nor anything that its pyproject.toml
   does not declare (the standard library apart).
2. `fcntl`, `resource`, `pwd`, `grp`, `termios` (POSIX only) are imported in one
   file, the SDK's `_posix.py`; the server calls what it needs from there.
3. `genome_edge` (generated) imports nothing of ours.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SDK = ROOT / "edge_sdk" / "src"
POSIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "posix"}
# Where the name on the package index differs from the one that is imported.
IMPORT_NAMES = {"grpcio": "grpc", "protobuf": "google", "backports.zstd": "backports"}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every absolute import in a file, wherever it stands: (line, top-level name)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]


def declared() -> set[str]:
    """Top-level names of the SDK's declared dependencies."""
    project = tomllib.loads((ROOT / "edge_sdk" / "pyproject.toml").read_text())["project"]
    names = set()
    for requirement in project["dependencies"]:
        name = requirement.split(";")[0].split(">")[0].split("<")[0].split("=")[0].strip()
        names.add(IMPORT_NAMES.get(name, name))
    return names


def problems() -> Iterator[str]:
    """One line per broken rule."""
    allowed = declared() | {"edge_sdk", "genome_edge"} | sys.stdlib_module_names | {"compression"}
    for path in sorted((SDK / "edge_sdk").rglob("*.py")):
        for line, name in imported(path):
            where = f"{path.relative_to(ROOT)}:{line}"
            if name not in allowed:
                yield f"{where}: {name} is no dependency that the SDK's pyproject.toml declares"
            if name in POSIX_ONLY and path.name != "_posix.py":
                yield f"{where}: {name} exists on POSIX only; put the call into _posix.py"
    for path in sorted((ROOT / "server" / "src").rglob("*.py")):
        for line, name in imported(path):
            if name in POSIX_ONLY:
                yield f"{path.relative_to(ROOT)}:{line}: {name} exists on POSIX only"
    for path in sorted((SDK / "genome_edge").rglob("*.py")):
        for line, name in imported(path):
            if name in {"edge_sdk", "genome_server"}:
                yield f"{path.relative_to(ROOT)}:{line}: the contract may not import {name}"


if __name__ == "__main__":
    found = list(problems())
    print(*found, sep="\n")
    sys.exit(1 if found else 0)
