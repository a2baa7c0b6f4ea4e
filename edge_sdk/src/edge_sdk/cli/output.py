"""How commands speak: one JSON object with --json, lines for people otherwise.

Results go to standard output; notes and errors go to standard error, so that a pipe carries
results only. Nothing is coloured, and nothing moves unless it is on a terminal.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from edge_sdk.errors import EdgeError, RefusedError, TrustError, UnreachableError, UsageError

DONE = 0
REFUSED = 1
USAGE = 2
UNREACHABLE = 3

#: Set to anything: show where an unexpected error came from.
TRACEBACK_VARIABLE = "GENOME_EDGE_TRACEBACK"


class Output:
    """Where a command writes."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, data: Mapping[str, Any], lines: Iterable[str]) -> None:
        """The outcome: `data` with --json, else the lines."""
        if self.as_json:
            print(json.dumps(data, ensure_ascii=False))
        else:
            for line in lines:
                print(line)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """A remark for people; nothing with --json."""
        if not self.as_json:
            print(text, file=sys.stderr, flush=True)

    def fail(self, error: Exception) -> int:
        """Say what went wrong; the exit code that it stands for."""
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exception(error, file=sys.stderr)
        if self.as_json:
            detail = {"kind": type(error).__name__, "message": describe(error)}
            if isinstance(error, RefusedError | TrustError) and error.reason:
                detail["reason"] = error.reason
            print(json.dumps({"error": detail}, ensure_ascii=False))
        else:
            print(f"error: {describe(error)}", file=sys.stderr)
        return exit_code(error)


def exit_code(error: Exception) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, UnreachableError):
        return UNREACHABLE
    return USAGE if isinstance(error, UsageError) else REFUSED


def describe(error: Exception) -> str:
    """The sentence for an error: its own where it was raised on purpose, else with its type."""
    if isinstance(error, RefusedError) and error.reason not in str(error):
        return f"{error} ({error.reason})"
    if isinstance(error, EdgeError):
        return str(error)
    return (
        f"unexpected {type(error).__name__}: {error} "
        f"(set {TRACEBACK_VARIABLE}=1 to see where it came from)"
    )


def table(rows: Iterable[tuple[str, object]]) -> list[str]:
    """Lines of two columns; a row without a value is left out."""
    kept = [(name, str(value)) for name, value in rows if value not in (None, "")]
    width = max((len(name) for name, _ in kept), default=0)
    return [f"{name.ljust(width)}  {value}" for name, value in kept]


def ago(ms: int) -> str:
    """A span of time for people, from milliseconds."""
    seconds = abs(ms) // 1000
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}s"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
