"""The service as gRPC: the contract's own services, with the local token as bearer token.

Every refusal says why in its details, but where gRPC refuses before anything of ours is asked: a
message that is too large, a method that there is not, and a flood of calls beyond what can be told
that this is busy.

A call of which the message does not come in time (`patience`) is cancelled; so it takes a thread
for itself until then, and a turn only when it can be answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError, Message

from edge_sdk._posix import quiet_grpc
from edge_sdk.errors import UsageError
from edge_sdk.sidecar.doors import Door, private_socket
from edge_sdk.sidecar.patience import REQUEST_S, Place, gives_way
from edge_sdk.sidecar.refusals import CallRefused
from edge_sdk.sidecar.token import Gate
from edge_sdk.sync.transport import DETAILS_KEY

if TYPE_CHECKING:
    from edge_sdk.sidecar.service import Method

# A batch of 4 MiB and what is around it.
MAX_MESSAGE_BYTES: Final = 5 << 20
#: So many are answered at once; the others wait for their turn.
_TURNS: Final = 8
AT_ONCE: Final = 256
_REFUSED_AT_ONCE: Final = 1_024
_LOOK_S: Final = 0.25


class _Workers(ThreadPoolExecutor):
    """Threads that know how many calls they have to answer yet."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, name)
        self._calls: set[Future[Any]] = set()

    @property
    def busy(self) -> bool:
        """Whether there are as many as are taken at once."""
        return len(self._calls) >= AT_ONCE

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Take a call."""
        call = super().submit(fn, *args, **kwargs)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call


class _Reading:
    """The calls whose message is still coming: one that takes too long is cancelled."""

    def __init__(self, request_s: float) -> None:
        self._request_s = request_s
        self._places: dict[Any, Place] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="genome-edge-wait", daemon=True)

    def start(self) -> None:
        """Watch them."""
        self._thread.start()

    def stop(self) -> None:
        """Watch them no more."""
        self._over.set()

    def message(self, messages: Iterator[bytes], context: Any) -> bytes:
        """The message of a call. Raises what gRPC raises where the call is over before."""
        now = time.monotonic()
        place = self._places[context] = Place(self._request_s, now)
        place.heard(now)
        try:
            return next(messages)
        except StopIteration:
            raise CallRefused("INVALID_ARGUMENT", "the call carries no message") from None
        finally:
            del self._places[context]

    def make_room(self) -> None:
        """One call too many came: the one that has been coming for longest gives way."""
        who = gives_way(self._now(), time.monotonic())
        if who is not None:
            who.cancel()

    def _now(self) -> list[tuple[Any, Place]]:
        return list(self._places.items())

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            now = time.monotonic()
            for context, place in self._now():
                if place.left_s(now) <= 0:
                    context.cancel()


class _Calls:
    """What gRPC asks, as a call comes in, for what answers it."""

    def __init__(
        self, handlers: dict[str, Any], workers: _Workers, refusing: Any, reading: _Reading
    ) -> None:
        self._handlers = handlers
        self._workers = workers
        self._refusing = refusing
        self._reading = reading

    def service(self, call: Any) -> Any:
        """What answers a method; None where there is no such."""
        handler = self._handlers.get(call.method)
        if handler is None or not self._workers.busy:
            return handler
        self._reading.make_room()
        return self._refusing


class RpcDoor:
    """A gRPC server on one address. `open` it once; `close` it."""

    def __init__(
        self,
        methods: Sequence[Method],
        gate: Gate,
        draining: Callable[[], bool],
        request_s: float = REQUEST_S,
    ) -> None:
        """`request_s`: so many seconds after a call has begun its message is here."""
        import grpc

        self._gate = gate
        self._draining = draining
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            # Two services on one port would each get some of the calls.
            ("grpc.so_reuseport", 0),
        ]
        self._reading = _Reading(request_s)
        self._turns = threading.Semaphore(_TURNS)
        workers = _Workers(AT_ONCE, "genome-edge-rpc")
        most = AT_ONCE + _REFUSED_AT_ONCE
        with quiet_grpc():
            self._server = grpc.server(workers, options=options, maximum_concurrent_rpcs=most)
        handlers = {f"/{one.service}/{one.name}": self._handler(one) for one in methods}
        calls: Any = _Calls(handlers, workers, _refusing(), self._reading)
        self._server.add_generic_rpc_handlers([calls])

    def open(self, door: Door) -> Door:
        """Listen; the address, with the port that it got. Raises UsageError where it is taken."""
        self._reading.start()
        try:
            if door.path is not None:
                with private_socket(door.path):
                    self._server.add_insecure_port(door.text)
                    self._server.start()
                return door
            port = self._server.add_insecure_port(door.text)
            self._server.start()
        except (RuntimeError, OSError) as error:
            raise UsageError(f"{door.text} cannot be listened on: {error}") from error
        return Door(door.host, port)

    def close(self, timeout: float) -> None:
        """Take no more calls, and give those that run `timeout` seconds."""
        self._server.stop(timeout).wait()
        self._reading.stop()

    def _handler(self, method: Method) -> Any:
        import grpc

        def handle(messages: Iterator[bytes], context: Any) -> Message:
            try:
                if self._draining():
                    raise CallRefused("DRAINING", "this service is about to stop")
                metadata = dict(context.invocation_metadata() or ())
                if not self._gate.admits(_text(metadata.get("authorization"))):
                    raise CallRefused(
                        "UNAUTHENTICATED", "the call carries no token, or a wrong one"
                    )
                content = self._reading.message(messages, context)
                with self._turns:
                    return method.answer(_read(method, content))
            except CallRefused as refusal:
                _refuse(context, refusal)
                raise  # refusing has raised already

        # A stream of one: of a unary call gRPC would wait for the message itself, for ever.
        return grpc.stream_unary_rpc_method_handler(
            handle,
            None,  # bytes: of a message that cannot be read gRPC would say that it is our mistake
            lambda response: response.SerializeToString(),
        )


def _refusing() -> Any:
    """What answers a call that is one too many, without waiting for its message or for those before
    it."""
    import grpc

    def refuse(_messages: Any, context: Any) -> None:
        _refuse(context, CallRefused("BUSY", "more calls at once than this service takes"))

    refuse.experimental_thread_pool = ThreadPoolExecutor(  # type: ignore[attr-defined]
        1, "genome-edge-busy"
    )
    return grpc.stream_unary_rpc_method_handler(refuse)


def _refuse(context: Any, refusal: CallRefused) -> None:
    """End a call with the status and the details of a refusal. Raises what gRPC goes by."""
    import grpc

    context.set_trailing_metadata(((DETAILS_KEY, refusal.details()),))
    code = next(code for code in grpc.StatusCode if code.value[0] == refusal.status.code)
    context.abort(code, str(refusal))


def _read(method: Method, content: bytes) -> Message:
    try:
        return method.request.FromString(content)
    except DecodeError:
        raise CallRefused("INVALID_ARGUMENT", "the message cannot be read") from None


def _text(value: str | bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
