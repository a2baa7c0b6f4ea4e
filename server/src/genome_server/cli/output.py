"""How commands speak: one JSON object with --json, text and progress for people.

A command is written like this::

    @click.command()
    @common_options
    def command(console: Console, ...) -> None:
        tenant = console.tenant()
        ...
        console.result({"rows": 3}, lambda: console.print("3 rows"))

Results go to standard output; notes, progress and errors go to standard error,
so that a pipe carries results only. Progress is drawn on a terminal only.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import click

from genome_server.errors import GenomeServerError
from genome_server.home import Home, Tenant

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3

#: Set to anything to see where an unexpected error came from.
TRACEBACK_VARIABLE = "GENOME_EDGE_TRACEBACK"

#: Keys of what was said before the name of a command, in click's `meta`.
HOME_KEY = "genome_server.home"
TENANT_KEY = "genome_server.tenant"
JSON_KEY = "genome_server.json"


_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Advance(Protocol):
    """Moves a progress bar on."""

    def __call__(self, steps: int = 1, *, total: int | None = None) -> None:
        """Add `steps`; `total` sets what there is to do once that is known."""
        ...


class Console:
    """What a command writes to, and where it finds its tenant."""

    def __init__(self, home: Home, tenant_name: str | None, *, as_json: bool) -> None:
        self.home = home
        self.as_json = as_json
        self._tenant_name = tenant_name
        self._bars: Bars | None = None

    def tenant(self) -> Tenant:
        """The tenant asked for, there or not; `open_store` refuses where it is not."""
        return self.home.tenant(self._tenant_name)

    def print(self, text: str = "") -> None:
        """A line for people; nothing with --json."""
        if not self.as_json:
            click.echo(printable(text))

    def note(self, text: str) -> None:
        """A remark for people on standard error; nothing with --json."""
        if not self.as_json:
            click.echo(printable(text), err=True)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for people; plain columns where there is no terminal."""
        if self.as_json:
            return
        cells = [[str(cell) for cell in row] for row in rows]
        widths = [max(len(r[i]) for r in [list(headings), *cells]) for i in range(len(headings))]
        for row in [list(headings), *cells]:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo(printable(line.rstrip()))

    def result(self, data: Mapping[str, Any], render: Callable[[], None] | None = None) -> None:
        """The outcome of the command: `data` with --json, else what `render` prints."""
        if self.as_json:
            _echo_json(data)
        elif render is not None:
            render()

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Advance]:
        """A progress bar on a terminal, below one that is drawn already; silence elsewhere and with
        --json."""
        if self.as_json or not sys.stderr.isatty():
            yield _silent
        elif self._bars is not None:
            yield from _bar(self._bars, label, total)
        else:
            with _bars() as bars:
                self._bars = bars
                try:
                    yield from _bar(bars, label, total)
                finally:
                    self._bars = None


def _bars() -> Bars:
    """Bars on standard error, which are gone when they are done."""
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    return Progress(*columns, console=RichConsole(stderr=True), transient=True)


def _bar(bars: Bars, label: str, total: int | None) -> Iterator[Advance]:
    """One of these bars, until the generator goes on."""
    task = bars.add_task(label, total=total)

    def advance(steps: int = 1, *, total: int | None = None) -> None:
        bars.update(task, advance=steps, total=total)

    try:
        yield advance
    finally:
        bars.remove_task(task)


def _silent(steps: int = 1, *, total: int | None = None) -> None:
    """Progress that nobody sees."""


def common_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --home, --tenant and --json, and hand the command a `console` made of them."""

    def wrapper(home: str | None, tenant: str | None, as_json: bool, **options: Any) -> None:
        console = Console(
            Home.find(home or _before(HOME_KEY)),
            tenant or _before(TENANT_KEY),
            as_json=bool(as_json or _before(JSON_KEY)),
        )
        click.get_current_context().meta[JSON_KEY] = console.as_json
        function(console=console, **options)

    functools.update_wrapper(wrapper, function)
    return place_options(wrapper)


def place_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options --home, --tenant and --json, which may stand before the command too."""
    return _home(_tenant(_json(function)))


def _before(key: str) -> Any:
    """What was said before the name of the command."""
    return click.get_current_context().meta.get(key)


_home = click.option(
    "--home",
    type=click.Path(file_okay=False),
    help="Directory of the server's files.  [default: $GENOME_EDGE_HOME or ./genome-home]",
)
_tenant = click.option("--tenant", help="Tenant.  [default: $GENOME_EDGE_TENANT or 'default']")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def exit_code(error: BaseException) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, GenomeServerError):
        return error.exit_code
    from edge_sdk.errors import UnreachableError
    from edge_sdk.errors import UsageError as SdkUsageError

    if isinstance(error, UnreachableError | ConnectionError):
        return EXIT_UNREACHABLE
    if isinstance(error, SdkUsageError):
        return EXIT_USAGE
    return EXIT_REFUSED


def describe(error: BaseException) -> str:
    """The sentence for an error: its own where it was raised on purpose, else with its type."""
    from edge_sdk.errors import EdgeError

    if isinstance(error, GenomeServerError | EdgeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    # The store has words of its own. Text that is none is damage.
    if isinstance(error, sqlite3.OperationalError) and "decode" not in str(error):
        return f"the log (log.sqlite) cannot be used: {error}; is there room on the disk?"
    if isinstance(error, sqlite3.DatabaseError):
        return f"the log (log.sqlite) is damaged ({error}); restore it from a backup"
    return (
        f"unexpected {type(error).__name__}: {error} "
        f"(set {TRACEBACK_VARIABLE}=1 to see where it came from)"
    )


def fail(ctx: click.Context, error: Exception) -> NoReturn:
    """Say what went wrong, as JSON where that was asked for, and leave."""
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error, file=sys.stderr)
    if ctx.meta.get(JSON_KEY):
        detail = {"kind": type(error).__name__, "message": describe(error)}
        _echo_json({"error": detail})
    else:
        click.echo(printable(f"error: {describe(error)}"), err=True)
    raise click.exceptions.Exit(exit_code(error))


def fail_usage(error: click.ClickException) -> NoReturn:
    """Say as JSON what click would have said in words, and leave."""
    _echo_json({"error": {"kind": "UsageError", "message": error.format_message()}})
    raise click.exceptions.Exit(error.exit_code)


def printable(text: str) -> str:
    """Text as a terminal may get it: what is in files and their names must not steer it."""
    kept = text.encode("utf-8", "backslashreplace").decode()
    return _STEERING.sub(lambda found: f"\\x{ord(found[0]):02x}", kept)


def _echo_json(data: Mapping[str, Any]) -> None:
    text = json.dumps(data, ensure_ascii=False, default=str)
    # A file's name need not be UTF-8; what cannot be encoded becomes an escape of JSON.
    click.echo(text.encode("utf-8", "backslashreplace").decode())
