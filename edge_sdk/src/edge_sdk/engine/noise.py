"""Random bytes for decisions: their seeds and ids.

Asking the system costs little, but lets another thread of this process in each time. So it is asked
for many decisions at once. No bytes are given twice, whatever the thread; a forked child forgets
what it inherits.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Final

#: For one decision: a seed of 8 bytes and an id of 16.
SIZE: Final = 24
_AT_ONCE: Final = 256

_left: Final[deque[bytes]] = deque()


def noise() -> bytes:
    """SIZE random bytes."""
    try:
        return _left.pop()
    except IndexError:
        many = os.urandom(SIZE * _AT_ONCE)
        _left.extend(many[at : at + SIZE] for at in range(SIZE, len(many), SIZE))
        return many[:SIZE]


os.register_at_fork(after_in_child=_left.clear)
