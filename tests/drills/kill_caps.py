"""Processes of one store are killed while they show what is limited: no cap is ever exceeded.

Three processes share a store. They decide, view, report and redeem as fast as they can, of offers
that may be shown a few times only: to a customer, on the device, of a campaign, a day. At moments
of chance one of them, or all, get SIGKILL, and others take their place. Whatever was shown stays
counted, so what all of them showed never exceeds a cap; nothing is redeemed more often than
allowed. Some decisions are durable: of those that were told none is forgotten. Of what was not
decided or reported durably no more is forgotten than the last 50 ms, and what a commit takes of
this machine and its disk just then. In the end the store opens, and where the file of claims is
taken away (as a reboot does) SQLite alone keeps to what was decided or reported durably.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, NamedTuple

from edge_sdk import Context, EdgeClient
from genome_edge.v1 import release_pb2
from tests.bench.stage import subject
from tests.drills import market
from tests.drills.findings import Findings
from tests.drills.stores import look

SHORT: Final = 20
LONG: Final = 1_000
UNIT: Final = "kills"

_WORKERS: Final = 3
#: Kills that one store lives through.
_KILLS: Final = 20
#: What the background writer may not have begun to write; a commit then takes what it takes.
_FORGOTTEN_S: Final = 0.05
_LATEST_S: Final = 0.15
_HANGS_S: Final = 60.0
_CUSTOMERS: Final = 3
_SCREEN, _SHELF = "screen", "shelf"
_Cap = release_pb2.Cap
_Spec = release_pb2.PlacementSpec


class Shown(NamedTuple):
    """A slot that somebody saw, or will."""

    offer: str
    decision: str
    slot: int
    customer: str


class Rule(NamedTuple):
    """What may not be exceeded: `limit` of these offers together, by customer or all in all."""

    offers: frozenset[str]
    limit: int
    each: bool


#: Caps by offer. "free" and "open" are not limited.
_CAPS: Final = {
    "device": _Cap(scope=_Cap.SCOPE_DEVICE, limit=7),
    "each": _Cap(scope=_Cap.SCOPE_CUSTOMER, limit=3),
    "day": _Cap(scope=_Cap.SCOPE_DEVICE, limit=9, window_hours=24),
    "month": _Cap(scope=_Cap.SCOPE_DEVICE, limit=11, window_hours=24 * 31),
    "spring-a": _Cap(scope=_Cap.SCOPE_DEVICE, limit=8, over=_Cap.OVER_CAMPAIGN),
    "spring-b": _Cap(scope=_Cap.SCOPE_DEVICE, limit=8, over=_Cap.OVER_CAMPAIGN),
    "coupon": _Cap(scope=_Cap.SCOPE_DEVICE, limit=2, count=_Cap.COUNT_REDEEM),
}
RULES: Final = (
    Rule(frozenset({"device"}), 7, each=False),
    Rule(frozenset({"each"}), 3, each=True),
    Rule(frozenset({"day"}), 9, each=False),
    Rule(frozenset({"month"}), 11, each=False),
    Rule(frozenset({"spring-a", "spring-b"}), 8, each=False),
)
REDEEMED: Final = Rule(frozenset({"coupon"}), 2, each=False)


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Kill `rounds` times, `_KILLS` times on each store."""
    found, seen = Findings(), collections.Counter[str]()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    bundle = market.write_bundle(folder / "caps.bundle", seed, _offers(), _placements())
    with EdgeClient(folder / "template", bundle=bundle) as edge:
        assert edge.wait_ready(60), edge.status
    oldest = slowest = 0.0
    with Pulse() as pulse:
        for number in range(first // _KILLS, -(-(first + rounds) // _KILLS)):
            store = folder / f"store-{number}"
            shutil.copytree(folder / "template", store)
            lives = Lives(store, processes, random.Random(f"{seed}:{number}"), pulse)
            try:
                lives.live(min(_KILLS, rounds))
                problems = lives.check(reboot=number % 2 == 1)
            finally:
                lives.end()
            for problem in problems:
                found.fail(number * _KILLS, problem)
            found.tried += lives.kills
            seen.update(lives.seen)
            oldest = max(oldest, lives.oldest_s)
            slowest = max([slowest, *(took for _, took in lives.commits)])
            shutil.rmtree(store)
            progress(found.tried)
    found.note(", ".join(f"{n} {what}" for what, n in sorted(seen.items())))
    found.note(
        f"the oldest that was forgotten was {oldest * 1000:.0f} ms old; "
        f"a commit took up to {slowest * 1000:.0f} ms"
    )
    return found


def _offers() -> list[release_pb2.OfferSpec]:
    made = []
    for name in ("free", "open", *_CAPS):
        spec = release_pb2.OfferSpec(id=name, value_micros=1_000_000)
        spec.dna.add(marker="m:1", salience_q8=256)
        if name in _CAPS:
            spec.caps.append(_CAPS[name])
        if name.startswith("spring"):
            spec.campaign = "spring"
        made.append(spec)
    return made


def _placements() -> list[release_pb2.PlacementSpec]:
    shown = {_SCREEN: _Spec.SHOWN_ON_DECIDE, _SHELF: _Spec.SHOWN_ON_VIEW}
    return [
        _Spec(id=name, max_slots=3, shown=when, explorer="squarecb", floor=1.0)
        for name, when in shown.items()
    ]


class Pulse:
    """How late this machine wakes who sleeps: what it adds to every promise of time."""

    def __init__(self) -> None:
        self._late: collections.deque[tuple[float, float]] = collections.deque(maxlen=4096)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        before = time.monotonic()
        while not self._over.wait(0.002):
            now = time.monotonic()
            self._late.append((now, now - before - 0.002))
            before = now

    def lateness_s(self, since: float) -> float:
        """The worst since then."""
        return max((late for at, late in list(self._late) if at >= since), default=0.0)


@dataclass
class Worker:
    """One process, and what it said that is not durable: the event's id and when it said so."""

    process: Any
    says: Connection
    soon: list[tuple[str, float]] = field(default_factory=list)
    killed: float = 0.0


@dataclass
class Lives:
    """One store, the processes that share it, and what they were heard to show."""

    store: Path
    processes: Any
    rng: random.Random
    pulse: Pulse
    workers: list[Worker] = field(default_factory=list)
    dead: list[Worker] = field(default_factory=list)
    shown: set[Shown] = field(default_factory=set)
    #: What counts by what is on disk: viewed, or shown at once by a durable decision.
    viewed: set[Shown] = field(default_factory=set)
    redeemed: set[Shown] = field(default_factory=set)
    durable: set[str] = field(default_factory=set)
    #: When a commit was waited for to its end, and how long.
    commits: list[tuple[float, float]] = field(default_factory=list)
    seen: collections.Counter[str] = field(default_factory=collections.Counter)
    kills: int = 0
    oldest_s: float = 0.0

    def live(self, kills: int) -> None:
        """Work, and be killed so often."""
        while self.kills < kills:
            while len(self.workers) < _WORKERS:
                self._start()
            self._hear(self.rng.uniform(0.0, _LATEST_S))
            everybody = self.rng.random() < 0.2
            chosen = list(self.workers) if everybody else [self.rng.choice(self.workers)]
            for worker in chosen:
                self._kill(worker)
        self._hear(_FORGOTTEN_S)
        for worker in list(self.workers):
            self._kill(worker)

    def end(self) -> None:
        """Leave no process behind."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()

    def _start(self) -> None:
        says, said = self.processes.Pipe(duplex=False)
        name = f"{len(self.dead) + len(self.workers)}"
        process = self.processes.Process(target=work, args=(self.store, name, said))
        process.start()
        said.close()
        worker = Worker(process, says)
        self.workers.append(worker)
        # Some are killed while they open; of most the first word is waited for.
        if self.rng.random() < 0.9 and not says.poll(_HANGS_S):
            raise AssertionError("a process says nothing")

    def _hear(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            ready = wait([worker.says for worker in self.workers], left)
            for worker in self.workers:
                if worker.says not in ready:
                    continue
                try:
                    self._take(worker)
                except EOFError:
                    raise AssertionError("a process ended by itself") from None

    def _take(self, worker: Worker) -> None:
        kind, *said = worker.says.recv()
        self.seen[kind] += 1
        if kind == "soon":
            worker.soon.append((said[0], said[1]))
        elif kind == "viewed":
            self.commits.append((time.monotonic(), said.pop()))
            self.durable.add(said.pop())
            self.viewed.add(Shown(*said))
        elif kind == "decided":
            self.commits.append((time.monotonic(), said.pop()))
            self.durable.add(said.pop())
        elif kind == "written":
            self.viewed.add(Shown(*said))
            self.shown.add(Shown(*said))
        else:
            (self.redeemed if kind == "redeemed" else self.shown).add(Shown(*said))

    def _kill(self, worker: Worker) -> None:
        worker.killed = time.monotonic()
        worker.process.kill()
        worker.process.join()
        self.kills += 1
        with contextlib.suppress(EOFError, OSError):  # what it had said before it died
            while worker.says.poll():
                self._take(worker)
        worker.says.close()
        self.workers.remove(worker)
        self.dead.append(worker)

    def check(self, *, reboot: bool) -> list[str]:
        """What does not hold."""
        problems = [*exceeded(RULES, self.shown), *exceeded((REDEEMED,), self.redeemed)]
        there = look(self.store)
        problems += [f"the store says: {said}" for said in there.said]
        problems += [f"{name} was durable and is lost" for name in self.durable - there.events]
        problems += self._forgotten(there.events)
        counted = self.shown
        if reboot:
            (self.store / "claims").unlink(missing_ok=True)
            counted = self.viewed  # what was only held is nobody's any more
        return problems + self._goes_on(counted)

    def _forgotten(self, events: set[str]) -> Iterable[str]:
        """Events that were lost though they were older than what may be."""
        for worker in self.dead:
            for name, said in worker.soon:
                if name in events:
                    continue
                age = worker.killed - said
                self.oldest_s = max(self.oldest_s, age)
                self.seen["forgotten"] += 1
                late = self.pulse.lateness_s(said - _FORGOTTEN_S)
                slow = max((s for at, s in self.commits if abs(at - said) < 1.0), default=0.0)
                allowed = _FORGOTTEN_S + late + slow
                if age > allowed:
                    yield f"{name} was forgotten {age * 1000:.0f} ms after it was told"

    def _goes_on(self, counted: set[Shown]) -> list[str]:
        """Whoever comes next shows no more than is left."""
        shown = set(counted)
        with EdgeClient(self.store) as edge:
            if not edge.wait_ready(_HANGS_S) or edge.status.cause is not None:
                return [f"the store does not open: {edge.status}"]
            for number in range(40):
                customer = subject(number % _CUSTOMERS).hex()
                decision = edge.decide(Context(), _SCREEN, customer=customer)
                if decision.offer is None:
                    return ["it shows nothing any more"]
                shown.add(Shown(decision.offer.id, decision.id, 0, customer))
        return exceeded(RULES, shown)


def exceeded(rules: Iterable[Rule], shown: Iterable[Shown]) -> list[str]:
    """The rules that were broken."""
    problems = []
    for rule in rules:
        counts = collections.Counter(
            one.customer if rule.each else "the device" for one in shown if one.offer in rule.offers
        )
        problems += [
            f"{'/'.join(sorted(rule.offers))} {n} times for {who[:8]}, of {rule.limit}"
            for who, n in counts.items()
            if n > rule.limit
        ]
    return problems


def work(store: Path, name: str, said: Connection) -> None:
    """What a process does until it is killed."""
    rng = random.Random(name)
    edge = EdgeClient(store)
    edge.wait_ready(_HANGS_S)
    number = 0
    while True:
        number += 1
        customer = subject(rng.randrange(_CUSTOMERS)).hex()
        placement = rng.choice([_SCREEN, _SHELF])
        slots, durable = rng.choice([1, 3]), rng.random() < 0.3
        began = time.monotonic()
        decision = edge.decide(Context(), placement, slots, customer=customer, durable=durable)
        if durable:
            said.send(("decided", decision.id, time.monotonic() - began))
        for slot, one in enumerate(decision.slots):
            if one.offer is None:
                continue
            what = (one.offer.id, decision.id, slot, customer)
            said.send(("written" if durable and placement == _SCREEN else "shown", *what))
            if placement == _SHELF and rng.random() < 0.4:
                event = f"view-{name}-{number}-{slot}"
                began = time.monotonic()
                edge.report(decision, "view", slot=slot, event_id=event, durable=True)
                said.send(("viewed", *what, event, time.monotonic() - began))
            if one.offer.id == "coupon" and edge.redeem(decision, slot=slot):
                said.send(("redeemed", *what))
        event = f"soon-{name}-{number}"
        edge.report(decision, "open", event_id=event)
        said.send(("soon", event, time.monotonic()))
        time.sleep(0.001)
