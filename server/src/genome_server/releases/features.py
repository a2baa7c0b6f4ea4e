"""Which devices lack a feature that a release, or an offer in it, needs or makes use of.

A device that lacks what a release needs keeps the one before; one that lacks what an offer needs
does not show that offer. What slates ask for (`SLATES`) and experiments (`EXPERIMENTS`) keep
nothing away: older devices decide without them, as they always did, which is worth knowing before
a hold-out or an arm is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from genome_edge.v1 import release_pb2
from genome_server.store.protocol import Store

#: Hold-outs, least worths, categories and costs.
SLATES: Final = "slates-1"
#: Arms of placements.
EXPERIMENTS: Final = "experiments-1"


@dataclass(frozen=True)
class Need:
    """A feature: whether the release as a whole needs it, how many of its offers do, and what of
    the release a device without it leaves out of its decisions, in words."""

    release: bool
    offers: int
    ignored: tuple[str, ...] = ()


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
                    "ignored": list(need.ignored),
                }
                for name, (need, count) in self.by_feature.items()
            },
        }

    def sentences(self) -> list[str]:
        """What a person is told; empty where every device that was heard can use everything."""
        told = []
        for name, (need, count) in self.by_feature.items():
            what = _consequence(need)
            told.append(
                f"{count / self.heard:.1%} of the devices ({count:,} of {self.heard:,}) {what}: "
                f"their SDK lacks {name}"
            )
        return told


def needed_features(manifest: release_pb2.Manifest, parts: Mapping[str, bytes]) -> dict[str, Need]:
    """Every feature that a release or an offer in it names or makes use of."""
    catalogue = release_pb2.OfferCatalogue.FromString(parts["offers"]).offers
    placements = release_pb2.PlacementList.FromString(parts["placements"]).placements
    offers: dict[str, int] = {}
    for offer in catalogue:
        for name in offer.required_features:
            offers[name] = offers.get(name, 0) + 1
    used = {
        SLATES: tuple(_beyond_choice(catalogue, placements)),
        EXPERIMENTS: ("the experiment",) if any(one.arms for one in placements) else (),
    }
    names = {*manifest.required_features, *offers, *(name for name, of in used.items() if of)}
    return {
        name: Need(name in manifest.required_features, offers.get(name, 0), used.get(name, ()))
        for name in sorted(names)
    }


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


def _consequence(need: Need) -> str:
    if need.release:
        return "will not get this release"
    lost = "1 offer" if need.offers == 1 else f"{need.offers:,} offers"
    told = [f"lose {lost}"] if need.offers else []
    if need.ignored:
        *rest, last = need.ignored
        told.append(f"decide without {', '.join(rest)}{' and ' if rest else ''}{last}")
    return " and ".join(told)


def _beyond_choice(
    offers: Sequence[release_pb2.OfferSpec], placements: Sequence[release_pb2.PlacementSpec]
) -> Iterator[str]:
    """What of `SLATES` a release makes use of."""
    if any(one.holdout_ppm for one in placements):
        yield "the hold-out"
    if any(one.HasField("least_worth_micros") for one in placements):
        yield "least worths"
    if any(one.most_per_category for one in placements):
        yield "the most of each category"
    if any(one.cost_micros for one in offers):
        yield "costs"
