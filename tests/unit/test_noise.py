"""Random bytes for decisions come once: in no other thread, and in no forked child."""

from __future__ import annotations

import os
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


def test_a_forked_child_gets_others() -> None:
    noise()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, b"".join(noise() for _ in range(300)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        theirs = said.read()
    os.waitpid(child, 0)
    assert len(theirs) == 300 * SIZE
    inherited = {theirs[at : at + SIZE] for at in range(0, len(theirs), SIZE)}
    assert inherited.isdisjoint(noise() for _ in range(300))
