"""Sockets that HTTP is spoken on: a thread for each connection, and so many connections."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import threading
from http.server import HTTPServer
from typing import Any, Final

log = logging.getLogger("edge_sdk.sidecar.http")

_CONNECTIONS: Final = 128
_BUSY_S: Final = 0.1


class LocalServer(socketserver.ThreadingMixIn, HTTPServer):
    """On IPv4."""

    daemon_threads = True
    request_queue_size = 64
    # The address of one that has ended may be taken again; that of one that runs may not.
    allow_reuse_address = True

    def __init__(self, address: Any, handler: Any, busy: bytes) -> None:
        self._busy = busy
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, without asking a name service for our own name as the base class does."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, where there is room for one more."""
        if self._room.acquire(blocking=False):
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
            self._room.release()

    def handle_error(self, *_: Any) -> None:
        """Whoever hung up is no error of ours."""
        log.debug("a connection ended early")


class LocalServer6(LocalServer):
    """On IPv6."""

    address_family = socket.AF_INET6


class UnixServer(LocalServer):
    """On a socket in the file system."""

    address_family = socket.AF_UNIX
