"""Value types, made in half the time.

`dataclasses.dataclass` writes and compiles six functions for every class, which a process pays for
before its first decision. Here the text of a value, its equality and its hash are functions that
all classes share; they mean the same. Frozen values with slots, of which every decision makes some,
are filled slot by slot; the standard library's way asks the class about each name again.
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
            quick = asked["frozen"] and asked["slots"] and asked["init"] and _is_plain(given)
            asked["init"] = asked["init"] and not quick
            made = dataclasses.dataclass(eq=False, repr=False, **asked)(given)
            if quick:
                made.__init__ = _filling(made)
            shared = {"__repr__": _text} if repr else {}
            if eq:
                hashed = _hash if options.get("frozen", False) else None
                shared |= {"__eq__": _equal, "__hash__": hashed}
            for name, function in shared.items():
                if name not in vars(given):
                    setattr(made, name, function)
            return made

        return make if cls is None else make(cls)


def _is_plain(given: type) -> bool:
    """Whether what makes a value of this class only fills its slots."""
    named = inspect.get_annotations(given)
    return (
        not any(hasattr(given, name) for name in ("__post_init__", "__dataclass_fields__"))
        and "__init__" not in vars(given)
        and all(
            field.init and field.kw_only in (False, dataclasses.MISSING)
            for name in named
            if isinstance(field := vars(given).get(name), dataclasses.Field)
        )
        and not any("ClassVar" in str(kind) or "InitVar" in str(kind) for kind in named.values())
    )


def _filling(made: type) -> Any:
    """An `__init__` that puts each argument into its slot."""
    scope: dict[str, Any] = {"missing": dataclasses.MISSING}
    arguments, lines = ["self"], []
    for field in dataclasses.fields(made):
        name = field.name
        scope[f"put_{name}"] = getattr(made, name).__set__
        given = name
        if field.default is not dataclasses.MISSING:
            scope[f"default_{name}"] = field.default
            arguments.append(f"{name}=default_{name}")
        elif field.default_factory is not dataclasses.MISSING:
            scope[f"make_{name}"] = field.default_factory
            arguments.append(f"{name}=missing")
            given = f"make_{name}() if {name} is missing else {name}"
        else:
            arguments.append(name)
        lines.append(f" put_{name}(self, {given})")
    exec(f"def __init__({', '.join(arguments)}):\n" + "\n".join(lines), scope)  # noqa: S102
    filling = scope["__init__"]
    filling.__qualname__ = f"{made.__qualname__}.__init__"
    filling.__module__ = made.__module__
    filling.__annotations__ = {**inspect.get_annotations(made), "return": None}
    return filling


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
