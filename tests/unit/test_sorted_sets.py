"""Distinct values are those of numpy, without the modules that numpy loads for them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_sdk.sorted_sets import distinct, numbered

VALUES = arrays.arrays(
    st.sampled_from([np.int32, np.int64, np.uint64]),
    st.integers(0, 40),
    elements=st.integers(0, 12),
)


@given(VALUES)
def test_they_are_those_of_numpy(values: np.ndarray) -> None:
    wanted, positions = np.unique(values, return_inverse=True)
    found, where = numbered(values)
    for one in (distinct(values), found):
        assert one.dtype == values.dtype
        assert one.tolist() == wanted.tolist()
    assert where.tolist() == positions.tolist()


def test_no_masked_arrays_are_loaded() -> None:
    script = (
        "import sys, numpy; from edge_sdk.sorted_sets import numbered;"
        "numbered(numpy.arange(3)); sys.exit('numpy.ma' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
