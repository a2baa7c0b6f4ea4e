"""What the server keeps of what counts for caps, as a typed protocol: a part of `Store`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge_sdk.engine.cap_rules import CapRow


class CountedStore(Protocol):
    """Cap events by subject; those that are given back say `elsewhere`."""

    def add_cap_events(self, rows: Iterable[CapRow]) -> None:
        """Keep what is not known: a claim of a kind counts once for a subject.

        Each gets a stamp of the genomes' counter.
        """
        ...

    def drop_cap_events(self, rows: Iterable[CapRow]) -> None:
        """Forget what can no longer matter."""
        ...

    def clear_cap_events(self) -> None:
        """Forget all of them: they are read from the log anew."""
        ...

    def cap_events_of(self, subjects: Iterable[bytes]) -> Iterator[CapRow]:
        """Everything of these subjects."""
        ...

    def asked_for(self, subjects: Sequence[bytes]) -> set[bytes]:
        """Those of these subjects that have an id outside, or are in an audience."""
        ...

    def cap_subjects(self, after: bytes, limit: int) -> list[bytes]:
        """Of whom there is any, in order, after one of them; at most `limit`."""
        ...

    def crowded_caps(self, subjects: Sequence[bytes], most: int) -> list[bytes]:
        """Those of these subjects of whom there are more than `most`."""
        ...

    def cap_changes(self, audience: str, after: int, limit: int) -> tuple[list[CapRow], int]:
        """What counts for members whose rows a device may hold, after a stamp, in order of stamp.

        About `limit` at most; with the stamp up to which it is all. `limit` is more than any one
        subject has. Who joins, agrees or returns is stamped anew with everything.
        """
        ...

    def cap_stamps(self) -> dict[str, int]:
        """The stamp of what counted last in each audience where anything did."""
        ...
