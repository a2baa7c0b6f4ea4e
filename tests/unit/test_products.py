from __future__ import annotations

from collections.abc import Callable

import pytest

from edge_sdk.dna.products import ProductLookup
from edge_sdk.errors import FormatError
from genome_edge.v1 import release_pb2


def table() -> release_pb2.ProductTable:
    return release_pb2.ProductTable(
        ids=["apple", "bread", "soap"],
        counts=[2, 0, 1],
        indices=[4, 70_000, 9],
        saliences_q8=[256, 128, 4096],
    )


def test_lookup() -> None:
    products = ProductLookup.from_proto(table())
    assert len(products) == 3
    assert products.dna("apple") == [(4, 256), (70_000, 128)]
    assert products.dna("bread") == []
    assert products.dna("soap") == [(9, 4096)]
    assert products.dna("aardvark") is products.dna("zebra") is products.dna("") is None
    assert ProductLookup.from_proto(release_pb2.ProductTable()).dna("apple") is None


def test_columns_that_do_not_fit() -> None:
    changes: tuple[Callable[[release_pb2.ProductTable], object], ...] = (
        lambda t: t.counts.append(1),
        lambda t: t.indices.append(1),
        lambda t: t.saliences_q8.pop(),
        lambda t: t.ids.__setitem__(0, "zebra"),
    )
    for change in changes:
        message = table()
        change(message)
        with pytest.raises(FormatError):
            ProductLookup.from_proto(message)
