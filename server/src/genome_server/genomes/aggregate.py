"""The one definition of the imprint aggregation, as Ibis expressions.

It says in columns what `edge_sdk.dna.imprint` says for one event, from the
interaction to the genome, and gives the same integers to the bit: run here on
DuckDB, compiled for Apache Spark it is the same expression.

    interactions × kinds → what was done × DNA → votes × growth → states

To stay the same everywhere it keeps to what engines agree on:

- Integers only, and no division: engines disagree about floors of negative
  numbers, and some divide in floats. What grows by how much is looked up in a
  table that `tables.growths` makes from the SDK's own.
- Shift distances are int32, never negative and below 63.
- Sums are taken of the upper and the lower 31 bits of contributions, which
  every engine adds up in int64; so a sum stops at 2^63 - 1 like the SDK's. Who
  can show that no sum gets there says so, and contributions are added whole.
- Everything has a number: who did it, the thing, the kind, the marker. Who makes
  the columns gives the numbers. Subjects are drawn at random; numbered in the
  order of their bytes, ranges of numbers are parts of equal size.
"""

from __future__ import annotations

from typing import Any, Final

import ibis
import pyarrow as pa
from ibis.expr.types import IntegerColumn, Table

from edge_sdk.dna.imprint import STATE_MAX
from edge_sdk.dna.schema import MAX_DOUBLINGS, MAX_WEIGHT_Q24


def _int64(*names: str) -> pa.Schema:
    return pa.schema([(name, pa.int64()) for name in names])


_NUMBER: Final = pa.int32()

INTERACTIONS: Final = pa.schema(
    [
        ("who", _NUMBER),
        ("thing", _NUMBER),
        ("kind", _NUMBER),
        ("hours", _NUMBER),
        ("units", pa.int64()),
        ("event", pa.int64()),
    ]
)
"""Who did what to what: the numbers of a subject, of a thing with DNA and of a kind, hours since
the landmark, whole units of money (never negative), and the event's place in the log."""

DONE: Final = pa.schema(
    [("who", _NUMBER), ("thing", _NUMBER), ("hours", _NUMBER), ("weight", _NUMBER)]
)
"""The same, weighed in q24; a weight below 0 says that the kind is not known."""

MET: Final = pa.schema(
    [
        ("thing", _NUMBER),
        ("first", _NUMBER),
        ("last", _NUMBER),
        ("weight", _NUMBER),
        ("least", _NUMBER),
        ("last_who", _NUMBER),
        ("times", pa.int64()),
    ]
)
"""What was done to each thing: from which hour to which, the greatest and the least weight, the
greatest number of a subject, and how often."""

DNA: Final = pa.schema(
    [
        ("thing", _NUMBER),
        ("marker", _NUMBER),
        ("half_life", _NUMBER),
        ("salience", pa.int64()),
    ]
)
"""The DNA of things as they imprint (a kind's prefix is in the marker): vocabulary index, hours,
salience in 1/256 from 1 to 4096."""

KINDS: Final = pa.schema([("kind", _NUMBER), ("weight", pa.int64()), ("money", pa.int64())])
"""What kinds of interaction weigh, and what each doubling of the money adds, in q24."""

ONCE: Final = _int64("id_high", "id_low", "event")
"""Ids that count once, of 16 bytes in two halves, and the events that carry them."""

RANKS: Final = pa.schema([("who", _NUMBER), ("rank", _NUMBER)])
"""Numbers of subjects, and those that they have in the order of their bytes."""

HALF_LIVES: Final = pa.schema([("half_life", _NUMBER), ("earliest", _NUMBER), ("base", _NUMBER)])
"""Where in the growth table a half-life is: base + max(hours, earliest)."""

GROWTHS: Final = pa.schema(
    [("place", _NUMBER), ("mantissa", pa.int64()), ("up", _NUMBER), ("down", _NUMBER)]
)
"""Growth at one hour of one half-life: times mantissa, of 2^24, and shifted by one of the two."""

AGED: Final = pa.schema(
    [
        ("thing", _NUMBER),
        ("marker", _NUMBER),
        ("salience", pa.int64()),
        ("earliest", _NUMBER),
        ("base", _NUMBER),
    ]
)
"""DNA with the places of its half-lives."""

_UNKNOWN: Final = -1
_MOST_BITS: Final = 44  # one and all the units that an int64 of micros holds
_HALF_BITS: Final = 31
_HALF_MASK: Final = (1 << _HALF_BITS) - 1


def table(name: str, schema: pa.Schema) -> Table:
    """A table that an engine has under this name."""
    return ibis.table(ibis.Schema.from_pyarrow(schema), name=name)


def first_only(interactions: Table, once: Table) -> Table:
    """Interactions without those of events whose id an earlier event carries."""
    shared = once.group_by(["id_high", "id_low"]).agg(first=once.event.min(), n=once.count())
    several = shared.filter(shared.n > 1)
    found = once.join(several, ["id_high", "id_low"])
    repeated = found.filter(found.event > found.first).select("event")
    return interactions.anti_join(repeated, "event")


def weighed(interactions: Table, kinds: Table) -> Table:
    """Interactions as `DONE` says."""
    known = interactions.left_join(kinds, "kind")
    weight = _weight(known.weight, known.money, known.units).cast("int32")
    return known.select(
        "who", "thing", "hours", weight=ibis.ifelse(known.weight.isnull(), _UNKNOWN, weight)
    )


def arranged(done: Table, ranks: Table) -> Table:
    """What was done by the subjects that have a rank, which becomes their number."""
    found = done.join(ranks, "who").select("rank", "thing", "hours", "weight")
    return found.rename(who="rank").select(*DONE.names)


def chosen(interactions: Table, ranks: Table) -> Table:
    """(who, thing) of what those subjects did that have a rank."""
    return interactions.join(ranks, "who").select("who", "thing")


def many(chosen: Table) -> Table:
    """(times, people): how much was done, by how many."""
    return chosen.aggregate(times=chosen.count(), people=chosen.who.nunique())


def carrying(chosen: Table, dna: Table) -> Table:
    """(marker, times): how many of these interactions imprint each marker."""
    times = chosen.group_by("thing").agg(times=chosen.count())
    found = times.join(dna, "thing").select("marker", "times")
    return found.group_by("marker").agg(times=found.times.sum())


def newest(done: Table) -> Table:
    """(who, newest, times): the hour since the landmark of what each subject did last; how often
    it did something."""
    return done.group_by("who").agg(newest=done.hours.max(), times=done.count())


def met(done: Table) -> Table:
    """What was done to each thing, as `MET` says."""
    return done.group_by("thing").agg(
        first=done.hours.min(),
        last=done.hours.max(),
        weight=done.weight.max(),
        least=done.weight.min(),
        last_who=done.who.max(),
        times=done.count(),
    )


def bare(met: Table, dna: Table) -> Table:
    """(thing) of what was met and has no DNA; to be empty."""
    return met.anti_join(dna, "thing").select("thing")


def exhausted(met: Table, dna: Table) -> Table:
    """(thing, marker, half_life, hours) of what lies too far after the landmark; to be empty."""
    found = met.join(dna, "thing")
    beyond = found["last"] >= found.half_life * (MAX_DOUBLINGS + 1)
    return found.filter(beyond & (found.half_life > 0)).select(
        "thing", "marker", "half_life", hours="last"
    )


def aged(dna: Table, half_lives: Table) -> Table:
    """DNA as `AGED` says; of a half-life without a row nothing comes."""
    return dna.join(half_lives, "half_life").select(*AGED.names)


def loudest(met: Table, aged: Table, growths: Table) -> Table:
    """(state): the most that one interaction can have given to one marker."""
    once_each = met.select(who="thing", thing="thing", hours="last", weight="weight")
    found = states(votes(once_each, aged), growths)
    return found.aggregate(state=found.state.max())


def votes(done: Table, aged: Table) -> Table:
    """(who, marker, vote, place): what every interaction gives to every marker, in q24.

    `place` is that of its growth. Of a thing without DNA nothing comes.
    """
    found = done.join(aged, "thing").select(
        "who", "marker", "weight", "salience", "hours", "base", "earliest"
    )
    return found.mutate(
        vote=(found.weight.cast("int64") * found.salience) >> 8,
        place=found.base + ibis.greatest(found.hours, found.earliest),
    ).select("who", "marker", "vote", "place")


def states(votes: Table, growths: Table, *, bounded: bool = False) -> Table:
    """(who, marker, state): the sums of contributions, in no order.

    `bounded` says that none can be above STATE_MAX.
    """
    known = votes.join(growths, "place")
    grown = known.mutate(grown=(((known.vote * known.mantissa) >> 24) << known.up) >> known.down)
    if bounded:
        return grown.group_by(["who", "marker"]).agg(state=grown.grown.sum())
    summed = grown.group_by(["who", "marker"]).agg(
        high=(grown.grown >> _HALF_BITS).cast("int32").sum(),
        low=(grown.grown & _HALF_MASK).cast("int32").sum(),
    )
    carried = summed.mutate(
        high=summed.high + (summed.low >> _HALF_BITS), low=summed.low & _HALF_MASK
    )
    held = ibis.ifelse(
        carried.high > STATE_MAX >> _HALF_BITS,
        STATE_MAX,
        (carried.high << _HALF_BITS) | carried.low,
    )
    return carried.select("who", "marker", state=held)


def in_order(found: Table) -> Table:
    """Rows by who, and by marker where they have one."""
    return found.order_by([name for name in ("who", "marker") if name in found.columns])


def _weight(weight: IntegerColumn, money: IntegerColumn, units: IntegerColumn) -> Any:
    """As `imprint.event_weight` has it: log2 of the money in 1/256, by its top bits."""
    some = units + 1
    lengths = [(some < (2 << bits), bits) for bits in range(_MOST_BITS - 1)]
    bits = ibis.cases(*lengths, else_=_MOST_BITS - 1).cast("int32")
    log2_q8 = (bits.cast("int64") << 8) + (((some << 8) >> bits) & 0xFF)
    return ibis.least(weight + ((money * log2_q8) >> 8), MAX_WEIGHT_Q24)
