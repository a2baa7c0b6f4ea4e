"""Decisions of the past: found in the ring, with the release that each was made from.

The ring holds the newest decisions of all processes of this device in full. A decision can be
explained and made again for as long as it is there and its release is at hand: the active one, the
one before it, or one that the app brings.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from edge_sdk.decision import Decision
from edge_sdk.engine.release import Release
from edge_sdk.errors import EdgeError, UnknownDecision
from edge_sdk.explanation import Explanation
from edge_sdk.outbox.frames import Frame
from edge_sdk.runtime.aftermath import decision_id
from edge_sdk.runtime.desk import Desk
from edge_sdk.store.state import decision_of, find_decision

if TYPE_CHECKING:
    from edge_sdk.store.device import DeviceStore

# A decision of another process is on disk at most this much later than it was shown.
_SOON_S: Final = 0.2
_AGAIN_S: Final = 0.02
_OPEN_S: Final = 1.0


def explain(
    desk: Desk, decision: Decision | str, offers: Collection[str] | None = None
) -> Explanation:
    """Why a decision came out as it did; milliseconds where its release is the one in use.

    Raises UnknownDecision for what is no id and for a decision that the ring does not hold,
    EdgeError where its release is gone, and StoreError where the store cannot be read.
    """
    id_ = decision_id(decision)
    if isinstance(decision, Decision):
        return decision.explain(offers)
    from edge_sdk.engine import explain as engine  # not for decisions that nobody asks about

    store = desk.keeper.when_open(_OPEN_S).store
    record = decision_of(found(store, id_, _SOON_S))
    release = desk.room.live.release
    if release is None or release.version != record.release_version:
        release = release_of(store, record.release_version)
    return engine.explain(release, record, offers)


def found(store: DeviceStore, id_: str, wait_s: float = 0.0) -> Frame:
    """The frame of a decision in the ring, waiting `wait_s` seconds for one that was just made.

    Raises UnknownDecision where it is not there, StoreError where the store cannot be read.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with store.read() as connection:
            frame = find_decision(connection, bytes.fromhex(id_))
        if frame is not None:
            return frame
        if time.monotonic() >= deadline:
            raise UnknownDecision(
                f"decision {id_} is not among the last ones that this device keeps"
            )
        time.sleep(_AGAIN_S)


def release_of(store: DeviceStore, version: int) -> Release:
    """The release of a version, where the store still has it. Raises EdgeError where not."""
    from edge_sdk.sync.installing import read_parts

    if not version:
        raise EdgeError("the decision was made without a release: there is nothing to make again")
    for stored in (store.active_release(), store.previous_release()):
        if stored is not None and stored.version == version:
            manifest = stored.manifest
            return Release.from_parts(manifest, read_parts(store.read_part, manifest))
    raise EdgeError(f"release {version} is not on this device any more")
