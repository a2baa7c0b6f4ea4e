"""What would be left empty: decisions that show an offer today, and would show a house default.

That can be where a placement asks for a least worth. Of its decisions the log has what was worth
enough under the model that decided, and not what was worth less. So where the candidate finds none
of these worth enough, it shows nothing *as far as the log knows*: it may think more of another. No
input or output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import Scorer
from edge_sdk.engine.release import Scoring
from edge_sdk.engine.slates import Slate
from genome_server.gate.parts import parts_of
from genome_server.gate.starving import Emptied
from genome_server.offpolicy.target import Rebuilt, scores_of, scoring_of

#: The name of the part that all decisions are in.
ALL = "all decisions that ask for a least worth"


def emptied(
    choosy: Sequence[Rebuilt],
    scorer: Scorer,
    slates: Mapping[str, Slate | None],
    vocabulary: Vocabulary,
) -> list[Emptied]:
    """How much of each part of the decisions `choosy` a model would leave empty; `slates` are those
    of the placements of the release that would take it. Raises TrustError as `scoring_of` does."""
    if not choosy:
        return []
    empty = np.zeros(len(choosy), bool)
    scorings: dict[int, Scoring] = {}
    for at, one in enumerate(choosy):
        slate = slates.get(one.past.record.placement)
        if slate is None or slate.least is None:
            continue  # it would ask for nothing any more, or is gone
        if id(one.release) not in scorings:
            scorings[id(one.release)] = scoring_of(scorer, one.release, vocabulary)
        scores = scores_of(one, scorings[id(one.release)])
        empty[at] = not (scores >= slate.least).any()
    times = np.array([one.past.stands_for for one in choosy])
    parts = {ALL: np.ones(len(choosy), bool)}
    parts |= parts_of([one.past for one in choosy], vocabulary)
    return [
        Emptied(name, float(times[rows].sum()), float(times[rows & empty].sum()))
        for name, rows in parts.items()
    ]
