"""`genome-edge status`: what a device holds."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from edge_sdk.cli.common import existing_store, settings
from edge_sdk.cli.output import DONE, Output, ago, table
from edge_sdk.clock import DeviceClock
from edge_sdk.outbox.queue import Outbox
from edge_sdk.runtime import loading
from edge_sdk.status import tier_of, warnings_of, when
from edge_sdk.store.device import DeviceStore


def run(options: Namespace, output: Output) -> int:
    """Say how the device is; the exit code."""
    config = settings()
    with existing_store(options) as store:
        clock = DeviceClock()
        clock.hear(*store.time_known())
        now_ms = clock.now_ms()
        active, standing = store.active_release(), store.standing()
        facts = _facts(store)
        fresh = None
        if active is not None:
            manifest = active.manifest
            fresh = loading.fresh_span(active, standing)
            facts |= {
                "release": active.version,
                "tier": tier_of(fresh[1], now_ms, config).value,
                "fresh_until_ms": fresh[1],
                "published": when(manifest.created_ms),
                "expires": when(manifest.expires_ms),
            }
        facts["stop_list"] = standing.stop_list_version
        facts["stopped"] = sorted(standing.stopped)
        facts["counters"] = store.losses()
        facts["outbox"] = Outbox(store, config).unsent()
        facts["warnings"] = warnings_of(
            now_ms,
            fresh=fresh,
            root=(standing.root.created_ms, standing.root.expires_ms),
            heard_ms=facts["last_contact_ms"],
            off_ms=clock.off_ms(),
        )
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
                    ("stop list", _stops(facts)),
                    ("lost or given up", _counted(facts["counters"])),
                    *(("warning", text) for text in facts["warnings"]),
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
        "fresh_until_ms": 0,
        "highest_seen": store.highest_seen(),
        "genomes": store.genome_count(),
        "set_aside": sum(1 for _ in (store.path / "rejected").iterdir()),
        "last_contact_ms": store.last_contact_ms(),
        "server_offset_ms": store.server_offset_ms(),
    }


def _release(facts: dict[str, Any]) -> str:
    if not facts["release"]:
        return "none yet"
    until = f"published {facts['published']}, fresh until {when(facts['fresh_until_ms'])}"
    return f"{facts['release']} ({facts['tier']}), {until}"


def _stops(facts: dict[str, Any]) -> str:
    if not facts["stop_list"]:
        return ""
    return f"{facts['stop_list']}: {', '.join(facts['stopped']) or 'nothing is stopped'}"


def _counted(counters: dict[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in sorted(counters.items()))
