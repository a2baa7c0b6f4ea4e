"""Run the drills: `make drill`, or `make drill ONLY=server_killed N=20 SEED=7`.

Each prints what failed, with the seed that shows it again, and appends `drill.<name>.tried` and
`drill.<name>.failed` to build/results.jsonl. Exit code 1 where one failed.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import tempfile
from pathlib import Path

from tests.bench.figures import Figures

DRILLS = ("server_killed",)


def main() -> int:
    """Run the drills that were asked for."""
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--only", choices=DRILLS, help="one drill")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    args = parser.parse_args()
    figures, failed_in_all = Figures(), 0
    for name in [args.only] if args.only else DRILLS:
        drill = importlib.import_module(f"tests.drills.{name}")
        title = (drill.__doc__ or "").partition("\n")[0]
        print(f"\n{name}: {title}", flush=True)
        failed = 0
        for seed in range(args.seed, args.seed + args.rounds):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    drill.play(Path(folder), random.Random(seed))
                except Exception as error:
                    failed += 1
                    print(f"  seed {seed} failed: {error!r}", flush=True)
        figures.add(f"drill.{name}.tried", args.rounds, "rounds")
        figures.add(f"drill.{name}.failed", failed, "rounds")
        failed_in_all += failed
    return 1 if failed_in_all else 0


if __name__ == "__main__":
    sys.exit(main())
