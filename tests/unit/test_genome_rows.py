from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.imprint import GenomeState, encode_row
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema, NamespaceRule
from edge_sdk.errors import FormatError
from genome_edge.v1 import dna_pb2
from genome_server.genomes.events import ConsentSaid, LinkSaid
from genome_server.genomes.rows import RowEncoder, SubjectState, person_of, row_of
from genome_server.store.protocol import CustomerRow

ALICE, BOB, CAROL = b"a" * 16, b"b" * 16, b"c" * 16
SCHEMA = DnaSchema(3, 1000, (NamespaceRule("age", 0, ONE_Q24),), (), 24)
VOCABULARY = Vocabulary(bytes(range(16)), ["brand:a", "age:26", "brand:b"])

others = st.sampled_from([BOB, CAROL])
words = st.lists(
    st.one_of(
        st.builds(ConsentSaid, st.just(ALICE), st.integers(1, 3), st.booleans(), st.integers(0, 3)),
        st.builds(
            LinkSaid,
            st.just(ALICE),
            st.sampled_from([BOB, CAROL]),
            st.booleans(),
            st.integers(0, 3),
        ),
    ),
    max_size=12,
)


def heard(some: list[ConsentSaid | LinkSaid]) -> SubjectState:
    state = SubjectState(GenomeState({1: 5, 0: 7}, 1004))
    for said in some:
        if isinstance(said, ConsentSaid):
            state.hear_consent(said)
        else:
            state.hear_link(said.other, said)
    return state


@given(words, st.randoms(use_true_random=False))
def test_the_latest_word_counts_in_any_order(
    some: list[ConsentSaid | LinkSaid], rng: random.Random
) -> None:
    shuffled = list(some)
    rng.shuffle(shuffled)
    assert heard(shuffled).to_bytes() == heard(some).to_bytes()
    assert SubjectState.from_bytes(heard(some).to_bytes()) == heard(some)


def test_of_two_words_at_one_moment_the_careful_one_counts() -> None:
    state = SubjectState()
    assert state.hear_consent(ConsentSaid(ALICE, 1, True, 5))
    assert state.hear_consent(ConsentSaid(ALICE, 1, False, 5))
    assert not state.hear_consent(ConsentSaid(ALICE, 1, True, 5))
    assert state.hear_consent(ConsentSaid(ALICE, 1, True, 6))
    assert state.hear_link(BOB, LinkSaid(ALICE, BOB, True, 5))
    assert state.linked == [BOB]
    assert state.hear_link(BOB, LinkSaid(ALICE, BOB, False, 5))
    assert state.linked == []


def test_bytes_that_are_cut() -> None:
    data = heard([ConsentSaid(ALICE, 1, True, 5), LinkSaid(ALICE, BOB, True, 5)]).to_bytes()
    for end in range(len(data)):
        with pytest.raises(FormatError):
            SubjectState.from_bytes(data[:end])


def test_a_person_is_everybody_who_is_linked() -> None:
    links = {ALICE: [BOB], BOB: [ALICE, CAROL], CAROL: [BOB]}
    for one in links:
        assert person_of(one, links.__getitem__) == [ALICE, BOB, CAROL]
    assert person_of(ALICE, lambda _: ()) == [ALICE]


def test_a_row_is_the_persons_and_consent_each_subjects_own() -> None:
    states = {
        ALICE: SubjectState(GenomeState({0: ONE_Q24}, 1000)),
        BOB: SubjectState(GenomeState({0: ONE_Q24, 2: ONE_Q24}, 1024)),
    }
    customers = {ALICE: CustomerRow(ALICE, (("age:26", 256),), 2)}
    alice, bob = RowEncoder(SCHEMA, VOCABULARY).people([(states, customers)])
    both = GenomeState({0: 2 * ONE_Q24, 2: ONE_Q24}, 1024)
    wanted = encode_row(both, {1: ONE_Q24}, SCHEMA, VOCABULARY, subject=ALICE, consents=2)
    assert row_of(alice) == wanted
    assert (row_of(bob).consents, row_of(bob).subject) == (0, BOB)
    assert row_of(bob).indices.tolist() == wanted.indices.tolist()
    assert SubjectState.from_bytes(alice.state) == states[ALICE]
    assert (alice.newest_hour, bob.newest_hour, alice.epoch) == (1000, 1024, 3)


def test_a_row_does_not_change_when_the_vocabulary_grows() -> None:
    states = {ALICE: SubjectState(GenomeState({0: ONE_Q24}, 1000))}
    (before,) = RowEncoder(SCHEMA, VOCABULARY).people([(states, {})])
    (after,) = RowEncoder(SCHEMA, VOCABULARY.extend(["brand:z"])).people([(states, {})])
    assert before == after
    lineage = dna_pb2.GenomeBlock.FromString(before.row).lineage
    assert lineage.vocabulary_lineage == VOCABULARY.lineage
    assert (lineage.schema_epoch, lineage.landmark_hour, lineage.quantiser) == (3, 1000, 1)
