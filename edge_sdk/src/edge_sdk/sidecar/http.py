"""The service as HTTP with JSON, for a page's `fetch` and for whoever has no gRPC.

    POST /v1/decide  /v1/report-outcome  /v1/redeem  /v1/set-consent  /v1/explain  /v1/imprint
         /v1/report                 one for each RPC: the request and the answer as protobuf's JSON
    GET  /v1/status                 how the device is
    GET  /v1/assets/DIGEST.png?key=…  a file of an offer, as DecidedSlot.assets names it
    GET  /healthz                   whether it serves; needs no token

Rules
-----
- `Host` must name this machine and port: a page that had its own name resolved to 127.0.0.1 (DNS
  rebinding) sends its own name.
- `Origin`, which only browsers send, must be one that was allowed; the answer names it (CORS), so
  that other pages can neither call nor read.
- Everything but /healthz and files needs `Authorization: Bearer TOKEN`. A file's address carries a
  key of its own, because `<img>` sends no headers; it opens that file only.
- A body is JSON, has a length, and is at most so long. Every answer is written at once.
- A request that does not come in time (`patience`) is answered with 408, and its connection closed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import mimetypes
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

from google.protobuf import json_format

from edge_sdk.errors import UsageError
from edge_sdk.sidecar.answers import JSON, Answer, answered, busy, nothing_at, refused
from edge_sdk.sidecar.doors import Door, parse_origin, private_socket
from edge_sdk.sidecar.http_server import Heard, LocalServer, LocalServer6, UnixServer
from edge_sdk.sidecar.patience import IDLE_S, REQUEST_S, Phase
from edge_sdk.sidecar.refusals import CallRefused, unread
from edge_sdk.sidecar.service import Method, snake
from edge_sdk.sidecar.token import Gate

log = logging.getLogger("edge_sdk.sidecar.http")

# A batch of 4 MiB in base64, and what is around it.
MAX_BODY_BYTES: Final = 6 << 20
_PREFLIGHT_S: Final = 600
# How long, and how much at a time, is read of a body that nobody wants: whoever still sends it
# would otherwise not hear the answer.
_UNWANTED_S: Final = 2.0
_UNWANTED_BYTES: Final = 1 << 16
_DIGITS: Final = 18
ASSETS: Final = "/v1/assets/"
_OPEN_TO_ALL: Final = "/healthz"


class Rooms(NamedTuple):
    """What stands behind the door."""

    methods: Mapping[str, Method]
    gate: Gate
    status: Callable[[], Mapping[str, Any]]
    asset: Callable[[str], Path | None]


def path_of(method: Method) -> str:
    """`/v1/report-outcome` for ReportOutcome."""
    return f"/v1/{snake(method.name).replace('_', '-')}"


class HttpDoor:
    """An HTTP server on one address, a thread for each connection. `open` it once; `close` it."""

    def __init__(
        self,
        rooms: Rooms,
        origins: Iterable[str],
        draining: Callable[[], bool],
        request_s: float = REQUEST_S,
    ) -> None:
        """`request_s`: how long the whole of a request may take, from its first byte on."""
        self.rooms = rooms
        self.request_s = request_s
        self.origins = frozenset(map(parse_origin, origins))
        self.draining = draining
        self.door = Door()
        self._server: LocalServer | None = None
        self._running = threading.Condition()
        self._calls = 0

    def open(self, door: Door) -> Door:
        """Listen; the address, with the port that it got. Raises UsageError where it is taken."""
        try:
            if door.path is not None:
                with private_socket(door.path):
                    handler: Any = partial(_UnixHandler, self)
                    self._server = UnixServer(str(door.path), handler, busy(), self.request_s)
                self.door = door
            else:
                made = LocalServer6 if ":" in door.host else LocalServer
                handler, where = partial(_Handler, self), (door.host, door.port)
                self._server = made(where, handler, busy(), self.request_s)
                self.door = Door(door.host, self._server.server_address[1])
        except OSError as error:
            raise UsageError(f"{door.text} cannot be listened on: {error.strerror}") from error
        serve = partial(self._server.serve_forever, poll_interval=0.05)
        threading.Thread(target=serve, name="genome-edge-http", daemon=True).start()
        return self.door

    def close(self, timeout: float) -> None:
        """Take no more connections, and give the calls that run `timeout` seconds."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        deadline = time.monotonic() + timeout
        with self._running:
            while self._calls and self._running.wait(deadline - time.monotonic()):
                pass

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """A call that runs: the end waits for it."""
        with self._running:
            self._calls += 1
        try:
            yield
        finally:
            with self._running:
                self._calls -= 1
                self._running.notify_all()

    def knows_host(self, host: str | None) -> bool:
        """Whether a `Host` header names this door."""
        if self.door.path is not None:
            return True  # nothing but a local process of this user gets here
        port = self.door.port
        names = {"localhost", "127.0.0.1", "[::1]", self.door.text.rpartition(":")[0]}
        known = {f"{name}:{port}" for name in names}
        return host is not None and host.lower() in (known | names if port == 80 else known)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "genome-edge"
    sys_version = ""
    # Of a request that did not come whole.
    requestline = ""
    request_version = "HTTP/1.1"
    # Head and body leave together, and at once.
    wbufsize = -1
    disable_nagle_algorithm = True

    def __init__(self, outside: HttpDoor, *arguments: Any) -> None:
        self._outside = outside
        self._body_left = 0
        super().__init__(*arguments)

    def setup(self) -> None:
        """Read from the connection as long as its place allows."""
        super().setup()
        self._place = self.server.places[self.request]  # type: ignore[attr-defined]
        self.rfile.close()
        self.rfile = io.BufferedReader(Heard(self.connection, self._place))

    def handle_one_request(self) -> None:
        """Read a request and answer it; one that does not come in time is told so."""
        self._place.waits(time.monotonic())
        super().handle_one_request()
        if self._place.phase is Phase.READING:  # the base class gave it up
            with contextlib.suppress(OSError):
                self._write(refused(self._too_slow()), None)

    def do_GET(self) -> None:
        """Files, the status, whether it serves."""
        self._respond(self._get)

    def do_POST(self) -> None:
        """A call."""
        self._respond(self._post)

    def do_OPTIONS(self) -> None:
        """What a browser asks before a call from another origin."""
        self._respond(self._options)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Addresses hold keys, so nothing of a request is logged above debug."""
        log.debug(format, *arguments)

    def send_error(
        self,
        code: int,
        message: str | None = None,
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """What the base class refuses (no HTTP, another method) as everything else here."""
        self.close_connection = True
        refusal = CallRefused("INVALID_ARGUMENT", message or HTTPStatus(code).phrase)
        if code == HTTPStatus.NOT_IMPLEMENTED:
            refusal = CallRefused("METHOD_NOT_ALLOWED", "GET, POST and OPTIONS are understood")
        self._write(refused(refusal), None)

    # One call -----------------------------------------------------------------------------------

    def _respond(self, answer: Callable[[str], Answer]) -> None:
        origin = None
        self._place.answers()
        self._body_left = _length(self.headers.get_all("Content-Length", []))
        if self.headers.get("Transfer-Encoding"):
            self._body_left = -1  # nobody counts it
        with self._outside.call():
            try:
                origin = self._check_sender()
                if self._outside.draining():
                    raise CallRefused("DRAINING", "this service is about to stop")
                said = answer(self._target().path)
            except CallRefused as refusal:
                said = refused(refusal)
            except OSError:  # the caller went away, or sends nothing more
                self.close_connection = True
                return
            except Exception:  # a caller gets a status, the log the place
                log.exception("a call failed in an unforeseen way")
                said = refused(CallRefused("INTERNAL", "the service failed"))
            # What was not read of a body would be taken for the next call.
            self.close_connection |= self._body_left != 0 or self._outside.draining()
            self._write(said, origin)
        if self._body_left:
            self._let_finish()

    def _let_finish(self) -> None:
        """Hear whoever is still sending a while, so that they hear the answer."""
        self._place.waits(time.monotonic())
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + _UNWANTED_S
            while (left := deadline - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if not self.connection.recv(_UNWANTED_BYTES):
                    return

    def _target(self) -> SplitResult:
        try:
            return urlsplit(self.path)
        except ValueError:
            raise CallRefused("NOT_FOUND", "what is asked for is no path") from None

    def _check_sender(self) -> str | None:
        """The origin of the page that calls; None: no page does."""
        if not self._outside.knows_host(self.headers.get("Host")):
            raise CallRefused("WRONG_HOST", "the Host header names another machine or port")
        origin: str | None = self.headers.get("Origin")
        if origin is not None and origin.lower() not in self._outside.origins:
            raise CallRefused(
                "WRONG_ORIGIN",
                "pages of this origin may not call: start with --allow-origin",
                origin=origin,
            )
        return origin

    def _check_token(self) -> None:
        if not self._outside.rooms.gate.admits(self.headers.get("Authorization")):
            raise CallRefused("UNAUTHENTICATED", "send the header Authorization: Bearer TOKEN")

    def _options(self, _: str) -> Answer:
        headers = {
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "authorization, content-type",
            "Access-Control-Max-Age": str(_PREFLIGHT_S),
        }
        if self.headers.get("Access-Control-Request-Private-Network") == "true":
            headers["Access-Control-Allow-Private-Network"] = "true"
        return Answer(HTTPStatus.NO_CONTENT, b"", headers=headers)

    def _get(self, path: str) -> Answer:
        rooms = self._outside.rooms
        if path == _OPEN_TO_ALL:
            return answered({"status": "serving"})
        if path.startswith(ASSETS):
            return self._file(path.removeprefix(ASSETS))
        self._check_token()
        if path == "/v1/status":
            return answered(rooms.status())
        raise nothing_at(path, path in rooms.methods)

    def _file(self, name: str) -> Answer:
        rooms, keys = self._outside.rooms, parse_qs(self._target().query).get("key", [""])
        if len(keys) != 1 or not rooms.gate.opens(name, keys[0]):
            raise CallRefused("UNAUTHENTICATED", "the address carries no key of this file")
        path = rooms.asset(name)
        try:
            content = path.read_bytes() if path is not None else None
        except OSError:
            content = None
        if content is None:
            raise CallRefused("NOT_FOUND", "this file is not on this device any more")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        # A picture can hold a script; it must not run as one of ours.
        safe = {
            "Content-Security-Policy": "sandbox",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Cache-Control": "private, max-age=31536000, immutable",
        }
        return Answer(HTTPStatus.OK, content, kind, safe)

    def _post(self, path: str) -> Answer:
        self._check_token()
        method = self._outside.rooms.methods.get(path)
        if method is None:
            raise nothing_at(path, path in (_OPEN_TO_ALL, "/v1/status"))
        request, body = method.request(), self._read() or b"{}"
        try:
            if not body.lstrip().startswith(b"{"):  # an empty list reads as an empty request
                raise ValueError("it is no JSON object")
            json_format.Parse(body, request)
        except (json_format.Error, ValueError, RecursionError) as error:
            raise unread(method.name, error) from None
        response = method.answer(request)
        text = json_format.MessageToJson(
            response, always_print_fields_with_no_presence=True, indent=None
        )
        return Answer(HTTPStatus.OK, text.encode())

    def _read(self) -> bytes:
        kind = self.headers.get("Content-Type", "")
        if kind.partition(";")[0].strip().lower() != JSON:
            raise CallRefused("NOT_JSON", f"send Content-Type: {JSON}")
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length") is None:
            self.close_connection = True
            raise CallRefused("LENGTH_REQUIRED", "send a body with a Content-Length")
        if self._body_left > MAX_BODY_BYTES or self._body_left < 0:
            self.close_connection = True
            raise CallRefused(
                "TOO_LARGE", f"a body has at most {MAX_BODY_BYTES} bytes", limit=MAX_BODY_BYTES
            )
        self._place.reads_on()
        try:
            body: bytes = self.rfile.read(self._body_left)
        except TimeoutError:
            raise self._too_slow() from None
        finally:
            self._place.answers()
        if len(body) < self._body_left:
            raise ConnectionError("the caller went away in the middle of a body")
        self._body_left = 0
        return body

    def _too_slow(self) -> CallRefused:
        self.close_connection = True
        if self._place.gone:
            return CallRefused("TOO_SLOW", "all places are taken, and this request took longest")
        allowed_s = self._outside.request_s
        return CallRefused("TOO_SLOW", f"a request has to be here within {allowed_s:g} s")

    def _write(self, answer: Answer, origin: str | None) -> None:
        self._place.answers()
        self.connection.settimeout(IDLE_S)
        self.send_response(answer.status)
        headers = {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Origin",
            **answer.headers,
        }
        if origin is not None:
            headers["Access-Control-Allow-Origin"] = origin
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
        self.wfile.flush()


class _UnixHandler(_Handler):
    disable_nagle_algorithm = False

    def address_string(self) -> str:
        """A socket's other end has no address."""
        return "unix"


def _length(said: Sequence[str]) -> int:
    """The length that a body says; -1 for what is none, or two of them."""
    if not said:
        return 0
    text = said[0]
    return int(text) if len(said) == 1 and text.isdecimal() and len(text) <= _DIGITS else -1
