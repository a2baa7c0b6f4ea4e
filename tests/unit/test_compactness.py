"""A grocer's audience is small on the wire, and its genomes are worth as much as before."""

from __future__ import annotations

import pytest

from edge_sdk.dna.columns import encode
from edge_sdk.dna.content import decode
from examples.datasets import DataSetMissing
from tests.bench import journey

CUSTOMERS = 100_000


@pytest.mark.dataset
def test_an_audience_takes_at_most_96_bytes_a_customer_and_loses_nothing_by_it() -> None:
    try:
        lines = journey.read_lines()
    except DataSetMissing as error:
        pytest.skip(str(error))
    parts = list(journey.customers(lines, CUSTOMERS))
    columns = journey.columns_of(parts)
    assert len(columns.indices) > 60 * CUSTOMERS
    content = encode(columns)
    assert len(content) <= 96 * CUSTOMERS
    read = decode(content)
    for name in ("high", "low", "consents", "starts", "indices", "codes"):
        assert (getattr(read, name) == getattr(columns, name)).all()
    worth = journey.worth(lines, parts)
    assert worth.exact > 0.64
    assert abs(worth.exact - worth.quantised) <= 0.001
