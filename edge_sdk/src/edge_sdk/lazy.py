"""Attributes that are worked out on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

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
