"""What a device knows of the world: the time by the server's clock, and what is in force.

Keys, freshness and stops are kept as they were signed and verified again whenever they are read,
because a disk is not to be believed more than a network. The pinned root stays in the identity;
the one in force, to which the keys of the pinned one have led, is here.
"""

from __future__ import annotations

import sqlite3

from google.protobuf.message import DecodeError, Message

from edge_sdk.clock import Anchor, Clocks
from edge_sdk.errors import StoreCorrupt, TrustError
from edge_sdk.messages import partly, release_pb2, stop_pb2
from edge_sdk.store.guarded import GuardedStore, log
from edge_sdk.store.identity import read_identity
from edge_sdk.store.meta import bump, drop_meta, get_meta, set_meta
from edge_sdk.sync import roles


class StandingStore(GuardedStore):
    """The part of a store that knows the time and what is in force."""

    #: What tells the time here; a test puts its own in its place.
    clocks = Clocks()

    def standing(self) -> roles.Standing:
        """What is in force, verified. The root is the newest that the pinned one has led to; before
        enrolment that of a bundle, and where there is none an empty one, which verifies nothing.

        Raises StoreError.
        """
        with self.read() as connection:
            kept = get_meta(connection, "root")
            timestamp = get_meta(connection, "signed_timestamp")
            stop_list = get_meta(connection, "signed_stop_list")
        return _verified(self._root(kept), timestamp, stop_list)

    def _root(self, kept: bytes | None) -> release_pb2.TrustRoot:
        try:
            identity = read_identity(self.path)
        except StoreCorrupt:  # who syncs says so; everything else goes on without it
            identity = None
        if identity is None:
            known: release_pb2.TrustRoot = partly("release_pb2", "TrustRoot", kept or b"")
            return known
        root = release_pb2.TrustRoot.FromString(kept or b"")
        pinned = release_pb2.TrustRoot.FromString(identity.root)
        if root.tenant != pinned.tenant or root.version < pinned.version:
            return pinned
        return root

    def put_trust(
        self,
        root: release_pb2.TrustRoot | None = None,
        timestamp: release_pb2.SignedTimestamp | None = None,
        stop_list: stop_pb2.SignedStopList | None = None,
    ) -> None:
        """Keep what was verified, at once; None leaves what is kept, but for what a new root does
        not vouch for any more. Raises StoreError."""
        given: dict[str, Message | None] = {
            "root": root,
            "signed_timestamp": timestamp,
            "signed_stop_list": stop_list,
        }
        with self.write() as connection:
            values = {name: m.SerializeToString() for name, m in given.items() if m is not None}
            set_meta(connection, **values)
            if root is not None:
                _drop_unvouched(connection, root)
            bump(connection, "standing")

    # The time -----------------------------------------------------------------------------------

    def server_offset_ms(self) -> int | None:
        """Server minus device wall clock as last heard; None: never heard."""
        return self._number("server_offset_ms")

    def last_contact_ms(self) -> int | None:
        """When the server was last heard, by its own clock; None: never."""
        return self._number("last_contact_ms")

    def heard_server(self, server_time_ms: int) -> None:
        """Remember the offset and the moment of the last contact."""
        anchor = Anchor.now(server_time_ms, self.clocks)
        with self.write() as connection:
            set_meta(
                connection,
                clock_anchor=anchor.pack() if anchor is not None else b"",
                server_offset_ms=b"%d" % (server_time_ms - self.clocks.wall()),
                last_contact_ms=b"%d" % server_time_ms,
                clock_floor_ms=b"%d" % server_time_ms,
            )

    def time_known(self) -> tuple[int | None, int, Anchor | None]:
        """What `DeviceClock.hear` takes. Raises StoreError."""
        with self.read() as connection:
            names = ("server_offset_ms", "clock_floor_ms", "clock_anchor")
            offset, floor, anchor = (get_meta(connection, name) for name in names)
        return None if offset is None else int(offset), int(floor or b"0"), Anchor.unpack(anchor)

    def clock_floor_ms(self) -> int:
        """The latest moment that was seen since the server was heard; 0: none."""
        return self._number("clock_floor_ms") or 0

    def raise_clock_floor(self, now_ms: int) -> None:
        """Remember that this moment has passed."""
        with self.write() as connection:
            if now_ms > int(get_meta(connection, "clock_floor_ms") or b"0"):
                set_meta(connection, clock_floor_ms=b"%d" % now_ms)

    def _number(self, key: str) -> int | None:
        with self.read() as connection:
            value = get_meta(connection, key)
        return None if value is None else int(value)


def _verified(
    root: release_pb2.TrustRoot, timestamp: bytes | None, stop_list: bytes | None
) -> roles.Standing:
    """What of it the root vouches for."""
    stamp: release_pb2.Timestamp | None = None
    stops: stop_pb2.StopList | None = None
    try:
        if timestamp is not None:
            signed = release_pb2.SignedTimestamp.FromString(timestamp)
            stamp = roles.verify_timestamp(signed, root, 0, held=True)
        if stop_list is not None:
            listed = stop_pb2.SignedStopList.FromString(stop_list)
            stops = roles.verify_stop_list(listed, root, 0, None, stamp, held=True)
    except (TrustError, DecodeError) as error:
        log.warning("what is in force cannot be verified any more: %s", error)
    return roles.Standing(root, stamp, stops)


def _drop_unvouched(connection: sqlite3.Connection, root: release_pb2.TrustRoot) -> None:
    timestamp = get_meta(connection, "signed_timestamp")
    stop_list = get_meta(connection, "signed_stop_list")
    if timestamp is not None and _verified(root, timestamp, None).timestamp is None:
        drop_meta(connection, "signed_timestamp")
        timestamp = None
    if stop_list is not None and _verified(root, timestamp, stop_list).stop_list is None:
        drop_meta(connection, "signed_stop_list")
