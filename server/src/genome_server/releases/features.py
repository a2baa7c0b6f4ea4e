"""Which devices lack a feature that a release, or an offer in it, needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genome_edge.v1 import release_pb2
from genome_server.store.protocol import Store


@dataclass(frozen=True)
class Need:
    """A feature: whether the release as a whole needs it, and how many of its offers do."""

    release: bool
    offers: int


@dataclass(frozen=True)
class Lacking:
    """How many devices lack each feature that is needed.

    Of `devices` that are enrolled and not revoked, `heard` have said what they can do. `by_feature`
    has the features that at least one of them lacks: the need, and how many lack it.
    """

    devices: int
    heard: int
    by_feature: Mapping[str, tuple[Need, int]]

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "devices": self.devices,
            "heard": self.heard,
            "features": {
                name: {
                    "devices": count,
                    "share": count / self.heard,
                    "release": need.release,
                    "offers": need.offers,
                }
                for name, (need, count) in self.by_feature.items()
            },
        }

    def sentences(self) -> list[str]:
        """What a person is told; empty where every device that was heard can use everything."""
        told = []
        for name, (need, count) in self.by_feature.items():
            lost = "1 offer" if need.offers == 1 else f"{need.offers:,} offers"
            what = "will not get this release" if need.release else f"lose {lost}"
            told.append(
                f"{count / self.heard:.1%} of the devices ({count:,} of {self.heard:,}) {what}: "
                f"their SDK lacks {name}"
            )
        return told


def needed_features(manifest: release_pb2.Manifest, parts: Mapping[str, bytes]) -> dict[str, Need]:
    """Every feature that a release or an offer in it names."""
    offers: dict[str, int] = {}
    for offer in release_pb2.OfferCatalogue.FromString(parts["offers"]).offers:
        for name in offer.required_features:
            offers[name] = offers.get(name, 0) + 1
    names = sorted({*manifest.required_features, *offers})
    return {name: Need(name in manifest.required_features, offers.get(name, 0)) for name in names}


def devices_lacking(store: Store, needed: Mapping[str, Need]) -> Lacking:
    """Count the devices that lack something, by what each said when it last connected."""
    devices = [device for device in store.devices() if not device.revoked]
    said = [device.status["features"] for device in devices if "features" in device.status]
    counts = {name: sum(name not in features for features in said) for name in needed}
    return Lacking(
        len(devices),
        len(said),
        {name: (needed[name], count) for name, count in counts.items() if count},
    )
