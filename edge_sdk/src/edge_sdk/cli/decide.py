"""`genome-edge decide`: one decision from what is on this device, without a network."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edge_sdk.cli.common import existing_store, settings
from edge_sdk.cli.output import DONE, REFUSED, Output
from edge_sdk.cli.telling import explanation_json, explanation_lines, what_if_json, what_if_lines
from edge_sdk.clock import DeviceClock
from edge_sdk.context import Context
from edge_sdk.decision import Decision, Reason, Unknown
from edge_sdk.engine import decide as engine
from edge_sdk.engine.cap_rules import CapRow
from edge_sdk.engine.cap_views import Blocked
from edge_sdk.engine.record import Record
from edge_sdk.engine.what_if import what_if
from edge_sdk.errors import InvalidContext, UsageError
from edge_sdk.explanation import Explanation
from edge_sdk.outbox import recording
from edge_sdk.runtime import loading
from edge_sdk.runtime.claiming import within_caps
from edge_sdk.runtime.room import Room
from edge_sdk.store.open_store import OpenStore

_WRITE_S = 10.0


def run(options: Namespace, output: Output) -> int:
    """Decide; the exit code."""
    context = read_context(options)
    if options.seed is not None and not 0 <= options.seed < 1 << 64:
        raise UsageError("--seed is a whole number from 0 to 2^64 - 1")
    with _opened(options, output) as (room, open_):
        visitor = room.customers.visitor(room.live, options.customer)
        now_ms = room.clock.now_ms()

        def choose(blocked: Blocked, again: Record | None) -> tuple[Decision, Record]:
            return engine.decide(
                room.live.release,
                context,
                options.placement,
                options.slots,
                genome=visitor.genome,
                consents=visitor.consents,
                blocked=blocked.offers,
                why_blocked=blocked.why,
                rooms=blocked.rooms,
                seed=options.seed if again is None else again.inputs.seed,
                decision_id=None if again is None else again.inputs.decision_id,
                terms=room.terms(room.live, now_ms),
                now_ms=now_ms,
                subject=visitor.subject,
            )

        claims = room.claims
        caps: tuple[CapRow, ...] = ()
        if options.dry_run:
            decision, record = choose(claims.blocking(visitor.subject, now_ms, options.slots), None)
        else:
            decision, record, caps = within_caps(
                claims, room.live.release, visitor.subject, now_ms, options.slots, choose
            )
        if open_ is not None and not options.dry_run:
            entry = recording.decision(record, visitor, room.clock.stamp(), caps)
            open_.writer.put_durably(entry, _WRITE_S)
        unknown = (*visitor.unknown, *decision.unknown)
        explanation = decision.explain() if options.explain else None
        data = as_json(decision, unknown, explanation)
        lines = as_lines(decision, unknown, explanation)
        release = room.live.release
        if options.what_if and release is not None:
            changes = dict(options.what_if)
            found = what_if(release, record, changes)
            data["what_if"] = what_if_json(changes, found, as_json)
            lines += what_if_lines(changes, found, as_lines, explained=options.explain)
    output.result(data, lines)
    if decision.reason is Reason.NO_RELEASE:
        output.note("there is no release on this device yet: run genome-edge sync --once")
    impossible = decision.reason in (Reason.NO_RELEASE, Reason.UNKNOWN_PLACEMENT)
    return REFUSED if impossible else DONE


@contextmanager
def _opened(options: Namespace, output: Output) -> Iterator[tuple[Room, OpenStore | None]]:
    """What to decide from: a store with everything in it, or a bundle alone."""
    config = settings()
    room = Room(config, DeviceClock())
    if options.bundle is not None:
        bundle, release = loading.open_bundle(loading.read_bundle(options.bundle), None)
        room.adopt(release, loading.view_of(bundle, release.manifest))
        yield room, None
        return
    with existing_store(options) as store:
        # Nobody is elected here, so nothing is synced: a decision needs no network.
        open_ = OpenStore(store, room, config, lambda: None)
        try:
            open_.look(room)
            if open_.cause is not None:
                output.note(f"warning: {open_.cause}")
            yield room, open_
        finally:
            open_.close(_WRITE_S)


def read_context(options: Namespace) -> Context:
    """The moment that the options describe. Raises InvalidContext."""
    return Context(
        **where(options),
        place=options.place,
        activity=options.activity,
        recent=options.recent,
        time=_time(options.time),
        channel=options.channel,
        language=options.language,
        basket=options.basket,
        stage=options.stage,
        attributes=_attributes(options.attr),
    )


def where(options: Namespace) -> dict[str, Any]:
    """The arguments of a Context that say where it is."""
    said = {"cell": options.cell, "lat": options.lat, "lng": options.lng}
    return {name: value for name, value in said.items() if value is not None}


def _time(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidContext(
            f"time={text!r} is not allowed: ISO 8601 with offset, 2026-03-28T18:30:00+01:00"
        ) from None


def _attributes(pairs: Sequence[tuple[str, str]]) -> dict[str, str | list[str]]:
    attributes: dict[str, list[str]] = {}
    for key, value in pairs:
        attributes.setdefault(key, []).append(value)
    return {key: said[0] if len(said) == 1 else said for key, said in attributes.items()}


def as_json(
    decision: Decision, unknown: Sequence[Unknown] = (), explanation: Explanation | None = None
) -> dict[str, Any]:
    """A decision as an object."""
    data: dict[str, Any] = {
        "id": decision.id,
        "placement": decision.placement,
        "experiment": decision.experiment,
        "reason": decision.reason.value,
        "release": decision.release,
        "tier": decision.tier.value,
        "seed": decision.seed,
        "genome_used": decision.genome_used,
        "slots": [
            {
                "offer": slot.offer.id if slot.offer else None,
                "reason": slot.reason.value,
                "score": slot.score,
                "propensity": slot.propensity,
                "content": dict(slot.offer.content) if slot.offer else {},
            }
            for slot in decision.slots
        ],
        "unknown": [str(one) for one in unknown],
    }
    if explanation is not None:
        data |= explanation_json(explanation)
    return data


def as_lines(
    decision: Decision, unknown: Sequence[Unknown] = (), explanation: Explanation | None = None
) -> list[str]:
    """A decision for people."""
    lines = []
    for number, slot in enumerate(decision.slots):
        if slot.offer is None:
            lines.append(f"slot {number}  nothing ({slot.reason})")
            continue
        title = slot.offer.content.get("title", "")
        drawn = "" if slot.propensity == 1.0 else f", drawn with {slot.propensity:.4f}"
        lines.append(
            f"slot {number}  {slot.offer.id}"
            + (f" - {title}" if title else "")
            + f" ({slot.reason}, score {slot.score:.4f}{drawn})"
        )
    lines += [f"warning: {one}" for one in unknown]
    lines.append(
        f"decision {decision.id}, release {decision.release or 'none'} ({decision.tier}), "
        f"{'with' if decision.genome_used else 'without'} a genome, seed {decision.seed}"
    )
    if decision.experiment:
        lines.append(f"of {decision.experiment} and its arms, {decision.placement} was drawn")
    if explanation is not None:
        lines += explanation_lines(explanation)
    return lines
