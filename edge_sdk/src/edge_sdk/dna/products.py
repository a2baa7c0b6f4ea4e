"""The DNA of the assortment: product id → markers, as the release carries it."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import FormatError
from edge_sdk.messages import release_pb2


class ProductLookup:
    """Finds the DNA of a product. Immutable; the memory is that of four flat columns."""

    def __init__(
        self,
        ids: list[str],
        starts: npt.NDArray[np.int64],
        indices: npt.NDArray[np.uint32],
        saliences_q8: npt.NDArray[np.uint16],
    ) -> None:
        self._ids = ids
        self._starts = starts
        self._indices = indices
        self._saliences = saliences_q8

    @classmethod
    def from_proto(cls, table: release_pb2.ProductTable) -> ProductLookup:
        """Read the part. Raises `FormatError` where its columns do not fit together."""
        ids = list(table.ids)
        if any(a >= b for a, b in pairwise(ids)):
            raise FormatError("product ids do not ascend")
        starts = np.zeros(len(ids) + 1, dtype=np.int64)
        if len(table.counts) != len(ids):
            raise FormatError("a product table's columns differ in length")
        np.cumsum(np.array(table.counts, dtype=np.int64), out=starts[1:])
        if len(table.indices) != starts[-1] or len(table.saliences_q8) != starts[-1]:
            raise FormatError("a product table's markers are not as many as its products say")
        saliences = np.minimum(np.array(table.saliences_q8, dtype=np.int64), 0xFFFF)
        return cls(
            ids, starts, np.array(table.indices, dtype=np.uint32), saliences.astype(np.uint16)
        )

    def dna(self, product_id: str) -> list[tuple[int, int]] | None:
        """The product's (marker index, salience_q8), or None where it is not in the assortment."""
        at = bisect_left(self._ids, product_id)
        if at == len(self._ids) or self._ids[at] != product_id:
            return None
        begin, end = int(self._starts[at]), int(self._starts[at + 1])
        indices = self._indices[begin:end].tolist()
        return list(zip(indices, self._saliences[begin:end].tolist(), strict=True))

    @property
    def ids(self) -> list[str]:
        """Every product id, ascending. Not to be changed."""
        return self._ids

    def __len__(self) -> int:
        return len(self._ids)
