"""For a process that is the app's own: settings that concern everything in it.

The SDK changes nothing that belongs to the process, because the app may have reasons of its own.
An app that has none can ask for what makes decisions steadier.
"""

from __future__ import annotations

import gc
import os
import sys

# Of the interpreter's five milliseconds a decision would wait for most; a tenth of them costs
# threads that are busy nothing that can be measured.
_SWITCH_S = 0.0005
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def tune_process() -> None:
    """Make this process a good one to decide in. Call it once, when everything is loaded.

    What is alive now is never looked at by the garbage collector again (`gc.freeze`), so that no
    decision waits for it to walk through a catalogue. Numerical libraries that are not loaded yet
    start no threads of their own, unless the environment says how many; call it before numpy is
    imported, too, where that matters. A thread that is busy (the app's own, too) lets one that
    decides go on after half a millisecond.
    """
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))
    gc.collect()
    gc.freeze()
