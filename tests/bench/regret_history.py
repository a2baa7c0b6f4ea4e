"""What own answers leave in a genome, for a policy that is not ours: the SDK's own imprints."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from edge_sdk.dna.genome import Genome, PendingImprint
from edge_sdk.dna.imprint import event_weight, explode, hour_of, vote
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import default_schema
from tests.bench.world.truth import World

_LINEAGE: Final = bytes(16)
_FULL_Q8: Final = 256
#: How long before the first day strengths are counted from.
_BACK_H: Final = 180 * 24


class Histories:
    """By person the markers that own answers left, as strong as a device would have them."""

    def __init__(self, world: World) -> None:
        self._schema = default_schema(hour_of(world.begin_ms) - _BACK_H)
        names = dict.fromkeys(name for offer in world.offers for name in offer.dna)
        refused = [f"not-{name}" for name in names]
        self._words = Vocabulary(_LINEAGE, [*names, *refused])
        self._offers = world.offers
        self._did: defaultdict[int, list[PendingImprint]] = defaultdict(list)
        self._genomes: dict[int, Genome] = {}

    def imprint(self, person: int, kind: str, offer: int, at_ms: int) -> None:
        """Somebody answered an offer."""
        weight = event_weight(self._schema, kind)
        dna = [(name, _FULL_Q8) for name in self._offers[offer].dna]
        votes = tuple(
            (self._words.index(name) or 0, vote(weight, salience))
            for name, salience, _ in explode(self._schema, kind, dna)
        )
        self._did[person].append(PendingImprint(hour_of(at_ms), votes))
        self._genomes.pop(person, None)

    def strengths(self, person: int, at_ms: int) -> list[tuple[str, float]]:
        """Markers and weights, as a decision would read them."""
        genome = self._genomes.get(person)
        if genome is None:
            genome = Genome(None, self._schema, self._words, self._did.get(person, ()))
            self._genomes[person] = genome
        indices, weights = genome.features(hour_of(at_ms))
        return [
            (self._words.name(index), weight)
            for index, weight in zip(indices.tolist(), weights.tolist(), strict=True)
        ]
