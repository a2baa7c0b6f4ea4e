"""A grocer's audience is small on the wire, and codes cost its genomes nothing that matters."""

from __future__ import annotations

import pytest

from edge_sdk.dna.columns import encode
from edge_sdk.dna.content import decode
from examples.datasets import DataSetMissing
from tests.bench import journey

CUSTOMERS = 100_000


@pytest.mark.dataset
def test_an_audience_takes_at_most_96_bytes_a_customer_and_codes_cost_nothing() -> None:
    try:
        lines = journey.read_lines()
    except DataSetMissing as error:
        pytest.skip(str(error))
    parts = list(journey.customers(lines, CUSTOMERS))
    columns = journey.columns_of(parts)
    assert len(columns.indices) > 60 * CUSTOMERS
    content = encode(columns)
    with_ids = encode(journey.columns_of(parts, lookups=True))
    assert len(content) < len(with_ids) <= 96 * CUSTOMERS
    read = decode(content)
    for name in ("high", "low", "consents", "starts", "indices", "codes"):
        assert (getattr(read, name) == getattr(columns, name)).all()
    worth = journey.worth(lines, 10_000)
    assert worth["whole"].auc > 0.54
    assert abs(worth["wire"].auc - worth["pruned"].auc) <= 0.001
    # What the cut of the strongest costs, and that of the most distinct: docs/genomes.md.
    assert worth["distinctive"].lost <= 0.001 < worth["pruned"].lost
    assert abs(worth["distinctive_wire"].auc - worth["distinctive"].auc) <= 0.001
