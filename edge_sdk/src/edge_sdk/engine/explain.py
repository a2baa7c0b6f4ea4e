"""Decisions made again, and why they came out as they did. Milliseconds, off the hot path."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_sdk.decision import Decision, Reason, Tier
from edge_sdk.engine import rooms
from edge_sdk.engine.catalogue import Where
from edge_sdk.engine.cells import parse_cell
from edge_sdk.engine.choosing import Recorded, answer, eligible_for, kept_of, score
from edge_sdk.engine.losers import Worths, losers
from edge_sdk.engine.moments import LANGUAGE, recorded_moment
from edge_sdk.engine.policy import ONE
from edge_sdk.engine.record import Inputs, Record, candidate_rows, recorded_scores
from edge_sdk.engine.scored_by import scored_by
from edge_sdk.engine.stories import considered, stories
from edge_sdk.engine.withheld import recorded
from edge_sdk.errors import UsageError
from edge_sdk.explanation import Explanation
from edge_sdk.messages import event_pb2

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

_CAPPED: Final = Reason.CAPPED.value
_REASONS: Final = frozenset(Reason)
SCORE_TOLERANCE: Final = 1e-5
#: What is said of a record without the genome that was used.
FORGOTTEN: Final = "the genome that was used is not in the record: it was of a visit, or empty"


def replay(release: Release, record: event_pb2.DecisionRecord) -> Decision:
    """Make the recorded decision again: from the full record, its scores, and its release.

    Raises UsageError for a record of another release, or one without its full form.
    """
    return again(release, record)[0]


def check_replay(
    release: Release, record: event_pb2.DecisionRecord, subject: bytes | None = None
) -> list[str]:
    """Make the recorded decision again and say, in sentences, what came out differently.

    Empty: candidates, caps, choice and propensities are equal, and so are the model's scores: bit
    for bit where the same kind of processor and runtime scored, else within 1e-5 of the worth of a
    success. With `subject`, whom it was made for (16 bytes), so are the arm and who is held out.
    Raises like `replay`.
    """
    made = again(release, record)[1]
    found = made.to_proto()
    differences = []
    if found.candidate_runs != record.candidate_runs:
        differences.append(
            f"{len(candidate_rows(found))} offers are candidates; "
            f"{len(candidate_rows(record))} were, or others"
        )
    if list(found.capped) != list(record.capped):
        differences.append("caps keep other offers away")
    differences += _check_slots("slot", found.slots, record.slots)
    differences += _check_slots("held out slot", found.instead, record.instead)
    if subject is not None and _holds_out(release, record, subject) != record.held_out:
        differences.append(
            "by the release this customer is " + ("not " * record.held_out) + "held out"
        )
    if subject is not None and (arm := _drawn(release, record, subject)) != record.placement:
        differences.append(f"by the release this customer is drawn into {arm}")
    if not differences:
        differences += _check_scores(release, made, record.scored_by)
    return differences


def _check_slots(
    what: str, found: Sequence[event_pb2.SlotRecord], recorded: Sequence[event_pb2.SlotRecord]
) -> list[str]:
    if len(found) != len(recorded):
        return [f"there are {len(found)} {what}s; there were {len(recorded)}"]
    return [
        f"{what} {number} is {_said(new)}; it was {_said(old)}"
        for number, (new, old) in enumerate(zip(found, recorded, strict=True))
        if new != old
    ]


def _said(slot: event_pb2.SlotRecord) -> str:
    score = slot.score / ONE
    return f"{slot.offer or 'empty'} ({slot.reason}, score {score:.6f}, {slot.propensity:.6f})"


def _holds_out(release: Release, record: event_pb2.DecisionRecord, subject: bytes) -> bool:
    """Whether the release holds out whom a decision was made for."""
    placement = release.placements.get(record.placement)
    decided = record.tier not in (Tier.HOUSE.value, Tier.EMPTY.value)
    return (
        decided
        and placement is not None
        and placement.slate is not None
        and placement.slate.holds_out(subject, record.decision_id)
    )


def _drawn(release: Release, record: event_pb2.DecisionRecord, subject: bytes) -> str:
    """The placement by which the release decides for whom a decision was made for."""
    asked = record.experiment or record.placement
    placement = release.placements.get(asked)
    if placement is None or placement.experiment is None:
        return asked
    return placement.experiment.draw(subject, record.decision_id)


def explain(
    release: Release, record: event_pb2.DecisionRecord, offers: Collection[str] | None = None
) -> Explanation:
    """Why the recorded decision came out as it did. Raises like `replay`.

    `offers` names those whose losing is asked about; None: all.
    """
    decision, made = again(release, record)
    return _explanation(decision, release, made, offers, _missing(record))


def explain_record(
    record: Record, decision: Decision, offers: Collection[str] | None = None
) -> Explanation:
    """Why a decision that was just made came out as it did."""
    if record.release is None:
        return Explanation(decision)
    return _explanation(decision, record.release, record, offers)


def _explanation(
    decision: Decision,
    release: Release,
    record: Record,
    offers: Collection[str] | None,
    notes: tuple[str, ...] = (),
) -> Explanation:
    if decision.placement not in release.placements:
        return Explanation(decision)
    worths = partial(_worths, release, record)
    return Explanation(
        decision,
        tuple(losers(release, record, offers, cache(worths))),
        tuple(stories(release, record)),
        considered(release, record),
        record.inputs.moment.names,
        notes,
    )


def _worths(release: Release, record: Record) -> Worths:
    """What everything that is eligible is worth; the model is asked."""
    inputs = record.inputs
    slate = release.placements[inputs.placement].slate
    least = int(slate.least) if slate is not None and slate.least is not None else 0
    eligible = eligible_for(release, inputs)
    scores, failed = score(release, inputs, eligible)
    pairs = () if failed else zip(eligible.rows.tolist(), scores.tolist(), strict=True)
    return Worths(least, dict(pairs))


def again(release: Release, record: event_pb2.DecisionRecord) -> tuple[Decision, Record]:
    """Make the recorded decision again, with its record as it was before it was encoded."""
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
        record.context_saliences_q8,
    )
    parents = tuple(record.regions)
    said = [name for name in record.context_markers if name.startswith(LANGUAGE)]
    damage = _damage(record)
    if damage:
        raise UsageError(f"the record is damaged: {damage}")
    said_why = [reason if reason in _REASONS else _CAPPED for reason in record.capped_reasons]
    until = zip(said_why, record.capped_until_ms, strict=False)
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
        parse_cell(record.region) if record.region else None,
        np.array(record.genome_indices, np.int64),
        np.array(record.genome_weights, np.float32),
        record.genome_used,
        record.consents,
        frozenset(record.capped),
        recorded(len(release.catalogue), record.withheld, record.stop_list_version),
        said[0].removeprefix(LANGUAGE) if said else "",
        why,
        record.held_out,
        rooms.recorded(release.catalogue, record.rooms),
        record.experiment,
    )


def _damage(record: event_pb2.DecisionRecord) -> str:
    """What no decision can have written; empty: nothing."""
    if not 1 <= len(record.slots) <= 64:
        return f"it has {len(record.slots)} slots"
    if not 1 <= record.local_weekday <= 7 or record.local_hour > 23:
        return f"it is of hour {record.local_hour} of day {record.local_weekday} of a week"
    for part in ("genome", "context"):
        indices, weights = getattr(record, f"{part}_indices"), getattr(record, f"{part}_weights")
        if len(indices) != len(weights):
            return f"the {part} has {len(indices)} markers and {len(weights)} weights"
    if not record.genome_used and record.genome_indices:
        return "it has a genome that was not used"
    return ""


def _check_scores(release: Release, record: Record, by: str) -> list[str]:
    """Whether the model still gives the scores that were recorded; `by` says what gave those."""
    given = record.inputs
    placement = release.placements.get(given.placement)
    if placement is None or given.tier in (Tier.HOUSE, Tier.EMPTY) or _missing_of(given):
        return []
    if any(slot.reason is Reason.UNSCORED for slot in record.instead or record.slots):
        return []
    eligible = eligible_for(release, given)
    kept, _ = kept_of(release, given, eligible)
    rows = eligible.rows if kept is None else eligible.rows[kept]
    if not len(rows):
        return []
    scores, failed = score(release, given, eligible)
    if failed:
        return ["the model no longer works on this device"]
    found = (scores if kept is None else scores[kept]).astype(np.int64)
    worth = eligible.worth if kept is None else eligible.worth[kept]
    same = bool(by) and by == scored_by(release.scorer)
    allowed = np.zeros(len(rows)) if same else 1 + SCORE_TOLERANCE * np.abs(worth)
    # What was worth too little has no score in the record: it must still be worth less.
    wanted = found.copy()
    least = placement.slate.least if placement.slate is not None else None
    if least is not None:
        wanted = np.minimum(found, least - 1)
    if record.rows is not None and record.scores is not None:
        wanted[rows.searchsorted(record.rows)] = record.scores
    over = np.abs(found - wanted) - allowed
    worst = int(over.argmax())
    if over[worst] <= 0:
        return []
    name = release.catalogue.ids[int(rows[worst])]
    return [
        f"the model scores {name} {found[worst] / ONE:.6f} here; "
        f"it was {'at most ' * (record.rows is None or int(rows[worst]) not in record.rows)}"
        f"{wanted[worst] / ONE:.6f}"
    ]


def _missing_of(inputs: Inputs) -> bool:
    """Whether the genome that was used is kept nowhere, so that the model cannot be asked again:
    it was of a visit."""
    return inputs.genome_used and not len(inputs.genome_indices)


def _missing(record: event_pb2.DecisionRecord) -> tuple[str, ...]:
    return (FORGOTTEN,) if record.genome_used and not record.genome_indices else ()
