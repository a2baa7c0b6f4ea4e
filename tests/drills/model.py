"""Hostile models, crafted and mutated: no file is opened, nothing hangs, memory stays bounded.

Each model goes the way of a synced one: the check of the file, then a session and one use in a
child process under the limits of a trial load. Refused is fine, and so is a child that dies of it:
that is what it is there for. What must never happen: a file beside the model is opened, a child
takes longer than its time, or more memory than its limit.

Files: every path that a crafted model names leads into a folder that is watched by the kernel
(inotify), so that an open by any code of the process is seen, however it was done.
"""

from __future__ import annotations

import collections
import ctypes
import multiprocessing
import os
import random
import resource
import struct
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_sdk import _posix
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.onnx_file import check_self_contained
from edge_sdk.errors import FormatError, TrustError
from edge_sdk.sync import worker
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.towers import Shape, random_towers
from tests.drills.findings import Findings
from tests.drills.models import crafted, mutate

SHORT: Final = 300
LONG: Final = 5_060
UNIT: Final = "models"

LINEAGE: Final = bytes(range(16))
WORDS: Final = Vocabulary(LINEAGE, [f"m:{n}" for n in range(50)])
_SLACK: Final = 1 << 29
_OPEN: Final = 0x20 | 0x1 | 0x2  # IN_OPEN, IN_ACCESS, IN_MODIFY
_EVENT: Final = struct.Struct("iIII")


def good() -> bytes:
    """A small model as the trainer exports it."""
    towers = random_towers(0, len(WORDS), Shape(2, 16, 8, 4))
    return tower_model(towers, ModelFacts(LINEAGE, len(WORDS)))


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Play rounds; the first sixty or so are crafted, the others mutated."""
    found, seen = Findings(), collections.Counter[tuple[str, str]]()
    bait = folder / "bait"
    bait.mkdir()
    (bait / "secret.bin").write_bytes(bytes(1 << 16))
    os.mkfifo(bait / "pipe")  # who opens this one hangs
    watch = Watch(bait)
    model = good()
    made = crafted(model, bait)
    names = sorted(made)
    with Child(bait) as child:
        assert child.load(model)[0] == "loaded", "the drill's own model must load"
        for number in range(first, first + rounds):
            if number < len(names):
                name = names[number]
                data, expected = made[name]
            else:
                rng = random.Random(f"{seed}:{number}")
                name, data = mutate(rng, model)
                expected = ""
            outcome, peak = child.load(data)
            seen[name.partition("-")[0], outcome] += 1
            if opened := watch.events():
                found.fail(number, f"{name}: a file was opened ({opened})")
            if outcome == "hung":
                found.fail(number, f"{name}: it was still at it after {worker.TIMEOUT_S:g} s")
            if peak > worker.limits(len(data))[0] + _SLACK:
                found.fail(number, f"{name}: {peak >> 20} MiB of memory")
            if expected and outcome not in expected.split():
                found.fail(number, f"{name}: {outcome} instead of {expected}")
            found.tried += 1
            progress(number - first + 1)
    watch.close()
    found.note(f"{len(names)} crafted models, the others mutated")
    for (kind, outcome), number in sorted(seen.items()):
        found.note(f"{kind:<10} {outcome:<8} {number:>6}")
    return found


# The child that loads ---------------------------------------------------------------------------


class Child:
    """A process under limits that loads one model after the other; made anew when it dies."""

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "onnxruntime", "edge_sdk.engine.policy"])
        self._process: Any = None
        self._line: Connection | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def load(self, model: bytes) -> tuple[str, int]:
        """What became of a model (loaded, refused, died, hung), and the most memory in bytes."""
        try:
            check_self_contained(model)
        except FormatError:
            return "refused", 0
        line = self._open()
        line.send_bytes(model)
        if not line.poll(worker.TIMEOUT_S):
            self._end()
            return "hung", 0
        try:
            outcome, peak = line.recv()
        except EOFError:
            self._end()
            return "died", 0
        if peak > 1 << 29:  # the next one begins from a small process
            self._end()
        return outcome, peak

    def _open(self) -> Connection:
        if self._line is None:
            self._line, theirs = self._context.Pipe()
            self._process = self._context.Process(
                target=_serve, args=(theirs, str(self._cwd)), daemon=True
            )
            self._process.start()
            theirs.close()
        return self._line

    def _end(self) -> None:
        if self._line is not None:
            self._line.close()
            self._process.kill()
            self._process.join()
            self._line = None


def _serve(line: Connection, cwd: str) -> None:
    from edge_sdk.engine.scoring import OnnxScorer

    os.chdir(cwd)  # where a runtime would look for files
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.dup2(silence, 1)
    nothing = np.zeros(0, np.int64)
    while True:
        try:
            model = line.recv_bytes()
        except EOFError:
            return
        _posix.restrain(*worker.limits(len(model)))
        try:
            scorer = OnnxScorer(model, WORDS)
            vectors = scorer.vectors([[(1, 1.0)], [(2, 0.5), (3, 1.0)]])
            scorer.values(nothing, nothing.astype(np.float32), vectors)
            scorer.values(np.arange(40), np.ones(40, np.float32), vectors)
            outcome = "loaded"
        except TrustError:
            outcome = "refused"
        except Exception:
            outcome = "failed"
        line.send((outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


class Watch:
    """Says what happened to the files of a folder, whoever did it."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        if libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def events(self) -> list[str]:
        """The names of files that were touched since the last call."""
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return []
        names, at = [], 0
        while at < len(data):
            *_, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = data[at : at + size].rstrip(b"\0").decode()
            at += size
            if name:  # the folder itself is opened by who changes into it
                names.append(name)
        return names

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
