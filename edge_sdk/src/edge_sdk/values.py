"""Value types, made in half the time.

`dataclasses.dataclass` writes and compiles six functions for every class, which a process pays for
before its first decision. Here the text of a value, its equality and its hash are functions that
all classes share; they mean the same.
"""

from __future__ import annotations

import dataclasses
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
            made = dataclasses.dataclass(eq=False, repr=False, **options)(given)
            shared = {"__repr__": _text} if repr else {}
            if eq:
                hashed = _hash if options.get("frozen", False) else None
                shared |= {"__eq__": _equal, "__hash__": hashed}
            for name, function in shared.items():
                if name not in vars(given):
                    setattr(made, name, function)
            return made

        return make if cls is None else make(cls)


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
