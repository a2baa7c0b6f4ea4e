"""Small logs: enough is held back to see when a training has to stop."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from genome_server.learning.train import Settings, _split


@pytest.mark.parametrize(
    ("examples", "held"), [(40, 0), (100, 35), (400, 140), (600, 150), (1000, 150), (4000, 600)]
)
def test_of_few_examples_more_are_held_back(examples: int, held: int) -> None:
    everybody = SimpleNamespace(person=np.arange(examples, dtype=np.int32))
    kept, held_back = _split(everybody, np.arange(examples), Settings())  # type: ignore[arg-type]
    assert len(held_back) == held
    assert sorted([*kept.tolist(), *held_back.tolist()]) == list(range(examples))
