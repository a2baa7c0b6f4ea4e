"""The runbook names commands and options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from genome_server.cli import COMMANDS, cli

TEXT = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()


def said() -> list[str]:
    """What stands in code that begins with a command of ours."""
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
    lines = [line.partition("$ ")[2] for line in TEXT.splitlines() if "$ " in line]
    found = []
    for text in (*spans, *lines):
        words = text.partition("#")[0].split()
        words = words[1:] if words[:1] == ["genome-server"] else words
        if words and words[0] in COMMANDS and (len(words) > 1 or words[0] in text):
            found.append(" ".join(words))
    return sorted(set(found))


@pytest.mark.parametrize("line", said())
def test_commands_of_the_runbook_exist(line: str) -> None:
    words = line.split()
    command: click.Command | None = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None, line
    assert command is not None
    known = {option for param in command.params for option in param.opts}
    assert {word for word in words if word.startswith("--")} <= known, line


def test_there_are_some() -> None:
    assert len(said()) > 20
