"""Value types, made in half the time.

`dataclasses.dataclass` writes and compiles six functions for every class, which a process pays for
before its first decision. Here the text of a value, its equality, its hash and the refusal to
change it are functions that all classes share; they mean the same. Frozen values with slots, of
which every decision makes some, are filled slot by slot; the standard library's way asks the class
about each name again.
"""

from __future__ import annotations

import dataclasses
import inspect  # which dataclasses need, too
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["dataclass"]

_T = TypeVar("_T")

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        cls: type[_T] | None = None,
        /,
        *,
        eq: bool = True,
        repr: bool = True,  # noqa: A002 the standard library's name
        **options: Any,
    ) -> Any:
        """As `dataclasses.dataclass`, without an order."""

        def make(given: type[_T]) -> type[_T]:
            asked = {"frozen": False, "slots": False, "init": True, **options}
            quick = asked["frozen"] and _is_plain(given)
            filled = quick and asked["init"]
            if quick:
                asked |= {"frozen": False, "init": False}
            made = dataclasses.dataclass(eq=False, repr=False, **asked)(given)
            shared = {"__repr__": _text} if repr else {}
            if eq:
                hashed = _hash if options.get("frozen", False) else None
                shared |= {"__eq__": _equal, "__hash__": hashed}
            if quick:
                made.__dataclass_params__.frozen = True
                shared |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
                shared |= {"__getstate__": _state, "__setstate__": _put} if asked["slots"] else {}
            if filled:
                shared["__init__"] = _filling(made)
            for name, function in shared.items():
                if name not in vars(given):
                    setattr(made, name, function)
            return made

        return make if cls is None else make(cls)


def _is_plain(given: type) -> bool:
    """Whether its fields are all of the class itself and arguments in their order."""
    named = inspect.get_annotations(given)
    return (
        not hasattr(given, "__dataclass_fields__")
        and all(
            field.init and field.kw_only in (False, dataclasses.MISSING)
            for name in named
            if isinstance(field := vars(given).get(name), dataclasses.Field)
        )
        and not any("ClassVar" in str(kind) or "InitVar" in str(kind) for kind in named.values())
    )


def _filling(made: type) -> Any:
    """An `__init__` that puts each argument into its place."""
    scope: dict[str, Any] = {"_missing": dataclasses.MISSING, "_put": object.__setattr__}
    arguments, lines = ["self"], []
    for field in dataclasses.fields(made):
        name = field.name
        given = name
        if field.default is not dataclasses.MISSING:
            scope[f"default_{name}"] = field.default
            arguments.append(f"{name}=default_{name}")
        elif field.default_factory is not dataclasses.MISSING:
            scope[f"_make_{name}"] = field.default_factory
            arguments.append(f"{name}=_missing")
            given = f"_make_{name}() if {name} is _missing else {name}"
        else:
            arguments.append(name)
        if "__slots__" in vars(made):
            scope[f"_put_{name}"] = getattr(made, name).__set__
            lines.append(f" _put_{name}(self, {given})")
        else:
            lines.append(f" _put(self, {name!r}, {given})")
    if hasattr(made, "__post_init__"):
        lines.append(" self.__post_init__()")
    body = "\n".join(lines or [" pass"])
    exec(f"def __init__({', '.join(arguments)}):\n{body}", scope)  # noqa: S102
    filling = scope["__init__"]
    filling.__qualname__ = f"{made.__qualname__}.__init__"
    filling.__module__ = made.__module__
    filling.__annotations__ = {**inspect.get_annotations(made), "return": None}
    return filling


def _is_fixed(value: Any, name: str) -> bool:
    """What a subclass adds, which is none of these, may be set."""
    kind = type(value)
    return "__dataclass_fields__" in vars(kind) or name in kind.__dataclass_fields__


def _refuse_to_set(value: Any, name: str, given: object) -> None:
    if _is_fixed(value, name):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(value, name, given)


def _refuse_to_delete(value: Any, name: str) -> None:
    if _is_fixed(value, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(value, name)


def _state(value: Any) -> list[Any]:
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def _put(value: Any, state: list[Any]) -> None:
    for field, given in zip(dataclasses.fields(value), state, strict=True):
        object.__setattr__(value, field.name, given)


def _text(value: Any) -> str:
    shown = (f"{f.name}={getattr(value, f.name)!r}" for f in dataclasses.fields(value) if f.repr)
    return f"{type(value).__qualname__}({', '.join(shown)})"


def _compared(value: Any) -> tuple[Any, ...]:
    return tuple(getattr(value, f.name) for f in dataclasses.fields(value) if f.compare)


def _equal(value: Any, other: object) -> Any:
    if type(other) is not type(value):
        return NotImplemented
    return _compared(value) == _compared(other)


def _hash(value: Any) -> int:
    counted = (f for f in dataclasses.fields(value) if (f.compare if f.hash is None else f.hash))
    return hash(tuple(getattr(value, f.name) for f in counted))
