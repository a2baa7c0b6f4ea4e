"""What many imprints add up to in columns is what a state takes one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.imprint import STATE_MAX, GenomeState, grow
from edge_sdk.dna.markers import Vocabulary
from genome_server.genomes.events import MarkerVote
from genome_server.genomes.gains import gains
from genome_server.genomes.reading import Dose, Told

LANDMARK = 490_000
VOCABULARY = Vocabulary(bytes(16), [f"a:{i}" for i in range(5)])
SUBJECTS = [b"a" * 16, b"b" * 15 + b"\0", b"b" * 16]

votes = st.builds(
    MarkerVote,
    st.sampled_from([*VOCABULARY, "a:unknown"]),
    st.sampled_from([0, 24, 300]),
    # So large that a few of them reach the ceiling of a state.
    st.one_of(st.integers(0, 1 << 30), st.integers(STATE_MAX >> 27, STATE_MAX >> 24)),
)
doses = st.tuples(
    st.lists(votes, min_size=1, max_size=4).map(tuple),
    st.integers(LANDMARK - 600, LANDMARK + 600),
)
imprints = st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans())


@settings(max_examples=100, deadline=None)
@given(st.lists(doses, min_size=4, max_size=4), st.lists(imprints, max_size=20), st.booleans())
def test_they_are_the_contributions_one_by_one(
    given_: list[Dose], done: list[tuple[int, int, bool]], all_count: bool
) -> None:
    one_by_one: dict[bytes, GenomeState] = {}
    for who, dose, counts in done:
        if all_count or counts:
            state = one_by_one.setdefault(SUBJECTS[who], GenomeState())
            markers, hour = given_[dose]
            for name, half_life, vote in markers:
                index = VOCABULARY.index(name)
                if index is not None:
                    state.add(index, grow(vote, hour - LANDMARK, half_life), hour)
            state.touch(hour)
    told = Told(
        subjects=np.array([SUBJECTS[who] for who, _, _ in done], "V16"),
        hours=np.array([given_[dose][1] for _, dose, _ in done], np.int64),
        dose=np.array([dose for _, dose, _ in done], np.int64),
        doses=given_,
        once=[None] * len(done),
        words=[],
    )
    counted = None if all_count else np.array([counts for _, _, counts in done], bool)
    added: dict[bytes, GenomeState] = {}
    for subject, hour, contributions in gains(told, counted, VOCABULARY, LANDMARK):
        added[subject] = GenomeState()
        added[subject].gain(contributions, hour)
    assert added == one_by_one
    assert list(added) == sorted(added)
