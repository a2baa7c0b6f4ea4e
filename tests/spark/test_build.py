"""`genome-server build --spark` stores what a build on one machine stores."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from genome_server.cli import cli
from genome_server.genomes import aggregation, cluster, spark
from genome_server.genomes import build as build_module
from genome_server.home import Home
from tests.unit._genomes import (
    NOW_MS,
    House,
    consent,
    fresh,
    interaction,
    link,
    outcome,
    subject,
)

pytestmark = pytest.mark.spark

STORY = [
    *(
        interaction(n, n % 50 - 20, "buy", product="soap", amount_micros=n << 20)
        for n in range(1, 201)
    ),
    *(
        interaction(n, 30, "view", product="bread", interaction_id=f"i-{n % 7}")
        for n in range(1, 41)
    ),
    interaction(1, -300, "buy", product="soap", amount_micros=4_990_000, interaction_id="i-1"),
    interaction(2, 3, "dismiss", offer="taxi"),
    outcome(1, 20, "buy", "taxi", event_id="o-1", value_micros=30_000_000),
    outcome(1, 21, "buy", "taxi", event_id="o-1", value_micros=30_000_000),
    link(1, 7, 9),
    link(9, 8, 77),
    link(77, 9, 9, linked=False),
    consent(5, 10, 1, True),
]
LATE = [
    interaction(1, 100, "buy", product="bread", interaction_id="late"),
    interaction(1, 110, "buy", product="soap", interaction_id="i-1"),
    interaction(250, 100, "view", product="soap", interaction_id="new"),
    link(250, 101, 2),
    consent(5, 102, 1, False),
]


@pytest.fixture
def on_spark(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the Spark of these tests, for it takes long to start one.

    And it is run when what is told here is not yet forgotten.
    """
    monkeypatch.setattr(cluster, "connected", lambda _: nullcontext(session))
    clock = SimpleNamespace(time_ns=lambda: NOW_MS * 1_000_000, monotonic=time.monotonic)
    monkeypatch.setattr(build_module, "time", clock)


def build(house: House, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(house.dir.parents[1]), "build", *words])


def tenant(folder: Path) -> Any:
    return fresh(Home(folder).tenant("default").dir)


@pytest.mark.usefixtures("on_spark")
def test_a_store_built_on_spark_is_one_built_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ids that repeat, linked persons, and what happens while it is built."""
    shared = tmp_path / "for all [of] them"
    shared.mkdir()
    with tenant(tmp_path / "a") as here, tenant(tmp_path / "b") as there:
        for house in (here, there):
            house.customer(1, consents=2, age="26")
            house.log(STORY)
        parts: list[int] = []
        built: list[House] = []
        real, together = build_module._differing, aggregation.together

        def meanwhile(*args: Any) -> Any:
            found = list(real(*args))
            built[-1].log(LATE)
            return found

        def noted(people: Any, *rest: Any) -> Any:
            parts.append(len(people))
            return together(people, *rest)

        monkeypatch.setattr(build_module, "_differing", meanwhile)
        monkeypatch.setattr(cluster, "together", noted)
        monkeypatch.setattr(aggregation, "INTERACTIONS_AT_ONCE", 60)
        on_spark = ("--spark", "local[2]", "--spark-folder", str(shared))
        for house, words in ((here, ()), (there, on_spark)):
            built.append(house)
            done = build(house, *words)
            assert done.exit_code == 0, done.output
        assert parts == [64, 64, 64, 8]
        assert not list(shared.iterdir())
        assert there.states() == here.states()
        # A row names its store's own vocabulary; what it says is the same.
        assert there.rows() == here.rows()
        assert len(here.rows()) == 201
        assert here.rows()[subject(9)][2] == here.rows()[subject(1)][2]
        assert here.rows()[subject(9)][2] != here.rows()[subject(8)][2]


@pytest.mark.usefixtures("on_spark")
def test_when_spark_cannot_the_genomes_are_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant(tmp_path) as house:
        house.log(STORY)
        assert build(house).exit_code == 0
        before = list(house.store.genomes())
        house.log(LATE)
        real = spark.SparkSums.keep

        def elsewhere(sums: spark.SparkSums) -> Any:
            """A machine that does not have the folder."""
            for file in house.dir.glob("build-*/interactions.parquet"):
                file.unlink()
            return real(sums)

        monkeypatch.setattr(spark.SparkSums, "keep", elsewhere)
        found = build(house, "--spark", "local[2]")
        assert found.exit_code == 1
        assert "Spark could not sum" in found.output
        assert f"must have {house.dir} as one folder under this path" in found.output
        assert "The genomes are as they were" in found.output
        assert list(house.store.genomes()) == before
        assert not list(house.dir.glob("build-*"))


def test_without_java_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tenant(tmp_path) as house:
        house.log(STORY)
        monkeypatch.delenv("JAVA_HOME", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        found = build(house, "--spark", "local[2]")
        assert found.exit_code == 1
        assert "Spark needs Java, and there is none: install Java 17 or later" in found.output
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        found = build(house, "--spark", "local[2]")
        assert f"there is none in {tmp_path}/bin, where JAVA_HOME points" in found.output
        assert not house.states()
