"""A candidate beside the model in force, on decisions of the log. Free of I/O.

Which decisions. A policy that learned from what it is judged by looks better than it is. So, in
this order, the first that suffices to conclude:

1. decisions newer than all that either model learned from;
2. of a model that `train` made, with its *twins* in its place: the same training, each time without
   some of the persons, and each twin asked about those that it was trained without. Decisions newer
   than all that the model in force learned from; and else all, with twins of the model in force in
   its place (made from the log as it was then), or the model itself where it has none;
3. all decisions. What that flatters is said, and nothing is concluded in its favour.

Where the model in force may have learned from them it is judged too kindly: a candidate that is no
worse all the same has passed a harder test, and one that seems worse may not be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genome_server.gate.checks import Segment, Weighed
from genome_server.gate.parts import Parts, Rows
from genome_server.gate.rules import Limits
from genome_server.gate.starving import Offered
from genome_server.offpolicy.estimate import compare, evaluate
from genome_server.offpolicy.logged import Floats, Logged, Policy
from genome_server.offpolicy.needs import NOTHING
from genome_server.offpolicy.target import Decisions, Said


@dataclass(frozen=True)
class Beside:
    """The weighing, and of what: decisions bool[n], and what both would have done."""

    weighed: Weighed
    rows: Rows
    candidate: Said
    in_force: Said


#: Makes what a model's twins would have done; None where it has none.
Twins = Callable[[], Said | None]


def weigh(
    decisions: Decisions,
    candidate: Said,
    in_force: Said,
    *,
    learned: tuple[int | None, int | None],
    twins: Twins,
    twins_in_force: Twins,
    limits: Limits,
) -> Beside:
    """The candidate beside the model in force; `learned` is up to when each learned (Unix ms; None:
    it does not say). Twins are made where they are needed."""
    ours, theirs = learned
    everything = np.ones(len(decisions), bool)
    beyond = decisions.at_ms > theirs if theirs is not None else ~everything
    newer = beyond & (decisions.at_ms > ours) if ours is not None else ~everything
    found = _tried(decisions, candidate, in_force, newer, "newer than both models", limits)
    if found is not None:
        return found
    whole = _weighed(decisions, candidate, in_force, everything, "of the log", limits)
    if not whole.weighed.answer.concludes or (ours_apart := twins()) is None:
        return _marked(whole, flattered=not newer.all(), harder=not beyond.all())
    where = "newer than the model in force, by trainings without their persons"
    found = _tried(decisions, ours_apart, in_force, beyond, where, limits)
    if found is None and (theirs_apart := twins_in_force()) is not None:
        where = "of the log, by trainings of both without their persons"
        found = _tried(decisions, ours_apart, theirs_apart, everything, where, limits)
    if found is None:
        where = "of the log, by trainings without their persons"
        found = _weighed(decisions, ours_apart, in_force, everything, where, limits)
        found = _marked(found, flattered=False, harder=not beyond.all())
    return found


def _tried(
    decisions: Decisions, candidate: Said, in_force: Said, rows: Rows, where: str, limits: Limits
) -> Beside | None:
    """The weighing, where it concludes."""
    if not rows.any():
        return None
    found = _weighed(decisions, candidate, in_force, rows, where, limits)
    return found if found.weighed.answer.concludes else None


def _weighed(
    decisions: Decisions, candidate: Said, in_force: Said, rows: Rows, where: str, limits: Limits
) -> Beside:
    logged = decisions.logged.rows(rows)
    ours, theirs = candidate.policy.rows(rows), in_force.policy.rows(rows)
    answer = compare(logged, ours, theirs, confidence=limits.confidence)
    value = evaluate(logged, theirs, needs=NOTHING).estimates
    by = "dr" if "dr" in value else "snips"
    amount = value[by].value if by in value else 0.0
    said = f"on {int(rows.sum()):,} decisions {where}"
    return Beside(Weighed(answer, amount, said), rows, candidate, in_force)


def _marked(found: Beside, *, flattered: bool, harder: bool) -> Beside:
    return replace(found, weighed=replace(found.weighed, flattered=flattered, harder=harder))


def offered(decisions: Decisions, candidate: Said, in_force: Said, least: Floats) -> list[Offered]:
    """Each offer's share of the decisions in which it could be shown, under both; `least`
    float64[offers] is what it must have (`floors`)."""
    return _offered(decisions.offers, candidate.share, in_force.share, in_force.left, least)


def offered_in(
    decisions: Decisions, candidate: Said, in_force: Said, parts: Parts, least: Floats
) -> dict[str, list[Offered]]:
    """The same by part, of both having been asked about these parts in their order; `least` is
    float64[parts, offers]."""
    columns = candidate.share_in, in_force.share_in, in_force.left_in, least
    sides = zip(parts, *columns, strict=True)
    return {name: _offered(decisions.offers, *of) for name, *of in sides}


def _offered(
    names: Sequence[str], after: Floats, before: Floats, left: Floats, least: Floats
) -> list[Offered]:
    return [
        Offered(
            names[at],
            float(before[at] / left[at]),
            float(after[at] / left[at]),
            float(left[at]),
            float(least[at]),
        )
        for at in np.flatnonzero(left > 0).tolist()
    ]


def segments(decisions: Decisions, found: Beside, parts: Parts, limits: Limits) -> list[Segment]:
    """By how much the value changes in each part of the decisions that were weighed.

    The intervals hold for all of them together (Bonferroni).
    """
    weighed = {name: rows & found.rows for name, rows in parts.items()}
    weighed = {name: rows for name, rows in weighed.items() if rows.any()}
    sure = 1 - (1 - limits.confidence) / max(1, len(weighed))
    told = []
    for name, rows in weighed.items():
        answer = compare(
            decisions.logged.rows(rows),
            found.candidate.policy.rows(rows),
            found.in_force.policy.rows(rows),
            confidence=sure,
        )
        gain = answer.estimates.get("dr") or answer.estimates.get("snips")
        told.append(
            Segment(name, int(rows.sum()), gain, found.weighed.harder, found.weighed.flattered)
        )
    return told


def gained(decisions: Decisions, found: Beside) -> list[dict[str, Any]]:
    """Where it gained and lost: each offer's part of the difference by decision (SNIPS), and its
    share of what is shown before and after. The parts add up to the whole difference."""
    rows = found.rows
    logged = decisions.logged.rows(rows)
    ours = _earned(logged, found.candidate.policy.rows(rows))
    theirs = _earned(logged, found.in_force.policy.rows(rows))
    shown = decisions.shown[rows]
    # Where slots are judged together, what they earned is as much one offer's as another's.
    joint, filled = decisions.joint[rows][:, None], shown >= 0
    gain = ours - theirs
    evenly = gain.sum(axis=1, keepdims=True) / filled.sum(axis=1, keepdims=True)
    gain = np.where(joint, np.where(filled, evenly, 0.0), gain)
    times = float(decisions.logged.stands_for.sum())
    parts = []
    for at, name in enumerate(decisions.offers):
        mine = shown == at
        before, after = found.in_force.share[at] / times, found.candidate.share[at] / times
        if before or after:
            parts.append(
                {
                    "offer": name,
                    "gain": float(gain[mine].sum()),
                    "before": float(before),
                    "after": float(after),
                }
            )
    return sorted(parts, key=lambda one: -abs(one["gain"]))


def _earned(logged: Logged, policy: Policy) -> NDArray[np.float64]:
    """What each slot adds to the SNIPS value of a policy over all decisions, float64[n, K]."""
    weight = np.multiply.accumulate(policy.chance / logged.chance, axis=1)
    each = weight * logged.stands_for[:, None]
    total = each.sum(axis=0)
    return np.asarray(each * logged.reward / np.where(total > 0, total, 1.0))
