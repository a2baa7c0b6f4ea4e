"""The genome of one subject as it stood at any moment of the past.

Examples must look exactly as the device's decisions will: the same sums, the same cut
to the strongest markers, the same 8-bit strengths, the same fading. All of that is the
SDK's own code; what is here only decides *which* events a moment may know of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from edge_sdk.dna.genome import Genome
from edge_sdk.dna.imprint import GenomeState, encode_row, grow, hour_of
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema


class PastImprint(NamedTuple):
    """What one event left behind, and from when on a moment may know of it.

    `hour` counts from the Unix epoch; `votes` are (marker, half-life in hours, vote in q24).
    """

    visible_ms: int
    hour: int
    votes: tuple[tuple[str, int, int], ...]


class History:
    """Walks once through a subject's imprints, forward in time.

    `profile` holds strengths in q24 by marker index; `imprints` come in any order.
    """

    def __init__(
        self,
        profile: Mapping[int, int],
        imprints: Iterable[PastImprint],
        schema: DnaSchema,
        vocabulary: Vocabulary,
    ) -> None:
        self._profile = profile
        self._imprints = sorted(imprints, key=lambda imprint: imprint.visible_ms)
        self._schema = schema
        self._vocabulary = vocabulary
        self._next = 0
        self._state = GenomeState()
        row = encode_row(self._state, profile, schema, vocabulary)
        self._genome = Genome(row, schema, vocabulary)
        # Facts of a profile do not fade: one encoding serves every hour.
        self._cold = self._weights(schema.landmark_hour)

    def features(self, moment_ms: int, *, before_ms: int) -> list[tuple[int, float, float]]:
        """Return (marker index, weight, weight without history) at `moment_ms`.

        Only imprints visible before `before_ms` count; it must not fall from call to call.
        """
        self._advance(before_ms)
        warm = self._weights(hour_of(moment_ms))
        return [
            (marker, warm.get(marker, 0.0), self._cold.get(marker, 0.0))
            for marker in sorted(warm.keys() | self._cold.keys())
        ]

    def _weights(self, hour: int) -> dict[int, float]:
        indices, weights = self._genome.features(hour)
        return dict(zip(indices.tolist(), weights.tolist(), strict=True))

    def _advance(self, before_ms: int) -> None:
        first, landmark = self._next, self._schema.landmark_hour
        while self._next < len(self._imprints):
            imprint = self._imprints[self._next]
            if imprint.visible_ms >= before_ms:
                break
            self._state.touch(imprint.hour)
            for name, half_life, vote_q24 in imprint.votes:
                index = self._vocabulary.index(name)
                if index is not None:
                    grown = grow(vote_q24, imprint.hour - landmark, half_life)
                    self._state.add(index, grown, imprint.hour)
            self._next += 1
        if self._next != first:
            row = encode_row(self._state, self._profile, self._schema, self._vocabulary)
            self._genome = Genome(row, self._schema, self._vocabulary)
