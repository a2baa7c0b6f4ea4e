"""Many vectors as a stack of pieces that one thread multiplies.

numpy's library shares a product of more than some nine thousand numbers among threads of its own,
which then have to be woken; a decision does not wait for them. A stack of pieces below that is one
call all the same. Its last piece is filled up with zeros.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.engine.policy import Floats

#: A matrix of fewer numbers is multiplied with a vector by the thread that asks for it.
ALONE: Final = 9_216


def take(of_all: Floats, rows: npt.NDArray[np.int32]) -> Floats:
    """The vectors of some rows, float32[k, d], with room behind them for `stack`."""
    dimension = of_all.shape[1]
    pieces, each = _shape(len(rows), dimension)
    filled = np.zeros((pieces * each, dimension), np.float32)
    np.take(of_all, rows, axis=0, out=filled[: len(rows)], mode="clip")
    return filled[: len(rows)]


def stack(vectors: Floats) -> Floats:
    """Vectors as float32[pieces, rows, d]; where `take` gave them without a copy."""
    number, dimension = vectors.shape
    pieces, each = _shape(number, dimension)
    filled = vectors.base
    if (
        filled is None
        or filled.shape != (pieces * each, dimension)
        or filled.ctypes.data != vectors.ctypes.data
        or not filled.flags.c_contiguous
    ):
        filled = np.zeros((pieces * each, dimension), np.float32)
        filled[:number] = vectors
    return filled.reshape(pieces, each, dimension)


def alone(dimension: int) -> int:
    """How many vectors of so many numbers one thread multiplies."""
    return max(1, (ALONE - 1) // dimension)


def _shape(number: int, dimension: int) -> tuple[int, int]:
    """How many pieces there are, and how many vectors in each."""
    pieces = max(1, -(-number // alone(dimension)))
    return pieces, -(-number // pieces)
