"""From what a decision looked at to what it shows: eligible → caps → score → explore.

`answer` is the pure middle of a decision. `decide` feeds it with a moment, `replay` with a
record; the same inputs, scores and release give the same decision and the same record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.decision import Decision, Explanation, Offer, Reason, Slot, Tier, Unknown
from edge_sdk.engine.policy import ONE, Explorer, Greedy, P, Scores, draw_number, fixed_scores
from edge_sdk.engine.record import Inputs, Record
from edge_sdk.engine.runs import Rows
from edge_sdk.engine.withheld import content_of, languages_of, parts_of

if TYPE_CHECKING:
    from edge_sdk.engine.blocks import Eligible
    from edge_sdk.engine.release import Placement, Release

Kept = npt.NDArray[np.bool_]

# What a value is where the model gives none: the untrained model's.
_UNSCORED_VALUE: Final = np.float32(0.5)
_GREEDY: Final = Greedy()


class Pick(NamedTuple):
    """What one slot drew: position among the candidates, chance in 2^-32, and whether it is the
    best of those it was drawn from."""

    position: int
    chance: int
    is_best: bool


def answer(
    release: Release | None,
    inputs: Inputs,
    *,
    scores: Scores | None = None,
    unscored: bool = False,
    stage: Callable[[str], None] | None = None,
) -> tuple[Decision, Record]:
    """The decision that follows from `inputs`; a pure function of them and the release.

    With `scores` (int32, one per candidate) the model is not asked; where their number does not
    fit the candidates they are not used.
    """
    if release is None:
        return _empty(None, inputs, Reason.NO_RELEASE)
    placement = release.placements.get(inputs.placement)
    if placement is None:
        return _empty(release, inputs, Reason.UNKNOWN_PLACEMENT)
    if inputs.tier in (Tier.HOUSE, Tier.EMPTY):
        return _empty(release, inputs, Reason.EXPIRED, placement)
    block = release.catalogue.near(inputs.where)
    if stage is not None:
        stage("near")
    eligible = block.eligible(inputs.moment.conditions, inputs.genome_indices, inputs.consents)
    if stage is not None:
        stage("eligible")
    if not len(eligible.rows):
        reason = Reason.NOT_ELIGIBLE if block.near else Reason.NOTHING_NEAR
        return _empty(release, inputs, reason, placement)
    kept, capped = _kept(release, inputs, eligible)
    rows = eligible.rows if kept is None else eligible.rows[kept]
    if stage is not None:
        stage("caps")
    if not len(rows):
        return _empty(release, inputs, _why_none(inputs, eligible.rows), placement, capped)
    if scores is None or len(scores) != len(rows):
        scores, unscored = score(release, inputs, eligible)
        scores = scores if kept is None else scores[kept]
    if stage is not None:
        stage("score")
    priorities, groups = eligible.priorities, eligible.groups
    if kept is not None:
        priorities = None if priorities is None else priorities[kept]
        groups = None if groups is None else groups[kept]
    count = min(inputs.slots, placement.max_slots)
    picks = select(scores, priorities, groups, placement.explorer, inputs.seed, count)
    filled = [
        _slot(release, int(rows[p.position]), scores, p, unscored, inputs.language) for p in picks
    ]
    filled += [Slot(None, Reason.NO_MORE)] * (count - len(filled))
    filled += [Slot(None, Reason.TOO_MANY_SLOTS)] * (inputs.slots - count)
    if stage is not None:
        stage("explore")
    done = _finish(release, inputs, filled, filled[0].reason, placement, rows, scores, capped)
    if stage is not None:
        stage("record")
    return done


def select(
    scores: Scores,
    priorities: npt.NDArray[np.int32] | None,
    groups: npt.NDArray[np.int32] | None,
    explorer: Explorer,
    seed: int,
    count: int,
) -> list[Pick]:
    """Draw up to `count` of the candidates, in order of slots; fewer where they run out.

    `priorities` and `groups` (0: none) are int32 like `scores`, or None where they are all equal
    or all 0. Pure: the same numbers and seed give the same picks everywhere.
    """
    if count == 1 and priorities is None:
        drawn = explorer.draw(scores, draw_number(seed, 0))
        return [Pick(drawn.position, drawn.chance, drawn.position == drawn.best)]
    left = np.ones(len(scores), bool)
    picks: list[Pick] = []
    for slot in range(count):
        pool = np.flatnonzero(left)
        if not len(pool):
            break
        if priorities is not None:
            highest = priorities[pool]
            pool = pool[highest == highest.max()]
        drawn = explorer.draw(scores[pool], draw_number(seed, slot))
        position = int(pool[drawn.position])
        picks.append(Pick(position, drawn.chance, drawn.position == drawn.best))
        left[position] = False
        if groups is not None and groups[position]:
            left &= groups != groups[position]
    return picks


def _uncapped(release: Release, eligible: Eligible, blocked: frozenset[str]) -> Kept | None:
    """Which of the eligible offers caps leave; None: all of them."""
    rows = release.catalogue.rows_of(blocked)
    at = eligible.rows.searchsorted(rows)
    inside = at < len(eligible.rows)
    hits = at[inside][eligible.rows[at[inside]] == rows[inside]]
    if not len(hits):
        return None
    kept = np.ones(len(eligible.rows), bool)
    kept[hits] = False
    return kept


def _kept(release: Release, inputs: Inputs, eligible: Eligible) -> tuple[Kept | None, Rows | None]:
    """Which of the eligible offers may be shown (None: all), and the rows that caps take away."""
    allowed = inputs.withheld.allowed(eligible.rows)
    uncapped = _uncapped(release, eligible, inputs.blocked) if inputs.blocked else None
    if uncapped is None:
        return allowed, None
    return uncapped if allowed is None else allowed & uncapped, eligible.rows[~uncapped]


def _why_none(inputs: Inputs, rows: Rows) -> Reason:
    """Why none of the eligible may be shown: the first reason to withhold one, where all are."""
    allowed = inputs.withheld.allowed(rows)
    if allowed is None or allowed.any():
        return Reason.CAPPED
    by_reason = inputs.withheld.by_reason
    return next(reason for reason, those in by_reason.items() if np.isin(rows, those).any())


def score(release: Release, inputs: Inputs, eligible: Eligible) -> tuple[Scores, bool]:
    """Scores of all eligible offers, and whether the model failed to give them."""
    moment = inputs.moment
    if inputs.genome_used:
        indices = np.concatenate((inputs.genome_indices, moment.indices))
        weights = np.concatenate((inputs.genome_weights, moment.weights))
    else:
        indices, weights = moment.indices, moment.weights
    try:
        scoring = release.scoring
        values = scoring.scorer.values(indices, weights, eligible.vectors(scoring.vectors))
        if eligible.positions is not None:
            values = values[eligible.positions]
        return fixed_scores(values, eligible.worth), False
    except Exception:  # noqa: BLE001 a decision comes back whatever a model does; it says UNSCORED
        values = np.full(len(eligible.rows), _UNSCORED_VALUE, np.float32)
        return fixed_scores(values, eligible.worth), True


def _slot(
    release: Release, row: int, scores: Scores, pick: Pick, unscored: bool, language: str
) -> Slot:
    reason = Reason.CHOSEN if pick.is_best else Reason.EXPLORED
    if unscored:
        reason = Reason.UNSCORED
    score = int(scores[pick.position]) / ONE
    return Slot(offer_at(release, row, language), reason, score, pick.chance / P)


def offer_at(release: Release, row: int, language: str = "") -> Offer:
    """The offer of a row as it is shown in a language (BCP 47); made for winners only."""
    spec = release.catalogue.offers[row]
    languages = languages_of(language)
    files: dict[str, Path] = {}
    if spec.assets:
        parts = parts_of(spec.assets, languages).items()
        files = {name: release.assets[part] for name, part in parts if part in release.assets}
    return Offer(spec.id, content_of(spec, languages), files)


def _empty(
    release: Release | None,
    inputs: Inputs,
    reason: Reason,
    placement: Placement | None = None,
    capped: Rows | None = None,
) -> tuple[Decision, Record]:
    """A decision without candidates: the house default in slot 0 where there is one."""
    slots = [Slot(None, reason)] * inputs.slots
    if release is not None and placement is not None:
        slots[placement.max_slots :] = [Slot(None, Reason.TOO_MANY_SLOTS)] * max(
            0, inputs.slots - placement.max_slots
        )
        house = placement.house
        if (
            house is not None
            and release.catalogue.presentable(house, inputs.where.ms)
            and inputs.withheld.allows(house)
        ):
            slots[0] = Slot(offer_at(release, house, inputs.language), Reason.HOUSE)
    return _finish(release, inputs, slots, reason, placement, None, None, capped)


def _finish(
    release: Release | None,
    inputs: Inputs,
    slots: Sequence[Slot],
    reason: Reason,
    placement: Placement | None,
    rows: Rows | None,
    scores: Scores | None,
    capped: Rows | None,
) -> tuple[Decision, Record]:
    explorer = placement.explorer if placement is not None else _GREEDY
    record = Record(release, inputs, tuple(slots), explorer, rows, scores, capped)
    unknown = inputs.moment.unknown
    if reason is Reason.UNKNOWN_PLACEMENT:
        unknown = (("placement", inputs.placement),)
    decision = Decision(
        inputs.decision_id.hex(),
        record.slots,
        reason,
        inputs.placement,
        release.version if release is not None else 0,
        inputs.seed,
        inputs.tier,
        inputs.genome_used,
        partial(_unknown, release, unknown) if unknown and release is not None else None,
        partial(_explain, record) if release is not None else None,
    )
    return decision, record


def _unknown(release: Release, names: Sequence[tuple[str, str]]) -> tuple[Unknown, ...]:
    return tuple(release.nearest(kind, name) for kind, name in names)


def _explain(record: Record, decision: Decision, offers: Collection[str] | None) -> Explanation:
    from edge_sdk.engine.explain import explain_record  # explains what this room makes

    return explain_record(record, decision, offers)
