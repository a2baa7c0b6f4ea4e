"""A store while a client has it open: what belongs to it, and what it says that is new."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edge_sdk import _posix
from edge_sdk._posix import FileLock
from edge_sdk.config import Config
from edge_sdk.engine.caps import CapLedger, CapRow
from edge_sdk.errors import EdgeError, StoreCorrupt
from edge_sdk.runtime import loading
from edge_sdk.runtime.kept_routines import KeptRoutines
from edge_sdk.runtime.room import Room
from edge_sdk.slices import in_slices
from edge_sdk.store import state as store_state
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.elsewhere import Elsewhere
from edge_sdk.store.meta import counter
from edge_sdk.store.reservations import ClaimFile
from edge_sdk.store.tables import HERE

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release
    from edge_sdk.outbox.queue import Outbox
    from edge_sdk.outbox.writer import Writer
    from edge_sdk.sync.roles import Standing
    from edge_sdk.sync.updater import Updater

log = logging.getLogger("edge_sdk.store.device")

# A release of more offers is written in its compiled form at the start of a process only.
_COMPILED: Final = 10_000

# Caps that were counted this recently may not be on disk yet.
_SETTLED_MS: Final = 10_000
# More new rows of caps than these are not read one by one.
_MANY: Final = 20_000
# So many rows are looked at together for what has ended.
_PAGE: Final = 5_000
# The lanes of a process that writes nothing yet.
_NO_LANES: Final = (-1, -1)


class OpenStore:
    """One open store. Everything but `writer`, `outbox` and `store` is for the keeper's thread."""

    def __init__(
        self, store: DeviceStore, room: Room, config: Config, on_change: Callable[[], None]
    ) -> None:
        self.store = store
        # Before the writer begins: from now on what this process counts is in the ledger first.
        with store.read() as connection:
            rows, self._last_cap = store_state.read_caps(connection, here=True)
        room.ledger.apply(rows)
        self._elsewhere = Elsewhere(store.database.path)
        self._last = store_state.FIRST
        self._draw(room.ledger, anew=True)
        self.claims = room.claims
        self._share(room)
        #: The writer, once it was asked for.
        self.begun: Writer | None = None
        self._beginning = threading.Lock()
        self._follows = False
        self.updater: Updater | None = None
        self.standing: Standing | None = None
        #: Why the release that is on disk is not the one decided from; None: it is.
        self.cause: EdgeError | None = None
        self._config = config
        self._on_change = on_change
        self._watch = store.watch()
        self._generation = store.database.generation
        self._seen = (-1, -1, -1, -1)
        self._consents: object = None  # how many there were, and what their checks came to
        self._syncing: FileLock | None = None
        self._uncompiled: tuple[Release, bytes] | None = None
        self._routines = KeptRoutines(
            store.path,
            room.past,
            lambda one: room.local.consents(one, room.live.genomes.consents(one)),
        )

    @property
    def outbox(self) -> Outbox:
        """What goes to the server. Raises StoreError."""
        return self.writer.outbox

    @property
    def writer(self) -> Writer:
        """What writes, made when it is first asked for: the first decision does not wait for it.
        Raises StoreError."""
        if self.begun is None:
            with self._beginning:
                if self.begun is None:
                    from edge_sdk.outbox.queue import Outbox
                    from edge_sdk.outbox.writer import Writer

                    outbox = Outbox(self.store, self._config)
                    self._follows = True  # in lanes of one that may have died a moment ago
                    self.begun = Writer(self.store, outbox, self._config)
                    self._follows = True  # who looked meanwhile did not know these lanes
        return self.begun

    def _share(self, room: Room) -> None:
        """Count with the other processes of this store what is taken."""

        def everything() -> list[CapRow]:
            with self.store.read() as connection:
                return store_state.read_caps(connection, here=True)[0]

        try:
            file = ClaimFile(self.store.path, _posix.boot_id(), room.clock.elapsed_ms)
        except OSError as error:
            log.warning("caps are counted by each process for itself: %s", error)
        else:
            room.claims.attach(file, everything)

    # What is new --------------------------------------------------------------------------------

    def look(self, room: Room) -> bool:
        """Take over what any process has committed since the last look; whether decisions change.

        Raises StoreError.
        """
        if self.store.database.is_gone():
            self.store.repair(StoreCorrupt(f"{self.store.database.path} is gone"))
        if self.store.database.was_replaced():
            self.store.database.reset()
        if self.store.database.generation != self._generation:
            self._start_over(room.ledger)
        self._routines.follow()
        self._read_again()
        try:
            self.claims.follow()
            if not self._watch.changed():
                return False
        except StoreCorrupt as error:
            self.store.repair(error)
            raise
        room.clock.hear(*self.store.time_known())
        room.contact_ms = self.store.last_contact_ms() or 0
        before, now = self._seen, self.store.changes()
        changed = False
        if now[0] != before[0]:
            changed |= self._take_release(room)
        if now[0] != before[0] or now[3] != before[3]:
            changed |= self._take_standing(room)
        lost = False
        if now[1] != before[1]:
            held, genomes = room.live.genomes, self.store.genomes()
            lost = genomes.lost(held)
            room.adopt(genomes=genomes)
            changed = True
        if now[2] != before[2] or now[1] != before[1]:
            lanes = _NO_LANES if self._follows else self._lanes()
            all_of_it, self._follows = self._follows or now[1] != before[1], False
            self._take_state(room, lanes, all_of_it=all_of_it, lost=lost, since=before[2])
        self._seen = now
        return changed

    def _draw(self, ledger: CapLedger, *, anew: bool = False) -> None:
        """Have the ledger read here what customers did elsewhere, once there is anything; `anew`
        where that is not what it was."""
        if ledger.source is not None:
            if anew:
                ledger.draw_on(self._elsewhere)
            return
        with self.store.read() as connection:
            if not store_state.is_any_elsewhere(connection):
                return
        ledger.draw_on(self._elsewhere)

    def _start_over(self, ledger: CapLedger) -> None:
        """The SQLite file was rebuilt: what is in it is news, but for what was counted before."""
        self._watch.close()
        self._generation = self.store.database.generation
        self._watch = self.store.watch()
        self._seen = (-1, -1, -1, -1)
        with self.store.read() as connection:
            _, self._last_cap = store_state.read_caps(connection, here=True)
        self._elsewhere.reset()
        self._draw(ledger, anew=True)

    def _read_again(self) -> None:
        """Where a decision could not read what a customer did elsewhere: look what it is."""
        failed, self._elsewhere.failed = self._elsewhere.failed, None
        if failed is not None:
            self._elsewhere.reset()
            with self.store.read() as connection:  # repairs what is damaged
                store_state.read_elsewhere(connection, failed)

    def _take_release(self, room: Room) -> bool:
        stored, current = self.store.active_release(), room.live.release
        if stored is not None and current is not None and stored.version == current.version:
            if not current.is_fitted:  # from a bundle
                self._uncompiled = current, loading.key_of(stored)
            return False  # a version means one release only
        with in_slices(current is not None):  # who decides meanwhile goes first
            loaded = loading.load_stored(self.store)
            if room.plugins.scorer is None:
                loaded = loading.proven(self.store, loaded)
            self.cause = loaded.cause
            if loaded.release is None:
                return False
            release = room.fitted(loaded.release)
            self.cause = loading.warm(release) or self.cause
        if loaded.key is not None and (current is None or len(release.catalogue) <= _COMPILED):
            self._uncompiled = loaded.release, loaded.key
        # With what is in force at once, lest it shows for a moment what was stopped long ago.
        in_force = loading.in_force(self.store, self.store.standing(), release)
        with in_slices(current is not None):  # what was counted is counted anew
            room.adopt(release=release, in_force=in_force)
        return True

    def _take_standing(self, room: Room) -> bool:
        """Take over what is in force; whether that changes what may be shown."""
        self.standing = self.store.standing()
        in_force = loading.in_force(self.store, self.standing, room.live.release)
        if in_force == room.live.in_force:
            return False
        room.adopt(in_force=in_force)
        return True

    def _take_state(
        self, room: Room, lanes: tuple[int, int], *, all_of_it: bool, lost: bool, since: int
    ) -> None:
        """Take over what was done here, but for what was written in `lanes`."""
        all_before: list[store_state.StoredImprint] = []
        if all_of_it:  # who says something meanwhile must not wait for all of it
            with self.store.read() as connection:
                since = counter(connection, "state")
                all_before = store_state.read_pending(connection)
        with room.local.holding(), self.store.read() as connection:
            kept = connection.execute("SELECT count(*), sum(row_crc) FROM consents").fetchone()
            if kept != self._consents or room.local.spoken:
                room.local.reload_consents(store_state.read_consents(connection))
                self._consents = kept
            if all_of_it:
                new = store_state.read_pending(connection, since)
                room.local.reload([*all_before, *new])
            else:
                room.local.extend(store_state.read_pending(connection, since, lanes))
        self._take_caps(room, lanes, lost=lost)

    def _take_caps(self, room: Room, lanes: tuple[int, int], *, lost: bool) -> None:
        ledger, known = room.ledger, self._last_cap
        with self.store.read() as connection:
            newest = connection.execute("SELECT max(id) FROM caps").fetchone()[0] or 0
            # After a night's sleep more than anybody waits for: it is read when it is asked for.
            many = newest - known > _MANY
            rows, self._last_cap = store_state.read_caps(connection, known, lanes, here=many)
        self._draw(ledger, anew=many or lost)
        ledger.apply(rows)
        if lost:  # all rows are looked at, which is no matter of every change
            with self.store.read() as connection:
                self._forget_erased(connection, ledger, room.clock.now_ms())

    def _lanes(self) -> tuple[int, int]:
        """Those in which this process writes what it knows already."""
        return self.begun.lanes if self.begun is not None else _NO_LANES

    def _forget_erased(
        self, connection: sqlite3.Connection, ledger: CapLedger, now_ms: int
    ) -> None:
        """Whose caps neither the store nor the file of claims knows any more was erased."""
        of = f"SELECT DISTINCT subject FROM caps WHERE {HERE}"
        kept = {subject for (subject,) in connection.execute(of)}
        settled = {row.subject for row in ledger.rows() if row.at_ms < now_ms - _SETTLED_MS}
        gone = {
            subject
            for subject in settled - kept - {b""}
            if not store_state.read_elsewhere(connection, subject)
        }
        for subject in gone - self.claims.shared() if gone else ():
            ledger.forget(subject)

    def _keep_compiled(self) -> None:
        """Keep what was compiled just now for the next process that opens this store."""
        if self._uncompiled is not None:
            release, key = self._uncompiled
            self._uncompiled = None
            with in_slices(True):
                loading.keep_compiled(self.store, release, key)

    def keep_house(self, room: Room) -> None:
        """What is due now and then. Raises StoreError."""
        self._keep_compiled()
        now_ms = room.clock.now_ms()
        self.store.raise_clock_floor(now_ms)
        latest_ms = now_ms + _SETTLED_MS
        if room.clock.anchored:
            with self.store.read() as connection:
                ahead = store_state.is_any_elsewhere(connection, latest_ms)
            if room.ledger.bound(latest_ms) or ahead:
                with self.store.write() as connection:
                    store_state.bound_caps(connection, latest_ms)
                self._draw(room.ledger, anew=ahead)
        outdated = room.ledger.prune(now_ms) if room.clock.sure else []
        if outdated:
            with self.store.write() as connection:
                store_state.drop_caps(connection, outdated)
        if room.clock.sure and self._syncing is not None:
            self._prune_elsewhere(room.ledger, now_ms)
        with self.store.read() as connection:
            self._forget_erased(connection, room.ledger, now_ms)
        if self.standing is not None:  # files of offers may have gone from the disk
            self._take_standing(room)
        self._routines.keep()

    def _prune_elsewhere(self, ledger: CapLedger, now_ms: int) -> None:
        """Delete what was done elsewhere and can no longer block anything; a few rows are looked at
        each time, and more where there were any."""
        while True:
            with in_slices(), self.store.read() as connection:
                rows, self._last = store_state.oldest_elsewhere(connection, self._last, _PAGE)
            outdated = ledger.outdated(rows, now_ms)
            if not outdated:
                return
            with self.store.write() as connection:
                store_state.drop_caps(connection, outdated)

    # Syncing ------------------------------------------------------------------------------------

    def elect(self, server: str | None) -> bool:
        """Try to become the process that syncs; whether the device is enrolled at all.

        `server` is where the server is now, in place of where it was at enrolment. Raises
        StoreError, and StoreCorrupt where the identity cannot be read.
        """
        if self.updater is not None:
            return True
        identity = self.store.identity()
        if identity is None or not self.hold_sync():
            return identity is not None
        if server is not None and identity.server != server:
            self.store.set_identity(replace(identity, server=server))
        # Late: it brings the network's libraries, which no decision needs.
        from edge_sdk.sync.updater import Updater

        updater = Updater(self.store, self.outbox, self._config, self._on_change)
        updater.start()
        self.updater = updater
        return True

    def hold_sync(self) -> bool:
        """Hold the lock of the syncing process; whether we do."""
        if self._syncing is None:
            self._syncing = self.store.elect()
        return self._syncing is not None

    def release_sync(self) -> None:
        """Let another process sync."""
        if self._syncing is not None and self.updater is None:
            self._syncing.release()
            self._syncing = None

    # The end ------------------------------------------------------------------------------------

    def close(self, timeout: float) -> bool:
        """Write what there is, stop, and close the files; whether all was written in time."""
        deadline = time.monotonic() + timeout
        written = self.begun is None or self.begun.close(timeout)
        if self._uncompiled is not None and len(self._uncompiled[0].catalogue) <= _COMPILED:
            self._keep_compiled()  # it was open for a moment only
        if self._seen[1] >= 0:  # else nobody knows who agreed to what
            self._routines.begin()
            self._routines.save()
        self.claims.detach()
        self._elsewhere.reset()
        if self.updater is not None:
            self.updater.stop(max(0.1, deadline - time.monotonic()))
            self.updater = None
        self.release_sync()
        self._watch.close()
        self.store.close()
        return written

    def abandon(self) -> None:
        """In a forked child: give up what is the parent's."""
        if self.begun is not None:
            self.begun.abandon()
        self.claims.abandon()
        if self._syncing is not None:
            self._syncing.abandon()
        self.store.database.abandon()
