"""Sockets that HTTP is spoken on: a thread for each connection, and so many connections.

A caller is read from within the time that `patience` allows. Where all places are taken, whom it
names gives way.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import socketserver
import threading
import time
from http.server import HTTPServer
from typing import Any, Final

from edge_sdk.sidecar.patience import Place, gives_way

log = logging.getLogger("edge_sdk.sidecar.http")

_CONNECTIONS: Final = 128
_BUSY_S: Final = 0.1
# How long the thread of a connection that gives way may take to leave.
_LEAVES_S: Final = 0.5


class Heard(io.RawIOBase):
    """What a caller sends, as long as it comes in time: then, or when its place is needed, reading
    raises TimeoutError."""

    def __init__(self, connection: socket.socket, place: Place) -> None:
        super().__init__()
        self._connection = connection
        self._place = place

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for bytes; 0 at the end."""
        left = self._place.left_s(time.monotonic())
        if left <= 0:
            raise TimeoutError("the request does not come in time")
        self._connection.settimeout(left)
        got = self._connection.recv_into(buffer)
        if got:
            self._place.heard(time.monotonic())
        elif self._place.gone:
            raise TimeoutError("its place is needed")
        return got


class LocalServer(socketserver.ThreadingMixIn, HTTPServer):
    """On IPv4."""

    daemon_threads = True
    request_queue_size = 64
    # The address of one that has ended may be taken again; that of one that runs may not.
    allow_reuse_address = True

    def __init__(self, address: Any, handler: Any, busy: bytes, request_s: float) -> None:
        self._busy = busy
        self._request_s = request_s
        #: By connection.
        self.places: dict[socket.socket, Place] = {}
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, without asking a name service for our own name as the base class does."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, where there is room for one more."""
        if self._room.acquire(blocking=False) or self._make_room():
            self.places[request] = Place(self._request_s, time.monotonic())
            super().process_request(request, client_address)
            return
        log.warning("more than %d connections at once", _CONNECTIONS)
        with contextlib.suppress(OSError):
            request.settimeout(_BUSY_S)
            request.sendall(self._busy)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As the base class; the room is given back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self.places[request]
            self._room.release()

    def _make_room(self) -> bool:
        """Whether somebody gave way, and there is room now."""
        who = gives_way(list(self.places.items()), time.monotonic())
        if who is None:
            return False
        with contextlib.suppress(OSError):
            who.shutdown(socket.SHUT_RD)  # its thread reads the end of what was sent
        return self._room.acquire(timeout=_LEAVES_S)

    def handle_error(self, *_: Any) -> None:
        """Whoever hung up is no error of ours."""
        log.debug("a connection ended early")


class LocalServer6(LocalServer):
    """On IPv6."""

    address_family = socket.AF_INET6


class UnixServer(LocalServer):
    """On a socket in the file system."""

    address_family = socket.AF_UNIX
