"""A tenant with customers and offers to decide lists for, and what came of a list."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.bulk.order import Order, Outcome
from genome_server.bulk.run import decide_list
from genome_server.home import Home, Tenant
from genome_server.log import SERVER, LogReader
from tests.serving import make_home, now_ms, offer, publish_release

#: Some moment at which runs count as made: it makes two of them comparable.
AT_MS = now_ms() - 60_000


def a_tenant(root: Path, customers: Sequence[str] = ("ann", "bob", "eve")) -> Tenant:
    """Published: offers with a campaign, caps, a condition on the basket and the stage."""
    tenant = make_home(root, customers).tenant("default")
    mail = {"campaign": "mail", "placements": ["screen", "feed"]}
    with closing(tenant.open_store()) as store:
        store.put_documents(
            "offer",
            [
                offer("once", "service:once", value=9.0, caps=[{"limit": 1}], **mail),
                offer("few", "service:few", value=8.0, campaign="mail", caps=_device(3)),
                offer("after", "service:thanks", value=20.0, all_of=["stage:after"]),
                offer("mill", "service:mill", value=30.0, all_of=["brand:mill"]),
            ],
        )
    publish_release(tenant)
    return tenant


def _device(limit: int) -> list[dict[str, Any]]:
    return [{"limit": limit, "scope": "device", "window_hours": 24}]


def go(tenant: Tenant, out: Path, **said: Any) -> Outcome:
    """Decide for a list; for all customers in the placement `screen` where nothing else is said."""
    if not {"file", "audience", "markers"} & said.keys():
        said["everybody"] = True
    order = Order(out, **{"placement": "screen", **said})
    with closing(tenant.open_store()) as store:
        outcome = decide_list(tenant, store, order)
    assert outcome.rows_in == outcome.decided + outcome.rejected
    return outcome


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet result."""
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def decisions(tenant: Tenant) -> list[event_pb2.DecisionRecord]:
    """The decisions that the log holds as the server's own."""
    with closing(LogReader(tenant.log_path)) as reader:
        return [
            event_pb2.Event.FromString(frame.body).decision
            for frame in reader.frames(kinds={FrameKind.DECISION})
            if frame.device == SERVER
        ]


def copied(tenant: Tenant, root: Path) -> Tenant:
    """The same tenant in another home."""
    shutil.copytree(tenant.dir.parent.parent, root)
    return Home(root).tenant(tenant.name)


def receipts(path: Path, count: int = 25) -> Path:
    """A list with gaps, mistakes and moments of its own; one customer stands in it four times."""
    lines = ["id,customer,basket,stage,time,attr.weather\n"]
    for n in range(count):
        who = f"c{n % 7}" if n % 3 else ""
        stage = ("after", "before", "")[n % 3]
        lines.append(f"r{n},{who},soap|bread,{stage},2026-03-0{1 + n % 9}T18:05:00+01:00,rainy\n")
    lines[6] = "r5,nobody,soap,after,,\n"
    lines[9] = "r8,c1,soap,afterwards,,\n"
    path.write_text("".join(lines))
    return path
