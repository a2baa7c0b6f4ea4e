"""Which markers have rows of their own in a model, and which are unknown to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.examples import Examples
from genome_server.learning.towers import Floats, Indices, Shape, Towers


@dataclass(frozen=True)
class Tables:
    """Rows by marker, and what training may know of them.

    The layout follows from all examples, so that every fold of an evaluation
    compiles to the same program; rows of markers that the training rows do not
    have stay zero, and `towers` forgets them.
    """

    query_row: Indices  # (V,)
    offer_row: Indices  # (V,)
    query_known: NDArray[np.bool_]  # (R + 1,)
    offer_known: NDArray[np.bool_]  # (S + 1,)
    field_of_row: NDArray[np.int32]  # (R + 1,)
    fields: int

    @classmethod
    def of(
        cls, examples: Examples, rows: Indices, min_count: int, start: Towers | None = None
    ) -> Tables:
        """Return the tables for training on `rows`.

        A marker is known on the query side where `min_count` of them have it, on the
        offer side where one has, and on either where `start` knows it.
        """
        in_query, in_offers = _queried(examples, None), _offered(examples, None)
        query_known = _queried(examples, rows)[in_query > 0] >= min_count
        offer_known = _offered(examples, rows)[in_offers > 0] > 0
        if start is not None:
            query_known |= _rows_in(start.query_row, np.flatnonzero(in_query > 0)) > 0
            offer_known |= _rows_in(start.offer_row, np.flatnonzero(in_offers > 0)) > 0
        field_of_row = examples.fields[np.flatnonzero(in_query > 0)]
        return cls(
            query_row=_numbered(in_query > 0),
            offer_row=_numbered(in_offers > 0),
            query_known=np.concatenate([[False], query_known]),
            offer_known=np.concatenate([[False], offer_known]),
            field_of_row=np.concatenate([[0], field_of_row]).astype(np.int32),
            fields=int(examples.fields.max(initial=0)) + 1,
        )

    def weights_in(self, start: Towers) -> dict[str, Floats]:
        """Return the weights of `start` in the rows of these tables; zero where it knew nothing."""
        names = (
            "query_bias", "hidden_weight", "hidden_bias", "output_weight", "output_bias",
        )  # fmt: skip
        query = start.query_table[_rows_in(start.query_row, np.flatnonzero(self.query_row))]
        offer = start.offer_table[_rows_in(start.offer_row, np.flatnonzero(self.offer_row))]
        return {
            **{name: getattr(start, name) for name in names},
            "query_table": np.concatenate([start.query_table[:1], query]),
            "offer_table": np.concatenate([start.offer_table[:1], offer]),
        }

    def towers(self, shape: Shape, params: dict[str, Floats]) -> Towers:
        """Return the trained weights with unknown markers sent to row 0."""
        return Towers(
            shape=shape,
            query_row=np.where(self.query_known[self.query_row], self.query_row, 0),
            offer_row=np.where(self.offer_known[self.offer_row], self.offer_row, 0),
            **params,
        )


def _rows_in(row_of: Indices, markers: Indices) -> Indices:
    """Return the rows of `markers` in older towers, 0 for those that came later, too."""
    return np.where(markers < len(row_of), row_of[np.minimum(markers, len(row_of) - 1)], 0)


def _numbered(wanted: NDArray[np.bool_]) -> Indices:
    """Return 1, 2, 3 … for the wanted markers in order, 0 for the others."""
    return np.where(wanted, np.cumsum(wanted), 0).astype(np.int64)


def _queried(examples: Examples, rows: Indices | None) -> Indices:
    """Return in how many of the examples each marker stands on the query side, (V,)."""
    count = np.diff(examples.start)
    chosen = np.ones(len(count), bool)
    if rows is not None:
        chosen[:] = False
        chosen[rows] = True
    flat = examples.index[np.repeat(chosen, count)]
    return np.bincount(flat, minlength=examples.vocabulary_size)


def _offered(examples: Examples, rows: Indices | None) -> Indices:
    """Return in how many of the examples each marker stands on the offer side, (V,)."""
    table = examples.offers
    chosen = examples.offer if rows is None else examples.offer[rows]
    times = np.bincount(chosen, minlength=len(table.ids))
    inside = table.weight > 0
    weights = np.broadcast_to(times[:, None], table.index.shape)[inside]
    counted = np.bincount(table.index[inside], weights=weights, minlength=examples.vocabulary_size)
    return counted.astype(np.int64)
