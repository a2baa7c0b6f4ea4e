"""A page in a browser that lets this machine's device decide: no SDK in it, only fetch().

    python -m examples.sidecar.run            the small town's bundle, a store in a temporary folder
    python -m examples.sidecar.run --store D  a device that you enrolled

It serves the page on one port, `genome-edge serve` on another, and prints the address to open. The
page is told the token behind the # of its address, which is sent nowhere. Ctrl+C ends both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

HERE = Path(__file__).resolve().parent
BUNDLE = HERE.parent / "town.bundle"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Whoever asks for the page is no news."""


@contextlib.contextmanager
def page() -> Iterator[str]:
    """Serve this folder; the origin of the page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(HERE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def device(store: Path | None, bundle: Path, origin: str) -> Iterator[dict[str, str]]:
    """Run `genome-edge serve` for pages of an origin; where it is, and its token."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edge_sdk.cli", "serve", "--json"]
        command += ["--store", str(store or Path(folder) / "device"), "--allow-origin", origin]
        command += ["--http", "127.0.0.1:0", "--grpc", "none"]
        command += [] if store else ["--bundle", str(bundle)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
            if "error" in said:
                raise SystemExit(said["error"]["message"])
            token = Path(said["token_file"]).read_text(encoding="ascii").strip()
            yield {"server": f"http://{said['http']}", "token": token}
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser("examples.sidecar.run", description=__doc__)
    parser.add_argument("--store", type=Path, help="a device's store (default: a new one)")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="what a new store decides from")
    options = parser.parse_args(argv)
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ended.append(number))
    with page() as origin, device(options.store, options.bundle, origin) as told:
        print(f"open {origin}/index.html#{urlencode(told)}", flush=True)
        while not ended:  # in short sleeps: a signal may reach another thread than this one
            time.sleep(0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
