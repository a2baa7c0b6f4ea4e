"""What the rules make of a real grocer's package sizes; where the data set is at hand."""

from __future__ import annotations

import pytest

from examples.datasets import DataSetMissing
from genome_server.things.dna import Things
from genome_server.things.settings import read_settings
from tests.bench.things import READ, shelf


@pytest.mark.dataset
def test_a_grocers_package_sizes_are_understood() -> None:
    try:
        found = shelf(sizes_declared=False).products
    except DataSetMissing as missing:
        pytest.skip(str(missing))
    things = Things(read_settings(READ))
    some = [document for _, document in sorted(found.items())[::25] if "size" in document]
    understood, sizes = 0, set()
    for document in some:
        said = [marker for marker, _ in things.product(document)]
        amounts = {one for one in said if one.startswith(("size:", "pack:", "loads:"))}
        understood += bool(amounts)
        sizes |= {one for one in amounts if one.startswith("size:")}
    assert understood >= 0.96 * len(some)
    # Each size in one spelling: far fewer than there are ways of writing them.
    assert 2 * len(sizes) < len({document["size"] for document in some})
