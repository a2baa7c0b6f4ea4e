"""When a training is due."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from genome_server.cli import cli
from genome_server.learning.due import FIRST, Trained, judge, last_trained, look
from genome_server.models.shelf import save_model
from tests.unit._genomes import NOW_MS, Happened, House, interaction

HOUR = 3_600_000
NOW = 1000 * HOUR


@pytest.mark.parametrize(
    ("answers", "last", "due"),
    [
        (FIRST - 1, None, False),
        (FIRST, None, True),
        (149, Trained(NOW - HOUR, 100, 0), False),
        (150, Trained(NOW - HOUR, 100, 0), True),
        (101, Trained(NOW - 23 * HOUR, 100, 0), False),
        (101, Trained(NOW - 24 * HOUR, 100, 0), True),
        (100, Trained(NOW - 99 * HOUR, 100, 0), False),
        # Reports of older versions, and logs that are not those that were read.
        (FIRST - 1, Trained(NOW - HOUR, 0, 0), False),
        (FIRST, Trained(NOW - HOUR, 0, 0), True),
    ],
)
def test_a_training_is_due(answers: int, last: Trained | None, due: bool) -> None:
    found = judge(answers, last, NOW)
    assert (found.due, found.answers) == (due, answers)
    assert str(answers) in found.why


def test_the_last_training_is_that_of_the_newest_trained_model() -> None:
    counts = {"events": 70, "heard": 40, "examples": 50}
    reports = [
        {"origin": "imported", "made_ms": 9},
        {"origin": "trained", "made_ms": 8, "examples": counts},
        {"origin": "trained", "made_ms": 7, "examples": {"events": 7, "heard": 4}},
    ]
    assert last_trained(reports) == Trained(8, 40, 70)
    assert last_trained(reports[:1]) is None
    assert last_trained([{"origin": "trained", "made_ms": 5, "examples": {"events": 7}}]) == (
        Trained(5, 0, 0)
    )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "tenants" / "test")
    with closing(made):
        yield made


def answer(number: int, kind: str = "buy") -> Happened:
    return interaction(1 + number % 20, number // 20, kind, offer="taxi")


def test_what_came_since_is_counted_and_nothing_else(house: House) -> None:
    house.log([answer(number) for number in range(FIRST - 1)])
    house.log([answer(0, "view"), interaction(1, 1, "buy", product="soap")])
    house.build()
    assert look(house.tenant, NOW_MS).answers == FIRST - 1
    house.log([answer(number, "dismiss") for number in range(10)])
    found = look(house.tenant, NOW_MS)
    assert (found.due, found.answers) == (True, FIRST + 9)
    # What was read once is not read again: the report says how far, and how many there were.
    counts = {"events": FIRST + 1, "heard": 1000}
    save_model(house.tenant.models_dir, house.store, b"a model", {"examples": counts})
    assert look(house.tenant, NOW_MS).answers == 1010
    for events in (10**6, FIRST + 3):  # another log than this one: all of it is counted
        report = {"examples": {"events": events, "heard": 1000}}
        save_model(house.tenant.models_dir, house.store, b"another %d" % events, report)
        assert look(house.tenant, NOW_MS).answers == FIRST + 9


def test_the_command_says_why_nothing_is_due(house: House) -> None:
    house.log([answer(number) for number in range(5)])
    house.build()
    home = str(house.tenant.dir.parent.parent)
    command = ["train", "--if-due", "--home", home, "--tenant", "test"]
    done = CliRunner().invoke(cli, command)
    assert (done.exit_code, done.output) == (
        0, "No training is due: there are 5 answers; the first takes 20.\n",
    )  # fmt: skip
    told = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    assert told == {
        "due": False, "why": "there are 5 answers; the first takes 20", "answers": 5,
    }  # fmt: skip


def test_where_answers_are_many_and_examples_few_nothing_is_due_either(house: House) -> None:
    house.log([answer(number) for number in range(FIRST)])
    house.build()
    command = ["train", "--home", str(house.tenant.dir.parent.parent), "--tenant", "test"]
    done = CliRunner().invoke(cli, [*command, "--if-due"])
    assert done.exit_code == 0
    assert done.output.startswith("No training is due: too little to learn from: 0 examples")
    told = json.loads(CliRunner().invoke(cli, [*command, "--if-due", "--json"]).stdout)
    assert (told["due"], told["answers"]) == (False, FIRST)
    # Who asks for it at any rate is refused.
    assert CliRunner().invoke(cli, command).exit_code == 1
