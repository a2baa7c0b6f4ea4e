"""The segments of a tenant: made from its genomes, kept in its store, begun from where they were.

What is kept are directions by the names of markers, numbers and names: means over many people, no
person. They stand in the store, so that a backup has them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import Vocabulary
from genome_server.compare.matrix import (
    Floats,
    Genomes,
    Ints,
    Matrix,
    carriers,
    matrix_of,
    rarity_of,
    weigh,
)
from genome_server.compare.segments import (
    LEAST_PEOPLE,
    Trait,
    assign,
    cluster,
    match,
    name_of,
    traits,
)
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_PERSONALISATION

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

META_KEY: Final = "segments"
_FORMAT: Final = 1
# Weights of all directions together, the strongest of each: some 3 MB of text at most. Where some
# are left out the direction turns a little, and a few people go to the next segment.
_MOST_KEPT: Final = 65_536


@dataclass(frozen=True)
class Segment:
    """A group of people. `id` and `name` stay from build to build.

    `people` of those who agreed to learning are in it; `traits` are what they have more than all,
    most telling first. `new` where no earlier segment goes on in it.
    """

    id: int
    name: str
    people: int
    traits: list[Trait]
    new: bool


@dataclass(frozen=True, eq=False)
class Segments:
    """All segments, largest first.

    `of` is the id of the segment of every row of the genomes who agreed to personalisation or
    learning, 0 for none. `stayed` is the share of people who are where they were before; None
    where there was no before. `outside` people could not be put anywhere. `gone` are the names of
    earlier segments that go on in none of these: they are no longer kept.
    """

    segments: list[Segment]
    of: Ints
    stayed: float | None
    outside: int
    gone: tuple[str, ...]


def make_segments(
    store: Store, genomes: Genomes, count: int, *, anew: bool = False, least: int = LEAST_PEOPLE
) -> Segments:
    """Make at most `count` segments of these genomes and keep them, in place of the last ones.

    Learnt from those who agreed to learning; begun from the last ones unless `anew`.
    """
    vocabulary = store.vocabulary()
    learners = genomes.agreed(CONSENT_LEARNING)
    rarity = rarity_of(len(learners), carriers(genomes, learners, len(vocabulary)))
    weights = weigh(genomes.starts, genomes.markers, genomes.strengths, rarity)
    rows = matrix_of(genomes.starts, genomes.markers, weights, len(vocabulary))
    last = Kept.read(store, vocabulary)
    start = last.directions if len(last.ids) and not anew else None
    found = cluster(rows[learners], count, start=start, least=least)
    labels = np.full(len(genomes), -1, np.int64)
    labels[learners] = found.labels
    before = np.full(len(genomes), -1, np.int64)
    before[learners] = assign(rows[learners], last.directions)
    pairs = match(before, labels, len(last.ids), len(found.directions))
    kept, segments = _named(rows, labels, pairs, last, vocabulary, found.directions, least)
    kept.write(store, vocabulary)
    others = np.setdiff1d(genomes.agreed(CONSENT_PERSONALISATION), learners)
    labels[others] = assign(rows[others], found.directions)
    ids = np.array([*kept.ids, 0], np.int64)
    return Segments(
        segments=sorted(segments, key=lambda one: (-one.people, one.id)),
        of=ids[labels],
        stayed=_stayed(before[learners], labels[learners], pairs) if len(last.ids) else None,
        outside=int((labels[learners] < 0).sum()),
        gone=tuple(name for old, name in enumerate(last.names) if old not in pairs),
    )


@dataclass(frozen=True, eq=False)
class Kept:
    """Segments as they are kept: `directions` is float64[k, markers]."""

    ids: list[int]
    names: list[str]
    directions: Floats
    next_id: int

    @classmethod
    def read(cls, store: Store, vocabulary: Vocabulary) -> Kept:
        """What the store has; none where there was never one."""
        text = store.meta(META_KEY)
        said: dict[str, Any] = json.loads(text) if text else {"segments": [], "next_id": 1}
        directions = np.zeros((len(said["segments"]), len(vocabulary)))
        for i, one in enumerate(said["segments"]):
            for marker, weight in one["direction"].items():
                index = vocabulary.index(marker)
                if index is not None:
                    directions[i, index] = weight
        return cls(
            ids=[one["id"] for one in said["segments"]],
            names=[one["name"] for one in said["segments"]],
            directions=directions,
            next_id=said["next_id"],
        )

    def write(self, store: Store, vocabulary: Vocabulary) -> None:
        """Keep it in the store."""
        segments = []
        most = _MOST_KEPT // max(len(self.ids), 1)
        for number, name, direction in zip(self.ids, self.names, self.directions, strict=True):
            strongest = np.argsort(-direction, kind="stable")[:most]
            kept = {vocabulary.name(int(i)): float(direction[i]) for i in strongest if direction[i]}
            segments.append({"id": number, "name": name, "direction": kept})
        said = {"format": _FORMAT, "next_id": self.next_id, "segments": segments}
        store.set_meta(META_KEY, json.dumps(said))


def _named(
    rows: Matrix,
    labels: Ints,
    pairs: Sequence[int | None],
    last: Kept,
    vocabulary: Vocabulary,
    directions: Floats,
    least: int,
) -> tuple[Kept, list[Segment]]:
    """Give every group the number and name it had, or new ones."""
    told = [traits(rows, labels, group, least) for group in range(len(pairs))]
    markers = [[vocabulary.name(trait.marker) for trait in one] for one in told]
    taken = {last.names[old] for old in pairs if old is not None}
    people = np.bincount(labels[labels >= 0], minlength=len(pairs))
    ids, names, segments, next_id = [], [], [], last.next_id
    for group, old in enumerate(pairs):
        if old is not None:
            number, name = last.ids[old], last.names[old]
        else:
            number, name = next_id, name_of(markers[group], taken)
            taken.add(name)
            next_id += 1
        ids.append(number)
        names.append(name)
        segments.append(Segment(number, name, int(people[group]), told[group], old is None))
    return Kept(ids, names, directions, next_id), segments


def _stayed(before: Ints, after: Ints, pairs: Sequence[int | None]) -> float:
    """The share of people who are in the segment that they were in before."""
    goes_on = np.array([-2 if old is None else old for old in pairs] + [-2])
    known = before >= 0
    if not known.any():
        return 0.0
    return float((goes_on[after[known]] == before[known]).mean())


def segment_of(
    store: Store, markers: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]
) -> str | None:
    """The name of the segment that a row belongs to; None where there is none."""
    vocabulary = store.vocabulary()
    kept = Kept.read(store, vocabulary)
    row = matrix_of(np.array([0, len(markers)]), markers, weights, len(vocabulary))
    (label,) = assign(row, kept.directions).tolist()
    return kept.names[label] if label >= 0 else None
