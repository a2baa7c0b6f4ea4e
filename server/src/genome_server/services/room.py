"""One tenant, open: its store, log, keys and releases, and the bell that tells of changes.

Everything that blocks (store, log, files) is called from a pool of threads; the
bell and the counters belong to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable

from edge_sdk.errors import StoreCorrupt
from edge_sdk.sync.keys import DeviceKey
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.log import Committer, LogReader
from genome_server.releases.trust import TrustDesk
from genome_server.services.shelf import Shelf

log = logging.getLogger(__name__)


class Bell:
    """Wakes every stream that waits for news. For the event loop only."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def subscribe(self, event: asyncio.Event) -> None:
        """Set this event at every ring."""
        self._waiting.add(event)

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Leave it alone from now on."""
        self._waiting.discard(event)

    def ring(self) -> None:
        """Wake all."""
        for event in self._waiting:
            event.set()


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
        self.log = Committer(tenant.log_path, on_commit=self._committed)
        self.reader = LogReader(tenant.log_path)
        self.bell = Bell()
        #: Newest genome stamp, newest release of any channel, and versions of root, timestamp
        #: and stop list, as seen so far; kept by `look`.
        self.stamp = 0
        self.release_version = 0
        self.trust_versions = (0, 0, 0)
        #: Batches taken from each device since the server started.
        self.reports: Counter[str] = Counter()
        self._wake: Callable[[], None] | None = None
        self.look()

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Call `wake`, on the log's thread, after each commit that added events."""
        self._wake = wake

    def look(self) -> bool:
        """Look for what changed in the store, by whatever process; True where something did."""
        stamp = self.store.newest_stamp()
        release = max((row.version for row in self.store.releases_in_force()), default=0)
        self.trust.look()
        seen = (stamp, release, self.trust.versions)
        changed = seen != (self.stamp, self.release_version, self.trust_versions)
        self.stamp, self.release_version, self.trust_versions = seen
        return changed

    def close(self) -> None:
        """Write what waits in the log, then close everything."""
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
