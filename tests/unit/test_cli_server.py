"""The command line as a whole: help, names, exit codes, JSON, documentation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_sdk.errors import UnreachableError
from edge_sdk.errors import UsageError as SdkUsageError
from genome_server.cli import COMMANDS, cli, output
from genome_server.errors import NotInitialised, Refused, Unreachable

README = Path(__file__).parents[2] / "server" / "README.md"


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that a person can call, with its full name."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from walk(found, (*path, name))


COMMAND_LIST = list(walk(cli))


@pytest.mark.parametrize(("name", "command"), COMMAND_LIST, ids=[name for name, _ in COMMAND_LIST])
def test_every_command_explains_itself(name: str, command: click.Command) -> None:
    done = CliRunner().invoke(cli, [*name.split(), "--help"])
    assert done.exit_code == 0, done.output
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.opts[0]}"
    options = {opt for param in command.params for opt in param.opts}
    assert {"--home", "--tenant", "--json"} <= options


@pytest.mark.parametrize("name", [name for name, _ in COMMAND_LIST])
def test_every_command_is_documented(name: str) -> None:
    assert f"`genome-server {name}" in README.read_text(), f"{name} is not in server/README.md"


def test_the_table_says_what_the_commands_are() -> None:
    listed = CliRunner().invoke(cli, ["--help"]).output
    for name, entry in COMMANDS.items():
        assert name in listed
        assert entry.summary.split()[0] in listed


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from genome_server.cli import cli; "
        "cli.main(['--help'], standalone_mode=False); "
        "heavy = {'jax', 'duckdb', 'ibis', 'pyarrow', 'grpc', 'numpy', 'sqlite_utils', 'yaml', "
        "'rich', 'onnx', 'h3', 'jsonschema', 'cryptography'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_names_the_nearest() -> None:
    done = CliRunner().invoke(cli, ["pubish"])
    assert done.exit_code == output.EXIT_USAGE
    assert "'publish'" in done.output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("no"), 1),
        (NotInitialised("no"), 2),
        (SdkUsageError("no"), 2),
        (Unreachable("no"), 3),
        (UnreachableError("no"), 3),
        (ConnectionRefusedError(), 3),
        (FileNotFoundError(2, "No such file", "x"), 1),
        (ZeroDivisionError("division by zero"), 1),
    ],
)
def test_errors_and_their_exit_codes(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    @output.common_options
    def command(console: output.Console) -> None:
        """Fail."""
        del console
        raise error

    monkeypatch.setattr("genome_server.cli.status.command", command)
    said = CliRunner().invoke(cli, ["status"])
    assert said.exit_code == code
    assert said.stderr.startswith("error: ")
    assert said.stdout == ""
    assert "Traceback" not in said.stderr
    as_json = CliRunner().invoke(cli, ["status", "--json"])
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["error"]["kind"] == type(error).__name__


def test_an_unexpected_error_shows_where_it_came_from_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("x")

    monkeypatch.setattr("genome_server.cli.output.Home.find", broken)
    assert "GENOME_EDGE_TRACEBACK" in CliRunner().invoke(cli, ["status"]).stderr
    monkeypatch.setenv("GENOME_EDGE_TRACEBACK", "1")
    assert "Traceback" in CliRunner().invoke(cli, ["status"]).stderr


def test_where_a_tenant_is_said_before_or_after_the_command(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    before = CliRunner().invoke(cli, ["--home", home, "--tenant", "one", "--json", "init"])
    assert json.loads(before.output)["tenant"] == "one"
    after = CliRunner().invoke(cli, ["init", "--home", home, "--tenant", "two", "--json"])
    assert json.loads(after.output)["tenant"] == "two"
    environment = {"GENOME_EDGE_HOME": home, "GENOME_EDGE_TENANT": "two"}
    said = CliRunner().invoke(cli, ["status", "--json"], env=environment)
    assert json.loads(said.output)["tenant"] == "two"


def test_without_a_tenant_the_command_to_make_one_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["status", "--home", str(tmp_path / "none")])
    assert done.exit_code == output.EXIT_USAGE
    assert "genome-server init" in done.stderr
    assert not (tmp_path / "none").exists(), "looking makes nothing"


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path)]
    assert CliRunner().invoke(cli, ["init", *home]).exit_code == 0
    (database,) = tmp_path.rglob("tenant.sqlite")
    database.write_bytes(b"\x00garbage" * 1000)
    done = CliRunner().invoke(cli, ["status", *home])
    assert done.exit_code == output.EXIT_REFUSED
    assert "tenant.sqlite is damaged" in done.stderr
    assert "Traceback" not in done.stderr
