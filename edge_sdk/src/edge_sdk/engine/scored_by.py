"""What scored: the kind of processor, and what ran on it.

Where two of these are equal, equal inputs give equal scores, bit for bit: our scorers use one
thread for each product, so its parts are always added up in the same order. Where they differ,
other instructions may round the last digits otherwise.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from edge_sdk.engine.policy import Scorer

_CPU_INFO: Final = Path("/proc/cpuinfo")
_NAMED: Final = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
# What a processor can do; runtimes choose their instructions by it.
_ABLE: Final = ("flags", "Features")


def scored_by(scorer: Scorer) -> str:
    """Who scores here, in one line; empty where the scorer does not say its `runtime`."""
    runtime: str = getattr(scorer, "runtime", "")
    return f"{runtime} on {processor()}" if runtime else ""


@lru_cache(maxsize=1)
def processor() -> str:
    """The kind of this machine's processor, and a number for what it is able to do."""
    said: dict[str, str] = {}
    try:
        with _CPU_INFO.open(encoding="ascii", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if not key.strip():
                    break  # all of them are alike
                said[key.strip()] = value.strip()
        machine = os.uname().machine
    except OSError:  # not Linux
        import platform  # a millisecond that Linux does without

        machine, said["model"] = platform.machine(), platform.processor()
    kind = " ".join(said[key] for key in _NAMED if said.get(key))
    able = crc32("".join(said.get(key, "") for key in _ABLE).encode())
    return f"{machine} {kind} {able:08x}"
