"""What carried what was drawn, how it was drawn, and what it was drawn from.

Everything is worked out again from the record, the release and its model; nothing of it is kept
when a decision is made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from edge_sdk.decision import Reason, Tier
from edge_sdk.engine.choosing import eligible_for, kept_of, picked
from edge_sdk.engine.policy import ONE, Floats, Indices, P, draw_number
from edge_sdk.explanation import Carrier, Considered, Draw, SlotExplanation

if TYPE_CHECKING:
    from edge_sdk.engine.record import Inputs, Record
    from edge_sdk.engine.release import Release
    from edge_sdk.engine.slates import Positions
    from genome_edge.v1 import release_pb2

log = logging.getLogger("edge_sdk.engine")


def considered(release: Release, record: Record) -> Considered:
    """How many offers were left at each stage."""
    inputs, offers = record.inputs, len(release.catalogue)
    if inputs.placement not in release.placements or inputs.tier in (Tier.HOUSE, Tier.EMPTY):
        return Considered(offers)
    block = release.catalogue.near(inputs.where)
    eligible = eligible_for(release, inputs)
    open_ = len(eligible.rows)
    allowed = inputs.withheld.allowed(eligible.rows)
    kept, capped = kept_of(release, inputs, eligible)
    left = open_ if kept is None else int(kept.sum())
    candidates = 0 if record.rows is None else len(record.rows)
    return Considered(
        offers,
        block.near,
        open_,
        0 if allowed is None else int((~allowed).sum()),
        0 if capped is None else len(capped),
        left - candidates,
        candidates,
    )


def stories(release: Release, record: Record) -> list[SlotExplanation]:
    """Why each slot came out as it did."""
    slots = record.instead or record.slots
    drawn = [slot for slot in slots if slot.offer is not None and slot.reason is not Reason.HOUSE]
    if record.rows is None or not drawn:
        return [SlotExplanation(slot) for slot in slots]
    rows = [release.catalogue.row_of[slot.offer.id] for slot in drawn if slot.offer is not None]
    draws = _draws(release, record)
    parts = None
    try:
        parts = _Parts(release, record.inputs, rows)
    except Exception:  # noqa: BLE001 a broken model fails in its runtime's own ways
        log.info("the model does not say what carried decision %s", record.inputs.decision_id.hex())
    told = []
    for at, slot in enumerate(drawn):
        draw = draws.get(release.catalogue.ids[rows[at]])  # none where a test has forced it
        if parts is None:
            told.append(SlotExplanation(slot, draw=draw))
        else:
            told.append(
                SlotExplanation(slot, parts.carriers[at], parts.own[at], parts.unmarked[at], draw)
            )
    # What was drawn stands before what is empty.
    return [*told, *(SlotExplanation(slot) for slot in slots if slot not in drawn)]


def _draws(release: Release, record: Record) -> dict[str, Draw]:
    """How each slot was drawn, by the offer that it drew."""
    inputs, rows, scores = record.inputs, record.rows, record.scores
    if rows is None or scores is None:
        return {}
    ids = release.catalogue.ids
    eligible = eligible_for(release, inputs)
    placement = release.placements[inputs.placement]
    pools: list[Positions | None] = []
    kept = eligible.rows.searchsorted(rows)
    picks = picked(release, placement, inputs, scores, eligible, kept, pools)
    draws = {}
    for slot, (pick, pool) in enumerate(zip(picks, pools, strict=True)):
        at = rows if pool is None else rows[pool]
        among = scores if pool is None else scores[pool]
        chances = placement.explorer.distribution(among)
        named = [ids[row] for row in at.tolist()]
        likely = np.argsort(-chances, kind="stable")
        told = tuple((named[n], int(chances[n]) / P) for n in likely.tolist() if chances[n])
        drawn = Draw(draw_number(inputs.seed, slot), named[int(among.argmax())], told)
        draws[ids[int(rows[pick.position])]] = drawn
    return draws


class _Parts:
    """What each marker does for each of some offers (their rows): the score with it less the score
    without. `carriers` and `own` as in `SlotExplanation`, one entry for each offer."""

    def __init__(self, release: Release, inputs: Inputs, rows: list[int]) -> None:
        scoring = release.scoring
        self._words = release.vocabulary
        self._scorer = scoring.scorer
        vectors = scoring.vectors[rows]
        worth = release.catalogue.worth[rows] / ONE
        indices = np.concatenate((inputs.genome_indices, inputs.moment.indices))
        weights = np.concatenate((inputs.genome_weights, inputs.moment.weights))
        full = self._scorer.values(indices, weights, vectors)
        # One question for each marker, of all the offers at once.
        moved = []
        for at in range(len(indices)):
            rest = np.arange(len(indices)) != at
            moved.append(
                (full - self._scorer.values(indices[rest], weights[rest], vectors)) * worth
            )
        sources = ["genome"] * len(inputs.genome_indices) + ["context"] * len(inputs.moment.indices)
        named = list(zip(indices.tolist(), sources, weights.tolist(), moved, strict=True))
        #: Markers of genome and moment.
        self.carriers = [
            _strongest(
                Carrier(self._words.name(index), source, weight, float(difference[offer]))
                for index, source, weight, difference in named
                if index < len(self._words)
            )
            for offer in range(len(rows))
        ]
        #: Markers of the offer itself.
        self.own = [
            self._own(release.catalogue.offers[row], indices, weights, full[at], worth[at])
            for at, row in enumerate(rows)
        ]
        bare = self._scorer.values(indices[:0], weights[:0], vectors)
        #: The score where nothing is known of genome and moment.
        self.unmarked: list[float] = (bare * worth).tolist()

    def _own(
        self,
        spec: release_pb2.OfferSpec,
        indices: Indices,
        weights: Floats,
        full: float,
        worth: float,
    ) -> tuple[Carrier, ...]:
        numbered = [(self._words.index(m.marker), m.salience_q8 / 256) for m in spec.dna]
        dna = [(index, weight) for index, weight in numbered if index is not None]
        if not dna:
            return ()
        without = self._scorer.vectors([[*dna[:at], *dna[at + 1 :]] for at in range(len(dna))])
        values = self._scorer.values(indices, weights, without)
        return _strongest(
            Carrier(self._words.name(index), "offer", weight, float((full - value) * worth))
            for (index, weight), value in zip(dna, values, strict=True)
        )


def _strongest(carriers: Iterable[Carrier]) -> tuple[Carrier, ...]:
    return tuple(sorted(carriers, key=lambda one: (-abs(one.difference), one.marker)))
