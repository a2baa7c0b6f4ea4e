"""Many rows at once are the rows one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.imprint import STATE_MAX, GenomeState, encode_row
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema, NamespaceRule
from genome_server.genomes.bulk import encode_rows

HALF_LIVES = {"a": 1, "b": 24, "c": 4_000}
VOCABULARY = Vocabulary(bytes(16), [f"{space}:{i}" for space in "abcd" for i in range(6)])
HOUR = 490_000

values = st.one_of(
    st.integers(1, 1 << 30), st.integers(1, STATE_MAX), st.sampled_from([1, STATE_MAX, 1 << 61])
)
states = st.builds(
    GenomeState,
    st.dictionaries(st.integers(0, len(VOCABULARY) - 1), values, max_size=20),
    st.one_of(st.none(), st.integers(-3_000, 3_000).map(lambda h: HOUR + h)),
)
profiles = st.dictionaries(st.integers(0, len(VOCABULARY) - 1), st.integers(0, 1 << 33), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(states, profiles), max_size=8),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 3, 64]),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 5)),
    st.binary(max_size=2 * len(VOCABULARY)),
)
def test_they_are_the_rows_one_by_one(
    people: list[tuple[GenomeState, dict[int, int]]],
    quantiser: int,
    most: int,
    quotas: dict[str, int],
    distinct: bytes,
) -> None:
    namespaces = tuple(
        NamespaceRule(name, hours, max_markers=quotas.get(name, 0))
        for name, hours in HALF_LIVES.items()
    )
    schema = DnaSchema(1, HOUR, namespaces, (), 0, quantiser, most, distinct)
    found = encode_rows([s for s, _ in people], [p for _, p in people], schema, VOCABULARY)
    assert found == [encode_row(s, p, schema, VOCABULARY) for s, p in people]
