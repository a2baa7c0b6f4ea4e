"""How the connection to the server is, kept by the updater's threads and read by anyone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from edge_sdk.errors import EdgeError

log = logging.getLogger("edge_sdk.sync.updater")


@dataclass(frozen=True)
class LinkState:
    """What the updater knows about its connection; read from any thread.

    `cause` is the last failure and None once a later attempt went well; `last_contact_ms` is the
    server's time of the last message from it (0: never); `last_nack` is the reason why the last
    offered release or set of genomes was refused (empty: none was).
    """

    connected: bool = False
    last_contact_ms: int = 0
    last_nack: str = ""
    cause: EdgeError | None = None


class LinkMonitor:
    """Keeps a `LinkState`, and calls `on_change` when something that matters has changed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._causes: dict[str, EdgeError | None] = {}
        self.state = LinkState()

    def change(self, **changes: Any) -> None:
        """Change fields of the state."""
        with self._lock:
            before = self.state
            self.state = after = replace(before, **changes)
        if _telling(before) != _telling(after):
            self._on_change()

    def went(self, who: str, error: EdgeError | None) -> None:
        """Note how the last attempt of one thread went; a new trouble is logged once."""
        known = self._causes.get(who)
        self._causes[who] = error
        if error is not None and str(error) != str(known):
            log.warning("%s: %s", who, error)
        # Events that nobody takes are the worse trouble.
        self.change(cause=self._causes.get("report") or self._causes.get("sync"))


def _telling(state: LinkState) -> tuple[bool, str, str]:
    return state.connected, state.last_nack, str(state.cause)
