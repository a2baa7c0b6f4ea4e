"""A build's sums on Apache Spark: starting it, giving it what was gathered, taking the sums back.

    with connected("spark://master:7077") as session:
        build(store, log, dna_path, engine=OnSpark(session, shared_folder))

Theory. What was done lies in the database of one machine, and rows are written by one machine.
Between them goes all of it, more than a process may hold: so Spark reads Parquet files and writes
Parquet files, in parts by ranges of subjects, each of which fits into memory. Every machine must
have these files under one path. One that has a folder of its own under it writes there, and says
that all went well: so rows are counted where they are written and where they are read.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genome_server.errors import Refused, Unreachable, UsageError
from genome_server.genomes.aggregation import Aggregation, Settled, Summed, columns_of, together
from genome_server.genomes.spark import SparkSums, quiet
from genome_server.genomes.workplace import folder_elsewhere

_NEEDED: Final = "pip install 'genome-edge-server[spark]', and install Java 17 or later"
_AS_THEY_WERE: Final = "The genomes are as they were"

_MASTER: Final = re.compile(
    r"local(?:\[(?:\*|[1-9][0-9]{0,3})(?:,\s*[1-9][0-9]{0,3})?\])?|yarn|k8s://\S+"
    r"|spark://(?P<places>[^\s,]+:[0-9]{1,5}(?:,[^\s,]+:[0-9]{1,5})*)"
)
_PORTS: Final = range(1, 65_536)
_ANSWERS_WITHIN_S: Final = 5.0
# What Hadoop takes for a pattern in the path of a file.
_PATTERN: Final = re.compile(r"([\\{}\[\]*?^])")

_PART: Final = "part"
_NEWEST: Final = ("who", "newest")
_STATES: Final = ("who", "marker", "state")


def masters(master: str) -> list[tuple[str, int]]:
    """Where the masters that this names listen: host and port; none where Spark finds them itself.

    Raises UsageError where it names no master.
    """
    found = _MASTER.fullmatch(master)
    said = (found["places"] or "").split(",") if found else ()
    places = [place.rpartition(":") for place in said if place]
    hosts = [(host.strip("[]"), int(port)) for host, _, port in places]
    if found is None or any(port not in _PORTS for _, port in hosts):
        raise UsageError(
            f"{master!r} is no master of Spark: say local[N] (this machine, N threads, 1 to 9999; "
            "local[*] for all), spark://HOST:PORT, yarn or k8s://URL"
        )
    return hosts


def check_writable(folder: Path) -> None:
    """See that this process can write where the cluster shall. Raises Refused with the cause."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
    except OSError as error:
        raise Refused(
            f"nothing can be written in {folder} ({error.strerror or error}), and Spark takes its "
            f"files from there. {_AS_THEY_WERE}"
        ) from error


@contextmanager
def connected(master: str, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[Any]:
    """A Spark session of this master, stopped in the end. It is the only one of the process.

    Spark's own configuration holds (spark-defaults.conf in $SPARK_CONF_DIR), and `settings` above
    it. Raises UsageError for what is no master, Refused where Spark or Java is not installed or
    does not start, Unreachable where no master answers.
    """
    _reach(master)
    try:
        with quiet():
            from pyspark.errors import PySparkRuntimeError
            from pyspark.sql import SparkSession
    except ImportError as error:
        raise Refused(f"Apache Spark is not installed: {_NEEDED}") from error
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java", path=f"{home}/bin" if home else None) is None:
        where = f" in {home}/bin, where JAVA_HOME points" if home else ""
        raise Refused(f"Spark needs Java, and there is none{where}: install Java 17 or later")
    builder = SparkSession.builder.appName("genome-server build")
    for name, value in {**_said(master), **settings, "spark.master": master}.items():
        builder = builder.config(name, value)
    try:
        with quiet():
            session = builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise Refused(
            f"Spark did not start ({_cause(error)}); above this stands what it said. It needs "
            f"Java 17 or later. {_AS_THEY_WERE}"
        ) from error
    except _failures() as error:
        raise Unreachable(
            f"Spark did not start on {master} ({_cause(error)}); above this stands what it said. "
            f"{_AS_THEY_WERE}"
        ) from error
    try:
        yield session
    finally:
        with suppress(*_failures()):  # one that is lost is stopped
            session.stop()


class OnSpark:
    """Sums a build in a Spark session: an `aggregation.Engine`.

    `shared` is a folder that every machine of the cluster has under this path and may write to, as
    the user of this process; it is not needed where Spark runs on this machine alone, or where
    that is so of the folder of the store.
    """

    def __init__(self, session: Any, shared: Path | None = None) -> None:
        self._session = session
        self._shared = shared

    def summed(self, held: Aggregation, ranks: pa.Table, folder: Path) -> Iterator[Summed]:
        """The genomes of the subjects that have a rank, in order, part by part.

        Raises LandmarkExhausted; Refused where Spark cannot, Unreachable where it is lost.
        """
        shared = self._shared
        with folder_elsewhere(folder, shared) if shared else nullcontext(folder) as place:
            with quiet(), self._failing_in(place):
                newest, states = self._sum(held, ranks, place)
            whose, sums = newest.files(), states.files()
            for part in sorted(whose):
                people, hours = columns_of(_rows(whose[part], _NEWEST))
                who, markers, values = columns_of(_rows(sums[part], _STATES))
                order = np.argsort(people)
                yield together(people[order], hours[order], (who, markers, values))

    def _sum(self, held: Aggregation, ranks: pa.Table, place: Path) -> tuple[Written, Written]:
        files = held.write(place)
        files["ranks"] = place / "ranks.parquet"
        pq.write_table(ranks, files["ranks"])
        session = self._session.newSession()  # whose tables are nobody else's
        session.conf.set("spark.sql.ansi.enabled", "true")  # what does not fit is an error
        sums = SparkSums(session, held.schema)
        for name, file in files.items():
            sums.attach(name, session.read.parquet(_PATTERN.sub(r"\\\1", _uri(file))))
        done = sums.keep()
        try:
            bits = _bits(sums.settle())
            return (
                _write(sums.newest(), place / "newest", bits),
                _write(sums.states(), place / "states", bits),
            )
        finally:
            with suppress(*_failures()):
                done.unpersist()

    @contextmanager
    def _failing_in(self, place: Path) -> Iterator[None]:
        try:
            yield
        except _failures() as error:
            cause = _cause(error)
            if self._lost():
                raise Unreachable(f"Spark was lost ({cause}). {_AS_THEY_WERE}") from error
            absent = "FILE_NOT_EXIST" in str(error) or "FileNotFound" in str(error)
            hint = f" {_shared_folder(place)}." if absent else ""
            raise Refused(f"Spark could not sum ({cause}).{hint} {_AS_THEY_WERE}") from error

    def _lost(self) -> bool:
        with suppress(*_failures(), AttributeError):
            return bool(self._session.sparkContext._jsc.sc().isStopped())
        return True


class Written(NamedTuple):
    """What Spark says that it wrote: so many rows, into folders by the number of their part."""

    path: Path
    rows: int

    def files(self) -> dict[int, list[Path]]:
        """The files of each part. Raises Refused where this machine does not see all rows."""
        found: dict[int, list[Path]] = {}
        for file in sorted(self.path.glob(f"{_PART}=*/*.parquet")):
            found.setdefault(int(file.parent.name.partition("=")[2]), []).append(file)
        there = sum(pq.read_metadata(file).num_rows for some in found.values() for file in some)
        if there != self.rows:
            raise Refused(
                f"Spark wrote {self.rows:,} rows of {self.path.name!r}, and {there:,} are here. "
                f"{_shared_folder(self.path.parent)}. {_AS_THEY_WERE}"
            )
        return found


def _shared_folder(place: Path) -> str:
    return (
        f"Every machine of the cluster must have {place.parent} as one folder under this path; "
        "--spark-folder names another"
    )


def _bits(found: Settled) -> int:
    """By how many bits numbers of subjects are shifted to be those of their parts."""
    return max(-(-found.people // found.parts()) - 1, 0).bit_length()


def _write(rows: Any, path: Path, bits: int) -> Written:
    from pyspark.sql import Observation, functions

    seen = Observation()
    parted = rows.withColumn(_PART, functions.shiftright("who", bits)).repartition(_PART)
    counted = parted.observe(seen, functions.count(functions.lit(1)).alias("rows"))
    counted.write.partitionBy(_PART).parquet(_uri(path))
    return Written(path, int(seen.get["rows"]))


def _rows(files: Sequence[Path], columns: Sequence[str]) -> pa.Table:
    return pa.concat_tables(pq.ParquetFile(file).read(columns=list(columns)) for file in files)


def _uri(path: Path) -> str:
    """The path as Hadoop takes it: a path alone could be one of its own file system."""
    return f"file://{path.absolute()}"


def _said(master: str) -> dict[str, str]:
    """What is set where nothing else is said."""
    said = {"spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower()}
    if master.startswith("local"):
        # Of a cluster its warnings are wanted: that there are no workers, say.
        said |= {"spark.log.level": "ERROR", "spark.ui.enabled": "false"}
    return said


def _reach(master: str) -> None:
    """See whether a master listens: Spark itself tries for a minute."""
    places = masters(master)
    causes = []
    for host, port in places:
        try:
            socket.create_connection((host, port), _ANSWERS_WITHIN_S).close()
        except (OSError, OverflowError, UnicodeError) as error:
            causes.append(str(error))
        else:
            return
    if places:
        raise Unreachable(f"nothing answers at {master} ({'; '.join(causes)}). {_AS_THEY_WERE}")


def _failures() -> tuple[type[Exception], ...]:
    """What Spark raises, and what its Java does when it is gone."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    return PySparkException, Py4JError, ConnectionError


def _cause(error: Exception) -> str:
    """One line of what Spark says; Java's own words where it says first what was called."""
    said = str(error)
    return (said.partition("\n: ")[2] or said).strip().partition("\n")[0]
