"""Thousands of little worlds of devices, a server, bad lines, disks and clocks: nothing goes wrong.

A round is a world made of its seed: a server that publishes, stops, rotates its keys, erases
customers and is restored from a backup; devices that are switched off in the middle of anything,
whose disks are full, put back or copied, and whose clocks are set. Everything happens in an order
drawn by chance. After each step must hold what `Law` says, and at the end, when nothing more
goes wrong, every device has all of its audience and the log has every event once. Now and then a
device decides: what it may read of whom, and that it can be made again, is in `decisions`.

A failure tells the steps that led to it.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.drills.findings import Findings
from tests.drills.region import Fuse, History, in_place
from tests.drills.worlds import World

SHORT: Final = 150
LONG: Final = 10_000
UNIT: Final = "worlds"

_SHARE: Final = 250
_MEMORY: Final = Path("/dev/shm")


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Play rounds `first` to `first + rounds - 1`; many of them in two processes."""
    found, tried = Findings(), Counter[str]()
    shares = [
        (str(folder), seed, at, min(_SHARE, first + rounds - at))
        for at in range(first, first + rounds, _SHARE)
    ]
    with contextlib.ExitStack() as stack:
        played: Iterator[tuple[int, list[tuple[int, str]], Counter[str]]] = map(_share, shares)
        if len(shares) > 2:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(2))
            played = pool.imap_unordered(_share, shares)
        for done, failures, counted in played:
            for number, text in failures:
                found.fail(number, text)
            tried += counted
            found.tried += done
            progress(found.tried)
    found.note(", ".join(f"{count} × {name}" for name, count in sorted(tried.items())))
    return found


def _share(share: tuple[str, int, int, int]) -> tuple[int, list[tuple[int, str]], Counter[str]]:
    """Some of the rounds, with one history before all of them."""
    folder, seed, first, rounds = share
    tried, failures = Counter[str](), []
    logger = logging.getLogger("edge_sdk")  # what is refused is counted here
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    fuse = Fuse()
    near = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else Path(folder)
    try:
        with tempfile.TemporaryDirectory(dir=near) as name, in_place(fuse):
            history = History(Path(name), seed)
            for number in range(first, first + rounds):
                world = World(Path(name) / str(number), history, f"{seed}:{number}", fuse)
                problem = world.live()
                tried += world.tried
                if problem:
                    failures.append((number, f"{problem}, after: {'; '.join(world.steps)}"))
    finally:
        logger.setLevel(level)
    return rounds, failures, tried
