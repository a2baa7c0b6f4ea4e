"""Random bytes for decisions come once: in no other thread, and in no forked child."""

from __future__ import annotations

import subprocess
import sys
import threading

from edge_sdk.engine.noise import SIZE, noise


def test_no_two_threads_get_the_same() -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.extend(noise() for _ in range(2_000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(one) for one in found} == {SIZE}
    assert len(set(found)) == 8_000


FORK = """
import os, sys
from edge_sdk.engine.noise import noise
noise()
reader, writer = os.pipe()
child = os.fork()
found = b"".join(noise() for _ in range(300))
if not child:
    os.write(writer, found)
    os._exit(0)
os.close(writer)
with os.fdopen(reader, "rb") as said:
    sys.stdout.buffer.write(said.read() + found)
os.waitpid(child, 0)
"""


def test_a_forked_child_gets_others() -> None:
    # In a process of its own: this one may have loaded what does not like to be forked.
    said = subprocess.run([sys.executable, "-c", FORK], capture_output=True, check=True).stdout
    found = [said[at : at + SIZE] for at in range(0, len(said), SIZE)]
    assert len(found) == len(set(found)) == 600
