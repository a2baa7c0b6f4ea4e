"""Check the documents: links lead somewhere, variables and targets exist.

1. Every relative link and `#anchor` in a Markdown file leads to a file and heading.
2. Every GENOME_EDGE_* variable that code reads is in docs/configuration.md, and
   every one that is documented is read.
3. Every `make X` that a document names is a target.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.config import PREFIX, Config

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
VARIABLE = re.compile(r"GENOME_EDGE_[A-Z][A-Z_]*[A-Z]")
MAKE = re.compile(r"`(?:[A-Z_]+=\S+ )?make ([a-z-]+)")


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks or would track, by pattern."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).exists()]


def anchors(path: Path) -> set[str]:
    """Anchors of a Markdown file's headings, as code hosts make them."""
    found = set()
    fenced = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and (match := re.match(r"#+ (.*)", line)):
            text = re.sub(r"[`*]", "", match[1]).strip().lower()
            found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def links() -> Iterator[str]:
    """Broken links."""
    for path in tracked("*.md"):
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for match in LINK.finditer(text):
            target = match[1] or match[2]
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name) if name else path
            if not file.exists():
                yield f"{path.relative_to(ROOT)}: no such file: {target}"
            elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                yield f"{path.relative_to(ROOT)}: no such heading: {target}"


def variables() -> Iterator[str]:
    """Environment variables that only code, or only the reference, knows."""
    reference = ROOT / "docs" / "configuration.md"
    documented = set(VARIABLE.findall(reference.read_text(encoding="utf-8")))
    read: set[str] = set()
    read |= {PREFIX + field.name.upper() for field in dataclasses.fields(Config)}
    for path in tracked("*.py"):
        if path.parts[len(ROOT.parts)] in {"edge_sdk", "server", "examples"}:
            read |= set(VARIABLE.findall(path.read_text(encoding="utf-8")))
    yield from (f"docs/configuration.md does not document {name}" for name in read - documented)
    yield from (
        f"docs/configuration.md documents {name}; no code reads it" for name in documented - read
    )


def targets() -> Iterator[str]:
    """Make targets that documents name and the Makefile lacks."""
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for path in tracked("*.md"):
        for name in MAKE.findall(path.read_text(encoding="utf-8")):
            if name not in known:
                yield f"{path.relative_to(ROOT)}: the Makefile has no target {name}"


if __name__ == "__main__":
    found = sorted({*links(), *variables(), *targets()})
    print(*found, sep="\n")
    sys.exit(1 if found else 0)
