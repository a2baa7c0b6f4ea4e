"""A home on disk and its command line, for tests that do what a person at a terminal does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from genome_server.cli import cli
from genome_server.home import Home
from genome_server.setup import set_up


class Shell:
    """Calls `genome-server` on the home below `root`; `made`: it is set up before."""

    def __init__(self, root: Path, *, made: bool = True) -> None:
        self.root = root
        self.tenant = Home(root / "home").tenant()
        if made:
            set_up(self.tenant)

    def call(self, *arguments: object, code: int = 0) -> Result:
        """Call it; it must end with `code`, and never with a traceback."""
        done = CliRunner().invoke(cli, ["--home", str(self.root / "home"), *map(str, arguments)])
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        return done

    def json(self, *arguments: object, code: int = 0) -> Any:
        """Call it with --json; what it printed."""
        return json.loads(self.call(*arguments, "--json", code=code).stdout)

    def file(self, name: str, content: str) -> Path:
        """A file beside the home."""
        (self.root / name).write_text(content)
        return self.root / name
