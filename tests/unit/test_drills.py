"""Every drill in its short form; `make drill` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills.__main__ import DRILLS, find, title


@pytest.mark.parametrize("name", DRILLS)
def test_short_form(name: str, tmp_path: Path) -> None:
    drill = find(name)
    reached: list[int] = []
    found = drill.play(tmp_path, 1, drill.SHORT, reached.append)
    assert not found.failures, "\n".join(found.failures[:10])
    assert found.tried >= drill.SHORT
    assert reached, "it does not say how far it is"


@pytest.mark.parametrize("name", DRILLS)
def test_a_drill_says_what_it_is(name: str) -> None:
    drill = find(name)
    assert title(name).endswith(".")
    assert drill.LONG >= drill.SHORT >= 1
    assert drill.UNIT
