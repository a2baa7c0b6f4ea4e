"""dna.yaml: the default says what the SDK's default says; mistakes are named; the epoch counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_sdk.dna.schema import ONE_Q24, default_schema
from genome_server.dna_file import (
    add_profile_namespaces,
    load_schema,
    move_landmark,
    read_derived,
    read_schema,
)
from genome_server.dna_words import default_kinds, default_namespaces, default_text
from genome_server.errors import SchemaFileError
from genome_server.store.sqlite import SqliteStore

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "dna.yaml"
    path.write_text(default_text(NOW))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore.open(tmp_path / "tenant.sqlite")
    yield made
    made.close()


def test_the_default_file_is_the_default_schema(file: Path) -> None:
    schema, weight = read_schema(file)
    rules = default_schema(schema.landmark_hour, epoch=0)
    assert schema == replace(
        rules,
        kinds=tuple(default_kinds(rules)),
        namespaces=tuple(default_namespaces(rules)),
    )
    assert schema.quotas == {"path": 8, "visit": 6, "word": 8}
    assert {kind.name for kind in schema.kinds} - {kind.name for kind in rules.kinds} == {
        "endorse", "criticise", "visit",
    }  # fmt: skip
    assert read_derived(file) == ()
    assert schema.landmark_hour == datetime(2026, 1, 1, tzinfo=UTC).timestamp() // 3600
    assert weight == ONE_Q24


def test_everything_that_can_be_said(file: Path) -> None:
    file.write_text("""
landmark: 2026-01-01T06:00:00+01:00
default_half_life: 36h
max_markers: 32
profile_weight: 0.5
namespaces:
  claim: never
  age: {profile: 2}
  brand: {half_life: 10d, max_markers: 16}
  tier: {profile: 1, max_markers: 1}
kinds:
  view: 0.25
  buy: {weight: 2, money: 0.5, label: success}
  dismiss: {weight: 1, prefix: not-, label: refusal}
""")
    schema, weight = read_schema(file)
    assert schema.landmark_hour == datetime(2026, 1, 1, 5, tzinfo=UTC).timestamp() // 3600
    assert (schema.default_half_life_hours, schema.max_markers) == (36, 32)
    assert [schema.half_life(name) for name in ("claim", "age", "brand", "x")] == [0, 0, 240, 36]
    assert schema.profile_weight("age") == 2 * ONE_Q24
    assert schema.quotas == {"brand": 16, "tier": 1}
    assert schema.kind("buy").money_weight_q24 == ONE_Q24 // 2
    assert schema.half_life("not-brand") == 240
    assert [schema.kind(name).label for name in ("view", "buy", "dismiss")] == [0, 1, -1]
    assert weight == ONE_Q24 // 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("landmark:", "landmrak:", "did you mean landmark?"),
        ("landmark: 2026", "landmark: 2999", "in the future"),
        ("landmark: 2026-01-01", "landmark: soon", "no day"),
        ("default_half_life: 120d", "default_half_life: 120", "36h, 30d or never"),
        ("  place: 60d", "  place: 0d", "namespaces.place"),
        ("  place: 60d", "  Place: [", "dna.yaml line"),
        ("  place: 60d", "  pl ace: 30d", "namespaces.pl ace"),
        ("moment: 30m", "moment: 30", "namespaces.activity.moment: 30 is"),
        ("moment: 30m", "moment: 0m", "namespaces.activity.moment"),
        ("moment: 30m", "moment: 169h", "604800 seconds"),
        ("moment: 30m", "momnt: 30m", "did you mean namespaces.activity.moment?"),
        ("  brand: 180d", "  brand: {profile: 1, half_life: 2d}", "namespaces.brand"),
        ("view: {weight: 0.25, ", "view: {weight: 33, ", "kinds.view.weight"),
        ("view: {weight: 0.25, ", "view: {wieght: 0.25, ", "did you mean kinds.view.weight?"),
        ("dwell: 0.0625", "dwell: long", "kinds.browse.dwell"),
        ("beside: [tender]", "beside: [Ten der]", "kinds.redeem.beside"),
        ("derive: []", "derive: [rmf]", "did you mean 'rfm'?"),
        ("derive: []", "derive: some", "a list of names, or all"),
        ("label: success", "label: yes", "kinds.click.label"),
        ("max_markers: 64", "max_markers: many", "max_markers"),
        ("place: 60d", "place: {half_life: 1d, max_markers: 0}", "namespaces.place.max_markers"),
        ("place: 60d", "place: {half_life: 1d, max_markers: 65}", "from 1 to 64"),
    ],
)
def test_mistakes_are_named(file: Path, old: str, new: str, says: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(SchemaFileError) as caught:
        read_schema(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", ["", "- a\n", "text", "kinds: {}\nlandmark: 2026-01-01\n"])
def test_files_that_say_nothing(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(SchemaFileError):
        read_schema(file)
    file.unlink()
    with pytest.raises(SchemaFileError, match="init"):
        read_schema(file)


def test_the_epoch_counts_changes(file: Path, store: SqliteStore) -> None:
    first = load_schema(file, store)
    assert first.epoch == 1
    assert load_schema(file, store) == first
    file.write_text(file.read_text() + "\n# a comment\n")
    assert load_schema(file, store).epoch == 1, "what it says is the same"
    text = file.read_text()
    file.write_text(text.replace("claim: 365d", "claim: 300d"))
    assert load_schema(file, store).epoch == 2
    file.write_text(text)
    third = load_schema(file, store)
    assert third == replace(first, epoch=3), "rows of the first epoch are not those of the third"


def test_how_long_something_counts_in_the_moment(file: Path, store: SqliteStore) -> None:
    first = load_schema(file, store)
    assert [first.moment_half_life(name) for name in ("activity", "brand", "x")] == [1800, 0, 0]
    text = file.read_text()
    for said, seconds in (("90s", 90), ("2h", 7200), ("none", 0)):
        file.write_text(text.replace("moment: 30m", f"moment: {said}"))
        schema = load_schema(file, store)
        assert schema.moment_half_life("activity") == seconds
        assert schema.epoch == first.epoch, "it is in no row"
    file.write_text(text.replace("{half_life: 30d, moment: 30m}", "30d"))
    assert load_schema(file, store) == first, "what the files of before say"


def test_profile_namespaces_that_the_file_does_not_list(file: Path, store: SqliteStore) -> None:
    before = load_schema(file, store)
    add_profile_namespaces(store, ["age", "claim"])
    schema = load_schema(file, store)
    assert schema.epoch == before.epoch + 1
    assert (schema.half_life("age"), schema.profile_weight("age")) == (0, ONE_Q24)
    assert (schema.half_life("claim"), schema.profile_weight("claim")) == (365 * 24, 0)
    add_profile_namespaces(store, ["age"])
    assert load_schema(file, store) == schema


def test_a_landmark_that_a_build_moved_on(file: Path, store: SqliteStore) -> None:
    schema = load_schema(file, store)
    move_landmark(store, schema.landmark_hour + 100)
    moved = load_schema(file, store)
    assert moved.landmark_hour == schema.landmark_hour + 100
    assert moved.epoch == schema.epoch + 1
    move_landmark(store, schema.landmark_hour - 100)
    assert load_schema(file, store).landmark_hour == schema.landmark_hour, "the later one counts"
