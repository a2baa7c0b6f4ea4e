"""The options of `genome-edge`."""

from __future__ import annotations

import argparse
import textwrap
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from edge_sdk.errors import UsageError

_EXIT_CODES = "exit codes: 0 done, 1 refused or partly done, 2 usage, 3 server not reached"


class Misread(UsageError):
    """Arguments that are no command; `complain` says so as argparse does, and ends with 2."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self._parser = parser

    def complain(self) -> NoReturn:
        """For people: usage and message on standard error."""
        argparse.ArgumentParser.error(self._parser, str(self))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Misread(self, message)


def make_parser() -> argparse.ArgumentParser:
    """The parser; the name of the command's module is in `command`."""
    parser = _parser("genome-edge", "Enrol, sync and look into a Genome Edge device.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _enrol(commands)
    _sync(commands)
    _add(commands, "status", "Say what this device holds and when it last heard the server.")
    _doctor(commands)
    _decide(commands)
    _replay(commands)
    _serve(commands)
    return parser


def _enrol(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    enrol = _add(
        commands,
        "enrol",
        "Make this store a device of a server: exchange a one-time code for a credential.",
        "The private key is made here and stays here. Get a code with `genome-server devices "
        "enrol`.\n\nexample:\n  genome-edge enrol --server https://edge.example.com:7443 \\\n"
        "      --code acme.ABCD-EFGH-JKMN-PQRS --name 'lobby kiosk 2'",
    )
    enrol.add_argument(
        "--server",
        required=True,
        metavar="ADDRESS",
        help="https://HOST[:PORT]; HOST:PORT; without TLS on this machine only: "
        "http://localhost:PORT or unix:/PATH",
    )
    enrol.add_argument("--code", required=True, help="the one-time enrolment code")
    enrol.add_argument("--name", default="", help="what people call this device")
    enrol.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="certificate authority to trust (PEM); it is kept with the store",
    )


def _sync(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sync = _add(
        commands,
        "sync",
        "Keep this device current and send what happened, until interrupted.",
        "An app with an open EdgeClient does this by itself; one process of a device syncs at "
        "a time.",
    )
    sync.add_argument("--once", action="store_true", help="catch up, then end")
    sync.add_argument(
        "--timeout",
        type=_positive,
        default=60.0,
        metavar="SECONDS",
        help="with --once: give up after this long (default: 60)",
    )


def _doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = _add(
        commands,
        "doctor",
        "Check everything that a device needs, and say what to do about what is wrong.",
        "Exit code 1 where anything failed; warnings do not count.",
    )
    _where(doctor)
    doctor.add_argument("--offline", action="store_true", help="leave out what needs the server")


def _decide(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    decide = _add(
        commands,
        "decide",
        "Make a decision from what is on this device; no network is used.",
        "The decision is recorded as an app's would be, counts towards caps and is reported; "
        "with --dry-run it is not. Coordinates are turned into a cell and not kept.\n\nexample:\n"
        "  genome-edge decide --placement lobby-screen --place hotel \\\n"
        "      --activity flight-search --explain",
    )
    decide.add_argument("--placement", required=True, metavar="ID", help="which screen asks")
    decide.add_argument(
        "--slots", type=int, default=1, metavar="N", help="how many offers (default: 1)"
    )
    _where(decide)
    decide.add_argument("--place", help="kind of place that is known, for example hotel")
    decide.add_argument("--activity", help="what is going on, for example flight-search")
    decide.add_argument(
        "--recent",
        action="append",
        default=[],
        type=_ago,
        metavar="ACTIVITY=SECONDS",
        help="what went on before, and how many seconds ago; may be repeated",
    )
    decide.add_argument("--time", metavar="ISO", help="local time with offset (default: now)")
    decide.add_argument("--channel", help="default: that of the placement")
    decide.add_argument("--language", metavar="TAG", help="such as de or pt-BR")
    decide.add_argument("--stage", choices=("before", "during", "after"))
    decide.add_argument(
        "--basket", action="append", default=[], metavar="PRODUCT", help="may be repeated"
    )
    decide.add_argument(
        "--attr",
        action="append",
        default=[],
        type=_pair,
        metavar="KEY=VALUE",
        help="free attribute of the moment; may be repeated",
    )
    decide.add_argument("--customer", metavar="ID", help="the app's own id, or a subject in hex")
    decide.add_argument("--seed", type=int, metavar="N", help="draw with this seed")
    decide.add_argument("--explain", action="store_true", help="say who lost and why")
    _what_if(decide)
    decide.add_argument("--dry-run", action="store_true", help="record and report nothing")
    decide.add_argument(
        "--bundle", type=Path, metavar="FILE", help="decide from this bundle, without a store"
    )


def _replay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = _add(
        commands,
        "replay",
        "Make recorded decisions again, and say whether they come out the same.",
        "Needs the release that a decision was made from: the active one, the previous one or "
        "--bundle. Exit code 1 where anything differs or a release is missing.\n\nexamples:\n"
        "  genome-edge replay --last 100\n"
        "  genome-edge replay 5f0c25d27b1f4a8e9c3d6a1b2e4f7081 --what-if place=bar",
    )
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="decision id, 32 hex characters")
    which.add_argument("--all", action="store_true", help="every decision that the device keeps")
    which.add_argument("--last", type=_count, metavar="N", help="the newest N decisions")
    replay.add_argument("--explain", action="store_true", help="say who lost and why")
    _what_if(replay)
    replay.add_argument(
        "--bundle",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="take the release from this bundle; of another release, say what it would have "
        "brought; may be repeated",
    )


def _what_if(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--what-if",
        action="append",
        default=[],
        type=_change,
        metavar="KEY=VALUE",
        help="say what would have come out with this changed (place=bar, genome.brand:acme=2, "
        "time=2026-06-24T18:00+02:00; attr.KEY=VALUE is a free attribute whatever its name; "
        "docs/reasons.md has all); may be repeated",
    )


def _serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = _add(
        commands,
        "serve",
        "Decide for apps on this machine that cannot embed the SDK, until interrupted.",
        "DecisionService and ReportService of this device's own engine and store, as gRPC and as "
        "HTTP with JSON, to whoever shows the local token. It syncs, too, where no other process "
        "of the device does.\n\nexample:\n"
        "  genome-edge serve --allow-origin http://localhost:3000 &\n"
        "  curl http://127.0.0.1:8461/v1/decide -H 'Content-Type: application/json' \\\n"
        '      -H "Authorization: Bearer $(cat STORE/serve/token)" \\\n'
        '      -d \'{"placement": "lobby-screen"}\'',
    )
    address = "HOST:PORT on this machine, unix:/PATH, or none"
    serve.add_argument(
        "--http",
        default="127.0.0.1:8461",
        metavar="ADDRESS",
        help=f"where to speak HTTP: {address} (default: 127.0.0.1:8461)",
    )
    serve.add_argument(
        "--grpc",
        default="127.0.0.1:8462",
        metavar="ADDRESS",
        help="where to speak gRPC, likewise (default: 127.0.0.1:8462)",
    )
    serve.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="pages of this origin may call, such as http://localhost:3000; may be repeated",
    )
    serve.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="where the token is, made where it is not (default: STORE/serve/token)",
    )
    serve.add_argument(
        "--request-timeout",
        type=_positive,
        default=5.0,
        metavar="SECONDS",
        help="how long a caller may take to send a request (default: 5)",
    )
    serve.add_argument("--new-token", action="store_true", help="make a new token first")
    serve.add_argument(
        "--bundle", type=Path, metavar="FILE", help="a release that came with the app"
    )


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    more: str = "",
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=_wrapped(f"{more}\n\n{_EXIT_CODES}".strip()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        help="the device's store (default: $GENOME_EDGE_STORE, else the user's data directory)",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--verbose", "-v", action="store_true", help="say what is being done")
    return command


def _wrapped(text: str) -> str:
    """Paragraphs at 78 columns; an example keeps its lines."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(p if "\n  " in p else textwrap.fill(p, 78) for p in paragraphs)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    return _Parser(
        name,
        description=description,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _where(command: argparse.ArgumentParser) -> None:
    command.add_argument("--cell", metavar="HEX", help="H3 cell of the moment")
    command.add_argument(
        "--lat", type=float, metavar="DEGREES", help="with --lng, instead of --cell"
    )
    command.add_argument("--lng", type=float, metavar="DEGREES")


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key.strip(), value.strip()


def _ago(text: str) -> tuple[str, float]:
    activity, _, ago = text.rpartition("=")
    try:
        if activity.strip():
            return activity.strip(), float(ago)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not ACTIVITY=SECONDS")


def _change(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key.strip(), value.strip()


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of decisions")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return number


def _version() -> str:
    try:
        return version("genome-edge-sdk")
    except PackageNotFoundError:
        return "(not installed)"
