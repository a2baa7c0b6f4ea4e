"""One simulated world: a server, its devices, and what happens to them, drawn by chance."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final
from unittest import mock

from edge_sdk.errors import EdgeError, UnreachableError
from edge_sdk.testing import SimulatedClock, SimulatedDisk, SimulatedNetwork
from tests.drills.decisions import agree, check_answers, decide
from tests.drills.findings import Wrong
from tests.drills.laws import Law, check_current, check_erased, check_log
from tests.drills.region import CUSTOMERS, Crash, Device, Fuse, History, event
from tests.drills.town import BEGIN_MS, DEVICES, HOUR_MS, Log, Town

_STEPS: Final = (15, 40)
_MOST_DEVICES: Final = 3
_NOBODY: Final = bytes(16)
#: At the end every device syncs and says something so often.
_AWAKE: Final = 2


class World:
    """One server, its devices, and what happens to them."""

    def __init__(self, folder: Path, history: History, seed: str, fuse: Fuse) -> None:
        self.folder, self.history, self.fuse = folder, history, fuse
        self.dice = random.Random(seed)
        self.clock = SimulatedClock(BEGIN_MS + HOUR_MS)
        self.town = history.town.copy(self.clock.now_ms, self.dice, Log())
        self.stale = self.town.replica()
        self.devices: list[Device] = []
        self.lines: list[SimulatedNetwork] = []
        self.laws: list[Law] = []
        self.disks: list[SimulatedDisk] = []
        #: Disks are copied, or customers erased: of what one copy of a disk has erased and another
        #: has not, the log cannot tell that it was the same.
        self.copies = self.dice.random() < 0.5
        self.kept: set[int] = set()
        self.steps: list[str] = []
        self.touched: set[int] = set()
        self.tried = Counter[str]()
        #: Events: whose; those that must not be lost; those that may be, for only a disk that was
        #: put back held them, or because their customer was erased.
        self.said: dict[int, bytes] = {}
        self.written: set[int] = set()
        self.doomed: set[int] = set()
        self.risky: set[int] = set()
        self.erased: set[bytes] = set()

    def live(self) -> str:
        """Do everything; what did not hold, or nothing."""
        names = random.Random(self.dice.random())
        self.folder.mkdir()
        with (
            mock.patch.object(secrets, "token_bytes", names.randbytes),
            mock.patch.object(os, "urandom", names.randbytes),
            mock.patch.object(secrets, "token_hex", lambda n: names.randbytes(n).hex()),
        ):
            return self._live()

    def _live(self) -> str:
        try:
            self._begin()
            for _ in range(self.dice.randrange(*_STEPS)):
                self._step()
                self._check()
            self._heal()
        except Wrong as wrong:
            return str(wrong)
        except (EdgeError, OSError, ValueError, LookupError, TypeError, AssertionError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            self.fuse.left = 0
            for device in self.devices:
                device.stop()
            self.town.log.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        return ""

    # What happens -------------------------------------------------------------------------------

    def _begin(self) -> None:
        for name in DEVICES[: self.dice.choice((1, 2))]:
            known = self.dice.random() < 0.5
            path = self.folder / name
            shutil.copytree(self.history.synced if known else self.history.new, path)
            self._add(path, name)
        if self.dice.random() < 0.5:
            self.town.log.expect_backups()
        self.town.in_chunks = self.dice.random() < 0.5

    def _add(self, path: Path, name: str) -> None:
        device = Device(path, name, self.clock)
        self.devices.append(device)
        self.lines.append(SimulatedNetwork(self.dice.randrange(1 << 30)))
        self.laws.append(Law())
        self.disks.append(SimulatedDisk(path))

    def _step(self) -> None:
        (act,) = self.dice.choices(list(_ACTS), list(_ACTS.values()))
        at = self.dice.randrange(len(self.devices))
        self.tried[act.__name__.strip("_").replace("_", " ")] += 1
        act(self, at)

    def _note(self, text: str, at: int | None = None) -> None:
        self.steps.append(text if at is None else f"{at}. {text}")
        if at is not None:
            self.touched.add(at)

    def _publish(self, _: int) -> None:
        dice = self.dice
        if dice.random() < 0.2:
            version = self.town.change_schema(dice.randrange(1, 4))
            self._note(f"release {version} of another landmark")
            return
        broken = dice.random() < 0.15
        asset = b"picture %d" % dice.randrange(3) if dice.random() < 0.3 else b""
        version = self.town.release(dice.randrange(1, 4), broken=broken, asset=asset)
        self._note(f"{'broken ' * broken}release {version}{' with a picture' * bool(asset)}")

    def _rotate(self, _: int) -> None:
        roles = self.dice.sample(("root", "release", "timestamp"), self.dice.randrange(1, 3))
        self.town.rotate(*roles)
        self._note(f"new keys for {' and '.join(roles)}")

    def _pause(self, _: int) -> None:
        offer = f"offer-{self.dice.randrange(9)}"
        self.town.pause(offer)
        self._note(f"{offer} is paused")

    def _stamp(self, _: int) -> None:
        self.town.stamp()
        self._note("a timestamp")

    def _put_customers(self, _: int) -> None:
        for number in self.dice.sample(range(CUSTOMERS), self.dice.randrange(1, 4)):
            self.town.put_row(number, self.dice)
        self._note("genomes change")

    def _lose_customer(self, at: int) -> None:
        town, name = self.town, self.devices[at].name
        subject = self.dice.choice(sorted(town.rows_for(name)))
        if self.copies or self.dice.random() < 0.5:
            if len(town.rows_for(name)) > 1:
                town.leave(name, subject)
                self._note(f"{subject.hex()[:6]} leaves its audience", at)
        elif all(town.rows_for(one).keys() - {subject} for one in DEVICES):
            self.erased.add(subject)
            town.erase(subject)
            for law in self.laws:
                law.consents.doubt([subject])
            self._note(f"{subject.hex()[:6]} is erased")

    def _happen(self, at: int) -> None:
        device, dice = self.devices[at], self.dice
        known = [*sorted(row.subject for row in device.store.genomes().rows()), _NOBODY]
        for _ in range(dice.randrange(1, 5)):
            self._say(at, dice.choice(known), urgent=dice.random() < 0.3)

    def _say(self, at: int, subject: bytes, *, urgent: bool) -> None:
        number = len(self.said) + 1

        def settled(outcome: str) -> None:
            if not outcome:
                self.written.add(number)

        self.said[number] = subject
        self._note(f"event {number}", at)
        self.devices[at].happen(event(number, subject, settled, urgent=urgent))

    def _sync(self, at: int) -> None:
        """Over a good line: then the device has everything."""
        self._good(at)
        device = self.devices[at]
        cursor = device.store.genome_cursor()
        nack = device.sync(self.town, self.lines[at])
        self._note(f"syncs{': ' * bool(nack)}{nack}", at)
        check_current(device, self.town, nack)
        if device.store.genome_cursor() != cursor:
            check_erased(device, self.town)

    def _sync_badly(self, at: int) -> None:
        line, dice = self.lines[at], self.dice
        line.drop = dice.choice((0.0, 0.1, 0.3))
        line.repeat = dice.choice((0.0, 0.1, 0.3))
        line.reorder = dice.choice((0, 0, 1, 3))
        line.cut_at = dice.choice((None, dice.randrange(200, 12_000)))
        self._sync_anyhow(at, self.town, "over a bad line")

    def _sync_with_the_past(self, at: int) -> None:
        self._good(at)
        self._sync_anyhow(at, self.stale, "with what was true once")
        if self.dice.random() < 0.5:
            self.stale = self.town.replica()

    def _sync_anyhow(self, at: int, town: Town, how: str) -> None:
        try:
            nack = self.devices[at].sync(town, self.lines[at])
        except UnreachableError as error:
            nack = str(error)
        self._note(f"syncs {how}{': ' * bool(nack)}{nack}", at)
        reason = nack.partition(":")[0]
        self.tried[f"refused {reason}"] += reason.isupper()

    def _report(self, at: int) -> None:
        line, dice = self.lines[at], self.dice
        line.drop = dice.choice((0.0, 0.2, 0.5))
        line.repeat = dice.choice((0.0, 0.3))
        line.reorder = dice.choice((0, 2, 5))
        done = self.devices[at].report(self.town, line, dice.randrange(1, 8))
        self._note("reports all" if done else "reports", at)

    def _good(self, at: int) -> None:
        line = self.lines[at]
        line.drop = line.repeat = 0.0
        line.reorder, line.cut_at = 0, None

    def _set_clock(self, at: int) -> None:
        hours = self.dice.choice((1, 30, 24 * 40, 24 * 4000)) * self.dice.choice((-1, 1))
        self.devices[at].ahead += hours * HOUR_MS
        self._note(f"its clock is set by {hours} h", at)

    def _pass(self, _: int) -> None:
        hours = self.dice.choice((0.1, 2, 13, 50, 24 * 12))
        self.clock.move(hours=hours)
        self._note(f"{hours:g} h pass")

    def _switch_off(self, at: int) -> None:
        self._restart(at, "switched off and on")

    def _restart(self, at: int, why: str) -> None:
        device = self.devices[at]
        device.stop(reboot=self.dice.random() < 0.5)
        self._note(why, at)
        device.start()

    def _switch_off_amid(self, at: int) -> None:
        """Off at a write to the disk."""
        act = self.dice.choice((World._sync_badly, World._happen, World._report, decide, agree))
        self.fuse.left = self.dice.randrange(1, 16)
        try:
            if self.dice.random() < 0.5:
                self._good(at)
                self._sync_anyhow(at, self.town, "over a good line")
            else:
                act(self, at)
        except Crash:
            self._restart(at, "switched off amid this")
            self.tried["switched off at a write"] += 1
        finally:
            self.fuse.left = 0

    def _fill_disk(self, at: int) -> None:
        """No room on the disk for a while."""
        self._note("its disk is full", at)
        with self.disks[at].full(), contextlib.suppress(EdgeError):
            self._happen(at)
            decide(self, at)
            self._report(at)
            self._sync_badly(at)
        self._note("there is room again", at)

    def _keep_disk(self, at: int) -> None:
        if not self.copies:
            return
        self.devices[at].stop()
        self.disks[at].keep()
        self.kept.add(at)
        self.devices[at].start()
        self._note("its disk is copied", at)

    def _put_disk_back(self, at: int) -> None:
        if at not in self.kept:
            return
        device = self.devices[at]
        before = device.held()
        device.stop()
        self.disks[at].lose()
        device.start()
        self.laws[at] = self.laws[at].put_back()
        lost = before - device.held()
        self.risky |= lost
        self.doomed |= self._gone() & lost
        self._note("its disk is put back", at)

    def _clone(self, at: int) -> None:
        if not self.copies or len(self.devices) == _MOST_DEVICES:
            return
        device = self.devices[at]
        device.stop()
        path = self.folder / f"clone-{len(self.devices)}"
        shutil.copytree(device.path, path)
        device.start()
        self._add(path, device.name)
        self.laws[-1] = self.laws[at].copy()
        self._note(f"is cloned as {len(self.devices) - 1}", at)

    def _back_up(self, _: int) -> None:
        if self.town.log.backed_up:
            self.town.log.back_up()
            self._note("the log is backed up")

    def _restore(self, _: int) -> None:
        if self.town.log.backed_up:
            self.town.log.restore()
            self.doomed |= self._gone() & self.risky
            self._note("the log is restored")

    # What must hold -----------------------------------------------------------------------------

    def _check(self) -> None:
        for at in self.touched:
            self.laws[at].check(self.devices[at], self.town)
        self.touched.clear()
        gone = self._gone()
        if gone:
            raise Wrong(f"event {min(gone)} is gone")

    def _gone(self) -> set[int]:
        """Events that are nowhere and should be somewhere."""
        gone = self.written - check_log(self.town.log, self.said) - self.doomed
        for device in self.devices if gone else ():
            gone -= device.held()
        return {number for number in gone if self.said[number] not in self.erased}

    def _heal(self) -> None:
        self._note("all is well again")
        self.town.release(2)
        for round_ in range(2 * len(self.devices) + 3):
            for at, device in enumerate(self.devices):
                self._good(at)
                if round_ < _AWAKE:
                    self._sync(at)
                    self._say(at, _NOBODY, urgent=False)
                device.report(self.town, self.lines[at], 60)
            if self.town.log.backed_up:
                self.town.log.back_up()
            if round_ >= _AWAKE and not any(one.outbox.unsent() for one in self.devices):
                break
        self._check()
        for at, device in enumerate(self.devices):
            check_answers(device, self.town, self.laws[at].answers)
            if device.outbox.unsent():
                raise Wrong(f"{at} has {device.outbox.unsent()} events that it does not send")
        missing = self.written - check_log(self.town.log, self.said) - self.doomed
        missing = {number for number in missing if self.said[number] not in self.erased}
        if missing:
            raise Wrong(f"event {min(missing)} never came to the log")


_ACTS: Final[dict[Callable[[World, int], None], int]] = {
    World._publish: 8,
    World._rotate: 3,
    World._pause: 4,
    World._stamp: 2,
    World._put_customers: 8,
    World._lose_customer: 5,
    World._happen: 14,
    decide: 8,
    agree: 3,
    World._sync: 10,
    World._sync_badly: 14,
    World._sync_with_the_past: 5,
    World._report: 14,
    World._set_clock: 4,
    World._pass: 6,
    World._switch_off: 4,
    World._switch_off_amid: 8,
    World._fill_disk: 4,
    World._keep_disk: 5,
    World._put_disk_back: 5,
    World._clone: 2,
    World._back_up: 4,
    World._restore: 3,
}
