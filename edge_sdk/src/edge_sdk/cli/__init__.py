"""The command line `genome-edge`.

Each command lives in a module of its own that is imported when it is used, so that
`genome-edge --help` stays fast.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from edge_sdk.cli.output import UNREACHABLE, Output
from edge_sdk.cli.parser import Misread, make_parser
from edge_sdk.errors import UsageError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. The exit code: 0 done, 1 refused or partly, 2 usage, 3 unreachable."""
    try:
        options = make_parser().parse_args(arguments)
    except Misread as error:
        # Without options nobody has read --json; who gave it reads one object, whatever happens.
        if "--json" in (sys.argv[1:] if arguments is None else arguments):
            return Output(as_json=True).fail(UsageError(str(error)))
        error.complain()
    level = logging.DEBUG if options.verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    output = Output(options.json)
    try:
        command = import_module(f"edge_sdk.cli.{options.command}")
        code: int = command.run(options, output)
    except KeyboardInterrupt:
        output.note("interrupted")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our results has enough of them
        return UNREACHABLE
    except Exception as error:  # noqa: BLE001  a person gets a sentence, not a traceback
        return output.fail(error)
    return code
