"""The check of a row agrees with the published schema, and says what is wrong in words."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from genome_server.ingest.check import RowError, check
from genome_server.ingest.describe import example_rows
from genome_server.ingest.kinds import KINDS

VALIDATORS = {name: Draft202012Validator(kind.schema) for name, kind in KINDS.items()}
ODD = st.one_of(
    st.sampled_from(["", "x", "a:b", 0, 1, -1, 1.5, 1e9, True, False, 1.0, None, [], {}]),
    st.sampled_from([["a:b"], [1], {"a:b": 1}, {"marker": "a:b"}, [{"marker": "a:b"}], [[1]]]),
    st.sampled_from([{"cells": []}, {"from": 1}, {"redeem": 1}, {"x": [True]}, [{"limit": 1}]]),
)


def test_the_schemas_are_schemas() -> None:
    for kind in KINDS.values():
        Draft202012Validator.check_schema(kind.schema)


@given(st.sampled_from(sorted(KINDS)), st.data())
@settings(max_examples=300, deadline=None)
def test_a_row_passes_where_the_published_schema_lets_it(name: str, data: st.DataObject) -> None:
    kind = KINDS[name]
    row: dict[str, Any] = copy.deepcopy(data.draw(st.sampled_from(example_rows(kind))))
    for _ in range(data.draw(st.integers(0, 2))):
        field = data.draw(st.sampled_from([*kind.properties, "unknown"]))
        value = data.draw(ODD)
        if value is None:
            row.pop(field, None)
        else:
            row[field] = value
    for _ in range(2):  # the second time from memory
        try:
            check(kind, row)
            passed = True
        except RowError:
            passed = False
        assert passed == VALIDATORS[name].is_valid(row)


@pytest.mark.parametrize(
    ("kind", "row", "column", "says"),
    [
        ("products", {"idd": "a"}, "idd", "did you mean 'id'?"),
        ("products", {"title": "t"}, "id", "is missing"),
        ("products", {"id": "a", "brand": 5}, "brand", "5 is not text"),
        ("products", {"id": "a" * 129}, "id", "1 to 128 printable characters"),
        ("products", {"id": "a", "dna": [{"salience": 1}]}, "dna[0].marker", "is missing"),
        ("offers", {"id": "a", "valid": {"form": "x"}}, "valid.form", "did you mean 'from'?"),
        ("offers", {"id": "a", "value": -1}, "value", "-1 is not 0 or more"),
        ("offers", {"id": "a", "priority": 1.5}, "priority", "a whole number"),
        ("placements", {"id": "a", "explorer": "gredy"}, "explorer", "did you mean 'greedy'?"),
        ("places", {"id": "a", "kind": "b", "lat": 91.5}, "lat", "not repeated"),
    ],
)
def test_what_is_wrong_is_said_in_words(
    kind: str, row: dict[str, Any], column: str, says: str
) -> None:
    with pytest.raises(RowError) as caught:
        check(KINDS[kind], row)
    assert caught.value.column == column
    assert says in caught.value.cause
    assert "91.5" not in str(caught.value)
