"""The service as gRPC: the contract's own services, with the local token as bearer token.

Every refusal says why in its details, but where gRPC refuses before anything of ours is asked: a
message that is too large, a method that there is not, and a flood of calls beyond what can be told
that this is busy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError, Message

from edge_sdk._posix import quiet_grpc
from edge_sdk.errors import UsageError
from edge_sdk.sidecar.doors import Door, private_socket
from edge_sdk.sidecar.refusals import CallRefused
from edge_sdk.sidecar.token import Gate
from edge_sdk.sync.transport import DETAILS_KEY

if TYPE_CHECKING:
    from edge_sdk.sidecar.service import Method

# A batch of 4 MiB and what is around it.
MAX_MESSAGE_BYTES: Final = 5 << 20
_WORKERS: Final = 8
AT_ONCE: Final = 256
_REFUSED_AT_ONCE: Final = 1_024


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


class _Calls:
    """What gRPC asks, as a call comes in, for what answers it."""

    def __init__(self, handlers: dict[str, Any], workers: _Workers, refusing: Any) -> None:
        self._handlers = handlers
        self._workers = workers
        self._refusing = refusing

    def service(self, call: Any) -> Any:
        """What answers a method; None where there is no such."""
        handler = self._handlers.get(call.method)
        return self._refusing if handler is not None and self._workers.busy else handler


class RpcDoor:
    """A gRPC server on one address. `open` it once; `close` it."""

    def __init__(self, methods: Sequence[Method], gate: Gate, draining: Callable[[], bool]) -> None:
        import grpc

        self._gate = gate
        self._draining = draining
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            # Two services on one port would each get some of the calls.
            ("grpc.so_reuseport", 0),
        ]
        workers = _Workers(_WORKERS, "genome-edge-rpc")
        most = AT_ONCE + _REFUSED_AT_ONCE
        with quiet_grpc():
            self._server = grpc.server(workers, options=options, maximum_concurrent_rpcs=most)
        handlers = {f"/{one.service}/{one.name}": self._handler(one) for one in methods}
        calls: Any = _Calls(handlers, workers, _refusing())
        self._server.add_generic_rpc_handlers([calls])

    def open(self, door: Door) -> Door:
        """Listen; the address, with the port that it got. Raises UsageError where it is taken."""
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

    def _handler(self, method: Method) -> Any:
        import grpc

        def handle(content: bytes, context: Any) -> Message:
            try:
                if self._draining():
                    raise CallRefused("DRAINING", "this service is about to stop")
                metadata = dict(context.invocation_metadata() or ())
                if not self._gate.admits(_text(metadata.get("authorization"))):
                    raise CallRefused(
                        "UNAUTHENTICATED", "the call carries no token, or a wrong one"
                    )
                return method.answer(_read(method, content))
            except CallRefused as refusal:
                _refuse(context, refusal)
                raise  # refusing has raised already

        return grpc.unary_unary_rpc_method_handler(
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
