"""Value types compare, hash and read as those of the standard library."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import pytest

from edge_sdk.values import dataclass


def declared(make: Any, **options: Any) -> Any:
    class Value:
        """A value."""

        number: int
        text: str = "a"
        hidden: list[int] = field(default_factory=list, repr=False, compare=False)
        unhashed: list[int] = field(default_factory=list, hash=False)

    Value.__qualname__ = "Value"
    return make(**options)(Value)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"frozen": True}, {"frozen": True, "slots": True}, {"slots": True}, {"eq": False},
        {"eq": False, "frozen": True}, {"repr": False},
    ],
)  # fmt: skip
def test_they_mean_the_same(options: dict[str, Any]) -> None:
    ours, theirs = declared(dataclass, **options), declared(dataclasses.dataclass, **options)
    for kind in (ours, theirs):
        one, same, other = kind(1, hidden=[1]), kind(1, hidden=[2]), kind(2)
        assert (one == same) is (options.get("eq") is not False)
        assert one != other
        assert one != 1
        assert (kind(1) == (1, "a", [])) is False
        assert dataclasses.replace(other, number=1, text="b") != one
    assert ours(1) != theirs(1)
    if options.get("repr") is not False:
        assert repr(ours(1)) == repr(theirs(1)) == "Value(number=1, text='a', unhashed=[])"
    assert (ours.__hash__ is None) == (theirs.__hash__ is None)
    if options.get("frozen"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            ours(1).number = 2
        if options.get("eq") is not False:
            assert hash(ours(1)) == hash(theirs(1))
            assert len({ours(1), ours(1, hidden=[3]), ours(2)}) == 2


def test_what_a_class_says_itself_counts() -> None:
    @dataclass(frozen=True)
    class Own:
        """One."""

        number: int

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    assert (repr(Own(1)), Own(1) == Own(2), hash(Own(1))) == ("own", True, 7)


def test_it_needs_no_options() -> None:
    @dataclass
    class Plain:
        """One."""

        number: int = 3

    assert Plain() == Plain(3)
