"""Faults on purpose: `make drill`, or `make drill ONLY=kill_server N=1000 SEED=7`.

Without N each drill takes its long form; with SHORT=1 the short one, which is also a test. A drill
prints what it tried and what it found, and appends `drill.<name>.tried` and `drill.<name>.failed`
to build/results.jsonl. A round that failed is played again, alone, with ROUND=k and the same SEED.
Exit code 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from tests.bench.figures import Figures
from tests.drills.findings import Findings

DRILLS = (
    "kill_server",
    "kill_device",
    "kill_caps",
    "wal_cut",
    "power_cut",
    "bit_flip",
    "disk_full",
    "server_full",
    "clone",
    "line",
    "attack",
    "model",
    "clock",
    "simulation",
    "explore",
    "rules",
    "replay",
    "estimates",
    "lift",
)
_SHOWN = 10


class Drill(Protocol):
    """What every module of this package but this one and `findings` is."""

    #: Rounds of the short form, and of the long one.
    SHORT: int
    LONG: int
    #: What a round is, in the plural.
    UNIT: str

    def play(
        self,
        folder: Path,
        seed: int,
        rounds: int,
        progress: Callable[[int], None],
        first: int = 0,
    ) -> Findings:
        """Play rounds `first` to `first + rounds - 1` in an empty folder."""
        ...


def find(name: str) -> Drill:
    """The drill of this name."""
    return cast("Drill", importlib.import_module(f"tests.drills.{name}"))


def title(name: str) -> str:
    """What a drill does, in a sentence."""
    return (importlib.import_module(f"tests.drills.{name}").__doc__ or "").partition("\n")[0]


def main() -> int:
    """Run the drills that were asked for."""
    parser = argparse.ArgumentParser(
        prog="make drill", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=DRILLS, help="one drill")
    parser.add_argument("--rounds", type=int, help="how many rounds (the long form's)")
    parser.add_argument("--short", action="store_true", help="the short form")
    parser.add_argument("--seed", type=int, default=1, help="where everything random comes from")
    parser.add_argument("--round", type=int, help="this round alone")
    args = parser.parse_args()
    logging.getLogger("edge_sdk").setLevel(logging.CRITICAL)  # what is broken on purpose
    figures, failed = Figures(), 0
    for name in [args.only] if args.only else DRILLS:
        drill = find(name)
        rounds = args.rounds or (drill.SHORT if args.short else drill.LONG)
        print(f"\n{name}: {title(name)}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
            if args.round is None:
                found = drill.play(Path(folder), args.seed, rounds, _progress(rounds, drill.UNIT))
            else:
                found = drill.play(Path(folder), args.seed, 1, lambda _: None, args.round)
        for note in found.notes:
            print(f"  {note}")
        for failure in found.failures[:_SHOWN]:
            print(f"  FAILED {failure}", flush=True)
        if len(found.failures) > _SHOWN:
            print(f"  … and {len(found.failures) - _SHOWN} more")
        if found.failures and args.round is None:
            print(f"  one of them again: make drill ONLY={name} SEED={args.seed} ROUND=…")
        print(f"  {time.monotonic() - began:.0f} s, seed {args.seed}")
        figures.add(f"drill.{name}.tried", found.tried, drill.UNIT)
        figures.add(f"drill.{name}.failed", len(found.failures), drill.UNIT)
        failed += len(found.failures)
    return 1 if failed else 0


def _progress(rounds: int, unit: str) -> Callable[[int], None]:
    """A line that tells how far a drill is, on a terminal only."""

    def show(done: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done >= rounds else ""
            print(f"\r  {done} of {rounds} {unit}", end=end, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
