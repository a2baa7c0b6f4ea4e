"""Segments: found, explained, private, and the same from build to build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from genome_server.compare.matrix import Genomes, Matrix, matrix_of, pack, rarity_of, weigh
from genome_server.compare.reading import read_genomes
from genome_server.compare.segments import assign, cluster, match, name_of, traits
from genome_server.compare.segments_kept import Kept, Segments, make_segments, segment_of
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_PERSONALISATION
from tests.unit._genomes import fresh, interaction, subject

GROUPS, SIZE, PEOPLE = 5, 120, 600
Ints = npt.NDArray[np.int64]


def adjusted_rand(one: Ints, other: Ints) -> float:
    """The adjusted Rand index of two labellings, by its definition."""
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)

    def pairs(counts: npt.NDArray[np.float64]) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, a, b = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = a * b / pairs(np.array([float(len(one))]))
    return (together - expected) / ((a + b) / 2 - expected)


def planted(seed: int = 1, blur: float = 0.4) -> tuple[Matrix, Ints]:
    """People of five kinds, who buy mostly what their kind does."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, GROUPS, PEOPLE)
    who = np.repeat(np.arange(PEOPLE), 25)
    own = 20 + kind[who] * 20 + rng.integers(0, 20, len(who))
    anything = rng.integers(0, SIZE, len(who))
    marker = np.where(rng.random(len(who)) < blur, anything, own)
    return rows_of(who, marker, rng.lognormal(0, 0.5, len(who)), PEOPLE), kind


def rows_of(who: Ints, marker: Ints, strength: npt.NDArray[np.float64], people: int) -> Matrix:
    starts, markers, strengths = pack(who, marker, strength, people, 64)
    rarity = rarity_of(people, np.bincount(markers, minlength=SIZE))
    return matrix_of(starts, markers, weigh(starts, markers, strengths, rarity), SIZE)


def test_planted_groups_are_found_whatever_the_order_of_customers() -> None:
    rows, kind = planted()
    found = cluster(rows, GROUPS)
    assert adjusted_rand(found.labels, kind) > 0.97
    order = np.random.default_rng(5).permutation(PEOPLE)
    shuffled = cluster(rows[order], GROUPS)
    assert adjusted_rand(shuffled.labels, found.labels[order]) == 1.0


def test_where_nothing_is_planted_segments_stay_all_the_same() -> None:
    """There k-means finds another answer for every seed."""
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(PEOPLE), 20)
    marker = np.minimum(rng.zipf(1.3, len(who)), SIZE) - 1
    strength = rng.lognormal(0, 0.5, len(who))
    rows = rows_of(who, marker, strength, PEOPLE)
    first = cluster(rows, 6)
    # A twentieth of what was bought is new.
    new = rng.random(len(who)) < 0.05
    marker = np.where(new, np.minimum(rng.zipf(1.3, len(who)), SIZE) - 1, marker)
    later = rows_of(who, marker, strength, PEOPLE)
    stayed = adjusted_rand(cluster(later, 6, start=first.directions).labels, first.labels)
    seeds = [rng.choice(PEOPLE, 6, replace=False) for _ in range(4)]
    by_chance = [cluster(rows, 6, start=rows[seed].toarray().astype(float)) for seed in seeds]
    agree = [adjusted_rand(one.labels, by_chance[0].labels) for one in by_chance[1:]]
    assert stayed > 0.65
    assert stayed > 0.25 + np.mean(agree)


@pytest.mark.parametrize("count", [6, 8, 12])
def test_who_asks_for_more_than_there_are_moves_nobody(count: int) -> None:
    """Five kinds: what is looked for beyond them, and not found, leaves the others as they were."""
    rows, _ = planted(seed=4, blur=0.7)
    first = cluster(rows, count, least=60)
    assert 1 < len(first.sizes) < count
    again = cluster(rows, count, least=60, start=first.directions)
    assert np.array_equal(again.labels, first.labels)


def test_no_group_is_smaller_than_the_least_and_all_are_somewhere() -> None:
    rows, _ = planted()
    few = np.concatenate((np.arange(500), np.full(4, 599)))
    found = cluster(rows[few], 40, least=30)
    assert found.sizes.min() >= 30
    assert found.sizes.sum() == len(few)
    assert len(cluster(rows[:25], 8, least=20).directions) == 1
    assert len(cluster(rows[:15], 8, least=20).directions) == 0


def test_who_has_no_marker_is_in_no_group() -> None:
    rows, _ = planted()
    rows = rows.tolil()
    rows[7] = 0
    found = cluster(rows.tocsr(), GROUPS)
    assert found.labels[7] == -1
    assert assign(rows.tocsr(), found.directions)[7] == -1


def test_traits_tell_what_a_group_has_more_of_and_nothing_of_few() -> None:
    rows, kind = planted()
    for group in range(GROUPS):
        told = traits(rows, kind, group)
        assert {trait.marker for trait in told[:10]} <= set(range(20 + group * 20, 40 + group * 20))
        inside = rows[np.flatnonzero(kind == group)]
        for trait in told:
            having = int((inside.indices == trait.marker).sum())
            assert having >= 20
            assert trait.share == pytest.approx(having / inside.shape[0], abs=0.04)
            assert trait.lift >= 1.2


def test_groups_are_matched_by_the_people_whom_they_share() -> None:
    before = np.repeat([0, 1, 2], 10)
    assert match(before, np.repeat([2, 0, 1], 10), 3, 3) == [1, 2, 0]
    # The third is scattered: nothing goes on from it.
    after = np.concatenate((np.full(10, 1), np.full(10, 0), np.tile([2, 3, 4, 0, 1], 2)))
    assert match(before, after, 3, 5) == [1, 0, None, None, None]


def test_names_are_of_the_most_telling_and_of_one_segment_alone() -> None:
    assert name_of(["claim:organic", "brand:acme", "size:22-lb"], set()) == "organic · acme"
    assert name_of(["claim:organic", "brand:acme", "a:b-c"], {"organic · acme"}) == (
        "organic · acme · b c"
    )
    assert name_of(["not-brand:acme"], set()) == "no acme"
    assert name_of(["age:60", "band:60-plus", "word:book", "treat:books", "a:b"], set()) == (
        "60 · book"
    )
    assert name_of(["word:books", "treat:book", "claim:organic"], set()) == "books · organic"
    assert name_of([], {"like everybody"}) == "like everybody 2"


def shop(path: Path, later: bool = False) -> tuple[Segments, Genomes]:
    """Sixty who buy soap, forty who buy bread; ten more have not agreed to learning."""
    with fresh(path) as house:
        if not later:
            events = []
            for who in range(1, 111):
                consents = CONSENT_PERSONALISATION | (CONSENT_LEARNING if who <= 100 else 0)
                house.customer(who, consents)
                product = "soap" if who <= 60 or who > 100 else "bread"
                events.append(interaction(who, who, "buy", product=product))
            house.log(events)
            house.build()
        genomes = read_genomes(house.store)
        made = make_segments(house.store, genomes, 2)
        row = genomes.row_of(subject(1))
        assert row is not None
        markers, strengths = genomes.row(row)
        assert segment_of(house.store, markers, strengths) == made.segments[0].name
        return made, genomes


def test_segments_keep_number_and_name(tmp_path: Path) -> None:
    first, genomes = shop(tmp_path)
    assert [(one.people, one.new) for one in first.segments] == [(60, True), (40, True)]
    assert first.stayed is None
    told = [sorted(one.name.split(" · ")) for one in first.segments]
    assert told == [["acme", "organic"], ["food", "mill"]]
    stranger = genomes.row_of(subject(105))
    assert first.of[stranger] == first.segments[0].id, "who did not agree to learning has one, too"
    again, _ = shop(tmp_path, later=True)
    assert again.stayed == 1.0
    assert [(one.id, one.name, one.new) for one in again.segments] == [
        (one.id, one.name, False) for one in first.segments
    ]


def test_what_is_kept_is_whole_where_it_has_very_many_markers(tmp_path: Path) -> None:
    names = [f"word:w{number}" for number in range(1, 3001)]
    with fresh(tmp_path) as house:
        vocabulary = house.store.extend_vocabulary(names)
        rng = np.random.default_rng(3)
        directions = rng.random((2, len(vocabulary)))
        Kept([1, 2], ["one", "two"], directions, 3).write(house.store, vocabulary)
        assert np.array_equal(Kept.read(house.store, vocabulary).directions, directions)


def test_segments_from_which_nothing_goes_on_are_named(tmp_path: Path) -> None:
    first, genomes = shop(tmp_path)
    assert first.gone == ()
    with fresh(tmp_path) as house:
        made = make_segments(house.store, genomes, 1)
        assert [one.id for one in made.segments] == [first.segments[0].id]
        assert made.gone == (first.segments[1].name,)
        assert make_segments(house.store, genomes, 1).gone == ()


def test_too_few_people_are_no_segment(tmp_path: Path) -> None:
    people = 3
    with fresh(tmp_path) as house:
        for who in range(1, people + 1):
            house.customer(who, CONSENT_LEARNING)
        house.log([interaction(who, 1, "buy", product="soap") for who in range(1, people + 1)])
        house.build()
        made = make_segments(house.store, read_genomes(house.store), 4)
        assert (made.segments, made.outside) == ([], people)
