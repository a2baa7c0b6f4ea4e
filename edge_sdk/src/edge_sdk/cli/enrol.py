"""`genome-edge enrol`: make a store a device of a server."""

from __future__ import annotations

import dataclasses
from argparse import Namespace

from edge_sdk.cli.common import settings, store_path
from edge_sdk.cli.output import DONE, Output
from edge_sdk.store.device import DeviceStore


def run(options: Namespace, output: Output) -> int:
    """Enrol; the exit code."""
    from edge_sdk.sync.enrolment import enrol

    config = settings()
    if options.ca is not None:
        config = dataclasses.replace(config, ca_file=options.ca)
    store = DeviceStore.open(store_path(options))
    try:
        enrolled = enrol(options.server, options.code, store, options.name, config)
    finally:
        store.close()
    output.result(
        {
            "device": enrolled.device_id,
            "tenant": enrolled.tenant,
            "audience": enrolled.audience,
            "server": options.server,
            "store": str(store.path),
        },
        [
            f"enrolled: device {enrolled.device_id} of {enrolled.tenant}, "
            f"audience {enrolled.audience}",
            f"store: {store.path}",
        ],
    )
    output.note("next: genome-edge sync --once, or open the store with EdgeClient")
    return DONE
