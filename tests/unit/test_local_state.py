"""Imprints and consents that the rows do not include yet: at once, once, until included."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.runtime.local_state import LocalState
from edge_sdk.store.state import StoredImprint
from genome_edge.v1 import event_pb2

A, B = b"a" * 16, b"b" * 16


def imprint(name: str, who: bytes = A) -> StoredImprint:
    return StoredImprint(name, who, 1, event_pb2.Interaction(interaction_id=name))


def names(local: LocalState, who: bytes = A) -> list[str]:
    return [one.id for one in local.pending(who)]


def test_an_imprint_is_known_at_once_and_once() -> None:
    local = LocalState()
    for name in ("1", "2", "1"):
        local.imprint(imprint(name))
    local.imprint(imprint("3", B))
    assert names(local) == ["1", "2"]
    assert names(local, B) == ["3"]
    assert local.pending(A) is local.pending(A), "the same object while nothing changes"


def test_what_is_not_on_disk_yet_outlives_a_reload() -> None:
    local = LocalState()
    local.imprint(imprint("1"))
    local.imprint(imprint("2"))
    local.imprint_settled("1", written=True)
    local.reload([])  # the rows include 1 now
    assert names(local) == ["2"]
    local.reload([imprint("2"), imprint("9")])
    assert names(local) == ["2", "9"]
    local.imprint_settled("2", written=True)
    local.reload([])
    assert names(local) == []


def test_a_repetition_of_what_is_not_here_is_taken_back() -> None:
    local = LocalState()
    local.imprint(imprint("1"))
    local.imprint_settled("1", written=False)
    assert names(local) == []


def test_a_repetition_of_what_is_here_changes_nothing() -> None:
    local = LocalState()
    local.extend([imprint("1")])
    local.imprint(imprint("1"))
    local.imprint_settled("1", written=False)
    assert names(local) == ["1"]


@given(st.integers(0, 255), st.lists(st.tuples(st.integers(1, 3), st.booleans())))
def test_the_last_word_on_each_purpose_counts(bits: int, said: list[tuple[int, bool]]) -> None:
    local = LocalState()
    for purpose, granted in said:
        local.consent(A, purpose, granted)
    found = local.consents(A, bits)
    last = dict(said)
    for purpose in range(8):
        expected = last.get(purpose, bool(bits >> purpose & 1))
        assert bool(found >> purpose & 1) == expected
    assert local.consents(B, bits) == bits


def test_a_consent_that_is_not_on_disk_yet_outlives_a_reload() -> None:
    local = LocalState()
    local.consent(A, 1, False)
    local.reload_consents([(A, 2, True)])
    assert local.consents(A, 0b010) == 0b100
    local.consent_settled(A, 1)
    local.reload_consents([])
    assert local.consents(A, 0b010) == 0b010


def test_a_forked_child_knows_and_does_not_write() -> None:
    local = LocalState()
    local.imprint(imprint("1"))
    local.consent(A, 1, False)
    child = local.forked()
    assert names(child) == ["1"]
    assert child.consents(A, 0b010) == 0
    with local.holding():
        child.imprint(imprint("2"))
    child.reload([])
    assert names(child) == ["2"], "what the parent has not written comes by the store"
