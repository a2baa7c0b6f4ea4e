"""`genome-edge serve`: this device's decisions for apps that cannot embed the SDK, until told to
stop."""

from __future__ import annotations

from argparse import Namespace

from edge_sdk.cli.common import has_store, store_path
from edge_sdk.cli.output import DONE, REFUSED, Output
from edge_sdk.cli.told import Told
from edge_sdk.client import EdgeClient
from edge_sdk.errors import StoreError, UsageError
from edge_sdk.sidecar.doors import Door, parse_door
from edge_sdk.sidecar.serving import Sidecar
from edge_sdk.sidecar.token import default_path, keep_token, made_token, read_token
from edge_sdk.tuning import tune_process

_READY_S = 2.0
_DRAIN_S = 10.0
_NONE = "none"


def run(options: Namespace, output: Output) -> int:
    """Serve; the exit code."""
    store = store_path(options)
    token_file = options.token_file or default_path(store)
    doors = _doors(options)
    if options.bundle is None and not has_store(store):
        raise UsageError(f"there is no store at {store}: enrol this device, or give --bundle FILE")
    token = made_token() if options.new_token else read_token(token_file)
    with Told() as told, EdgeClient(store, bundle=options.bundle) as edge:
        sidecar = Sidecar(edge, token, options.allow_origin, options.request_timeout)
        if not edge.wait_ready(_READY_S):
            output.note(f"warning: there is no release yet ({edge.status.cause or 'not synced'})")
        tune_process()  # it is ours alone
        try:
            sidecar.open(*doors)
            if options.new_token:  # not before: whoever serves here already knows the old one only
                keep_token(token_file, token)
            _say_ready(sidecar, str(token_file), output)
            while not told.wait():
                pass
            output.note("stopping: calls that run come to an end, everything is written")
        finally:
            sidecar.close(_DRAIN_S)
        edge.flush(0)
        # Of this device: what syncing had to complain of is no matter of what is on disk.
        trouble = edge._current().keeper.wrong
    if isinstance(trouble, StoreError):
        output.note(f"warning: not everything may be on disk: {trouble}")
        return REFUSED
    return DONE


def _doors(options: Namespace) -> tuple[Door | None, Door | None]:
    said = [None if text == _NONE else parse_door(text) for text in (options.http, options.grpc)]
    if said == [None, None]:
        raise UsageError("--http none and --grpc none leave nothing to serve")
    return said[0], said[1]


def _say_ready(sidecar: Sidecar, token_file: str, output: Output) -> None:
    http, grpc = (door.text if door is not None else "" for door in (sidecar.http, sidecar.grpc))
    output.result(
        {"http": http, "grpc": grpc, "token_file": token_file},
        [
            *([f"HTTP with JSON on {http}"] if http else []),
            *([f"gRPC on {grpc}"] if grpc else []),
            f"the token is in {token_file}; Ctrl+C stops it",
        ],
    )
