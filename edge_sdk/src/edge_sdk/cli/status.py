"""`genome-edge status`: what a device holds."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace
from typing import Any

from edge_sdk.cli.common import existing_store, settings
from edge_sdk.cli.output import DONE, Output, ago, table
from edge_sdk.clock import DeviceClock
from edge_sdk.outbox.queue import Outbox
from edge_sdk.status import tier_of
from edge_sdk.store.device import DeviceStore


def run(options: Namespace, output: Output) -> int:
    """Say how the device is; the exit code."""
    config = settings()
    with existing_store(options) as store:
        clock = DeviceClock()
        clock.hear(store.server_offset_ms(), store.clock_floor_ms())
        now_ms = clock.now_ms()
        active = store.active_release()
        facts = _facts(store)
        if active is not None:
            manifest = active.manifest
            facts |= {
                "release": active.version,
                "tier": tier_of(manifest, now_ms, config).value,
                "published": _time(manifest.created_ms),
                "expires": _time(manifest.expires_ms),
            }
        facts["outbox"] = Outbox(store, config).unsent()
        contact = facts["last_contact_ms"]
        output.result(
            facts,
            table(
                (
                    ("device", facts["device"] or "not enrolled"),
                    ("tenant", facts["tenant"]),
                    ("audience", facts["audience"]),
                    ("server", facts["server"]),
                    ("store", facts["store"]),
                    ("release", _release(facts)),
                    ("highest seen", facts["highest_seen"]),
                    ("genomes", facts["genomes"]),
                    ("events to send", facts["outbox"]),
                    ("batches set aside", facts["set_aside"] or ""),
                    ("last contact", f"{ago(now_ms - contact)} ago" if contact else "never"),
                )
            ),
        )
    return DONE


def _facts(store: DeviceStore) -> dict[str, Any]:
    identity = store.identity()
    return {
        "device": identity.device_id if identity else "",
        "tenant": identity.tenant if identity else "",
        "audience": identity.audience if identity else "",
        "server": identity.server if identity else "",
        "store": str(store.path),
        "release": 0,
        "tier": "empty",
        "highest_seen": store.highest_seen(),
        "genomes": store.genome_count(),
        "set_aside": sum(1 for _ in (store.path / "rejected").iterdir()),
        "last_contact_ms": store.last_contact_ms(),
        "server_offset_ms": store.server_offset_ms(),
    }


def _release(facts: dict[str, Any]) -> str:
    if not facts["release"]:
        return "none yet"
    return f"{facts['release']} ({facts['tier']}), published {facts['published']}"


def _time(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat(timespec="seconds")
