"""Genome Edge: decide on customer genomes where the customer is, with or without a network.

    from edge_sdk import Context, EdgeClient

    with EdgeClient(bundle="town.bundle") as edge:
        edge.wait_ready(10)
        decision = edge.decide(Context(place="hotel", activity="flight-search"), "lobby-screen")

What is named here is public; everything else may change. Names are loaded when they are first
used, so that an app pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.async_client import AsyncEdgeClient, AsyncSession
    from edge_sdk.client import EdgeClient
    from edge_sdk.config import Config
    from edge_sdk.context import Context
    from edge_sdk.decision import Decision, Offer, Reason, Slot, Tier, Unknown
    from edge_sdk.errors import (
        ClientClosed,
        DiskFull,
        EdgeError,
        InvalidContext,
        InvalidMarker,
        RefusedError,
        StoreCorrupt,
        StoreError,
        TrustError,
        UnknownDecision,
        UnreachableError,
        UsageError,
    )
    from edge_sdk.explanation import (
        Carrier,
        Considered,
        Draw,
        Explanation,
        Loser,
        SlotExplanation,
    )
    from edge_sdk.numbers import Purpose
    from edge_sdk.outbox.redeeming import Redemption, RedemptionReason
    from edge_sdk.plugins import Plugins
    from edge_sdk.session import IdentifyResult, Session
    from edge_sdk.status import State, Status
    from edge_sdk.tuning import tune_process

__all__ = [
    "AsyncEdgeClient",
    "AsyncSession",
    "Carrier",
    "ClientClosed",
    "Config",
    "Considered",
    "Context",
    "Decision",
    "DiskFull",
    "Draw",
    "EdgeClient",
    "EdgeError",
    "Explanation",
    "IdentifyResult",
    "InvalidContext",
    "InvalidMarker",
    "Loser",
    "Offer",
    "Plugins",
    "Purpose",
    "Reason",
    "Redemption",
    "RedemptionReason",
    "RefusedError",
    "Session",
    "Slot",
    "SlotExplanation",
    "State",
    "Status",
    "StoreCorrupt",
    "StoreError",
    "Tier",
    "TrustError",
    "Unknown",
    "UnknownDecision",
    "UnreachableError",
    "UsageError",
    "tune_process",
]

_HOMES = {
    "async_client": ("AsyncEdgeClient", "AsyncSession"),
    "client": ("EdgeClient",),
    "config": ("Config",),
    "context": ("Context",),
    "decision": ("Decision", "Offer", "Reason", "Slot", "Tier", "Unknown"),
    "errors": (
        "ClientClosed",
        "DiskFull",
        "EdgeError",
        "InvalidContext",
        "InvalidMarker",
        "RefusedError",
        "StoreCorrupt",
        "StoreError",
        "TrustError",
        "UnknownDecision",
        "UnreachableError",
        "UsageError",
    ),
    "explanation": (
        "Carrier",
        "Considered",
        "Draw",
        "Explanation",
        "Loser",
        "SlotExplanation",
    ),
    "outbox.redeeming": ("Redemption", "RedemptionReason"),
    "plugins": ("Plugins",),
    "numbers": ("Purpose",),
    "session": ("IdentifyResult", "Session"),
    "status": ("State", "Status"),
    "tuning": ("tune_process",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'edge_sdk' has no attribute {name!r}")
    value = getattr(import_module(f"edge_sdk.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
