from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.markers import (
    BUILTIN_MARKERS,
    Vocabulary,
    marker,
    nearest_name,
    split,
    time_markers,
)
from edge_sdk.errors import InvalidMarker, UsageError

LINEAGE = bytes(range(16))


@pytest.mark.parametrize(
    ("namespace", "value", "made"),
    [
        ("Brand", "Acme  Foods", "brand:acme-foods"),
        ("has_children", " Yes ", "has-children:yes"),
        ("claim", "a:b", "claim:a:b"),
        ("scent", "Cafe\u0301", "scent:caf\u00e9"),
        ("size", "0.5\tl", "size:0.5-l"),
    ],
)
def test_marker_takes_what_people_write(namespace: str, value: str, made: str) -> None:
    assert marker(namespace, value) == made
    assert split(made) == tuple(made.split(":", 1))


@pytest.mark.parametrize(
    "text",
    ["", "brand", ":x", "brand:", "Brand:x", "1a:x", "a b:x", "a:x\n", "a: x", "a:x ", "a:\x00"],
)
def test_split_refuses(text: str) -> None:
    with pytest.raises(InvalidMarker):
        split(text)


def test_value_length() -> None:
    assert split("a:" + "x" * 120)[1] == "x" * 120
    with pytest.raises(InvalidMarker, match="120"):
        split("a:" + "x" * 121)


@given(st.text(max_size=40), st.text(max_size=40))
def test_marker_is_stable_or_refused(namespace: str, value: str) -> None:
    try:
        made = marker(namespace, value)
    except InvalidMarker:
        return
    assert marker(*split(made)) == made


def test_time_markers() -> None:
    assert time_markers(1, 5) == ("daypart:night", "weekday:monday")
    assert time_markers(6, 23) == ("daypart:evening", "weekday:saturday", "weekend:yes")
    every = {m for day in range(1, 8) for hour in range(24) for m in time_markers(day, hour)}
    assert every == {m for m in BUILTIN_MARKERS if not m.startswith("stage:")}
    for day, hour in ((0, 0), (8, 0), (1, 24), (1, -1)):
        with pytest.raises(UsageError):
            time_markers(day, hour)


def test_vocabulary_numbers_and_grows() -> None:
    first = Vocabulary(LINEAGE, BUILTIN_MARKERS)
    second = first.extend(["brand:acme", BUILTIN_MARKERS[0], "brand:acme", "brand:zeta"])
    assert list(second)[: len(first)] == list(BUILTIN_MARKERS)
    assert len(second) == len(first) + 2
    assert second.index("brand:acme") == len(first)
    assert second.name(len(first) + 1) == "brand:zeta"
    assert first.index("brand:acme") is None
    assert "brand:acme" in second
    assert "brand:acme" not in first
    assert second.lineage == LINEAGE
    assert first.extend(BUILTIN_MARKERS) is first
    assert Vocabulary.from_proto(second.to_proto()).markers == second.markers
    with pytest.raises(IndexError):
        second.name(-1)


def test_vocabulary_refuses() -> None:
    with pytest.raises(UsageError, match="twice"):
        Vocabulary(LINEAGE, ["a:b", "a:c", "a:b"])
    with pytest.raises(UsageError, match="16"):
        Vocabulary(b"short", [])
    with pytest.raises(InvalidMarker):
        Vocabulary(LINEAGE, ["nonsense"])


def test_nearest() -> None:
    known = Vocabulary(LINEAGE, ["place:hotel", "brand:hotel", "activity:flight-search"])
    assert known.nearest("place:hotels") == "place:hotel"
    assert known.nearest("plcae:hotel") == "place:hotel"
    assert known.nearest("activity:fligth-search") == "activity:flight-search"
    assert known.nearest("zzz:qqq") is None
    assert nearest_name("lobby-scren", ["lobby-screen", "till"]) == "lobby-screen"


@pytest.mark.parametrize("value", ["52.5200,13.4050", "-33.8688-151.2093", "(40.7589;-73.9851)"])
def test_a_position_is_no_marker_and_is_not_repeated(value: str) -> None:
    with pytest.raises(InvalidMarker, match="position") as caught:
        marker("place", value)
    assert value.strip("()")[:6] not in str(caught.value)


@pytest.mark.parametrize("value", ["2.5-3.5-l", "1.125-l", "22-lb", "v1.2.3", "19.99-29.99"])
def test_numbers_that_are_no_position_are_markers(value: str) -> None:
    assert split(f"size:{value}") == ("size", value)
