"""Rooms of campaigns in decisions: what a slot's pick uses up, and what a record keeps of them.

What there is of room is in `cap_rooms`, which counts; here it is in terms of a catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge_sdk.engine.cap_views import Rooms
from edge_sdk.engine.runs import Rows, rows_of_runs, runs_of
from edge_sdk.errors import UsageError
from edge_sdk.messages import event_pb2

if TYPE_CHECKING:
    from edge_sdk.engine.catalogue import Catalogue

Positions = npt.NDArray[np.int64]


def spending(
    catalogue: Catalogue, rooms: Rooms, rows: Rows
) -> Callable[[Sequence[int]], Positions | None]:
    """What says, of the positions among `rows` (ascending) that were picked, the last one last,
    those that may not stand beside them any more for that one's campaign; None: no others."""

    def spent(picked: Sequence[int]) -> Positions | None:
        campaigns = [catalogue.offers[int(rows[at])].campaign for at in picked]
        limits = rooms.get(campaigns[-1]) if campaigns[-1] else None
        if limits is None:
            return None
        number = campaigns.count(campaigns[-1])
        out = [catalogue.rows_of(offers) for room, offers in limits if room <= number]
        if not out:
            return None
        gone = out[0] if len(out) == 1 else np.concatenate(out)
        at = rows.searchsorted(gone)
        at[at == len(rows)] = 0
        found: Positions = at[rows[at] == gone]
        return found

    return spent


def room_of(catalogue: Catalogue, rooms: Rooms, row: int) -> int:
    """How many of its campaign may be shown before this offer may not be; 0: as many as like."""
    offer = catalogue.offers[row]
    limits = rooms.get(offer.campaign, ()) if offer.campaign else ()
    return min((room for room, offers in limits if offer.id in offers), default=0)


def told(catalogue: Catalogue, rooms: Rooms, rows: Rows | None) -> list[event_pb2.CampaignRoom]:
    """As a record carries it: of the candidates alone."""
    if not rooms or rows is None:
        return []
    candidates = set(rows.tolist())
    least: dict[int, int] = {}
    for campaign, limits in rooms.items():
        for room, offers in limits:
            for name in offers:
                row = catalogue.row_of.get(name, -1)
                if row in candidates and catalogue.offers[row].campaign == campaign:
                    least[row] = min(room, least.get(row, room))
    by_room: dict[int, list[int]] = {}
    for row in sorted(least):
        by_room.setdefault(least[row], []).append(row)
    return [
        event_pb2.CampaignRoom(room=room, runs=runs_of(np.array(those, np.int32)))
        for room, those in sorted(by_room.items())
    ]


def recorded(catalogue: Catalogue, said: Iterable[event_pb2.CampaignRoom]) -> Rooms:
    """What a record says. Raises UsageError where it cannot have been."""
    found: dict[str, dict[int, set[str]]] = {}
    for one in said:
        rows = rows_of_runs(one.runs)
        if not one.room or rows.max(initial=-1) >= len(catalogue):
            raise UsageError("the record leaves no room, or leaves it to offers that are none")
        for row in rows.tolist():
            offer = catalogue.offers[row]
            found.setdefault(offer.campaign, {}).setdefault(one.room, set()).add(offer.id)
    return {
        campaign: tuple((room, frozenset(those)) for room, those in by_room.items())
        for campaign, by_room in found.items()
    }
