"""Decisions made again, and why they came out as they did. Milliseconds, off the hot path.

The reasons of losers are worked out from the offers as they were written, one by one, and not
with the compiled catalogue that decided: the two must agree, which tests hold them to.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_sdk.decision import Carrier, Decision, Explanation, Loser, Reason, Tier
from edge_sdk.engine.catalogue import Catalogue, Where
from edge_sdk.engine.choosing import Recorded, answer, score
from edge_sdk.engine.gates import TIME_REASONS, fits, untimely
from edge_sdk.engine.moments import LANGUAGE, recorded_moment
from edge_sdk.engine.policy import ONE
from edge_sdk.engine.record import Inputs, Record, candidate_rows, recorded_scores
from edge_sdk.engine.withheld import recorded
from edge_sdk.errors import EdgeError, UsageError
from edge_sdk.sync.trust import FEATURES
from genome_edge.v1 import event_pb2, release_pb2

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

SCORE_TOLERANCE: Final = 1e-5


def replay(release: Release, record: event_pb2.DecisionRecord) -> Decision:
    """Make the recorded decision again: from the full record, its scores, and its release.

    Raises UsageError for a record of another release, or one without its full form.
    """
    return _again(release, record)[0]


def check_replay(release: Release, record: event_pb2.DecisionRecord) -> list[str]:
    """Make the recorded decision again and say, in sentences, what came out differently.

    Empty: candidates, caps, choice and propensities are equal, and the model's scores are within
    1e-5 of the worth of a success. Raises like `replay`.
    """
    again = _again(release, record)[1]
    found = again.to_proto()
    differences = []
    if found.candidate_runs != record.candidate_runs:
        differences.append(
            f"{len(candidate_rows(found))} offers are candidates; "
            f"{len(candidate_rows(record))} were, or others"
        )
    if list(found.capped) != list(record.capped):
        differences.append("caps keep other offers away")
    for number, (new, old) in enumerate(zip(found.slots, record.slots, strict=True)):
        if new != old:
            differences.append(
                f"slot {number} is {new.offer or 'empty'} ({new.reason}, {new.propensity:.6f}); "
                f"it was {old.offer or 'empty'} ({old.reason}, {old.propensity:.6f})"
            )
    if not differences and again.rows is not None:
        differences += _check_scores(release, again)
    return differences


def explain(
    release: Release, record: event_pb2.DecisionRecord, offers: Collection[str] | None = None
) -> Explanation:
    """Why the recorded decision came out as it did. Raises like `replay`.

    `offers` names those whose losing is asked about; None: all.
    """
    decision, again = _again(release, record)
    return _explanation(decision, release, again, offers)


def explain_record(
    record: Record, decision: Decision, offers: Collection[str] | None = None
) -> Explanation:
    """Why a decision that was just made came out as it did."""
    if record.release is None:
        return Explanation(decision, (), ())
    return _explanation(decision, record.release, record, offers)


def failing(
    offer: release_pb2.OfferSpec, inputs: Inputs, names: frozenset[str], catalogue: Catalogue
) -> list[Reason]:
    """Every reason why an offer as it is written is not eligible; empty where it is.

    `names` are the markers of the moment and of the genome, where one was read; zones and the
    sizes of placements are those of `catalogue`.
    """
    where, targeting = inputs.where, offer.targeting
    untimely_for = untimely(targeting, where, catalogue.zones)
    cells = [int(cell, 16) for cell in targeting.cells]
    holds = {
        Reason.FEATURE: set(FEATURES).issuperset(offer.required_features),
        Reason.TIER: not where.restricted or targeting.valid_until_ms > 0,
        Reason.AREA: not cells or not set(inputs.parents).isdisjoint(cells),
        Reason.NEAR_PLACE: _any_of(targeting.near_places, where.places),
        **{reason: reason not in untimely_for for reason in TIME_REASONS},
        Reason.CHANNEL: not targeting.channels or where.channel in targeting.channels,
        Reason.PLACEMENT: not targeting.placements or where.placement in targeting.placements,
        Reason.SIZE: fits(offer, catalogue.sizes.get(where.placement, ())),
        Reason.CONSENT: not offer.purpose or bool(inputs.consents >> offer.purpose & 1),
        Reason.ALL_OF: names.issuperset(targeting.all_of),
        Reason.ANY_OF: _any_of(targeting.any_of, names),
        Reason.NONE_OF: names.isdisjoint(targeting.none_of),
    }
    return [reason for reason, fulfilled in holds.items() if not fulfilled]


def _any_of(asked: Collection[str], names: frozenset[str]) -> bool:
    return not asked or not names.isdisjoint(asked)


def _explanation(
    decision: Decision, release: Release, record: Record, offers: Collection[str] | None
) -> Explanation:
    placed = decision.placement in release.placements
    losers = tuple(_losers(decision, release, record, offers)) if placed else ()
    return Explanation(decision, losers, tuple(_carriers(decision, release, record)))


def _losers(
    decision: Decision, release: Release, record: Record, offers: Collection[str] | None
) -> list[Loser]:
    catalogue = release.catalogue
    inputs = record.inputs
    shown = {slot.offer.id for slot in decision.slots if slot.offer is not None}
    rows = [catalogue.row_of[name] for name in shown]
    least = min((int(catalogue.priorities[row]) for row in rows), default=0)
    groups = {int(catalogue.groups[row]) for row in rows} - {0}
    capped = set(record.capped.tolist()) if record.capped is not None else set()
    scores: dict[int, int] = {}
    if record.rows is not None and record.scores is not None:
        scores = dict(zip(record.rows.tolist(), record.scores.tolist(), strict=True))
    names = _names(release, inputs)
    losers = []
    asked = range(len(catalogue)) if offers is None else catalogue.rows_of(frozenset(offers))
    for row in map(int, asked):
        offer = catalogue.offers[row]
        if offer.id in shown:
            continue
        reasons = [*inputs.withheld.reasons(row), *failing(offer, inputs, names, catalogue)]
        if inputs.tier in (Tier.HOUSE, Tier.EMPTY):
            reasons.insert(0, Reason.EXPIRED)
        if row in capped:
            reasons.append(Reason.CAPPED)
        if row in scores:
            if int(catalogue.groups[row]) in groups:
                reasons.append(Reason.EXCLUSIVE)
            elif catalogue.priorities[row] < least:
                reasons.append(Reason.PRIORITY)
            else:
                reasons.append(Reason.SCORE)
        score_of = scores[row] / ONE if row in scores else None
        losers.append(Loser(offer.id, tuple(reasons), score_of))
    # Those that came closest first; the sort is stable, so the rest stays in catalogue order.
    return sorted(losers, key=lambda one: -np.inf if one.score is None else one.score, reverse=True)


def _names(release: Release, inputs: Inputs) -> frozenset[str]:
    known = len(release.vocabulary)
    own = (release.vocabulary.name(i) for i in inputs.genome_indices.tolist() if i < known)
    return frozenset(inputs.moment.names).union(own)


def _carriers(decision: Decision, release: Release, record: Record) -> list[Carrier]:
    """What each marker did for the offer of slot 0: its value with and without the marker."""
    offer, inputs = decision.offer, record.inputs
    if offer is None or record.rows is None:
        return []
    row = release.catalogue.row_of[offer.id]
    try:
        scoring = release.scoring
    except EdgeError:
        return []
    vector = scoring.vectors[row : row + 1]
    worth = float(release.catalogue.worth[row]) / ONE
    indices = np.concatenate((inputs.genome_indices, inputs.moment.indices))
    weights = np.concatenate((inputs.genome_weights, inputs.moment.weights))
    full = float(scoring.scorer.values(indices, weights, vector)[0])
    carriers = []
    for at, index in enumerate(indices.tolist()):
        if index >= len(release.vocabulary):
            continue
        rest = np.arange(len(indices)) != at
        without = float(scoring.scorer.values(indices[rest], weights[rest], vector)[0])
        source = "genome" if at < len(inputs.genome_indices) else "context"
        name = release.vocabulary.name(index)
        carriers.append(Carrier(name, source, float(weights[at]), (full - without) * worth))
    return sorted(carriers, key=lambda one: (-abs(one.difference), one.marker))


def _again(release: Release, record: event_pb2.DecisionRecord) -> tuple[Decision, Record]:
    if record.release_version != release.version:
        raise UsageError(
            f"the decision was made from release {record.release_version}; "
            f"this is release {release.version}"
        )
    if not record.local_weekday:  # 1 to 7 in every full form
        raise UsageError(
            "this is the coarse form of the record; only the full form can be replayed"
        )
    inputs = _inputs(release, record)
    held_out = list(record.instead) if record.held_out else list(record.slots)
    unscored = any(slot.reason == Reason.UNSCORED for slot in held_out)
    scored = Recorded(candidate_rows(record), recorded_scores(record), unscored)
    return answer(release, inputs, recorded=scored)


def _inputs(release: Release, record: event_pb2.DecisionRecord) -> Inputs:
    try:
        tier = Tier(record.tier)
    except ValueError as error:
        raise UsageError(f"the record names a tier {record.tier!r} that is none") from error
    moment = recorded_moment(
        release,
        list(record.context_markers),
        np.array(record.context_indices, np.int64),
        np.array(record.context_weights, np.float32),
        record.channel,
    )
    parents = tuple(record.regions)
    said = [name for name in record.context_markers if name.startswith(LANGUAGE)]
    until = zip(record.capped_reasons, record.capped_until_ms, strict=False)
    why = dict(zip(record.capped, until, strict=False))
    where = Where(
        release.catalogue.regions_of(parents),
        moment.places,
        record.decided_ms,
        record.local_weekday,
        record.local_hour,
        record.channel,
        record.placement,
        tier == Tier.RESTRICTED,
    )
    return Inputs(
        record.decision_id,
        record.placement,
        len(record.slots),
        record.seed,
        tier,
        moment,
        where,
        parents,
        int(record.region, 16) if record.region else None,
        np.array(record.genome_indices, np.int64),
        np.array(record.genome_weights, np.float32),
        record.genome_used,
        record.consents,
        frozenset(record.capped),
        recorded(len(release.catalogue), record.withheld, record.stop_list_version),
        said[0].removeprefix(LANGUAGE) if said else "",
        why,
        record.held_out,
    )


def _check_scores(release: Release, record: Record) -> list[str]:
    """Whether the model still gives the scores that were recorded."""
    given = record.inputs
    if record.rows is None or record.scores is None:
        return []
    if given.genome_used and not len(given.genome_indices):
        return []  # the genome of a visit is kept nowhere, so the model cannot be asked again
    if any(slot.reason is Reason.UNSCORED for slot in record.slots):
        return []
    eligible = release.catalogue.near(given.where).eligible(
        given.moment.conditions, given.genome_indices, given.consents
    )
    found, failed = score(release, given, eligible)
    if failed:
        return ["the model no longer works on this device"]
    kept = np.isin(eligible.rows, record.rows)
    apart = np.abs(found[kept].astype(np.int64) - record.scores)
    allowed = 1 + SCORE_TOLERANCE * eligible.worth[kept]
    worst = int((apart - allowed).argmax())
    if apart[worst] <= allowed[worst]:
        return []
    name = release.catalogue.ids[int(record.rows[worst])]
    return [
        f"the model scores {name} {found[kept][worst] / ONE:.6f} here; "
        f"it was {record.scores[worst] / ONE:.6f}"
    ]
