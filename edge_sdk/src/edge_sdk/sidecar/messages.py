"""Between the messages of DecisionService and the SDK's own values. The server reads moments and
writes decisions with these, too, so that both mean the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from google.protobuf import json_format

from edge_sdk.context import Context
from edge_sdk.decision import Decision, Offer
from edge_sdk.errors import InvalidContext
from edge_sdk.explanation import Explanation
from genome_edge.v1 import decision_pb2

_MICROS: Final = 1_000_000
# Beyond it a number is no longer whole where JSON is read as JavaScript reads it.
_SAFE: Final = 2**53


def context_of(moment: decision_pb2.Moment) -> Context:
    """Read a moment. Raises InvalidContext."""
    return Context(
        cell=moment.cell or None,
        place=moment.place or None,
        activity=moment.activity or None,
        time=_time(moment.time),
        channel=moment.channel or None,
        basket=tuple(moment.basket),
        stage=moment.stage or None,
        attributes=dict(moment.attributes),
        language=moment.language or None,
        recent=[(one.activity, one.ago_s) for one in moment.recent],
    )


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        said = None
    if said is None or said.tzinfo is None:
        raise InvalidContext("a time is ISO 8601 with an offset, such as 2026-03-28T18:30:00+01:00")
    return said


def _no_files(_: Offer) -> Mapping[str, str]:
    return {}


def response_of(
    decision: Decision,
    unknown: Iterable[str],
    files: Callable[[Offer], Mapping[str, str]] = _no_files,
) -> decision_pb2.DecideResponse:
    """A decision as its answer; `files` says where an offer's files are to be had, by name."""
    return decision_pb2.DecideResponse(
        decision_id=decision.id,
        slots=[
            decision_pb2.DecidedSlot(
                offer=slot.offer.id if slot.offer else "",
                reason=slot.reason.value,
                score=slot.score,
                propensity=slot.propensity,
                content=dict(slot.offer.content) if slot.offer else {},
                assets=files(slot.offer) if slot.offer else {},
            )
            for slot in decision.slots
        ],
        reason=decision.reason.value,
        release_version=decision.release,
        unknown=unknown,
    )


def explanation_of(explanation: Explanation) -> decision_pb2.ExplainResponse:
    """An explanation as its answer: as the command line prints it, with --json and without."""
    from edge_sdk.cli.decide import as_json, as_lines

    said = as_json(explanation.decision, explanation=explanation)
    response = decision_pb2.ExplainResponse(
        text="\n".join(as_lines(explanation.decision, explanation=explanation))
    )
    json_format.ParseDict(_safe(said), response.explanation)
    return response


def _safe(value: Any) -> Any:
    """The same document with whole numbers as text where a double would change them."""
    if isinstance(value, dict):
        return {key: _safe(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(one) for one in value]
    if isinstance(value, int) and abs(value) > _SAFE:
        return str(value)
    return value


def from_micros(micros: int) -> float:
    """An amount in units, from millionths."""
    return micros / _MICROS
