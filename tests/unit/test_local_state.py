"""Imprints and consents that the rows do not include yet: at once, once, until included."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.engine.release import Release
from edge_sdk.runtime.earlier import Earlier
from edge_sdk.runtime.live import make_genome
from edge_sdk.runtime.loading import open_bundle
from edge_sdk.runtime.local_state import LocalState
from edge_sdk.store.state import StoredImprint
from genome_edge.v1 import event_pb2
from tests.unit.device_town import HOUR_MS, OFFERS, Town

A, B = b"a" * 16, b"b" * 16


def imprint(name: str, who: bytes = A) -> StoredImprint:
    return StoredImprint(name, who, 1, event_pb2.Interaction(interaction_id=name))


def names(local: LocalState, who: bytes = A) -> list[str]:
    return [one.id for one in local.pending(who) if isinstance(one, StoredImprint)]


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


def test_what_is_taken_back_copies_nothing_else() -> None:
    local = LocalState()
    local.imprint(imprint("theirs", B))
    known = local._pending
    local.imprint(imprint("1"))
    local.imprint_settled("1", written=False)
    assert local._pending is known
    assert names(local, B) == ["theirs"]


def test_a_word_about_consent_is_held_against_the_store_until_it_is_settled() -> None:
    local = LocalState()

    def spoken() -> bool:
        return local.spoken

    assert not spoken()
    local.consent(A, 1, granted=True)
    assert spoken()
    local.reload_consents([])
    assert local.consents(A, 0) == 2, "it is not on disk yet"
    assert not spoken()
    local.consent_settled(A, 1)
    assert spoken(), "only now the store knows how it ended"
    local.reload_consents([])
    assert local.consents(A, 0) == 0


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


def test_many_imprints_of_one_customer_become_one() -> None:
    local = LocalState()
    for number in range(10_000):
        local.imprint(imprint(f"{number}"))
        local.imprint_settled(f"{number}", written=True)
        assert len(local.pending(A)) < 40
    earlier = local.pending(A)[0]
    assert isinstance(earlier, Earlier)
    assert len(earlier) + len(names(local)) == 10_000
    local.imprint(imprint("9999"))
    assert names(local)[-1] == "9999"
    assert names(local).count("9999") == 1


def test_what_may_have_to_be_taken_back_stays_apart() -> None:
    local = LocalState()
    for number in range(100):
        local.imprint(imprint(f"{number}"))
        if number:
            local.imprint_settled(f"{number}", written=True)
    assert "0" in names(local)
    local.imprint_settled("0", written=False)
    assert "0" not in names(local)


@given(
    st.lists(
        st.tuples(
            st.integers(-50, 400), st.sampled_from(["view", "buy"]), st.sampled_from(range(3))
        ),
        min_size=40,
        max_size=120,
    )
)
@settings(max_examples=30, deadline=None)
def test_as_one_they_come_to_the_same(did: list[tuple[int, str, int]]) -> None:
    release = loaded()
    landmark = release.schema.landmark_hour
    said = [
        StoredImprint(
            f"{number}",
            A,
            (landmark + hours) * HOUR_MS,
            event_pb2.Interaction(interaction_id=f"{number}", kind=kind, offer=OFFERS[which]["id"]),
        )
        for number, (hours, kind, which) in enumerate(did)
    ]
    apart = make_genome(release, None, said)
    together = make_genome(
        release, None, [Earlier(Earlier(None, said[:20]), said[20:30]), *said[30:]]
    )
    assert apart is not None
    assert together is not None
    for now in (landmark + 400, landmark + 1_000):
        one, other = dict(apart.strengths(now)), dict(together.strengths(now))
        assert one.keys() == other.keys()
        for marker, strength in one.items():
            assert other[marker] == pytest.approx(strength, rel=1e-5, abs=1e-5)


def test_another_release_is_worked_out_anew() -> None:
    said = [
        StoredImprint(f"{n}", A, HOUR_MS, event_pb2.Interaction(kind="view", offer="taxi"))
        for n in range(3)
    ]
    one, other = loaded(), loaded()
    earlier = Earlier(None, said)
    assert earlier.votes(one) == earlier.votes(other)
    more = Earlier(earlier, said)
    both = more.votes(other)
    once = earlier.votes(other)
    assert both is not None
    assert once is not None
    assert both.votes[0][1] == pytest.approx(2 * once.votes[0][1], abs=1)


def loaded() -> Release:
    return open_bundle(Town().bundle(), None)[1]
