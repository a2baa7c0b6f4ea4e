from __future__ import annotations

import inspect
import re

from edge_sdk import errors


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^    ([│├└─ ]*)([A-Z]\w+)", line)
        if found:
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            drawn[found[2]] = path[-2] if depth else None
    real = {
        name: None if kind.__bases__[0] is Exception else kind.__bases__[0].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__
    }
    assert drawn == real


def test_errors_carry_what_a_program_needs() -> None:
    assert errors.RefusedError("CODE_USED").reason == "CODE_USED"
    assert str(errors.RefusedError("CODE_USED", "used up")) == "used up"
    frame = errors.BadFrame(12, "cut")
    assert (frame.offset, frame.why) == (12, "cut")
    assert "12" in str(frame)
