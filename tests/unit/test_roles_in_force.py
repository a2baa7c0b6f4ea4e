"""What a device takes of what it is told is in force, and what that means for its release."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.sync import roles, signing
from edge_sdk.sync.roles import Standing
from genome_edge.v1 import release_pb2, sync_pb2
from tests.unit.statements import CLOCK_KEYS, NOW, OTHERS, ROOT_KEYS, publics, root, stamp, stops


def test_a_timestamp_makes_exactly_its_releases_fresh() -> None:
    digest = b"d" * 32
    named = stamp(
        1, stops(2), releases=[release_pb2.CurrentRelease(version=5, manifest_sha256=digest)]
    )
    standing = Standing(root(), named, stops(2))
    assert standing.fresh_until(5, digest, NOW - 9) == NOW + 1000
    assert standing.fresh_until(5, digest, NOW + 9000) == NOW + 9000
    assert standing.fresh_until(5, b"e" * 32, NOW - 9) == NOW - 9
    assert standing.fresh_until(6, digest, NOW - 9) == NOW - 9
    assert Standing(root()).fresh_until(5, digest, NOW - 9) == NOW - 9
    for kept_back in (None, stops(1)):
        assert Standing(root(), named, kept_back).fresh_until(5, digest, NOW - 9) == NOW - 9
    assert standing.stopped == {"taxi"}
    assert Standing(root()).stopped == frozenset()


def message(*chain: Any, at: Any = None, stop: Any = None, by: Any = None) -> sync_pb2.Trust:
    by = CLOCK_KEYS if by is None else by
    made = sync_pb2.Trust(roots=chain)
    if at is not None:
        made.timestamp.CopyFrom(signing.sign_timestamp(at, by))
    if stop is not None:
        made.stop_list.CopyFrom(signing.sign_stop_list(stop, by))
    return made


def reasons(taken: roles.Taken) -> list[str]:
    return [error.reason for error in taken.refused]


def test_what_can_be_verified_is_taken_and_the_rest_is_not() -> None:
    standing = Standing(root(), stamp(4), stops(4))
    taken = roles.take(standing, message(at=stamp(5), stop=stops(3)), NOW)
    assert reasons(taken) == ["STOP_LIST"]
    assert taken.standing == Standing(root(), stamp(5), stops(4))
    assert taken.timestamp is not None
    assert taken.stop_list is None
    taken = roles.take(standing, message(at=stamp(3), stop=stops(5, "a")), NOW)
    assert reasons(taken) == ["TIMESTAMP"]
    assert taken.standing.stopped == {"a"}
    bad_root = signing.sign_root(root(2), ROOT_KEYS[:1])
    taken = roles.take(standing, message(bad_root, at=stamp(5), stop=stops(5)), NOW)
    assert reasons(taken) == ["SIGNATURE"]
    assert taken.root is None
    assert taken.standing == Standing(root(), stamp(5), stops(5))


def test_what_is_here_already_is_nothing_to_store() -> None:
    standing = Standing(root(), stamp(4), stops(4))
    taken = roles.take(standing, message(at=stamp(4), stop=stops(4)), NOW)
    assert not taken.changed
    assert not taken.refused
    assert taken.standing == standing
    assert roles.take(standing, message(at=stamp(5)), NOW).changed


def test_new_timestamp_keys_begin_anew_and_bring_what_they_make_void() -> None:
    """A stolen key that ran the versions up is got rid of, and no stop is lost on the way."""
    high = Standing(root(), stamp(9_000), stops(9_000))
    second = root(2, timestamp_keys=publics(OTHERS))
    signed = signing.sign_root(second, ROOT_KEYS)
    taken = roles.take(high, message(signed, at=stamp(1, stops(1)), stop=stops(1), by=OTHERS), NOW)
    assert taken.standing == Standing(second, stamp(1, stops(1)), stops(1))
    assert taken.root == second
    for lacking in (
        message(signed),
        message(signed, at=stamp(1), by=OTHERS),
        message(signed, stop=stops(1), by=OTHERS),
        message(signed, at=stamp(9_001), stop=stops(9_001), by=CLOCK_KEYS),
    ):
        taken = roles.take(high, lacking, NOW)
        assert "ROOT" in reasons(taken)
        assert taken.standing == high
        assert not taken.changed
    assert roles.take(Standing(root()), message(signed), NOW).root == second


def test_other_root_or_release_keys_leave_the_rest_as_it_was() -> None:
    standing = Standing(root(), stamp(4), stops(4))
    second = root(2, release_keys=publics(OTHERS), timestamp_keys=publics(CLOCK_KEYS[::-1]))
    taken = roles.take(standing, message(signing.sign_root(second, ROOT_KEYS)), NOW)
    assert taken.standing == Standing(second, stamp(4), stops(4))
    old = roles.take(taken.standing, message(at=stamp(3), stop=stops(3)), NOW)
    assert reasons(old) == ["TIMESTAMP", "STOP_LIST"]


def test_a_higher_threshold_makes_void_what_fewer_have_signed() -> None:
    standing = Standing(root(), stamp(4), stops(4))
    second = signing.sign_root(root(2, timestamp_threshold=2), ROOT_KEYS)
    assert roles.take(standing, message(second), NOW).standing == standing
    taken = roles.take(standing, message(second, at=stamp(1), stop=stops(1)), NOW)
    assert taken.standing.root.version == 2


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(1, 4), st.booleans()),
        max_size=8,
    )
)
def test_nothing_ever_falls(said: list[tuple[int, int, int, bool]]) -> None:
    """Whatever a server says in whatever order: versions only grow, and a version is one thing."""
    standing = Standing(root())
    meant: dict[tuple[str, int], object] = {}
    for at, named, stop, forged in said:
        by = OTHERS if forged else CLOCK_KEYS
        taken = roles.take(
            standing,
            message(
                at=stamp(at, stops(named) if named else None), stop=stops(stop, str(at)), by=by
            ),
            NOW,
        )
        new = taken.standing
        if forged:
            assert new == standing
        for kind, before, after in (
            ("timestamp", standing.timestamp, new.timestamp),
            ("stop list", standing.stop_list, new.stop_list),
        ):
            if before is not None:
                assert after is not None
                assert after.version >= before.version
            if after is not None:
                assert meant.setdefault((kind, after.version), after) == after
        standing = new
