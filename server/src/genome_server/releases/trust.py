"""The desk where a tenant's keys sign what devices are to believe: roots, freshness, stops, time.

Theory. What was signed lies in the store, one kind beside the other, so that a command and a
running server see the same. A desk keeps the newest of each in memory and looks into the store at
most every `LOOK_S`; whoever makes something new does it in one transaction, on top of what is
there then. Nothing is kept that a device would refuse.

The timestamp is signed anew when half of its life is over, and when the releases in force or the
stop list changed. Its version, like the stop list's, is the time in seconds, or one more than the
last: so a store that came back from a backup goes on above what devices have seen. A key that is
not here stops nothing but what it would have signed.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from edge_sdk.errors import TrustError
from edge_sdk.sync.keys import DeviceKey
from edge_sdk.sync.roles import verify_roots, verify_stop_list, verify_timestamp
from edge_sdk.sync.signing import sign_stop_list, sign_time, sign_timestamp
from edge_sdk.sync.trust import Limits
from genome_edge.v1 import release_pb2, stop_pb2
from genome_server.errors import Refused, StoreBusy, UsageError
from genome_server.home import Tenant
from genome_server.releases.keyring import (
    ROOT,
    ensure_roots,
    here,
    keep_root,
    missing_key,
)
from genome_server.store.protocol import Store

#: Kinds under which the store keeps what was signed.
TIMESTAMP: Final = "timestamp"
STOP_LIST: Final = "stop-list"
#: Seconds for which a look into the store is good.
LOOK_S: Final = 0.2
#: How long a timestamp keeps releases fresh, in hours; `meta` key and default.
LIFE_KEY: Final = "timestamp_life_hours"
LIFE_HOURS: Final = 7 * 24
_HOUR_MS: Final = 3_600_000
#: Seconds between two answers to devices that hold something newer: none can make us sign for ever.
_HEARD_EVERY_S: Final = 10.0
#: Seconds between two looks for keys that are missing.
_KEYS_S: Final = 5.0
#: How far a version that a device names may lie in the future and still be one that was given.
_LEEWAY_S: Final = 3_600

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    """What is in force, as last read from the store."""

    versions: dict[str, int]
    roots: tuple[release_pb2.SignedRoot, ...]
    root: release_pb2.TrustRoot
    keys: tuple[DeviceKey, ...] = ()
    unreadable: str = ""
    signed: release_pb2.SignedTimestamp | None = None
    timestamp: release_pb2.Timestamp | None = None
    signed_stops: stop_pb2.SignedStopList | None = None
    stops: stop_pb2.StopList | None = None
    life_ms: int = LIFE_HOURS * _HOUR_MS

    @property
    def able(self) -> bool:
        """Whether enough timestamp keys are here."""
        return len(self.keys) >= max(1, self.root.timestamp_threshold)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class TrustDesk:
    """What devices of one tenant are to believe. Thread-safe; blocks (SQLite).

    Made for a tenant without roots, it makes them and the keys. Raises Refused where a key is
    missing that devices go by.
    """

    def __init__(self, tenant: Tenant, store: Store, now_ms: Callable[[], int] = _wall_ms) -> None:
        self._tenant = tenant
        self._store = store
        self._now_ms = now_ms
        self._lock = threading.RLock()
        self._looked = 0.0
        self._read_at = 0.0
        self._heard = -math.inf
        self._told, self._told_future = "", False
        ensure_roots(tenant, store, now_ms())
        self._held = self._read()
        self.look()

    # -- what is in force

    def roots_after(self, version: int) -> list[release_pb2.SignedRoot]:
        """Every root after this version, in order: what leads a device to the newest one."""
        held = self._current()
        first = held.root.version - len(held.roots)
        return list(held.roots[max(0, version - first) :])

    def root(self) -> release_pb2.TrustRoot:
        """The newest root."""
        return self._current().root

    def timestamp(self) -> release_pb2.SignedTimestamp | None:
        """What is in force, signed; None only where no key to sign it with was ever here."""
        return self._current().signed

    def stop_list(self) -> stop_pb2.SignedStopList | None:
        """The offers that are stopped, signed; None before the first was."""
        return self._current().signed_stops

    def stopped(self) -> tuple[str, ...]:
        """Ids of the offers that are stopped."""
        stops = self._current().stops
        return tuple(stops.offers) if stops is not None else ()

    @property
    def versions(self) -> tuple[int, int, int]:
        """Versions of root, timestamp and stop list; 0: none."""
        held = self._current()
        return (
            held.root.version,
            held.timestamp.version if held.timestamp is not None else 0,
            held.stops.version if held.stops is not None else 0,
        )

    def sign_time(self, nonce: bytes, server_time_ms: int) -> release_pb2.ManifestSignature | None:
        """Sign the time for one stream; None where no timestamp key is here."""
        keys = self._current().keys
        return sign_time(nonce, server_time_ms, keys[0]) if keys else None

    def dates(self, root_version: int) -> bool:
        """Whether a device that holds this root believes the time as it is signed here; also true
        where nothing is known of that root."""
        held = self._current()
        at = root_version - held.root.version - 1  # from the newest one back
        if not held.keys or not -len(held.roots) <= at < -1:
            return True
        root = release_pb2.TrustRoot.FromString(held.roots[at].root)
        return not root.timestamp_keys or held.keys[0].public in root.timestamp_keys

    # -- changes

    def look(self) -> None:
        """Look into the store for what others changed, and sign anew what is due.

        `versions` tells afterwards whether there is anything new.
        """
        with self._lock:
            missing = not self._held.able and time.monotonic() - self._read_at > _KEYS_S
            if missing or self._store.trusted_versions() != self._held.versions:
                self._held = self._read()
            if self._due(self._held):
                try:
                    with self._store.transaction():
                        self._held = self._read()
                        if self._due(self._held):  # still, and the keys are still here
                            self._renew()
                except StoreBusy as error:
                    log.warning("tenant %s: the timestamp waits: %s", self._tenant.name, error)
            self._looked = time.monotonic()

    def pause(self, offers: Iterable[str]) -> stop_pb2.StopList:
        """Stop offers on every device. Returns the list that is now in force.

        Raises Refused where no timestamp key is here, or the list becomes too long.
        """
        return self._change(lambda stopped: stopped | set(offers))

    def resume(self, offers: Iterable[str]) -> stop_pb2.StopList:
        """Let offers be shown again. Returns the list that is now in force. Raises Refused."""
        return self._change(lambda stopped: stopped - set(offers))

    def adopt(self, signed: release_pb2.SignedRoot) -> release_pb2.TrustRoot:
        """Put a root in force that follows the newest one, and sign anew by its keys.

        Raises Refused where devices would not follow it.
        """
        with self._lock, self._store.transaction():
            held = self._held = self._read()
            try:
                root = verify_roots(held.root, [signed], self._now_ms())
            except TrustError as error:
                raise Refused(f"devices would refuse this root: {error}") from error
            if root.version == held.root.version:
                return held.root
            named = here(self._tenant, root, TIMESTAMP)
            if len(named) < root.timestamp_threshold:
                raise missing_key(self._tenant, root, TIMESTAMP)
            keep_root(self._tenant, self._store, signed)
            self._held = self._read()
            self._renew()
            return root

    def heard(self, timestamp_version: int, stop_list_version: int) -> None:
        """Take note of what a device holds: after a restore it may be newer than what is here.

        Then timestamp and stop list are signed anew above it, so that the device takes them.
        """
        ours = self.versions
        latest = self._now_ms() // 1000 + _LEEWAY_S
        ahead = (timestamp_version > ours[1], stop_list_version > ours[2])
        if not any(ahead):
            return
        if max(timestamp_version, stop_list_version) > latest:
            if not self._told_future:  # once: a device may say anything
                self._told_future = True
                log.warning(
                    "tenant %s: a device holds what was signed later than now. If this server's "
                    "clock was once ahead, devices from then need: genome-server keys rotate "
                    "timestamp",
                    self._tenant.name,
                )
            return
        if time.monotonic() - self._heard < _HEARD_EVERY_S:
            return
        with self._lock, self._store.transaction():
            held = self._held = self._read()
            if self._unable(held):
                return
            self._heard = time.monotonic()
            if ahead[1] and stop_list_version > self.versions[2]:
                log.warning(
                    "tenant %s: a device holds a newer stop list than this server, which came from "
                    "a backup; pause again what was paused since (genome-server offers pause)",
                    self._tenant.name,
                )
                stopped = held.stops.offers if held.stops is not None else ()
                self._put_stops(stopped, above=stop_list_version)
            self._renew(above=timestamp_version)

    def set_life(self, hours: int) -> None:
        """Say how long a timestamp keeps releases fresh (1 hour to 366 days)."""
        if not 1 <= hours <= 366 * 24:
            raise UsageError("a timestamp lives from 1 hour to 366 days")
        with self._lock, self._store.transaction():
            self._store.set_meta(LIFE_KEY, str(hours))
            self._held = self._read()
            if not self._unable(self._held):
                self._renew()

    # -- inside

    def _current(self) -> _Held:
        if time.monotonic() - self._looked > LOOK_S:
            self.look()
        return self._held

    def _read(self) -> _Held:
        self._read_at = time.monotonic()
        store = self._store
        versions = store.trusted_versions()
        roots = tuple(release_pb2.SignedRoot.FromString(one) for one in store.trusted(ROOT))
        root = release_pb2.TrustRoot.FromString(roots[-1].root)
        life = int(store.meta(LIFE_KEY) or LIFE_HOURS)
        keys, unreadable = [], ""
        try:
            keys = here(self._tenant, root, TIMESTAMP)
        except (Refused, OSError) as error:  # as good as none
            unreadable = f"tenant {self._tenant.name} cannot sign: {error}"
        held = _Held(versions, roots, root, tuple(keys), unreadable, life_ms=life * _HOUR_MS)
        for content in store.trusted(TIMESTAMP):
            signed = release_pb2.SignedTimestamp.FromString(content)
            stated = release_pb2.Timestamp.FromString(signed.timestamp)
            held = replace(held, signed=signed, timestamp=stated)
        for content in store.trusted(STOP_LIST):
            signed_stops = stop_pb2.SignedStopList.FromString(content)
            stops = stop_pb2.StopList.FromString(signed_stops.stop_list)
            held = replace(held, signed_stops=signed_stops, stops=stops)
        return held

    def _due(self, held: _Held) -> bool:
        """Whether the timestamp has to be signed anew, and can be."""
        why = self._unable(held)
        if why != self._told:
            self._told = why
            if why:
                log.error("%s", why)
        if why:
            return False
        stated = held.timestamp
        if stated is None:
            return True
        now = self._now_ms()
        half = stated.created_ms + (stated.expires_ms - stated.created_ms) // 2
        return (
            not stated.created_ms - _HOUR_MS <= now < half
            or list(stated.releases) != self._releases()
            or stated.stop_list_version != (held.stops.version if held.stops is not None else 0)
            or not self._signed_by(held)
        )

    def _unable(self, held: _Held) -> str:
        """Why nothing can be signed that devices believe; empty: it can."""
        if not held.able:
            return held.unreadable or str(missing_key(self._tenant, held.root, TIMESTAMP))
        if 0 < held.root.expires_ms <= self._now_ms():
            return (
                f"tenant {self._tenant.name}: root {held.root.version} has expired, and devices "
                "believe nothing new under it; replace it with: genome-server keys rotate root "
                "--no-new --expires-days DAYS"
            )
        return ""

    def _signed_by(self, held: _Held) -> bool:
        """Whether what is in force is signed by keys of the root that is in force."""
        try:
            if held.signed is not None:
                verify_timestamp(held.signed, held.root, 0, held=True)
            if held.signed_stops is not None:
                verify_stop_list(held.signed_stops, held.root, 0, held=True)
        except TrustError:
            return False
        return True

    def _releases(self) -> list[release_pb2.CurrentRelease]:
        return [
            release_pb2.CurrentRelease(
                version=row.version,
                manifest_sha256=hashlib.sha256(
                    release_pb2.SignedManifest.FromString(row.manifest).manifest
                ).digest(),
            )
            for row in self._store.releases_in_force()
        ]

    def _change(self, change: Callable[[set[str]], set[str]]) -> stop_pb2.StopList:
        with self._lock, self._store.transaction():
            held = self._held = self._read()
            if why := self._unable(held):
                raise Refused(why)
            before = set(held.stops.offers) if held.stops is not None else set()
            after = change(before)
            if after != before or held.stops is None:
                self._put_stops(after)
                self._renew()
            stops = self._held.stops
            assert stops is not None
            return stops

    def _put_stops(self, offers: Iterable[str], above: int = 0) -> None:
        """Sign a stop list and keep it. Inside a transaction."""
        held, now = self._held, self._now_ms()
        last = max(held.stops.version if held.stops is not None else 0, above)
        stops = stop_pb2.StopList(
            tenant=self._tenant.name,
            version=max(last + 1, now // 1000),
            offers=sorted(offers),
            created_ms=now,
        )
        signed = sign_stop_list(stops, held.keys)
        if len(signed.stop_list) > Limits().stop_list_bytes:
            raise Refused(
                f"{len(stops.offers):,} stopped offers are more than devices take; publish a "
                "release without them instead"
            )
        self._store.put_trusted(STOP_LIST, stops.version, signed.SerializeToString(), alone=True)
        self._held = replace(held, signed_stops=signed, stops=stops)

    def _renew(self, above: int = 0) -> None:
        """Sign a timestamp, and what no longer fits the root, and keep them. In a transaction."""
        if self._held.stops is not None and not self._signed_by(self._held):
            self._put_stops(self._held.stops.offers)
        held, now = self._held, self._now_ms()
        last = max(held.timestamp.version if held.timestamp is not None else 0, above)
        timestamp = release_pb2.Timestamp(
            tenant=self._tenant.name,
            version=max(last + 1, now // 1000),
            created_ms=now,
            expires_ms=now + held.life_ms,
            releases=self._releases(),
        )
        if held.stops is not None and held.signed_stops is not None:
            timestamp.stop_list_version = held.stops.version
            digest = hashlib.sha256(held.signed_stops.stop_list).digest()
            timestamp.stop_list_sha256 = digest
        signed = sign_timestamp(timestamp, held.keys)
        try:
            verify_timestamp(signed, held.root, now)
        except TrustError as error:
            raise Refused(f"devices would refuse this timestamp: {error}") from error
        self._store.put_trusted(
            TIMESTAMP, timestamp.version, signed.SerializeToString(), alone=True
        )
        self._held = self._read()
