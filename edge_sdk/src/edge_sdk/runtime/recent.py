"""A memory of what came last."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The newest entries, at least `keep` of them. Takes no lock: two dictionaries take turns."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def put(self, key: K, value: V) -> None:
        """Keep an entry."""
        if len(self._new) >= self._keep:
            self._old, self._new = self._new, {}
        self._new[key] = value

    def get(self, key: K) -> V | None:
        """The entry of a key, or None."""
        value = self._new.get(key)
        return self._old.get(key) if value is None else value

    def drop(self, key: K) -> None:
        """Forget the entry of a key, where there is one."""
        self._new.pop(key, None)
        self._old.pop(key, None)

    def keys(self) -> list[K]:
        """The keys of all entries."""
        return list({**self._old, **self._new})
