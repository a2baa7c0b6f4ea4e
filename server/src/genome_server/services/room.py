"""One tenant, open: its store, log, keys and releases, and the bell that tells of changes.

Everything that blocks (store, log, files) is called from a pool of threads; the
bell and the counters belong to the event loop.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_sdk.errors import StoreCorrupt
from edge_sdk.sync.keys import DeviceKey
from genome_server.errors import Refused, StoreError
from genome_server.home import Tenant
from genome_server.log import Committer, LogReader
from genome_server.log.marks import BackupMarks
from genome_server.releases.trust import TrustDesk
from genome_server.services.facts import Facts
from genome_server.services.shelf import Shelf
from genome_server.store.protocol import DEFAULT_CHANNEL, ReleaseRow

log = logging.getLogger(__name__)


class Sleeper(Protocol):
    """Who waits for news."""

    def poke(self) -> None:
        """There may be something to do."""


class Bell:
    """Wakes the streams that wait for news. For the event loop only."""

    def __init__(self) -> None:
        # By audience, those of each device: it has two while it changes over.
        self._waiting: dict[str, dict[str, tuple[Sleeper, ...]]] = {}

    def subscribe(self, audience: str, device: str, sleeper: Sleeper) -> None:
        """Poke it at every ring for everybody, for this audience or for this device."""
        devices = self._waiting.setdefault(audience, {})
        devices[device] = (*devices.get(device, ()), sleeper)

    def unsubscribe(self, audience: str, device: str, sleeper: Sleeper) -> None:
        """Leave it alone from now on."""
        devices = self._waiting.get(audience, {})
        left = tuple(one for one in devices.pop(device, ()) if one is not sleeper)
        if left:
            devices[device] = left

    def ring(self, news: News) -> None:
        """Wake those whom the news concern."""
        for audience, devices in self._waiting.items():
            everybody = news.all or audience in news.audiences
            for device in list(devices) if everybody else devices.keys() & news.devices:
                for sleeper in devices[device]:
                    sleeper.poke()


@dataclass(frozen=True)
class News:
    """What changed since the last look: something for all devices, genomes of audiences.

    `devices` may have to hear how far their events are in the genomes.
    """

    all: bool = False
    audiences: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()


class Room:
    """An open tenant. Make it and close it off the event loop; see `live` for what keeps it going.

    Raises NotInitialised, StoreError, LogFormatError, or Refused where a key is missing.
    """

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.name = tenant.name
        self.store = tenant.open_store()
        self.credential_key = _load_credential_key(tenant)
        self.presence_key = _load_presence_key(tenant)
        self.trust = TrustDesk(tenant, self.store)
        self.shelf = Shelf(tenant, self.store)
        self.log = Committer(
            tenant.log_path,
            replica=lambda incarnation: BackupMarks(tenant.dir, incarnation),
            on_commit=self._committed,
        )
        self.reader = LogReader(tenant.log_path)
        self.bell = Bell()
        #: The stamp of what happened last in each audience, the releases in force, the devices
        #: that are revoked or in a channel of their own, and the versions of root, timestamp and
        #: stop list, as seen so far; kept by `look`, and changed as a whole.
        self.stamps: Mapping[str, int] = {}
        #: The stamp of what counted last for caps, by audience.
        self.counted: Mapping[str, int] = {}
        self.in_force: Sequence[ReleaseRow] = ()
        self.unusual: Mapping[str, tuple[str, bool]] = {}
        self.trust_versions = (0, 0, 0)
        self.facts = Facts(self.store)
        #: Batches taken from each device since the server started, and the devices of which some
        #: are not known to be in the genomes.
        self.reports: Counter[str] = Counter()
        self.unsettled: set[str] = set()
        self._wake: Callable[[], None] | None = None
        self._followers: list[Callable[[], None]] = []
        self.look()

    def took_report(self, device: str) -> None:
        """Count a batch that was taken from a device."""
        self.reports[device] += 1
        self.unsettled.add(device)

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Call `wake`, on the log's thread, after each commit that added events."""
        self._wake = wake

    def follow(self, look: Callable[[], None]) -> None:
        """Call `look` with every look, one at a time; it may block."""
        self._followers.append(look)

    def look(self) -> News:
        """Look for what changed in the store, by whatever process."""
        for follower in self._followers:
            follower()
        stamps, unusual = self.store.audience_stamps(), self.store.unusual_devices()
        in_force = self.store.releases_in_force()
        self.trust.look()
        seen = (in_force, unusual, self.trust.versions)
        different = seen != (self.in_force, self.unusual, self.trust_versions)
        if different:
            self.in_force, self.unusual, self.trust_versions = seen
        grown = {name for name, at in stamps.items() if at != self.stamps.get(name)}
        counted = self.store.cap_stamps()
        grown |= {name for name, at in counted.items() if at != self.counted.get(name)}
        self.stamps, self.counted = stamps, counted
        return News(different, frozenset(grown))

    def release_for(self, device: str) -> ReleaseRow | None:
        """What a device is to have, as of the last look."""
        channel, _ = self.unusual.get(device, (DEFAULT_CHANNEL, False))
        for name in dict.fromkeys((channel, DEFAULT_CHANNEL)):
            for row in self.in_force:
                if row.channel == name and row.covers(device):
                    return row
        return None

    def revoked(self, device: str) -> bool:
        """Whether a device was revoked, as of the last look."""
        return self.unusual.get(device, ("", False))[1]

    def close(self) -> None:
        """Write what waits, then close everything."""
        try:
            self.facts.flush()
        except StoreError as error:
            log.warning("tenant %s: what devices said is not kept: %s", self.name, error)
        self.log.close()
        self.reader.close()
        self.store.close()

    def _committed(self, end: int) -> None:
        log.debug("tenant %s: log ends at %d", self.name, end)
        if self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop is at its end
                self._wake()


def _load_credential_key(tenant: Tenant) -> DeviceKey:
    path = tenant.credential_key_path
    try:
        return DeviceKey.load(path)
    except FileNotFoundError:
        raise Refused(f"{path} is missing; restore the tenant's keys from your backup") from None
    except StoreCorrupt as error:
        raise Refused(str(error)) from error


def _load_presence_key(tenant: Tenant) -> bytes:
    path = tenant.presence_key_path
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        raise Refused(f"{path} is missing; restore the tenant's keys from your backup") from None
    if len(secret) != 32:
        raise Refused(f"{path} has {len(secret)} bytes instead of 32")
    return secret
