"""Measured accuracy is kept in the store: sums over many customers, and nothing of one.

It holds for a week, unless the log has become another one in the meantime: the events of which it
was measured have grown or shrunk by more than a tenth, or there are fewer customers who agreed to
learning (somebody took that back, or was erased).
"""

from __future__ import annotations

import json
from typing import Final

from genome_server.foresee.proof import Accuracy
from genome_server.store.protocol import Store
from genome_server.times import DAY_MS

META_KEY: Final = "foresee_accuracy"
_HOLDS_MS: Final = 7 * DAY_MS
_MOST_KEPT: Final = 16


def read(store: Store, key: str, now_ms: int, events: int, people: int) -> Accuracy | None:
    """What was measured under a key, where it still holds for so many events and customers."""
    data = json.loads(store.meta(META_KEY) or "{}").get(key)
    found = None if data is None else Accuracy.from_json(data)
    if found is None or abs(now_ms - found.as_of_ms) > _HOLDS_MS:
        return None
    if people < found.customers or abs(events - found.events) > found.events / 10:
        return None
    return found


def write(store: Store, key: str, found: Accuracy) -> None:
    """Keep it in the place of what was measured before; of many keys the newest ones."""
    with store.transaction():
        every = json.loads(store.meta(META_KEY) or "{}")
        every.pop(key, None)
        every[key] = found.to_json()
        newest = dict(list(every.items())[-_MOST_KEPT:])
        store.set_meta(META_KEY, json.dumps(newest))
