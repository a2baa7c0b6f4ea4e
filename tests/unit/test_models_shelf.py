"""Models on disk, and which one the next release takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from genome_server.errors import Refused
from genome_server.models.promotions import Promotions
from genome_server.models.shelf import (
    current_model,
    find_model,
    keep_model,
    list_models,
    load_model,
    model_id,
    promote_model,
    promotions,
    roll_back_model,
    save_model,
)
from genome_server.store.protocol import Store
from genome_server.store.sqlite import SqliteStore

A, B, C = (model_id(name.encode()) for name in "ABC")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(SqliteStore.open(tmp_path / "tenant.sqlite")) as opened:
        yield opened


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def record(*steps: str) -> Promotions:
    """What is remembered after models were promoted, and "back" was said."""
    found = Promotions()
    for at_ms, step in enumerate(steps):
        found = (
            found.rolled_back(at_ms=at_ms, reason="")
            if step == "back"
            else found.promoted(step, at_ms=at_ms, reason="")
        )
    return found


@pytest.mark.parametrize(
    ("steps", "current", "before"),
    [
        ("", None, None),
        ("A", "A", None),
        ("A A", "A", None),
        ("A B", "B", "A"),
        ("A B back", "A", None),
        ("A B C back", "B", "A"),
        ("A B C back back", "A", None),
        ("A B back C", "C", "A"),
        ("A B back C back", "A", None),
        ("A B back B", "B", "A"),
        ("A B A", "A", "B"),
        ("A B A back back", "A", None),
    ],
)
def test_a_rollback_goes_further_back_and_never_forward(
    steps: str, current: str | None, before: str | None
) -> None:
    found = record(*steps.split())
    assert (found.current, found.before) == (current, before)
    assert Promotions.from_json(found.to_json()) == found


def test_every_change_is_remembered_with_time_and_reason() -> None:
    found = record("A", "B", "B", "back")
    assert [(one.model, one.at_ms, one.kind) for one in found.history] == [
        ("A", 0, "promoted"),
        ("B", 1, "promoted"),
        ("A", 3, "rolled back"),
    ]
    with pytest.raises(Refused, match="no model before model A to go back to"):
        found.rolled_back(at_ms=4, reason="")
    with pytest.raises(Refused, match="there was no model to go back to"):
        Promotions().rolled_back(at_ms=4, reason="")
    long = record(*("AB"[number % 2] for number in range(2500)))
    assert (len(long.history), len(long.standing)) == (1000, 1000)


def test_training_promotes_and_an_import_does_not(models: Path, store: Store) -> None:
    assert current_model(models, store) is None
    assert save_model(models, store, b"A", {"bytes": 1}) == A
    assert keep_model(models, b"B", {"origin": "imported", "made_ms": 5}) == B
    found = current_model(models, store)
    assert found is not None
    assert (found.id, found.content, found.report["origin"]) == (A, b"A", "trained")
    promote_model(models, store, B, reason="better", now_ms=7)
    assert promotions(store).history[-1].reason == "better"
    save_model(models, store, b"C", {})
    states = {one.id: (one.bytes, one.state) for one in list_models(models, store)}
    assert states == {A: (1, ""), B: (1, "before"), C: (1, "current")}
    assert roll_back_model(models, store, reason="worse", now_ms=9).current == B
    assert roll_back_model(models, store).current == A
    assert [one.kind for one in promotions(store).history] == [
        "trained", "promoted", "trained", "rolled back", "rolled back",
    ]  # fmt: skip


def test_what_an_earlier_version_put_in_force_is_gone_back_to(models: Path, store: Store) -> None:
    keep_model(models, b"A", {})
    store.set_meta("model", A)
    assert promotions(store).current == A
    save_model(models, store, b"B", {})
    assert promotions(store).before == A
    # An earlier version that trains on the same home knows nothing of what is remembered.
    store.set_meta("model", C)
    assert promotions(store).standing == (A, B, C)
    assert promotions(store).history[-1].kind == "found"


def test_a_model_that_is_gone_or_damaged_is_not_gone_back_to(models: Path, store: Store) -> None:
    save_model(models, store, b"A", {})
    save_model(models, store, b"B", {})
    (models / A / "model.onnx").write_bytes(b"X")
    with pytest.raises(Refused, match="damaged; train another"):
        roll_back_model(models, store)
    (models / A / "model.onnx").unlink()
    with pytest.raises(Refused, match="holds no model; train another"):
        roll_back_model(models, store)
    with pytest.raises(Refused, match="holds no model"):
        promote_model(models, store, A)
    assert promotions(store).current == B, "nothing has changed"


def test_golden_vectors_that_cannot_be_read_bar_the_way_forward_and_never_the_way_back(
    models: Path, store: Store
) -> None:
    save_model(models, store, b"A", {})
    save_model(models, store, b"B", {})
    for name in (A, B):
        (models / name / "golden.json").mkdir()
    assert roll_back_model(models, store).current == A
    found = current_model(models, store)
    assert found is not None
    assert found.content == b"A", "what publishes takes it"
    with pytest.raises(Refused, match=r"golden.json is no regular file; put a file"):
        promote_model(models, store, B)
    keep_model(models, b"C", {})
    assert promote_model(models, store, C).current == C, "the others' are nothing to it"
    assert roll_back_model(models, store).current == A


def test_a_model_is_found_by_the_beginning_of_its_id(models: Path) -> None:
    for content in (b"A", b"B"):
        keep_model(models, content, {})
    assert find_model(models, A) == find_model(models, A[:6].upper()) == A
    for said in ("", "nope", "../x"):
        with pytest.raises(Refused, match="there is no model"):
            find_model(models, said)
    (models / (A[:3] + "0" * 13)).mkdir()
    (models / (A[:3] + "0" * 13) / "model.onnx").write_bytes(b"")
    with pytest.raises(Refused, match="begins the ids of 2 models"):
        find_model(models, A[:3])


def test_a_report_that_cannot_be_read_is_done_without(models: Path) -> None:
    keep_model(models, b"A", {"bytes": 1})
    for text in ("[1]", "{", "3"):
        (models / A / "report.json").write_text(text)
        assert load_model(models, A).report == {"id": A}


def test_what_was_rolled_back_from_is_withdrawn_until_it_is_promoted_again() -> None:
    found = Promotions().promoted("a", at_ms=1, reason="").promoted("b", at_ms=2, reason="")
    assert found.withdrawn == frozenset()
    back = found.rolled_back(at_ms=3, reason="")
    assert back.withdrawn == {"b"}
    other = back.promoted("c", at_ms=4, reason="")
    assert other.withdrawn == {"b"}
    assert other.promoted("b", at_ms=5, reason="").withdrawn == frozenset()
