"""Sets of rows as a record carries them: lengths of gaps and runs, in turns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import UsageError

# More than any device holds; what a damaged record could otherwise ask for has no limit.
MAX_OFFERS: Final = 1 << 24

Rows = npt.NDArray[np.int32]


def runs_of(rows: Rows | None) -> list[int]:
    """Ascending rows, int32[k], as runs; None stands for none."""
    if rows is None or not len(rows):
        return []
    breaks = np.flatnonzero(np.diff(rows) != 1)
    first = rows[np.concatenate(([0], breaks + 1))]
    last = rows[np.concatenate((breaks, [len(rows) - 1]))]
    runs = np.empty(2 * len(first), np.int64)
    runs[::2] = first - np.concatenate(([0], last[:-1] + 1))
    runs[1::2] = last - first + 1
    numbers: list[int] = runs.tolist()
    return numbers


def rows_of_runs(runs: Iterable[int]) -> Rows:
    """The rows of runs, int32[k], ascending. Raises UsageError for runs that are not whole."""
    numbers = np.array(list(runs), np.int64)
    if len(numbers) % 2:
        raise UsageError("the record's offers are not whole")
    gaps, lengths = numbers[::2], numbers[1::2]
    if lengths.sum() > MAX_OFFERS:
        raise UsageError("the record names more offers than a release has")
    first = np.cumsum(gaps + lengths) - lengths
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows: Rows = (np.repeat(first, lengths) + within).astype(np.int32)
    return rows
