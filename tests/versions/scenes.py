"""What a device of any version does in these tests. Run with the version's packages in front.

python scenes.py use STORE SERVER     sync, decide, report; prints JSON
python scenes.py offline STORE        decide and report without a server; prints JSON
"""

import json
import sys
import time
from pathlib import Path

from edge_sdk import Config, Context, EdgeClient


def main(scene: str, store: str, server: str | None = None) -> None:
    """Play one scene."""
    config = Config(reconnect_min_s=0.05, reconnect_max_s=0.5)
    where = server or "http://127.0.0.1:9"
    with EdgeClient(Path(store), where, config=config) as edge:
        edge.wait_ready(20)
        deadline = time.monotonic() + 20
        while scene == "use" and time.monotonic() < deadline:
            if edge.status.connected and edge.status.genomes and edge.status.release:
                break
            time.sleep(0.05)
        decision = edge.decide(
            Context(place="hotel", activity="flight-search"),
            "lobby-screen",
            customer="customer-001",
        )
        if decision.offer is not None:
            edge.report(decision, "view")
        edge.imprint("customer-001", "buy", product="harbour-filter-coffee")
        left = edge.flush(15.0 if scene == "use" else 0.5)
        status = edge.status
        print(
            json.dumps(
                {
                    "decision": decision.id,
                    "offer": decision.offer.id if decision.offer else None,
                    "reason": str(decision.reason),
                    "release": decision.release,
                    "genomes": status.genomes,
                    "outbox": left,
                    "cause": str(status.cause or ""),
                }
            )
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
