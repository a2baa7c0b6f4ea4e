"""Experiments: which placement decides where one that has arms is asked for.

Rules
-----
- An arm is a placement like any other: with its explorer, its hold-out, its window. It decides for
  its share of the customers; the rest stay with the placement that was asked for.
- Who is in which arm follows from that placement, its seed and the customer (for nobody: from the
  decision), as for hold-outs and independently of them. So it is the same on every device.
- Shares lie end to end in the order of the arms: more for the last one moves nobody else.
- An arm has no arms and is one of one placement. Offers for a placement are for its arms, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from edge_sdk.engine.slates import MILLION, millionth
from edge_sdk.errors import FormatError

if TYPE_CHECKING:
    from genome_edge.v1 import release_pb2

_EXPERIMENT: Final = "genome-edge/experiment/v1"


class Experiment(NamedTuple):
    """The arms of `base`: by name how many of a million, drawn by what starts with `key`."""

    base: str
    key: bytes
    arms: dict[str, int]

    @classmethod
    def of(cls, spec: release_pb2.PlacementSpec) -> Experiment | None:
        """The experiment of a placement; None where it has no arms."""
        if not spec.arms:
            return None
        key = f"{_EXPERIMENT}\n{spec.id}\n{spec.experiment_seed}\n".encode()
        return cls(spec.id, key, {arm.placement: arm.share_ppm for arm in spec.arms})

    def draw(self, subject: bytes, decision_id: bytes) -> str:
        """The placement that decides for a customer (16 bytes; zeros: nobody)."""
        number = millionth(self.key, subject, decision_id)
        for arm, share in self.arms.items():
            if number < share:
                return arm
            number -= share
        return self.base


def bases(placements: Iterable[release_pb2.PlacementSpec]) -> dict[str, str]:
    """By arm the placement that it is one of. Raises FormatError for the first of `troubles`."""
    specs = list(placements)
    for placement, arm, trouble in troubles(specs):
        raise FormatError(f"placement {placement!r}: arm {arm!r} {trouble}")
    return {arm.placement: spec.id for spec in specs for arm in spec.arms}


def troubles(placements: Iterable[release_pb2.PlacementSpec]) -> Iterator[tuple[str, str, str]]:
    """What cannot be of the arms of all placements there are: the placement, the arm, and why."""
    specs = {spec.id: spec for spec in placements}
    found: dict[str, str] = {}
    for spec in specs.values():
        for arm in spec.arms:
            name = arm.placement
            if name not in specs:
                yield spec.id, name, "is no placement"
            elif specs[name].arms:
                yield spec.id, name, "has arms itself"
            elif found.setdefault(name, spec.id) != spec.id:
                yield spec.id, name, f"is one of {found[name]!r} already"
        if sum(arm.share_ppm for arm in spec.arms) > MILLION:
            yield spec.id, spec.arms[-1].placement, "is too much: all shares come to more than 1"
