"""What a build on Spark says when there is no Spark. With one it is in tests/spark."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from genome_server.cli import cli
from genome_server.errors import Refused, UsageError
from genome_server.genomes import cluster
from genome_server.home import Home
from tests.unit._genomes import House, interaction


@pytest.fixture
def home(tmp_path: Path) -> Path:
    house = House(Home(tmp_path).tenant("default").dir)
    house.log([interaction(1, 5, "buy", product="soap")])
    house.close()
    return tmp_path


def build(home: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(home), "build", *words])


@pytest.mark.parametrize(
    ("master", "places"),
    [
        ("local", []),
        ("local[2]", []),
        ("local[*,4]", []),
        ("yarn", []),
        ("k8s://https://10.0.0.1:6443", []),
        ("spark://master:7077", [("master", 7077)]),
        ("spark://a:7077,b:7078", [("a", 7077), ("b", 7078)]),
        ("spark://[::1]:7077", [("::1", 7077)]),
    ],
)
def test_masters(master: str, places: list[tuple[str, int]]) -> None:
    assert cluster.masters(master) == places


@pytest.mark.parametrize(
    "master",
    [
        *("", "locals", "local[]", "local[x]", "master:7077", "spark://master", "sc://a:15002"),
        *("local[0]", "local[00]", "local[2,0]", "local[99999999999]", "local[\u0663]"),
        *("spark://h:0", "spark://a:1,b:65536", f"spark://h:{'9' * 5_000}"),
    ],
)
def test_what_is_no_master_is_a_mistake_of_the_caller(home: Path, master: str) -> None:
    with pytest.raises(UsageError, match="is no master of Spark: say local"):
        cluster.masters(master)
    assert build(home, "--spark", master).exit_code == 2


def test_a_folder_without_a_spark_is_a_mistake_of_the_caller(home: Path) -> None:
    found = build(home, "--spark-folder", str(home))
    assert (found.exit_code, "give --spark MASTER" in found.output) == (2, True)


def test_a_folder_that_cannot_be_written_is_told_before_spark_is_started(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object) -> None:
        pytest.fail("Spark was started")

    monkeypatch.setattr(cluster, "connected", started)
    found = build(home, "--spark", "local[2]", "--spark-folder", "/proc/self")
    assert (found.exit_code, stored(home)) == (1, {})
    assert "nothing can be written in /proc/self (" in found.output
    assert "The genomes are as they were" in found.output
    assert build(home, "--spark", "local[0]", "--spark-folder", "/proc/self").exit_code == 2


def test_a_master_that_does_not_answer_is_not_waited_for(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        free = nobody.getsockname()[1]
    assert build(home).exit_code == 0
    before = stored(home)
    found = build(home, "--spark", f"spark://127.0.0.1:{free},no-host.invalid:7077")
    assert found.exit_code == 3
    assert f"nothing answers at spark://127.0.0.1:{free},no-host" in found.output
    assert "The genomes are as they were" in found.output
    assert stored(home) == before != {}


def test_without_spark_it_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyspark"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    found = build(home, "--spark", "local[2]")
    assert found.exit_code == 1
    assert "pip install 'genome-edge-server[spark]', and install Java 17" in found.output
    assert stored(home) == {}


def test_rows_that_a_worker_wrote_elsewhere_are_missed(tmp_path: Path) -> None:
    """Spark says that it wrote them, and on that machine it did."""
    for part, people in ((0, [0, 1]), (3, [12]), (10, [40, 41, 42])):
        (tmp_path / "newest" / f"part={part}").mkdir(parents=True)
        table = pa.table({"who": people, "newest": people})
        pq.write_table(table, tmp_path / "newest" / f"part={part}" / "part-0.parquet")
    written = cluster.Written(tmp_path / "newest", 6)
    files = written.files()
    assert sorted(files) == [0, 3, 10]
    assert files[3] == [tmp_path / "newest" / "part=3" / "part-0.parquet"]
    files[3][0].unlink()
    with pytest.raises(Refused, match=r"wrote 6 rows of 'newest', and 5 are here.*--spark-folder"):
        written.files()


def stored(home: Path) -> dict[bytes, bytes]:
    house = House(Home(home).tenant("default").dir)
    try:
        return house.states()
    finally:
        house.close()
