"""A canary that is to be rolled back is, wherever that is broken off; and a clock that jumped."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from edge_sdk.dna.schema import HOUR_MS
from genome_server.canary.rules import FIRST_LOOK_MS
from genome_server.canary.watch import tick
from genome_server.errors import Refused
from genome_server.models.shelf import model_in, promotions
from genome_server.releases.manage import promote
from genome_server.releases.publish import manifest_of, publish
from tests.serving import offer
from tests.unit.test_canary import NOW, Town

LOOK = NOW + FIRST_LOOK_MS
# A tick of a process that ends without a word before or after a step of it.
KILLED = """
import os, sys
from pathlib import Path
from genome_server.canary import watch
from genome_server.home import Home

home, step, when, now_ms = sys.argv[1:]
real = getattr(watch, step)

def killed(*args, **named):
    if when == "after":
        real(*args, **named)
    os._exit(9)

setattr(watch, step, killed)
watch.tick(Home(Path(home)).tenant(), int(now_ms))
"""


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """One whose canary is to be rolled back at the first look."""
    made = Town(tmp_path)
    made.decide(20, 0.05, 0.5, NOW + 60_000)
    return made


def good(town: Town) -> str:
    return model_in(manifest_of(town.first))


def current(town: Town) -> str | None:
    with closing(town.tenant.open_store()) as store:
        return promotions(store).current


def models_of_all(town: Town) -> set[str]:
    """The models that releases for all devices carry."""
    with closing(town.tenant.open_store()) as store:
        return {model_in(manifest_of(row)) for row in store.releases() if row.share >= 1}


def publish_something_new(town: Town) -> None:
    with closing(town.tenant.open_store()) as store:
        store.put_documents("offer", [offer("bus", "service:bus")])
    publish(town.tenant, now_ms=LOOK + 1)


@pytest.mark.parametrize(
    ("step", "when"),
    [
        ("rollback", "before"),
        ("rollback", "after"),
        ("roll_back_model", "before"),
        ("roll_back_model", "after"),
        ("_take_back", "after"),
    ],
)
def test_whatever_is_killed_the_bad_model_reaches_nobody_else(
    town: Town, tmp_path: Path, step: str, when: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), step, when, str(LOOK)], check=False
    )
    assert done.returncode == 9
    with suppress(Refused):
        publish_something_new(town)
    assert models_of_all(town) == {good(town)}
    [back] = tick(town.tenant, LOOK + 5_000)
    assert back.state == "rolled back"
    assert town.row(2).withdrawn
    assert current(town) == good(town)
    assert tick(town.tenant, LOOK + 6_000) == []
    publish_something_new(town)
    assert models_of_all(town) == {good(town)}


def test_a_model_whose_file_is_gone_is_taken_back_once_it_is_there(town: Town) -> None:
    file = town.tenant.models_dir / good(town) / "model.onnx"
    kept = file.read_bytes()
    file.unlink()
    [said] = tick(town.tenant, LOOK)
    assert (said.state, town.row(2).withdrawn) == ("rolling back", True)
    assert "the release is rolled back, its model" in said.looks[-1].why
    assert "holds no model" in said.looks[-1].why
    assert tick(town.tenant, LOOK + 1_000) == []
    with pytest.raises(Refused, match="release 2 is being rolled back together with its model"):
        publish_something_new(town)
    file.write_bytes(kept)
    [back] = tick(town.tenant, LOOK + 2_000)
    assert (back.state, back.looks[-1].why) == ("rolled back", "it is done now")
    assert current(town) == good(town)
    publish_something_new(town)
    assert models_of_all(town) == {good(town)}


def test_what_failed_is_done_without_another_look(town: Town) -> None:
    kept = town.tenant.release_key_path.read_bytes()
    town.tenant.release_key_path.unlink()
    assert [one.state for one in tick(town.tenant, LOOK)] == ["rolling back"]
    town.tenant.release_key_path.write_bytes(kept)
    assert [one.state for one in tick(town.tenant, LOOK + 1_000)] == ["rolled back"]


def test_whoever_decides_otherwise_meanwhile_is_obeyed(town: Town) -> None:
    kept = town.tenant.release_key_path.read_bytes()
    town.tenant.release_key_path.unlink()
    tick(town.tenant, LOOK)
    town.tenant.release_key_path.write_bytes(kept)
    promote(town.tenant, 2, now_ms=LOOK)
    [ended] = tick(town.tenant, LOOK + 1_000)
    assert (ended.state, ended.looks[-1].why) == ("ended", "the whole channel has it")


def test_looks_of_a_clock_that_was_ahead_are_taken_again(tmp_path: Path) -> None:
    town = Town(tmp_path)
    [ahead] = tick(town.tenant, NOW + 72 * HOUR_MS)
    assert (ahead.state, ahead.looks[-1].number) == ("watched", 9)
    [said] = tick(town.tenant, NOW + 60_000)
    assert "what was looked at later than now is looked at again" in said.looks[-1].why
    assert tick(town.tenant, NOW + 65_000) == []
    town.decide(20, 0.05, 0.5, NOW + 70_000)
    [back] = tick(town.tenant, LOOK)
    assert (back.state, back.looks[-1].number) == ("rolled back", 1)
