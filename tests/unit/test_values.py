"""Value types compare, hash and read as those of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import field
from typing import Any, ClassVar

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


def test_frozen_values_with_slots_are_made_alike() -> None:
    def of(make: Any) -> Any:
        return declared(make, frozen=True, slots=True)

    for kind in (of(dataclass), of(dataclasses.dataclass)):
        made = kind(1, hidden=[1])
        assert (made.number, made.text, made.hidden, made.unhashed) == (1, "a", [1], [])
        assert kind(1).hidden is not kind(1).hidden
        assert pickle.loads(pickle.dumps(Pickled(1, "b"))) == Pickled(number=1, text="b")
        assert copy.copy(made) == made
        assert list(inspect.signature(kind).parameters) == ["number", "text", "hidden", "unhashed"]
        assert kind.__init__.__annotations__["number"] == "int"
        wrongs: tuple[tuple[Any, ...], ...] = ((), (1, "a", [], [], 5))
        for wrong in wrongs:
            with pytest.raises(TypeError, match=r"Value\.__init__\(\)|__init__\(\)"):
                kind(*wrong)
        with pytest.raises(TypeError, match="unexpected keyword argument 'nubmer'"):
            kind(nubmer=1)


@dataclass(frozen=True, slots=True)
class Pickled:
    """Can be found again by its name."""

    number: int
    text: str = "a"


@pytest.mark.parametrize("slots", [False, True])
def test_what_is_frozen_stays_as_it_is(slots: bool) -> None:
    for make in (dataclass, dataclasses.dataclass):
        kind = declared(make, frozen=True, slots=slots)
        made = kind(1)
        with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'text'"):
            made.text = "b"
        with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'text'"):
            del made.text
        assert made == kind(1)
        assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize("slots", [False, True])
def test_what_is_no_field_may_be_set_where_a_class_adds_it(slots: bool) -> None:
    kind = declared(dataclass, frozen=True, slots=slots)

    class Wider(kind):  # type: ignore[misc, valid-type]
        """One that is not frozen itself."""

    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'added'"):
        kind(1).added = 1
    wider = Wider(1)
    wider.added = 1
    del wider.added
    with pytest.raises(dataclasses.FrozenInstanceError):
        wider.text = "b"


@dataclass(frozen=True)
class Checked:
    """With more to do once it is filled."""

    number: int
    text: str = "a"

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError(self.text)


def test_what_follows_the_filling_follows_it() -> None:
    assert Checked(1) == pickle.loads(pickle.dumps(Checked(1))) == copy.deepcopy(Checked(1))
    assert vars(Checked(1)) == {"number": 1, "text": "a"}
    with pytest.raises(ValueError, match="why"):
        dataclasses.replace(Checked(1), number=-1, text="why")


def test_what_has_other_fields_is_made_by_the_standard_library() -> None:
    @dataclass(frozen=True, slots=True)
    class Doubled:
        """With more to do."""

        number: int
        twice: int = field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "twice", 2 * self.number)

    @dataclass(frozen=True, slots=True)
    class Named(Pickled):
        """One that inherits."""

        name: str = "n"

    @dataclass(frozen=True, slots=True)
    class Counting:
        """With what is no field."""

        made: ClassVar[int] = 3
        number: int = field(kw_only=True)

    assert Doubled(2).twice == 4
    assert (Named(1, "a", "b").name, Named(1).text) == ("b", "a")
    assert Counting(number=2).number + Counting.made == 5
    with pytest.raises(TypeError):
        Counting(2)  # type: ignore[call-arg]


@pytest.mark.parametrize("slots", [False, True])
def test_fields_may_have_any_name_and_there_may_be_none(slots: bool) -> None:
    make: Any = dataclass

    class Nothing:
        """Without a field."""

    class Awkward:
        """With names that the standard library allows."""

        put: int
        missing: int = 2
        default_put: int = 3
        made: list[int] = field(default_factory=list)
        make_made: int = 4
        put_put: int = 5

    nothing, awkward = (make(frozen=True, slots=slots)(one) for one in (Nothing, Awkward))
    assert nothing() == nothing()
    assert hash(nothing()) == hash(())
    assert dataclasses.astuple(awkward(1)) == (1, 2, 3, [], 4, 5)
    assert dataclasses.astuple(awkward(7, put_put=8)) == (7, 2, 3, [], 4, 8)
