"""The service as gRPC: the contract's own services, with the local token as bearer token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
_AT_ONCE: Final = 256


class RpcDoor:
    """A gRPC server on one address. `open` it once; `close` it."""

    def __init__(self, methods: Sequence[Method], gate: Gate, draining: Callable[[], bool]) -> None:
        import grpc

        self._gate = gate
        self._draining = draining
        self._codes = {code.value[0]: code for code in grpc.StatusCode}
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            # Two services on one port would each get some of the calls.
            ("grpc.so_reuseport", 0),
        ]
        pool = ThreadPoolExecutor(_WORKERS, "genome-edge-rpc")
        with quiet_grpc():
            self._server = grpc.server(pool, options=options, maximum_concurrent_rpcs=_AT_ONCE)
        by_service: dict[str, dict[str, Any]] = {}
        for method in methods:
            by_service.setdefault(method.service, {})[method.name] = self._handler(method)
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, of) for name, of in by_service.items()]
        )

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
                context.set_trailing_metadata(((DETAILS_KEY, refusal.details()),))
                context.abort(self._codes[refusal.status.code], str(refusal))
                raise  # abort has raised already

        return grpc.unary_unary_rpc_method_handler(
            handle,
            None,  # bytes: of a message that cannot be read gRPC would say that it is our mistake
            lambda response: response.SerializeToString(),
        )


def _read(method: Method, content: bytes) -> Message:
    try:
        return method.request.FromString(content)
    except DecodeError:
        raise CallRefused("INVALID_ARGUMENT", "the message cannot be read") from None


def _text(value: str | bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
