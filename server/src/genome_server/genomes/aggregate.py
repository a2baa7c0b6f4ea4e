"""The one definition of the imprint aggregation, as Ibis expressions.

It says in columns what `edge_sdk.dna.imprint` says for one event, and gives the
same integers to the bit: run here on DuckDB, compiled for Apache Spark it is
the same expression. To stay the same everywhere it keeps to what engines agree
on:

- int64 throughout; growth comes from the mantissa table that is joined in.
- Floors of negative hours differ between engines, so hours are made positive
  by a multiple of the half-life that is taken off again.
- Shift distances are int32, never negative and below 63.
- Sums are taken of the upper and the lower half of contributions, so that no
  engine needs more than int64 and a sum stops at 2^63 - 1 like the SDK's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import ibis
import pyarrow as pa
from ibis.expr.types import Table

from edge_sdk.dna.imprint import STATE_MAX, mantissa
from edge_sdk.dna.schema import ONE_Q24

VOTES: Final = pa.schema(
    [
        ("subject", pa.binary()),
        ("marker", pa.int64()),
        ("half_life", pa.int64()),
        ("hours", pa.int64()),
        ("vote", pa.int64()),
        ("event", pa.int64()),
    ]
)
"""Votes: vocabulary index, half-life, hours since the landmark, vote in q24, offset in the log."""

ONCE: Final = pa.schema([("id", pa.binary()), ("event", pa.int64())])
"""Ids that count once, and the events that carry them."""

SUBJECTS: Final = pa.schema([("subject", pa.binary())])

MANTISSAS: Final = pa.schema(
    [("half_life", pa.int64()), ("phase", pa.int64()), ("mantissa", pa.int64())]
)

# Half-lives added to make hours positive: more than any landmark has hours.
_TURNS: Final = 1 << 20
_HALF_BITS: Final = 32
_HALF_MASK: Final = (1 << _HALF_BITS) - 1
_FURTHEST_SHIFT: Final = 62


def table(name: str, schema: pa.Schema) -> Table:
    """A table that an engine has under this name."""
    return ibis.table(ibis.Schema.from_pyarrow(schema), name=name)


def mantissas(half_lives: Iterable[int]) -> pa.Table:
    """The mantissa table for these half-lives; what never fades has one row of growth 1."""
    columns: tuple[list[int], list[int], list[int]] = ([], [], [])
    for half_life in sorted(set(half_lives)):
        values = mantissa(half_life) if half_life else (ONE_Q24,)
        columns[0].extend([half_life] * len(values))
        columns[1].extend(range(len(values)))
        columns[2].extend(values)
    return pa.table(list(columns), schema=MANTISSAS)


def first_only(votes: Table, once: Table) -> Table:
    """Votes without those of events whose id an earlier event carries."""
    first: Any = once.event.min().over(group_by=once.id)
    repeated = once.mutate(first=first).filter(lambda t: t.event > t.first).select("event")
    return votes.anti_join(repeated, "event")


def within(votes: Table, low: bytes, high: bytes) -> Table:
    """Votes of the subjects from `low` to below `high`; b"" for high: to the end."""
    found = votes.filter(votes.subject >= ibis.literal(low, type="binary"))
    return found.filter(found.subject < ibis.literal(high, type="binary")) if high else found


def states(votes: Table, table: Table) -> Table:
    """(subject, marker, state, newest): the sum of contributions, the newest hour of a vote.

    Ordered by subject and marker. `table` is the mantissa table of every
    half-life in `votes`. `newest` counts from the landmark, like `hours`.
    """
    never = votes.half_life == 0
    placed = votes.mutate(
        span=ibis.ifelse(never, 1, votes.half_life),
        shifted=ibis.ifelse(never, _TURNS, votes.hours + votes.half_life * _TURNS),
    )
    phased = placed.mutate(
        doublings=((placed.shifted // placed.span) - _TURNS).cast("int32"),
        phase=placed.shifted % placed.span,
    )
    joined = phased.join(table, ["half_life", "phase"])
    zero = ibis.literal(0, type="int32")
    furthest = ibis.literal(_FURTHEST_SHIFT, type="int32")
    up = ibis.greatest(joined.doublings, zero)
    down = ibis.least(ibis.greatest(-joined.doublings, zero), furthest)
    grown = joined.mutate(grown=(((joined.vote * joined.mantissa) >> 24) << up) >> down)
    summed = grown.group_by(["subject", "marker"]).agg(
        high=(grown.grown >> _HALF_BITS).sum(),
        low=(grown.grown & _HALF_MASK).sum(),
        newest=grown.hours.max(),
    )
    carried = summed.mutate(
        high=summed.high + (summed.low >> _HALF_BITS), low=summed.low & _HALF_MASK
    )
    held = ibis.ifelse(
        carried.high > STATE_MAX >> _HALF_BITS,
        STATE_MAX,
        (carried.high << _HALF_BITS) | carried.low,
    )
    return (
        carried.mutate(state=held)
        .select("subject", "marker", "state", "newest")
        .order_by(["subject", "marker"])
    )
