"""Random interactions for the aggregation, and what the SDK makes of them one by one.

Cases are drawn by hypothesis. Any number of them fit into one set of tables, because each has
subjects, things and ids of its own; so an engine that takes seconds to start takes thousands at
once.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from edge_sdk.dna.imprint import GenomeState, contribution, event_weight, explode
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import MAX_DOUBLINGS, ONE_Q24, DnaSchema, KindRule, NamespaceRule
from genome_server.genomes import aggregate, tables
from genome_server.genomes.aggregation import Aggregation

LANDMARK: Final = 490_000
SCHEMA: Final = DnaSchema(
    epoch=1,
    landmark_hour=LANDMARK,
    namespaces=(
        NamespaceRule("always", 0),
        NamespaceRule("brief", 1),
        NamespaceRule("claim", 3),
        NamespaceRule("long", 720),
        NamespaceRule("not-long", 24),
    ),
    kinds=(
        KindRule("view", ONE_Q24 // 4),
        KindRule("buy", 2 * ONE_Q24, ONE_Q24 // 4),
        KindRule("gift", 31 * ONE_Q24, 32 * ONE_Q24),
        KindRule("dismiss", ONE_Q24 + 12_345, marker_prefix="not-"),
    ),
    default_half_life_hours=48,
)
_NAMES: Final = [
    f"{space}:{value}" for space in ("always", "brief", "claim", "long", "other") for value in "xy"
]
VOCABULARY: Final = Vocabulary(bytes(16), [*_NAMES, *(f"not-{name}" for name in _NAMES)])
_KINDS: Final = {kind.name: i for i, kind in enumerate(SCHEMA.kinds)}
_EARLIEST: Final = -LANDMARK
_MOST: Final = (1 << 63) - 1

Dna = Sequence[tuple[str, int]]


class Done(NamedTuple):
    """An interaction; with an id it counts once. `hours` since the landmark."""

    subject: bytes
    thing: Hashable
    kind: str
    hours: int
    amount_micros: int
    id: bytes | None = None


@dataclass(frozen=True)
class History:
    """Interactions in the order of the log, and the DNA of the things that they are about."""

    schema: DnaSchema
    vocabulary: Vocabulary
    dna: Mapping[Hashable, Dna]
    done: Sequence[Done]


class Deed(NamedTuple):
    """Something done `times` times; with an id it counts once."""

    who: int
    thing: int
    kind: str
    hours: int
    amount_micros: int
    id: int  # 0: none
    times: int


@dataclass(frozen=True)
class Case:
    """Deeds in the order of the log, and the DNA of the things that they are done to."""

    dna: tuple[Dna, ...]
    deeds: tuple[Deed, ...]


@st.composite
def _deeds(draw: st.DrawFn, dna: Sequence[Dna]) -> Deed:
    thing = draw(st.integers(0, len(dna) - 1))
    kind = draw(st.sampled_from(sorted(_KINDS)))
    lives = [half_life for *_, half_life in explode(SCHEMA, kind, dna[thing]) if half_life]
    last = (MAX_DOUBLINGS + 1) * min(lives) - 1 if lives else 1_000
    hours = st.one_of(
        st.integers(_EARLIEST, last), st.integers(-100, min(last, 100)), st.just(last)
    )
    amount = st.one_of(
        st.sampled_from([0, -5_000_000, 999_999, 1_000_000, _MOST]), st.integers(0, 1 << 40)
    )
    return Deed(
        draw(st.integers(0, 2)),
        thing,
        kind,
        draw(hours),
        draw(amount),
        draw(st.sampled_from([0, 0, 1, 2])),
        draw(st.sampled_from([1, 1, 1, 2, 40])),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """One case."""
    dna = draw(
        st.lists(
            st.lists(
                st.tuples(
                    st.sampled_from(_NAMES),
                    st.one_of(st.sampled_from([0, 1, 256, 4096, 5_000]), st.integers(1, 4096)),
                ),
                min_size=1,
                max_size=4,
            ),
            min_size=1,
            max_size=3,
        )
    )
    return Case(tuple(dna), tuple(draw(st.lists(_deeds(dna), min_size=1, max_size=8))))


def subject(case: int, who: int) -> bytes:
    """Subjects of even and odd cases lie on both sides of where signs change."""
    return bytes([case & 1 and 0xFF]) + case.to_bytes(4, "big") + bytes([who]) + b"\x80" * 10


def history(some: Sequence[Case]) -> History:
    """All cases as one history; each has subjects, things and ids of its own."""
    return History(
        SCHEMA,
        VOCABULARY,
        {(number, i): dna for number, case in enumerate(some) for i, dna in enumerate(case.dna)},
        [
            Done(
                subject(number, deed.who),
                (number, deed.thing),
                deed.kind,
                deed.hours,
                deed.amount_micros,
                number.to_bytes(15, "big") + bytes([deed.id]) if deed.id else None,
            )
            for number, case in enumerate(some)
            for deed in case.deeds
            for _ in range(deed.times)
        ],
    )


def reference(told: History) -> dict[bytes, GenomeState]:
    """The genomes that the SDK makes of a history, one event after the other."""
    states: dict[bytes, GenomeState] = {}
    seen: set[bytes] = set()
    for done in told.done:
        if done.id is not None:
            if done.id in seen:
                continue
            seen.add(done.id)
        state = states.setdefault(done.subject, GenomeState())
        weight = event_weight(told.schema, done.kind, done.amount_micros)
        for name, salience, half_life in explode(told.schema, done.kind, told.dna[done.thing]):
            index = told.vocabulary.index(name)
            assert index is not None
            grown = contribution(weight, salience, done.hours, half_life)
            state.add(index, grown, done.hours + told.schema.landmark_hour)
    return states


@dataclass(frozen=True)
class Tabled:
    """A history as tables of the aggregation."""

    interactions: pa.Table
    once: pa.Table
    dna: pa.Table


def tabled(told: History) -> Tabled:
    """Put a history into tables."""
    numbers = {kind.name: i for i, kind in enumerate(told.schema.kinds)}
    things: dict[tuple[Hashable, str], int] = {}
    dna: list[tuple[int, int | None, int, int]] = []
    for done in told.done:
        key = (done.thing, done.kind)
        if key not in things:
            things[key] = len(things)
            dna.extend(
                (things[key], told.vocabulary.index(name), half_life, salience)
                for name, salience, half_life in explode(
                    told.schema, done.kind, told.dna[done.thing]
                )
            )
    ids = [(done.id, i) for i, done in enumerate(told.done) if done.id is not None]
    columns = [
        np.array([things[done.thing, done.kind] for done in told.done], np.int32),
        np.array([numbers[done.kind] for done in told.done], np.int32),
        np.array([done.hours for done in told.done], np.int32),
        tables.units(np.array([done.amount_micros for done in told.done], np.int64)),
        np.arange(len(told.done)),
    ]
    people = numbers_of(told)
    who = np.array([people[done.subject] for done in told.done], np.int32)
    once = tables.halves(np.array([key for key, _ in ids], "V16"))
    return Tabled(
        pa.table([who, *columns], schema=aggregate.INTERACTIONS),
        pa.table([*once, np.array([at for _, at in ids], np.int64)], schema=aggregate.ONCE),
        pa.table([list(column) for column in zip(*dna, strict=True)], schema=aggregate.DNA),
    )


def numbers_of(told: History) -> dict[bytes, int]:
    """Subjects numbered as they come."""
    return {one: i for i, one in enumerate(dict.fromkeys(done.subject for done in told.done))}


def states_of(
    sums: Aggregation, told: History, wanted: Sequence[bytes] | None = None
) -> dict[bytes, GenomeState]:
    """The genomes that DuckDB makes, in the order in which they come."""
    found = {}
    numbers = numbers_of(told)
    subjects = list(numbers)
    chosen = None if wanted is None else [numbers[one] for one in wanted if one in numbers]
    ranks = tables.ranks(subjects, chosen)
    for part in sums.summed(ranks):
        for i, who in enumerate(part.who.tolist()):
            own = slice(part.starts[i], part.starts[i + 1])
            markers = part.markers[own].tolist()
            assert markers == sorted(set(markers))
            values = dict(zip(markers, part.states[own].tolist(), strict=True))
            newest = int(part.newest[i]) + sums.schema.landmark_hour
            found[subjects[ranks["who"][who].as_py()]] = GenomeState(values, newest)
    return found


def on_duckdb(
    told: History, folder: Path, *, at_once: int = 10**6, wanted: Sequence[bytes] | None = None
) -> dict[bytes, GenomeState]:
    """The genomes that DuckDB makes of a history."""
    made, path = tabled(told), folder / "test.duckdb"
    path.unlink(missing_ok=True)
    with Aggregation(path, told.schema, at_once=at_once) as sums:
        sums.add(made.interactions)
        sums.add_once(made.once)
        sums.add_dna(made.dna)
        return states_of(sums, told, wanted)
