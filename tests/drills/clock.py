"""Set a device's clock back and forth, let it sleep, reboot and be offline: time only goes on.

Each round is the life of one device with a store on disk, an engine and clocks that are set: by an
hour to ten years, forward and back, before and in the middle of decisions, redemptions, group
commits and syncs. Meanwhile the true time goes on, by minutes to sixty days. What must hold:

- Once the server was heard since the machine was started, the device's time is the server's, to the
  millisecond. A reboot may cost that until the server is heard again; a clock that was set back
  still never makes it earlier than what has passed.
- No cap opens before its time, no offer is shown after its end, no release older than the last is
  taken, and none is called fresh that is not.
- Events keep their order, and carry the server's time.
- Nothing raises, and when the server is heard again everything is as it should be: a device that
  was off for sixty days decides from the next release at once.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from edge_sdk.clock import Clocks, DeviceClock
from edge_sdk.config import Config
from edge_sdk.context import Context
from edge_sdk.decision import Decision, Reason, Tier
from edge_sdk.errors import EdgeError
from edge_sdk.outbox.frames import iter_frames
from edge_sdk.runtime.desk import Desk
from edge_sdk.runtime.keeper import Keeper, Origin
from edge_sdk.runtime.live import ANYBODY
from edge_sdk.runtime.room import Room
from edge_sdk.status import tier_of
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.open_store import OpenStore
from genome_edge.v1 import event_pb2
from tests.drills.findings import Findings
from tests.unit.device_town import Town

SHORT: Final = 12
LONG: Final = 500
UNIT: Final = "lives"

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
YEAR: Final = 365 * DAY
JUMPS: Final = (HOUR, DAY, 30 * DAY, YEAR, 10 * YEAR)
SPANS: Final = (MINUTE, HOUR, 5 * HOUR, DAY, 6 * DAY, 33 * DAY)
STEPS: Final = 24
LIFE: Final = 30 * DAY
SETTLED: Final = 10_000
SERVICE: Final = Config(group_commit_s=0.001, stale_s=7 * 86_400, restricted_s=30 * 86_400)

OFFERS: Final = (
    {"id": "daily", "priority": 3, "caps": [{"limit": 1, "window_hours": 24, "scope": "device"}]},
    {"id": "ending", "priority": 2, "valid": {"until": "2026-06-01T00:00:00Z"}},
    {"id": "near-line", "priority": 1, "max_offline_age_hours": 48},
    {"id": "always"},
)
BEGIN: Final = 1_775_000_000_000  # 2026-03-31
ENDING: Final = 1_780_272_000_000


class Life:
    """One device, the truth about it, and what was seen of it."""

    def __init__(self, path: Path, dice: random.Random, tried: Counter[str]) -> None:
        self.path = path
        self.dice = dice
        self.tried = tried
        self.wrong: list[str] = []
        self.true = BEGIN
        self.heard: int | None = None
        self.wall = BEGIN + dice.randrange(-HOUR, HOUR)
        self.passed = dice.randrange(DAY)
        self.boot = dice.randbytes(16)
        self.version = 0
        self.expires = 0
        self.highest = 0
        #: True times at which the capped offer was shown, the device knowing the time.
        self.shown: list[int] = []
        self.known: set[str] = set()
        self.start()
        self.hear()

    # What happens to it -------------------------------------------------------------------------

    def start(self) -> None:
        clocks = Clocks(lambda: self.wall, lambda: self.passed, self.boot)
        self.store = DeviceStore.open(self.path)
        self.store.clocks = clocks
        self.room = Room(SERVICE, DeviceClock(*clocks))
        self.keeper = Keeper(Origin(self.path), self.room, SERVICE)
        self.open = OpenStore(self.store, self.room, SERVICE, lambda: None)
        self.keeper.open = self.open
        self.keeper._tried.set()
        self.keeper.when_open(10)
        self.desk = Desk(self.room, self.keeper)
        self.look()
        self.floor = self.store.clock_floor_ms()

    def look(self) -> None:
        self.open.look(self.room)

    def pass_by(self, span: int) -> None:
        self.true += span
        self.wall += span
        self.passed += span
        self.floor += span

    def jump(self) -> None:
        """Somebody sets the clock."""
        by = self.dice.choice(JUMPS) * self.dice.choice((-1, 1))
        self.wall += by + self.dice.randrange(-1000, 1000)
        self.tried["set back" if by < 0 else "set forward"] += 1

    def maybe_jump(self) -> None:
        if self.dice.random() < 0.5:
            self.jump()

    def reboot(self) -> None:
        if not self.open.close(10):
            self.wrong.append("not everything was written at the end")
        if self.dice.random() < 0.5:
            self.jump()
        self.pass_by(self.dice.choice(SPANS))
        self.boot, self.passed = self.dice.randbytes(16), self.dice.randrange(HOUR)
        self.start()
        self.tried["reboot"] += 1

    def hear(self) -> None:
        """The server is heard: its time, and a release that it publishes every ten days."""
        self.store.heard_server(self.true)
        self.heard = self.true
        self.maybe_jump()
        self.look()
        if self.expires - self.true < LIFE - 10 * DAY:
            self.publish()
        self.open.keep_house(self.room)
        self.floor = self.true
        self.tried["heard"] += 1

    def publish(self) -> None:
        self.version += 1
        self.expires = self.true + LIFE
        town = Town(self.version, OFFERS, expires_ms=self.expires, created_ms=self.true)
        town.stage(self.store)
        self.maybe_jump()
        self.store.commit_release(town.signed().SerializeToString(), self.version)
        self.maybe_jump()
        self.look()
        self.tried["release"] += 1

    # What it does -------------------------------------------------------------------------------

    def decide(self) -> None:
        decision = self.desk.decide(ANYBODY, Context(), "lobby", 1)
        self.check(decision)
        self.maybe_jump()
        redeemed = self.desk.redeem(decision) if decision.offer else None
        self.maybe_jump()
        # Without the server's time an offer may turn out to have ended meanwhile.
        if redeemed is not None and not redeemed.granted and self.room.clock.anchored:
            self.wrong.append(f"a redemption was refused: {redeemed.reason}")
        self.desk.report(decision, "view")
        self.jump()
        if not self.open.writer.flush(10):
            self.wrong.append("a group commit did not end")
        self.tried["decision"] += 1

    # What must hold -----------------------------------------------------------------------------

    def check(self, decision: Decision) -> None:
        """One decision, made now."""
        now, clock = self.room.clock.now_ms(), self.room.clock
        offer = decision.offer.id if decision.offer is not None else ""
        if now < self.floor:
            self.wrong.append(f"time went back by {self.floor - now} ms")
        if decision.release < self.highest:
            self.wrong.append(f"release {decision.release} after {self.highest}")
        self.highest = max(self.highest, decision.release)
        if not clock.anchored:
            return
        if now != self.true:
            self.wrong.append(f"the time is off by {now - self.true} ms")
        tier = tier_of(self.expires, self.true, SERVICE)
        if decision.tier is not tier:
            self.wrong.append(f"tier {decision.tier}, it should be {tier}")
        self.tried[f"decided {tier.value}"] += 1
        if offer == "ending" and self.true >= ENDING:
            self.wrong.append("shown after its end")
        if offer == "near-line" and self.true - (self.heard or 0) > 48 * HOUR:
            self.wrong.append("shown too long without the server")
        if offer == "daily":
            if self.shown and self.true < self.shown[-1] + DAY:
                self.wrong.append("a cap opened before its time")
            self.shown.append(self.true)
        if tier in (Tier.FRESH, Tier.STALE) and not offer:
            self.wrong.append(f"nothing is shown: {decision.reason}")
        if tier is Tier.HOUSE and decision.reason is not Reason.EXPIRED:
            self.wrong.append(f"decided although it is too old: {decision.reason}")

    def check_events(self) -> None:
        """Events: in the order in which they happened, by the clock that nobody can set."""
        last: dict[int, tuple[int, bytes, int]] = {}
        with self.store.read() as connection:
            rows = list(connection.execute("SELECT lane, frames FROM outbox ORDER BY lane, first"))
        for lane, frames in rows:
            for frame in iter_frames(bytes(frames)):
                event = event_pb2.Event.FromString(frame.body)
                at = (frame.sequence, event.time.boot_id, event.time.monotonic_ms)
                before = last.get(lane)
                if before is not None and frame.sequence != before[0] + 1:
                    self.wrong.append("events are missing, or out of order")
                if before is not None and before[1] == at[1] and before[2] > at[2]:
                    self.wrong.append("events do not follow the time since boot")
                last[lane] = at
                self.tried["events in order"] += 1

    def recover(self) -> None:
        """The server is back: all is as it should be, and what is capped opens again in time."""
        self.hear()
        self.pass_by(2 * MINUTE)
        if self.room.clock.now_ms() != self.true:
            self.wrong.append("the time is not the server's after it was heard")
        self.pass_by(DAY + SETTLED + HOUR)
        self.hear()
        decision = self.desk.decide(ANYBODY, Context(), "lobby", 1)
        self.check(decision)
        if decision.tier is not Tier.FRESH or decision.release != self.version:
            self.wrong.append(
                f"{decision.tier} release {decision.release} after the server was heard"
            )
        if decision.offer is None or decision.offer.id != "daily":
            self.wrong.append(f"a cap that was due did not open: {decision}")


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Play rounds `first` to `first + rounds - 1`."""
    found = Findings()
    tried: Counter[str] = Counter()
    for number in range(first, first + rounds):
        path = folder / str(number)
        for text in _live(path, random.Random(f"{seed}:{number}"), tried):
            found.fail(number, text)
        shutil.rmtree(path, ignore_errors=True)
        found.tried += 1
        progress(found.tried)
    found.note(", ".join(f"{n} × {name}" for name, n in sorted(tried.items())))
    return found


def _live(path: Path, dice: random.Random, tried: Counter[str]) -> list[str]:
    life = Life(path, dice, tried)
    try:
        offline = dice.random() < 0.25
        if offline:
            tried["sixty days offline"] += 1
        for _ in range(STEPS):
            act = dice.choice(("jump", "pass", "decide", "decide", "reboot", "hear", "house"))
            if act == "jump":
                life.jump()
            elif act == "pass":
                life.pass_by(dice.choice(SPANS))
            elif act == "decide":
                life.decide()
            elif act == "reboot" and dice.random() < 0.3:
                life.reboot()
            elif act == "hear" and not offline:
                life.hear()
            else:
                life.open.keep_house(life.room)
                life.look()
                life.floor = life.store.clock_floor_ms()
        if offline:
            life.pass_by(60 * DAY)
            life.decide()
        life.recover()
        life.check_events()
    except (EdgeError, OSError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        life.wrong.append(f"raised {type(error).__name__}: {error}")
    finally:
        with suppress(EdgeError):
            life.open.close(10)
    return life.wrong
