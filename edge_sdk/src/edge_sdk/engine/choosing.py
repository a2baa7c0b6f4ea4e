"""From what a decision looked at to what it shows: eligible → caps → score → explore.

`answer` is the pure middle of a decision. `decide` feeds it with a moment, `replay` with a
record; the same inputs, scores and release give the same decision and the same record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.decision import Decision, Offer, Reason, Slot, Tier, Unknown
from edge_sdk.engine.policy import (
    ONE,
    Drawn,
    Floats,
    Greedy,
    Indices,
    P,
    Scores,
    draw_number,
    fixed_scores,
)
from edge_sdk.engine.record import Inputs, Record
from edge_sdk.engine.rooms import spending
from edge_sdk.engine.runs import Rows
from edge_sdk.engine.slates import Positions, Slate, select
from edge_sdk.engine.withheld import NOTHING, content_of, languages_of, parts_of

if TYPE_CHECKING:
    from edge_sdk.engine.blocks import Eligible
    from edge_sdk.engine.release import Placement, Release
    from edge_sdk.explanation import Explanation

# Some of the eligible: by a mask, or by positions.
Kept = npt.NDArray[Any]

# So much of what is shown of offers is remembered.
_SHOWN: Final = 4096
# What a value is where the model gives none: the untrained model's.
_UNSCORED_VALUE: Final = np.float32(0.5)
_GREEDY: Final = Greedy()
_NO_MORE: Final = Slot(None, Reason.NO_MORE)
_TOO_MANY: Final = Slot(None, Reason.TOO_MANY_SLOTS)


class _Shown(NamedTuple):
    """What is shown of an offer in one language: its id, content, and the parts of its files."""

    id: str
    content: dict[str, str]
    parts: dict[str, str]


class Recorded(NamedTuple):
    """What a record says of the candidates: their rows, ascending, their scores (int32, one each),
    and whether the model had failed to give them."""

    rows: Rows
    scores: Scores
    unscored: bool

    def among(self, rows: Rows, slate: Slate | None) -> Positions | None:
        """Where the candidates are among the offers that may be shown; None: they are not.

        Only where the placement asks for a worth some that may be shown can be missing.
        """
        at = rows.searchsorted(self.rows)
        complete = len(self.rows) == len(rows) or (slate is not None and slate.least is not None)
        if not complete or len(self.scores) != len(self.rows) or at.max(initial=-1) >= len(rows):
            return None
        return at if (rows[at] == self.rows).all() else None


class _Chosen(NamedTuple):
    """What the slots would show, why, and from what it was chosen, as a `Record` has it."""

    slots: list[Slot]
    reason: Reason
    rows: Rows | None = None
    scores: Scores | None = None
    capped: Rows | None = None


def answer(
    release: Release | None,
    inputs: Inputs,
    *,
    recorded: Recorded | None = None,
    stage: Callable[[str], None] | None = None,
) -> tuple[Decision, Record]:
    """The decision that follows from `inputs`; a pure function of them and the release.

    With `recorded` the model is not asked, unless those cannot have been the candidates.
    """
    placement = release.placements.get(inputs.placement) if release is not None else None
    if release is None or placement is None:
        reason = Reason.NO_RELEASE if release is None else Reason.UNKNOWN_PLACEMENT
        return _finish(release, inputs, _Chosen([Slot(None, reason)] * inputs.slots, reason))
    if inputs.tier in (Tier.HOUSE, Tier.EMPTY):
        slots = _bare(release, inputs, Reason.EXPIRED, placement)
        return _finish(release, inputs, _Chosen(slots, Reason.EXPIRED), placement)
    chosen = _choose(release, inputs, placement, recorded, stage)
    instead: tuple[Slot, ...] = ()
    if inputs.held_out:
        instead = tuple(chosen.slots)
        slots = _bare(release, inputs, Reason.HELD_OUT, placement)
        chosen = chosen._replace(slots=slots, reason=Reason.HELD_OUT)
    done = _finish(release, inputs, chosen, placement, instead)
    if stage is not None:
        stage("record")
    return done


def _choose(
    release: Release,
    inputs: Inputs,
    placement: Placement,
    recorded: Recorded | None,
    stage: Callable[[str], None] | None,
) -> _Chosen:
    block = release.catalogue.near(inputs.where)
    if stage is not None:
        stage("near")
    eligible = block.eligible(inputs.moment.conditions, inputs.genome_indices, inputs.consents)
    if stage is not None:
        stage("eligible")
    if not len(eligible.rows):
        reason = Reason.NOT_ELIGIBLE if block.near else Reason.NOTHING_NEAR
        return _Chosen(_bare(release, inputs, reason, placement), reason)
    kept, capped = kept_of(release, inputs, eligible)
    rows = eligible.rows if kept is None else eligible.rows[kept]
    if stage is not None:
        stage("caps")
    reason = Reason.TOO_LITTLE
    if not len(rows):
        reason = _why_none(inputs, eligible.rows)
    elif recorded is None and kept is None and placement.slate is None:
        scores, unscored = score(release, inputs, eligible)
    else:
        rows, kept, scores, unscored = _scored(
            release, inputs, placement, eligible, kept, rows, recorded
        )
    if not len(rows):
        return _Chosen(_bare(release, inputs, reason, placement), reason, capped=capped)
    if stage is not None:
        stage("score")
    picks = picked(release, placement, inputs, scores, eligible, kept)
    filled = [
        _slot(release, int(rows[p.position]), scores, p, unscored, inputs.language) for p in picks
    ]
    count = min(inputs.slots, placement.max_slots)
    if len(filled) < inputs.slots:
        filled += [_NO_MORE] * (count - len(filled)) + [_TOO_MANY] * (inputs.slots - count)
    if stage is not None:
        stage("explore")
    return _Chosen(filled, filled[0].reason, rows, scores, capped)


def _scored(
    release: Release,
    inputs: Inputs,
    placement: Placement,
    eligible: Eligible,
    kept: Kept | None,
    rows: Rows,
    recorded: Recorded | None,
) -> tuple[Rows, Kept | None, Scores, bool]:
    """The candidates: those of `rows` that are worth enough, which of the eligible they are (None:
    all), their scores, and whether the model failed to give them."""
    slate = placement.slate
    worthy = recorded.among(rows, slate) if recorded is not None else None
    if recorded is not None and worthy is not None:
        scores, unscored = recorded.scores, recorded.unscored
    else:
        scores, unscored = score(release, inputs, eligible)
        scores = scores if kept is None else scores[kept]
        worthy = slate.worthy(scores) if slate is not None else None
        scores = scores if worthy is None else scores[worthy]
    if worthy is None or len(worthy) == len(rows):
        return rows, kept, scores, unscored
    kept = worthy if kept is None else np.flatnonzero(kept)[worthy]
    return rows[worthy], kept, scores, unscored


def picked(
    release: Release,
    placement: Placement,
    inputs: Inputs,
    scores: Scores,
    eligible: Eligible,
    kept: Kept | None,
    pools: list[Positions | None] | None = None,
) -> list[Drawn]:
    """What the slots of a placement draw; `kept` says which of the eligible are the candidates
    that `scores` are of (None: all), and `pools` is as in `select`."""
    count = min(inputs.slots, placement.max_slots)
    priorities, groups, categories = eligible.priorities, eligible.groups, None
    if count == 1 and priorities is None:  # there is nothing to stand beside, nor to come first
        if pools is not None:
            pools.append(None)
        return [placement.explorer.draw(scores, draw_number(inputs.seed, 0))]
    slate, most = placement.slate, 0
    if slate is not None and slate.most:
        categories, most = eligible.categories, slate.most
    if kept is not None:
        priorities = None if priorities is None else priorities[kept]
        groups = None if groups is None else groups[kept]
        categories = None if categories is None else categories[kept]
    spent = None
    if inputs.rooms:
        rows = eligible.rows if kept is None else eligible.rows[kept]
        spent = spending(release.catalogue, inputs.rooms, rows)
    return select(
        scores, priorities, groups, placement.explorer, inputs.seed, count,
        categories=categories, most=most, spent=spent, pools=pools,
    )  # fmt: skip


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


def kept_of(
    release: Release, inputs: Inputs, eligible: Eligible
) -> tuple[Kept | None, Rows | None]:
    """Which of the eligible offers may be shown (None: all), and the rows that caps take away."""
    if inputs.withheld is NOTHING and not inputs.blocked:
        return None, None
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


def eligible_for(release: Release, inputs: Inputs) -> Eligible:
    """The offers that are eligible, as a decision finds them."""
    return release.catalogue.near(inputs.where).eligible(
        inputs.moment.conditions, inputs.genome_indices, inputs.consents
    )


def score(release: Release, inputs: Inputs, eligible: Eligible) -> tuple[Scores, bool]:
    """Scores of all eligible offers, and whether the model failed to give them."""
    moment = inputs.moment
    parts: tuple[tuple[Indices, Floats], ...] = ((moment.indices, moment.weights),)
    if inputs.genome_used:
        parts = ((inputs.genome_indices, inputs.genome_weights), *parts)
    try:
        scoring = release.scoring
        doubles = scoring.doubles(parts, eligible.vectors(scoring.vectors))
        if eligible.positions is not None:
            doubles = doubles[eligible.positions]
        return fixed_scores(doubles, eligible.half_worth), False
    except Exception:  # noqa: BLE001 a decision comes back whatever a model does; it says UNSCORED
        values = np.full(len(eligible.rows), _UNSCORED_VALUE, np.float32)
        return fixed_scores(values, eligible.worth), True


def _slot(
    release: Release, row: int, scores: Scores, pick: Drawn, unscored: bool, language: str
) -> Slot:
    reason = Reason.CHOSEN if pick.position == pick.best else Reason.EXPLORED
    if unscored:
        reason = Reason.UNSCORED
    score = int(scores[pick.position]) / ONE
    return Slot(offer_at(release, row, language), reason, score, pick.chance / P)


def offer_at(release: Release, row: int, language: str = "") -> Offer:
    """The offer of a row as it is shown in a language (BCP 47); made for winners only."""
    known: _Shown | None = release.shown.get((row, language))
    if known is None:
        spec, languages = release.catalogue.offers[row], languages_of(language)
        parts = parts_of(spec.assets, languages) if spec.assets else {}
        known = _Shown(spec.id, content_of(spec, languages), parts)
        if len(release.shown) >= _SHOWN:
            release.shown = {}
        release.shown[row, language] = known
    id_, content, parts = known
    held = release.assets
    files = {name: held[part] for name, part in parts.items() if part in held} if parts else {}
    return Offer(id_, dict(content), files)  # the app's own copy


def _bare(release: Release, inputs: Inputs, reason: Reason, placement: Placement) -> list[Slot]:
    """Slots with nothing in them but the house default, where there is one that may be shown."""
    slots = [Slot(None, reason)] * inputs.slots
    slots[placement.max_slots :] = [_TOO_MANY] * max(0, inputs.slots - placement.max_slots)
    house = placement.house
    if (
        house is not None
        and release.catalogue.presentable(house, inputs.where.ms)
        and inputs.withheld.allows(house)
    ):
        slots[0] = Slot(offer_at(release, house, inputs.language), Reason.HOUSE)
    return slots


def _finish(
    release: Release | None,
    inputs: Inputs,
    chosen: _Chosen,
    placement: Placement | None = None,
    instead: tuple[Slot, ...] = (),
) -> tuple[Decision, Record]:
    explorer = placement.explorer if placement is not None else _GREEDY
    slots, reason, rows, scores, capped = chosen
    record = Record(release, inputs, tuple(slots), explorer, rows, scores, capped, instead)
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
        inputs.experiment,
        partial(_unknown, release, unknown) if unknown and release is not None else None,
        partial(_explain, record) if release is not None else None,
    )
    return decision, record


def _unknown(release: Release, names: Sequence[tuple[str, str]]) -> tuple[Unknown, ...]:
    return tuple(release.nearest(kind, name) for kind, name in names)


def _explain(record: Record, decision: Decision, offers: Collection[str] | None) -> Explanation:
    from edge_sdk.engine.explain import explain_record  # explains what this room makes

    return explain_record(record, decision, offers)
