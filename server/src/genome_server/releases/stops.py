"""Stopping offers: which ids there are, why they were stopped, and which devices know of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from genome_edge.v1 import release_pb2, stop_pb2
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.ingest.nearest import KnownIds
from genome_server.releases.publish import manifest_of, part_content
from genome_server.releases.trust import STOP_LIST, TrustDesk
from genome_server.store.protocol import Store

#: `meta` key of why an offer was stopped, and when.
_WHY = "stopped:"


@dataclass(frozen=True)
class Stops:
    """The stop list: version (0: none), the offers on it, and who has it.

    Of `devices` that are enrolled and not revoked, `informed` hold this version or a newer one.
    `why` has, by offer, what was said when it was stopped.
    """

    version: int
    offers: tuple[str, ...]
    why: dict[str, dict[str, Any]]
    devices: int
    informed: int

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "version": self.version,
            "offers": [{"id": name, **self.why.get(name, {})} for name in self.offers],
            "devices": self.devices,
            "informed": self.informed,
        }


def stops(store: Store) -> Stops:
    """The stop list that is in force, and who has it."""
    newest = stop_pb2.StopList()
    for content in store.trusted(STOP_LIST):
        signed = stop_pb2.SignedStopList.FromString(content)
        newest = stop_pb2.StopList.FromString(signed.stop_list)
    devices = [device for device in store.devices() if not device.revoked]
    informed = sum(
        int(device.status.get("stop_list_version") or 0) >= newest.version for device in devices
    )
    why = {name: json.loads(store.meta(_WHY + name) or "{}") for name in newest.offers}
    return Stops(newest.version, tuple(newest.offers), why, len(devices), informed)


def pause(
    tenant: Tenant, store: Store, offers: Sequence[str], *, reason: str = "", force: bool = False
) -> Stops:
    """Stop offers on every device. Raises Refused for an id that nobody knows, unless `force`."""
    if not force:
        known = KnownIds("offer", sorted(_known(tenant, store)))
        for name in offers:
            if name not in known:
                raise Refused(f"{known.unknown(name)} (--force stops it all the same)")
    before = stops(store)
    desk = TrustDesk(tenant, store)
    with store.transaction():  # on disk once, however many they are
        desk.pause(offers)
        for name in offers:
            # Who stops it once more without a word leaves standing why and since when it is.
            known_why = before.why.get(name, {})
            why = {
                "reason": reason or known_why.get("reason", ""),
                "since_ms": known_why.get("since_ms") or time.time_ns() // 1_000_000,
            }
            store.set_meta(_WHY + name, json.dumps(why))
    return stops(store)


def resume(tenant: Tenant, store: Store, offers: Sequence[str]) -> Stops:
    """Let offers be shown again. Raises Refused for one that is not stopped."""
    stopped = stops(store).offers
    for name in offers:
        if name not in stopped:
            listed = ", ".join(stopped[:10]) or "none is"
            raise Refused(f"offer {name!r} is not stopped; these are: {listed}")
    TrustDesk(tenant, store).resume(offers)
    return stops(store)


def _known(tenant: Tenant, store: Store) -> set[str]:
    """Offers that are imported, or in a release that a device may have now."""
    known = {name for name, _ in store.documents("offer")}
    for row in store.releases_in_force():
        part = next(part for part in manifest_of(row).parts if part.name == "offers")
        with suppress(Refused):  # damaged or gone: a stop must not wait for its repair
            catalogue = release_pb2.OfferCatalogue.FromString(part_content(tenant, part))
            known |= {offer.id for offer in catalogue.offers}
    return known
