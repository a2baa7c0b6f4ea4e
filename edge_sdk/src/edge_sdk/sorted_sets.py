"""What is different in an array, in order: `numpy.unique` without the modules that it loads.

The first use of `numpy.unique` in a process imports masked arrays, a tenth of the time that a whole
process takes to its first decision, and each use then asks whether an array is one.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_T = TypeVar("_T", bound=np.generic)


def distinct(values: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """The different values of an array of one dimension, ascending. For numbers, without NaN."""
    ordered = np.sort(values)
    return ordered[_begins(ordered)]


def numbered(values: npt.NDArray[_T]) -> tuple[npt.NDArray[_T], npt.NDArray[np.intp]]:
    """`distinct`, and for each value its position there: intp[n]."""
    order = values.argsort(kind="stable")
    ordered = values[order]
    begins = _begins(ordered)
    positions = np.empty(len(values), np.intp)
    positions[order] = begins.cumsum() - 1
    return ordered[begins], positions


def _begins(ordered: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where another value begins."""
    begins = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    return begins
