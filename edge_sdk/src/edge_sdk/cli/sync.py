"""`genome-edge sync`: bring a device up to date, once or for as long as the command runs."""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack

from edge_sdk.cli.common import existing_store, settings
from edge_sdk.cli.output import DONE, REFUSED, Output
from edge_sdk.cli.told import Told
from edge_sdk.config import Config
from edge_sdk.errors import RefusedError, UsageError
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.updater import Updater


def run(options: Namespace, output: Output) -> int:
    """Sync; the exit code."""
    config = settings()
    with existing_store(options) as store, ExitStack() as stack:
        if store.identity() is None:
            raise UsageError(f"{store.path} belongs to no device yet: run genome-edge enrol")
        lock = store.elect()
        if lock is None:
            raise RefusedError("ALREADY_SYNCING", "another process of this device syncs it already")
        stack.enter_context(lock)
        if options.once:
            return _once(store, config, options.timeout, output)
        with Told() as told:
            return _for_ever(store, config, told, output)


def _once(store: DeviceStore, config: Config, timeout: float, output: Output) -> int:
    outcome = Updater(store, Outbox(store, config), config, lambda: None).sync_once(timeout)
    output.result(
        {
            "release": outcome.release,
            "genomes": outcome.genomes,
            "reported": outcome.reported,
        },
        [
            f"release {outcome.release or 'none'}, {outcome.genomes} genomes, "
            f"{outcome.reported} events sent"
        ],
    )
    return DONE


def _for_ever(store: DeviceStore, config: Config, told: Told, output: Output) -> int:
    outbox = Outbox(store, config)
    updater = Updater(store, outbox, config, told.wake)
    updater.start()
    said: tuple[object, ...] = ()
    while not told.wait():
        state, active = updater.state, store.active_release()
        data = {
            "connected": state.connected,
            "release": active.version if active else 0,
            "genomes": store.genome_count(),
            "outbox": outbox.unsent(),
            "refused": state.last_nack,
            "cause": str(state.cause) if state.cause else "",
        }
        line = (
            f"{'connected' if state.connected else 'not connected'}, "
            f"release {data['release'] or 'none'}, {data['genomes']} genomes"
            + (f"; refused: {state.last_nack}" if state.last_nack else "")
            + (f"; {state.cause}" if state.cause else "")
        )
        # The kind of trouble: its words name now this address of the server, now that one.
        trouble = state.last_nack, type(state.cause)
        news = (state.connected, data["release"], data["genomes"], *trouble)
        if news != said:
            said = news
            output.result(data, [line])
    return DONE if updater.stop(5.0) else REFUSED
