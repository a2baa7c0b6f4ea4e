"""Explanations, and what would have been otherwise, as objects and as lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from edge_sdk.decision import NEVER_MS, Reason
from edge_sdk.explanation import Carrier, Explanation, SlotExplanation

if TYPE_CHECKING:
    from edge_sdk.engine.what_if import WhatIf

# People are told so many markers and chances of each slot; objects hold all.
_MOST: Final = 12
_LEAST_DIFFERENCE: Final = 0.00005

AsJson = Callable[..., dict[str, Any]]
AsLines = Callable[..., list[str]]


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """What an explanation adds to a decision's object."""
    counted = explanation.considered
    return {
        "considered": {name: getattr(counted, name) for name in counted.__slots__},
        "explained": [_slot_json(one) for one in explanation.slots],
        "carriers": _carriers_json(explanation.carriers),
        "losers": [
            {
                "offer": one.offer,
                "reasons": [reason.value for reason in one.reasons],
                "details": list(one.details),
                "until_ms": one.until_ms if 0 < one.until_ms < NEVER_MS else None,
                "score": one.score,
            }
            for one in explanation.losers
        ],
        "moment": list(explanation.moment),
        "notes": list(explanation.notes),
    }


def explanation_lines(explanation: Explanation) -> list[str]:
    """An explanation for people."""
    lines = [f"considered: {explanation.considered}"]
    if explanation.decision.reason is Reason.HELD_OUT:
        chosen = [one.slot.offer.id for one in explanation.slots if one.slot.offer is not None]
        lines.append(f"held out; it would have shown {', '.join(chosen) or 'nothing'}")
    for number, one in enumerate(explanation.slots):
        lines += _slot_lines(number, one)
    if explanation.losers:
        lines.append("not shown:")
    for loser in explanation.losers:
        score = f" (score {loser.score:.4f})" if loser.score is not None else ""
        lines.append(f"  {loser.offer}{score}: {loser}")
    return [*lines, *(f"note: {note}" for note in explanation.notes)]


def what_if_json(changes: Mapping[str, str], found: WhatIf, as_json: AsJson) -> dict[str, Any]:
    """What would have been otherwise; `as_json` makes a decision's object."""
    return {
        "changes": dict(changes),
        "differences": list(found.differences),
        **as_json(found.after.decision, explanation=found.after),
    }


def what_if_lines(
    changes: Mapping[str, str], found: WhatIf, as_lines: AsLines, *, explained: bool
) -> list[str]:
    """The same for people; `as_lines` makes those of a decision."""
    said = ", ".join(f"{key}={value}" for key, value in changes.items())
    after = found.after
    return [
        f"what if {said or 'from the other release'}:",
        *(f"  {one}" for one in found.differences or ("the same would have come out",)),
        *(f"  note: {note}" for note in after.notes),
        *as_lines(after.decision, explanation=after if explained else None),
    ]


def _slot_json(one: SlotExplanation) -> dict[str, Any]:
    draw = one.draw
    return {
        "offer": one.slot.offer.id if one.slot.offer is not None else None,
        "reason": one.slot.reason.value,
        "score": one.slot.score,
        "propensity": one.slot.propensity,
        "unmarked": one.unmarked,
        "carriers": _carriers_json(one.carriers),
        "own": _carriers_json(one.own),
        "draw": None
        if draw is None
        else {
            "number": draw.number,
            "best": draw.best,
            "chances": [{"offer": name, "chance": chance} for name, chance in draw.chances],
        },
    }


def _carriers_json(carriers: Iterable[Carrier]) -> list[dict[str, Any]]:
    return [{name: getattr(one, name) for name in one.__slots__} for one in carriers]


def _slot_lines(number: int, one: SlotExplanation) -> list[str]:
    lines = []
    if one.draw is not None and len(one.draw.chances) > 1:
        chances = [f"{name} {chance:.4f}" for name, chance in one.draw.chances[:_MOST]]
        lines.append(
            f"slot {number} was drawn: {_few(chances, len(one.draw.chances))}; the best score has "
            f"{one.draw.best}, the number was {one.draw.number / 2**32:.4f}"
        )
    told = [c for c in (*one.carriers, *one.own) if abs(c.difference) >= _LEAST_DIFFERENCE]
    if told:
        lines.append(
            f"what the markers did for slot {number} ({one.unmarked:.4f} where nothing is known):"
        )
        ordered = sorted(told, key=lambda carrier: -abs(carrier.difference))
        lines += [f"  {c.difference:+.4f}  {c.marker} ({c.source})" for c in ordered[:_MOST]]
    return lines


def _few(some: list[str], number: int) -> str:
    more = number - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "")
