"""What is worked out, or loaded, on first use.

A process answers its first question after loading what that answer needs. A module that it does
not need stands in for itself until something is asked of it:

    if TYPE_CHECKING:
        from edge_sdk.store import rescue
    else:
        rescue = later("edge_sdk.store.rescue")
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Generic, TypeVar, overload

from edge_sdk._posix import Quiet

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801  a decorator, like property
    """An attribute that is worked out on first use and then kept.

    `functools.cached_property` without its lock, which before Python 3.12 is one for all instances:
    a decision would wait for another one, and a child forked meanwhile would wait for ever. Two
    threads at once may both work the value out; it must be the same.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> lazy[T]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> T: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> lazy[T] | T:
        if instance is None:
            return self
        value = self._make(instance)
        # From now on found before this descriptor, which has no __set__, is asked.
        instance.__dict__[self._name] = value
        return value


# No child is forked while a module is loaded late: it would wait for that for ever. Any number of
# threads load at once: one that imports a module by itself may need another one late, for which it
# must not wait here while somebody else waits in here for its module.
_loading = Quiet()
# A fork that has waited for so long takes place in any case.
_PAUSE_S: Final = 10.0
os.register_at_fork(
    before=partial(_loading.pause, _PAUSE_S),
    after_in_parent=_loading.resume,
    after_in_child=_loading.__init__,  # type: ignore[misc]
)


class _Later(ModuleType):
    """A module that is imported when something is asked of it, by whatever thread asks first."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by the import system, of what is not loaded
            raise AttributeError(name)
        with _loading:
            module = import_module(self.__name__)
        value = getattr(module, name)
        # From now on found without asking here.
        setattr(self, name, value)
        return value


def later(name: str) -> ModuleType:
    """The module of this name, imported on first use. For constants, classes and functions: what
    is assigned to the module afterwards is not seen."""
    return _Later(name)
