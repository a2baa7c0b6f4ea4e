"""Reads what adapters wrote, and finds data sets that are on this machine."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from examples import datasets

#: When the towns of tests end.
UNTIL = datetime(2026, 6, 1, tzinfo=UTC)


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def real(name: str) -> Path:
    try:
        return datasets.find(name)
    except datasets.DataSetMissing as error:
        pytest.skip(str(error).splitlines()[0])
