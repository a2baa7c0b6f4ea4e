"""Keep a version for ever: `python -m tests.versions.keep 0.3.0`, before the next one begins.

Builds the two wheels of the checkout, lets them make a small server's home and a device's store
with events that were never sent, and puts everything into tests/versions/<version>/.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.versions.released import HERE, unpack

ROOT = HERE.parent.parent
CUSTOMERS = 20


def main(version: str) -> None:
    """Keep the version."""
    target = HERE / version
    target.mkdir(exist_ok=True)
    if not list(target.glob("*.whl")):
        for package in ("edge_sdk", "server"):
            command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(target)]
            subprocess.run([*command, str(ROOT / package)], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "packages").mkdir()
        released = unpack(version, folder / "packages")
        town, home, store = folder / "town", folder / "home", folder / "store"
        subprocess.run([sys.executable, "-m", "examples.adapters.town", town], check=True, cwd=ROOT)
        shorten(town)
        released.server(home, "init")
        for kind in (
            *("products", "contents", "places", "placements", "offers"),
            *("customers", "interactions"),
        ):
            found = next(town.glob(f"{kind}.*"))
            released.server(home, "import", kind, found, codes=(0, 1))
        released.server(home, "audiences", "add", "app", "--all", "--lookup")
        released.server(home, "build")
        # Long, for these tests must not end with a release.
        released.server(home, "publish", "--untrained", "--expires-days", "3650")
        with released.serving(home) as address:
            said = released.server(
                home, "devices", "enrol", "--audience", "app", "--name", "lobby", "--json"
            )
            code = json.loads(said)["code"]
            released.device("enrol", "--server", address, "--code", code, "--store", store)
            scenes = (HERE / "scenes.py").read_text()
            print(released.run(scenes, "use", store, address))
        print(released.run(scenes, "offline", store))
        for what in (home, store):
            pack(what, target / f"{what.name}.zip")
        report = released.run((HERE / "wires.py").read_text(), store)
        (target / "report.json").write_text(report)
    shutil.copy(ROOT / "examples" / "town.bundle", target / "town.bundle")


def shorten(town: Path) -> None:
    """Leave a few customers: this is kept for ever."""
    names = {f"customer-{number:03}" for number in range(1, CUSTOMERS + 1)}
    for kind, key in (("customers", "id"), ("interactions", "customer")):
        path = town / f"{kind}.jsonl"
        lines = [line for line in path.read_text().splitlines() if json.loads(line)[key] in names]
        path.write_text("\n".join(lines) + "\n")


def pack(folder: Path, target: Path) -> None:
    """A folder as a zip file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))


if __name__ == "__main__":
    main(sys.argv[1])
