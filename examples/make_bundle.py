"""How examples/town.bundle was made: the synthetic town as one signed file, for a device alone.

    python -m examples.make_bundle [OUT]

A server is made in a temporary folder, fed with the town, taught and asked to publish; the
release is written as one file that expires in ten years. Its model is a tenth of the usual size,
so that the file is small enough to live beside the code. The keys that signed it are thrown away
with the folder: another bundle is another release by another (short-lived) tenant.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from examples.local_server import LocalServer, StepFailedError, expect
from examples.scenes import small_town

BUNDLE = Path(__file__).with_name("town.bundle")
MOST_BYTES = 200 * 1024
EXPIRES_DAYS = 3650


def make(out: Path, folder: Path) -> int:
    """Make a bundle of the town with a server in `folder`; its bytes. Raises `StepFailedError`."""
    from genome_server.home import Home
    from genome_server.learning.job import run_training
    from genome_server.learning.lessons import Teaching
    from genome_server.learning.towers import Shape
    from genome_server.learning.train import Settings

    server = LocalServer(folder)
    scene = small_town(folder)
    server.run("init")
    server.load(scene.files)
    server.add_audience()
    server.run("build")
    shape = Shape(members=1, width=64, hidden=32, dimension=8)
    small = Settings(seed=1, shape=shape, teaching=Teaching(trees=0))  # as `train --quick`
    run_training(Home(server.home).tenant(), small, quick=True)
    published = server.run("publish", "--bundle", out, "--expires-days", str(EXPIRES_DAYS))
    size = int(published["bundle"]["bytes"])
    expect(size <= MOST_BYTES, f"the bundle has {size:,} bytes, at most {MOST_BYTES:,} are wanted")
    return size


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when written, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.make_bundle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", nargs="?", default=BUNDLE)
    out = parser.parse_args(argv).out
    try:
        with tempfile.TemporaryDirectory(prefix="genome-edge-") as folder:
            size = make(out.resolve(), Path(folder))
    except StepFailedError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: {size:,} bytes, synthetic, valid for ten years")
    return 0


if __name__ == "__main__":
    sys.exit(main())
