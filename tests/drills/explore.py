"""Every interleaving of devices, their server and their mishaps, at small bounds.

What is explored is what runs, in two halves: `explore_outbox` (events on their way into the log)
and `explore_sync` (releases, trust and rows on their way to devices). Each says what can happen,
and what must hold in every state. And from every state, when nothing more goes wrong, the world
must come to rest, and then nothing may be missing.

A round is a state. The allowances of mishaps are explored one after the other, each whole, until as
many states were seen as there are rounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from tests.drills import explore_outbox, explore_sync
from tests.drills.findings import Findings

SHORT: Final = 2_000
LONG: Final = 400_000
UNIT: Final = "states"
_ENOUGH: Final = 5
Key = bytes


def play(
    folder: Path,
    seed: int,
    rounds: int,
    progress: Callable[[int], None],
    first: int = 0,
) -> Findings:
    """Explore one allowance after the other."""
    found = Findings()
    outbox = ((name, explore_outbox.World(), a) for name, a in explore_outbox.ALLOWANCES.items())
    sync = ((name, explore_sync.World(), a) for name, a in explore_sync.ALLOWANCES.items())
    for name, world, allowance in _in_turn(outbox, sync):
        if found.tried >= rounds:
            break
        before = found.tried
        states, problems = explore(
            world,
            allowance,
            lambda n, before=before: progress(before + n),  # type: ignore[misc]
        )
        found.tried += states
        found.note(f"{name:<36} {states:>7} states, all of them")
        for problem in problems:
            found.fail(0, f"{name}: {problem}")
    return found


def _in_turn(*series: Iterator[Any]) -> Iterator[Any]:
    """One of each, again and again, until there is nothing left."""
    none = object()
    for ones in zip_longest(*series, fillvalue=none):
        yield from (one for one in ones if one is not none)


def explore(
    world: Any, allowance: Any, progress: Callable[[int], None] = lambda _: None
) -> tuple[int, list[str]]:
    """Explore one allowance; how many states there are, and what does not hold in them."""
    start = world.start(allowance)
    key = world.key(start)
    parents: dict[Key, tuple[Key, str]] = {}
    calm: dict[Key, set[Key]] = {}  # what can follow when nothing goes wrong
    resting: list[Key] = []
    problems: list[str] = []
    waiting = deque([(start, key)])
    seen = {key}
    while waiting and len(problems) < _ENOUGH:
        state, key = waiting.popleft()
        problem = world.check(state)
        calm[key] = set()
        for step, mishap, after in world.steps(state):
            follows = world.key(after)
            if not mishap:
                calm[key].add(follows)
            if follows not in seen:
                seen.add(follows)
                parents[follows] = (key, step)
                waiting.append((after, follows))
        if not calm[key]:
            resting.append(key)
            problem = problem or world.check_rest(state)
        if problem:
            problems.append(f"{problem}, after: {'; '.join(_path(parents, key))}")
        if len(seen) % 500 == 0:
            progress(len(seen))
    progress(len(seen))
    if not problems:
        restless = set(calm) - _leading_to(resting, calm)
        problems += [
            f"no rest from: {'; '.join(_path(parents, one))}" for one in list(restless)[:3]
        ]
    return len(seen), problems


def _leading_to(targets: list[Key], follows: dict[Key, set[Key]]) -> set[Key]:
    """All from which one of the targets can be reached."""
    before: dict[Key, list[Key]] = {}
    for one, others in follows.items():
        for other in others:
            before.setdefault(other, []).append(one)
    reached, waiting = set(targets), list(targets)
    while waiting:
        for one in before.get(waiting.pop(), ()):
            if one not in reached:
                reached.add(one)
                waiting.append(one)
    return reached


def _path(parents: dict[Key, tuple[Key, str]], key: Key) -> list[str]:
    steps = []
    while key in parents:
        key, step = parents[key]
        steps.append(step)
    return steps[::-1]
