"""What a device says on the wire. Run with a version's packages in front: `wires.py STORE`.

Prints the next batch of the store as JSON, its bytes in hexadecimal.
"""

import json
import sys
from pathlib import Path

from edge_sdk import Config
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore


def main(path: str) -> None:
    """Print one batch."""
    batch = Outbox(DeviceStore.open(Path(path)), Config()).next_batch()
    assert batch is not None
    said = {
        "epoch": batch.epoch.hex(),
        "lane": batch.lane,
        "first": batch.first_sequence,
        "last": batch.last_sequence,
        "frames": batch.frames.hex(),
        "digest": batch.digest.hex(),
    }
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
