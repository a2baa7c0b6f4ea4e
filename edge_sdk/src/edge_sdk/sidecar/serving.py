"""Opens the doors of one client, and closes them when the calls that run have come to an end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from edge_sdk.client import EdgeClient
from edge_sdk.decision import Offer
from edge_sdk.sidecar.doors import Door
from edge_sdk.sidecar.http import ASSETS, HttpDoor, Rooms, path_of
from edge_sdk.sidecar.patience import REQUEST_S
from edge_sdk.sidecar.rpc import RpcDoor
from edge_sdk.sidecar.service import Service
from edge_sdk.sidecar.token import Gate
from edge_sdk.store.files import is_digest

_OPEN_S: Final = 1.0


class Sidecar:
    """One client of a store, served on this machine. `open` it once; `close` it.

    The client stays the caller's, who closes it afterwards.
    """

    def __init__(
        self,
        edge: EdgeClient,
        token: str,
        origins: Iterable[str] = (),
        request_s: float = REQUEST_S,
    ) -> None:
        """`request_s`: how long a caller may take to say what it wants. Raises UsageError for an
        origin that is none."""
        self._edge = edge
        self._request_s = request_s
        self._gate = Gate(token)
        self._stopping = threading.Event()
        service = Service(edge, self._files)
        methods = service.methods()
        rooms = Rooms(
            {path_of(method): method for method in methods},
            self._gate,
            service.status,
            self._asset,
        )
        draining = self._stopping.is_set
        self._http = HttpDoor(rooms, origins, draining, request_s)
        self._rpc: RpcDoor | None = None
        self._methods = methods
        self.http: Door | None = None
        self.grpc: Door | None = None

    def open(self, http: Door | None, grpc: Door | None) -> None:
        """Listen; `http` and `grpc` then say where. Raises UsageError for an address taken."""
        if http is not None:
            self.http = self._http.open(http)
        if grpc is not None:
            draining = self._stopping.is_set
            self._rpc = RpcDoor(self._methods, self._gate, draining, self._request_s)
            self.grpc = self._rpc.open(grpc)

    def close(self, timeout: float) -> None:
        """Take no more calls; those that run have `timeout` seconds. Harmless to repeat."""
        self._stopping.set()
        deadline = time.monotonic() + timeout
        self._http.close(timeout)
        if self._rpc is not None:
            self._rpc.close(max(0.1, deadline - time.monotonic()))
        for door in (self.http, self.grpc):
            if door is not None and door.path is not None:
                with contextlib.suppress(OSError):
                    door.path.unlink()

    # Files of offers ----------------------------------------------------------------------------

    def _files(self, offer: Offer) -> Mapping[str, str]:
        """Where each file of an offer is to be had: over HTTP where a page can, else on this disk.

        A digest names the content, so an address stays good for as long as the file is here.
        """
        return {name: self._where(path) for name, path in offer._assets.items()}

    def _where(self, path: Path) -> str:
        if self.http is None or self.http.path is not None or not is_digest(path.name):
            return path.absolute().as_uri()
        name = path.name + self._ending(path)
        return f"http://{self.http.text}{ASSETS}{name}?key={self._gate.key_of(name)}"

    def _ending(self, path: Path) -> str:
        """The ending of the file's name in its release, which says what it is."""
        release = self._edge._current().room.live.release
        parts = release.assets.items() if release is not None else ()
        return next((Path(part).suffix for part, held in parts if held == path), "")

    def _asset(self, name: str) -> Path | None:
        """The file of a name that was given out; its key was looked at."""
        keeper = self._edge._current().keeper
        path = keeper.when_open(_OPEN_S).store.part_path(bytes.fromhex(name.partition(".")[0]))
        return path if path.is_file() else None
