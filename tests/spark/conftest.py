from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genome_server.genomes.cluster import connected


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real Spark of two executor threads in this process's Java, as a build starts it."""
    pytest.importorskip("pyspark.sql", reason="`make test-spark` installs it")
    folder: Path = tmp_path_factory.mktemp("spark")
    settings = {
        "spark.driver.memory": "2g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    with connected("local[2]", settings) as made:
        yield made
