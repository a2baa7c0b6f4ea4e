"""No room and no page is forgotten by the pages that list them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def packages(folder: Path) -> set[str]:
    found = {file.parent.name for file in folder.glob("*/__init__.py")}
    assert len(found) > 7, "they are here"
    return found


@pytest.mark.parametrize("folder", ["server/src/genome_server", "edge_sdk/src/edge_sdk"])
def test_every_room_is_in_the_architecture(folder: str) -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    said = rows | set(re.findall(r"^`(\w+)` is the command", text, re.MULTILINE))
    # The command lines have pages of their own: what they can is in the distributions' READMEs.
    assert packages(ROOT / folder) - said - {"cli"} == set()


def test_every_page_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(docs/([a-z-]+\.md)\)", text))
    assert {page.name for page in DOCS.glob("*.md")} - linked == set()


def test_every_decision_is_in_the_list_of_decisions() -> None:
    text = (DOCS / "adr" / "README.md").read_text("utf-8")
    linked = set(re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", text))
    assert {page.name for page in (DOCS / "adr").glob("0*.md")} == linked
