"""The worlds of the outbox half of the drill `explore`: what is there, and what may go wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple


@dataclass(frozen=True, slots=True)
class Allowance:
    """How often each thing may happen."""

    events: int = 2
    twice: int = 0
    given_up: int = 0
    backups: int = 0
    restores: int = 0
    images: int = 0
    put_back: int = 0
    clones: int = 0

    def less(self, name: str) -> Allowance:
        """One less of it."""
        return replace(self, **{name: getattr(self, name) - 1})


#: Explored in this order.
ALLOWANCES: Final = {
    "calls lost and repeated": Allowance(events=3, twice=1, given_up=1),
    "a disk put back": Allowance(events=2, given_up=1, images=1, put_back=1),
    "a cloned disk": Allowance(events=2, given_up=1, clones=1),
    "a restored server": Allowance(events=2, given_up=1, backups=1, restores=1),
    "a cloned disk, three events": Allowance(events=3, clones=1),
    "calls lost twice": Allowance(events=3, twice=1, given_up=2),
    "a disk put back, calls repeated": Allowance(
        events=3, twice=1, given_up=1, images=1, put_back=1
    ),
    "a cloned disk, calls repeated": Allowance(events=3, twice=1, given_up=1, clones=1),
    "a cloned disk and a restored server": Allowance(
        events=2, given_up=1, clones=1, backups=1, restores=1
    ),
    "a cloned disk, a restored server, three events": Allowance(
        events=3, clones=1, backups=1, restores=1
    ),
    "a server restored twice": Allowance(events=3, given_up=1, backups=2, restores=2),
}


class Call(NamedTuple):
    """A call on its way to the server. Nobody waits for the answer of one that was given up."""

    device: int
    request: bytes
    awaited: bool


@dataclass(frozen=True, slots=True)
class State:
    """The world between two steps. Databases are serialised. For each device: whether it waits for
    an answer, and the answer that is on its way."""

    disks: tuple[bytes, ...]
    log: bytes
    left: Allowance
    waits: tuple[bool, ...] = (False,)
    replies: tuple[tuple[str, bytes] | None, ...] = (None,)
    line: tuple[Call, ...] = ()
    backup: bytes | None = None
    image: bytes | None = None
    written: int = 0
    #: Names given so far: epochs of devices and incarnations of the log.
    epochs: int = 1
    incarnations: int = 1
    #: Events that may be gone: only a disk that was put back held them.
    doomed: frozenset[int] = frozenset()
