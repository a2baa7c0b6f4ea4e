from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.imprint import (
    STATE_MAX,
    GenomeState,
    contribution,
    encode_row,
    event_weight,
    explode,
    grow,
    hour_of,
    ilog2_q8,
    mantissa,
    profile_strengths,
    shrink,
)
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema, KindRule, NamespaceRule
from edge_sdk.errors import FormatError, LandmarkExhausted, UsageError

LANDMARK = 10_000
SCHEMA = DnaSchema(
    epoch=1,
    landmark_hour=LANDMARK,
    namespaces=(
        NamespaceRule("fast", 6),
        NamespaceRule("slow", 720),
        NamespaceRule("age", 0, ONE_Q24),
    ),
    kinds=(
        KindRule("view", ONE_Q24 // 4),
        KindRule("buy", 2 * ONE_Q24, ONE_Q24 // 4),
        KindRule("dismiss", ONE_Q24, marker_prefix="not-", label=-1),
    ),
    default_half_life_hours=48,
)
VOCABULARY = Vocabulary(
    bytes(16),
    ["fast:a", "slow:a", "slow:b", "age:26", "not-slow:a", "other:x"]
    + [f"slow:m{i}" for i in range(100)],
)

events = st.lists(
    st.tuples(
        st.integers(0, len(VOCABULARY) - 1),
        st.integers(0, 32 * ONE_Q24),
        st.integers(1, 4096),
        st.integers(-2000, 150),
    ),
    max_size=40,
)


def build(some: list[tuple[int, int, int, int]]) -> GenomeState:
    state = GenomeState()
    for index, weight, salience, hours in some:
        half_life = int(SCHEMA.half_lives(VOCABULARY)[index])
        state.add(index, contribution(weight, salience, hours, half_life), LANDMARK + hours)
    return state


@given(events, st.randoms(use_true_random=False))
def test_order_does_not_matter(some: list[tuple[int, int, int, int]], rng: random.Random) -> None:
    shuffled = list(some)
    rng.shuffle(shuffled)
    assert build(shuffled).to_bytes() == build(some).to_bytes()


@given(events, events, events)
def test_merging_is_associative_and_equals_one_pass(
    a: list[tuple[int, int, int, int]],
    b: list[tuple[int, int, int, int]],
    c: list[tuple[int, int, int, int]],
) -> None:
    left = build(a)
    left.merge(build(b))
    left.merge(build(c))
    right = build(b)
    right.merge(build(c))
    first = build(a)
    first.merge(right)
    assert left == first == build(a + b + c)


def test_the_ceiling_is_associative_too() -> None:
    big = STATE_MAX // 2 + 1
    one, other = GenomeState({0: big}, 1), GenomeState({0: big}, 2)
    one.merge(other)
    assert one.values[0] == STATE_MAX
    one.add(0, 5, 3)
    assert one.values[0] == STATE_MAX
    assert GenomeState.from_bytes(one.to_bytes()) == one


@given(events)
def test_state_bytes_round_trip(some: list[tuple[int, int, int, int]]) -> None:
    state = build(some)
    assert GenomeState.from_bytes(state.to_bytes()) == state


def test_state_bytes_refuse_what_is_cut() -> None:
    data = build([(0, ONE_Q24, 256, 5), (1, ONE_Q24, 256, 5)]).to_bytes()
    for end in range(len(data)):
        with pytest.raises(FormatError):
            GenomeState.from_bytes(data[:end])
    with pytest.raises(FormatError):
        GenomeState.from_bytes(data + b"\0")


@given(st.integers(1, 2000), st.integers(-10_000, 10_000), st.integers(1 << 10, 1 << 33))
def test_growing_and_shrinking_cancel(half_life: int, hours: int, vote: int) -> None:
    hours = min(hours, 25 * half_life)
    grown = grow(vote, hours, half_life)
    back = shrink(grown, hours, half_life)
    # What is lost is what was shifted out: at most one unit of the state, grown back.
    lost = shrink(2, hours, half_life) + 1
    assert vote - lost <= back <= vote


@given(st.integers(1, 400), st.integers(-400, 400))
def test_a_half_life_halves(half_life: int, hours: int) -> None:
    hours = min(hours, 24 * half_life)
    vote = 1 << 33
    at, later = grow(vote, hours, half_life), grow(vote, hours + half_life, half_life)
    assert later // 2 == at or later == 2 * at


def test_mantissa_ascends_and_is_bounded() -> None:
    for half_life in (1, 2, 24, 8760):
        values = mantissa(half_life)
        assert values[0] == ONE_Q24
        assert all(a < b for a, b in pairwise(values))
        assert values[-1] < 2 * ONE_Q24
    for wrong in (0, -1, 10**6):
        with pytest.raises(UsageError):
            mantissa(wrong)


def test_what_never_fades_does_not_grow() -> None:
    assert contribution(ONE_Q24, 512, 10**9, 0) == 2 * ONE_Q24


def test_landmark_exhausted() -> None:
    assert grow(ONE_Q24, 25 * 6 + 5, 6) > 0
    with pytest.raises(LandmarkExhausted, match="25 half-lives"):
        grow(ONE_Q24, 26 * 6, 6)


def test_money_is_a_louder_vote() -> None:
    weights = [event_weight(SCHEMA, "buy", units * 1_000_000) for units in (0, 1, 3, 7, 1000)]
    assert weights[:4] == [2 * ONE_Q24 + n * ONE_Q24 // 4 for n in range(4)]
    assert weights == sorted(set(weights))
    assert event_weight(SCHEMA, "buy", -5) == weights[0]
    assert event_weight(SCHEMA, "view", 10**15) == ONE_Q24 // 4
    with pytest.raises(UsageError, match="did you mean 'view'"):
        event_weight(SCHEMA, "veiw")


@given(st.integers(1, 1 << 70), st.integers(1, 1 << 70))
def test_ilog2_is_monotone(x: int, y: int) -> None:
    assert (ilog2_q8(x) <= ilog2_q8(y)) or x > y


def test_explode_prefixes_and_finds_half_lives() -> None:
    assert explode(SCHEMA, "buy", [("slow:a", 256), ("other:x", 99_999)]) == [
        ("slow:a", 256, 720),
        ("other:x", 4096, 48),
    ]
    assert explode(SCHEMA, "dismiss", [("slow:a", 0), ("fast:a", 5)]) == [
        ("not-slow:a", 1, 720),
        ("not-fast:a", 5, 6),
    ]


def test_profile_is_set_not_summed() -> None:
    facts = [("age:26", 256), ("age:26", 512), ("slow:a", 256), ("unknown:x", 256)]
    assert profile_strengths(SCHEMA, VOCABULARY, facts) == {3: 2 * ONE_Q24}


def test_encode_keeps_the_strongest_and_breaks_ties_by_index() -> None:
    state = GenomeState()
    first = VOCABULARY.index("slow:m0")
    assert first is not None
    for i in range(100):
        state.add(first + i, (2 if i == 99 else 1) * ONE_Q24, LANDMARK)
    row = encode_row(state, {}, SCHEMA, VOCABULARY, subject=b"s" * 16, consents=6)
    assert row.indices.tolist() == [*range(first, first + 63), first + 99]
    assert (row.subject, row.consents, row.as_of_hour) == (b"s" * 16, 6, 0)


def test_encode_leaves_the_places_of_a_namespace_that_has_enough_to_others() -> None:
    vocabulary = Vocabulary(bytes(16), [f"{space}:{i}" for space in ("a", "b", "c") for i in "123"])
    state = GenomeState({i: ONE_Q24 * (9 - i // 2 * 2) for i in range(9)}, LANDMARK)
    rules = {"a": 1, "b": 2}
    schema = replace(
        SCHEMA,
        namespaces=tuple(NamespaceRule(name, 5, max_markers=n) for name, n in rules.items()),
        max_markers=5,
    )
    # Of a its 0 and 1 are as strong: the smaller index stays. c takes what is left of the five.
    assert encode_row(state, {}, schema, vocabulary).indices.tolist() == [0, 3, 4, 6, 7]
    assert encode_row(state, {0: 1, 2: 10 * ONE_Q24}, schema, vocabulary).indices[0] == 2
    without = replace(schema, namespaces=(NamespaceRule("a", 5), NamespaceRule("b", 5)))
    assert encode_row(state, {}, without, vocabulary).indices.tolist() == [0, 1, 2, 3, 4]


def test_encode_merges_the_profile_by_the_greater() -> None:
    state = GenomeState({3: ONE_Q24 // 2, 0: 5}, LANDMARK + 7)
    stronger = encode_row(state, {3: ONE_Q24}, SCHEMA, VOCABULARY)
    weaker = encode_row(state, {3: ONE_Q24 // 4}, SCHEMA, VOCABULARY)
    assert stronger.indices.tolist() == weaker.indices.tolist() == [3]  # 5 is below the least code
    assert stronger.codes[0] > weaker.codes[0]
    assert stronger.as_of_hour == 7


def test_encode_of_a_profile_alone_and_of_nothing() -> None:
    row = encode_row(GenomeState(), {3: ONE_Q24}, SCHEMA, VOCABULARY)
    assert (row.as_of_hour, row.indices.tolist()) == (0, [3])
    empty = encode_row(GenomeState(), {}, SCHEMA, VOCABULARY)
    assert len(empty.indices) == len(empty.codes) == 0


@given(events)
def test_encoding_does_not_depend_on_later_hours_without_imprints(
    some: list[tuple[int, int, int, int]],
) -> None:
    state = build(some)
    again = GenomeState.from_bytes(state.to_bytes())
    row = encode_row(state, {}, SCHEMA, VOCABULARY)
    assert encode_row(again, {}, SCHEMA, VOCABULARY) == row
    assert len(row.indices) <= 64
    assert all(row.codes > 0)
    assert all(row.indices[:-1] < row.indices[1:])


@given(events, events)
def test_under_quantiser_2_an_imprint_changes_its_own_markers_only(
    before: list[tuple[int, int, int, int]], later: list[tuple[int, int, int, int]]
) -> None:
    schema = replace(SCHEMA, quantiser=2)
    rows = [
        encode_row(build(some), {3: ONE_Q24}, schema, VOCABULARY)
        for some in (before, before + later)
    ]
    old, new = (dict(zip(r.indices.tolist(), r.codes.tolist(), strict=True)) for r in rows)
    imprinted = {index for index, *_ in later}
    assert all(row.as_of_hour == 0 for row in rows)
    for index in old.keys() | new.keys():
        if index not in imprinted and index in new:
            assert new[index] == old.get(index, new[index])
            # Only where there is no room for all can time bring one forward.
            assert index in old or len(old) == schema.max_markers
        if index in imprinted and index in old and index in new:
            assert new[index] >= old[index]


def test_both_quantisers_keep_the_same_markers() -> None:
    rng = random.Random(4)
    state = GenomeState()
    for index in range(len(VOCABULARY)):
        state.add(index, rng.randrange(1 << rng.randrange(10, 40)), LANDMARK + 40)
    one, two = (
        encode_row(state, {3: ONE_Q24}, replace(SCHEMA, quantiser=q), VOCABULARY) for q in (1, 2)
    )
    assert one.indices.tolist() == two.indices.tolist()
    assert (one.as_of_hour, two.as_of_hour) == (40, 0)


def test_hour_of() -> None:
    assert hour_of(3_600_000) == 1
    assert hour_of(3_599_999) == 0
    assert hour_of(-1) == -1
