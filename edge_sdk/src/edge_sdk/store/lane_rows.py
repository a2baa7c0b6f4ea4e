"""The rows of lanes in the store. Functions over an open transaction.

A lane has a number of its own in the store, and an address under which the server knows it: an
epoch and a number. They differ for a lane that has *ended*: after a fork the writer goes on in its
lane under a new epoch, and what the server received under the old one and may still lose stays
behind in a lane with a number below 0, until it is safe.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from edge_sdk.store.meta import get_meta
from edge_sdk.store.rows import read_rows, sealed


class Lane(NamedTuple):
    """One lane: `next` is its next sequence, up to `received` and `safe` it is at the server, and
    (`epoch`, `address`) is what it is called there."""

    lane: int
    priority: int
    next: int
    received: int
    safe: int
    epoch: bytes
    address: int

    @property
    def unsent(self) -> int:
        """How many sequences the server has not received."""
        return self.next - 1 - self.received

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is written to it."""
        return self.lane < 0


def lane_rows(connection: sqlite3.Connection) -> Iterator[Lane]:
    """Every lane. Raises sqlite3.IntegrityError where one is not what was written."""
    return (Lane(*row) for row in read_rows(connection, "lanes"))


def lane_row(connection: sqlite3.Connection, lane: int) -> Lane | None:
    """One lane; None: there is none. Raises as `lane_rows`."""
    return next(
        (Lane(*row) for row in read_rows(connection, "lanes", "WHERE lane = ?", lane)), None
    )


def new_lane(connection: sqlite3.Connection, lane: int) -> Lane:
    """A lane without events, of the store's epoch. Not written."""
    return Lane(lane, lane % 2, 1, 0, 0, get_meta(connection, "epoch") or bytes(16), lane)


def put_lane(connection: sqlite3.Connection, row: Lane) -> None:
    """Write a lane, in place of one with the same number."""
    connection.execute("INSERT OR REPLACE INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", sealed(*row))
