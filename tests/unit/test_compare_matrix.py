"""Genomes as columns: what the SDK computes row by row, as of one hour, and what is left out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.imprint import profile_strengths, shrink
from edge_sdk.dna.markers import Vocabulary
from genome_server.compare import reading
from genome_server.compare.matrix import Genomes, carriers, pack, rarity_of, weigh
from genome_server.compare.reading import genomes_version, read_genomes, read_some
from genome_server.genomes.quotas import Quotas
from genome_server.genomes.rows import SubjectState, built_schema
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_LOCATION, CONSENT_PERSONALISATION
from tests.unit._genomes import LANDMARK_HOUR, House, fresh, interaction, link, subject

SHOWN = CONSENT_PERSONALISATION
LEARNT = CONSENT_LEARNING


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 6), st.sampled_from([0.0001, 0.5, 1.0, 2.0, 3.5])
        ),
        max_size=40,
    ),
    st.integers(1, 4),
    st.lists(st.integers(1, 3), max_size=2),
)
def test_packing_is_what_it_is_row_by_row(
    facts: list[tuple[int, int, float]], most: int, quotas: list[int]
) -> None:
    columns = np.array(facts, float).reshape(-1, 3)
    # Markers 0, 3, 6 have no limit, 1 and 4 the first, 2 and 5 the second.
    limits = dict(enumerate(quotas, start=1))
    group = np.array([marker % 3 if marker % 3 in limits else 0 for marker in range(7)])
    starts, markers, strengths = pack(
        columns[:, 0].astype(int),
        columns[:, 1].astype(int),
        columns[:, 2],
        4,
        most,
        Quotas(group, np.array([0, *quotas])),
    )
    for row in range(4):
        best: dict[int, float] = {}
        for who, marker, strength in facts:
            if who == row and strength >= 2**-10:
                best[marker] = max(best.get(marker, 0.0), strength)
        ranked = sorted(best, key=lambda marker: (-best[marker], marker))
        fitting = [
            marker
            for at, marker in enumerate(ranked)
            if [one % 3 for one in ranked[:at]].count(marker % 3) < limits.get(marker % 3, 7)
        ]
        kept = sorted(fitting[:most])
        part = slice(starts[row], starts[row + 1])
        assert markers[part].tolist() == kept
        assert strengths[part].tolist() == [best[marker] for marker in kept]


def named(genomes: Genomes, vocabulary: Vocabulary, who: int) -> dict[str, float]:
    row = genomes.row_of(subject(who))
    assert row is not None
    markers, strengths = genomes.row(row)
    return {
        vocabulary.name(m): s for m, s in zip(markers.tolist(), strengths.tolist(), strict=True)
    }


def by_the_sdk(house: House, persons: list[int], age: str, hour: int) -> dict[str, float]:
    """The strengths of these subjects together, from their stored states, in the SDK's integers."""
    schema, vocabulary = built_schema(house.store), house.store.vocabulary()
    assert schema is not None
    total: dict[int, int] = {}
    for who in persons:
        state = SubjectState.from_bytes(house.states()[subject(who)])
        for index, value in state.imprints.values.items():
            total[index] = total.get(index, 0) + value
    half_lives = schema.half_lives(vocabulary)
    strengths = {
        index: shrink(value, hour - schema.landmark_hour, int(half_lives[index]))
        for index, value in total.items()
    }
    facts = [(f"age:{age}", 256)] if age else []
    strengths |= profile_strengths(schema, vocabulary, facts)
    return {vocabulary.name(i): s / 2**24 for i, s in strengths.items() if s >= 2**14}


def close(found: dict[str, float], wanted: dict[str, float]) -> bool:
    return found.keys() == wanted.keys() and all(
        math.isclose(found[name], wanted[name], rel_tol=1e-5) for name in wanted
    )


def test_genomes_are_read_as_of_one_hour_with_profile_and_links(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, SHOWN | LEARNT, age="26")
        house.customer(2, LEARNT)
        house.customer(3, SHOWN)
        house.customer(4, 0, age="40")
        house.customer(6, 0, age="60")
        house.log(
            [
                interaction(1, 1, "buy", product="soap", amount_micros=9_000_000),
                interaction(2, 30, "view", product="bread"),
                interaction(3, 50, "buy", product="bread"),
                interaction(4, 60, "buy", product="soap"),
                interaction(5, 61, "dismiss", offer="taxi"),
                interaction(6, 40, "buy", product="soap"),
                link(3, 62, 5),
                link(6, 62, 1),
            ]
        )
        house.build()
        vocabulary = house.store.vocabulary()
        genomes = read_genomes(house.store)
        assert genomes.hour == LANDMARK_HOUR + 61, "the newest imprint of all"
        assert [bytes(one) for one in genomes.subjects] == [subject(n) for n in (1, 2, 3)]
        assert genomes.row_of(subject(5)) == genomes.row_of(subject(3)) == 2
        assert genomes.row_of(subject(4)) is None, "who agreed to nothing is not read"
        assert genomes.row_of(subject(6)) is None, "nor what a linked id did that refused"
        assert genomes.agreed(LEARNT).tolist() == [0, 1]
        for who, persons, age in ((1, [1], "26"), (2, [2], ""), (3, [3, 5], "")):
            wanted = by_the_sdk(house, persons, age, genomes.hour)
            assert close(named(genomes, vocabulary, who), wanted)
        later = read_genomes(house.store, hour=genomes.hour + 48)
        assert close(named(later, vocabulary, 3), by_the_sdk(house, [3, 5], "", genomes.hour + 48))
        some = read_some(house.store, [subject(5)], hour=genomes.hour)
        assert close(named(some, vocabulary, 3), named(genomes, vocabulary, 3))


def test_pages_are_one_whatever_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh(tmp_path) as house:
        for who in range(1, 8):
            house.customer(who, SHOWN)
        house.log(
            [interaction(w, w, "buy", product="soap" if w % 2 else "bread") for w in range(1, 8)]
        )
        house.build()
        whole = read_genomes(house.store)
        monkeypatch.setattr(reading, "_PAGE", 2)
        paged = read_genomes(house.store)
        for name in ("subjects", "consents", "starts", "markers", "strengths"):
            assert np.array_equal(getattr(whole, name), getattr(paged, name)), name


def test_nobodys_home_is_read_who_did_not_agree_to_location(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, SHOWN | CONSENT_LOCATION)
        house.customer(2, SHOWN)
        home = [{"marker": "insight:home-851e15b7fffffff", "salience_q8": 256}]
        house.log([interaction(who, 1, "view", dna=home) for who in (1, 2)])
        house.build()
        genomes, vocabulary = read_genomes(house.store), house.store.vocabulary()
        assert list(named(genomes, vocabulary, 1)) == ["insight:home-851e15b7fffffff"]
        assert named(genomes, vocabulary, 2) == {}


def test_the_version_changes_with_whatever_is_shown(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, SHOWN)
        house.log([interaction(1, 1, "buy", product="soap")])
        house.build()
        seen = {genomes_version(house.store)}
        house.build()
        assert genomes_version(house.store) in seen, "a build that changes nothing"
        house.log([interaction(1, 2, "view", product="bread")])
        house.build()
        seen.add(genomes_version(house.store))
        house.store.set_consents(subject(1), 0)
        seen.add(genomes_version(house.store))
        house.store.erase_subject(subject(1))
        seen.add(genomes_version(house.store))
        assert len(seen) == 4


def test_rows_have_length_one_and_rare_markers_count_for_more() -> None:
    starts, markers = np.array([0, 2, 2, 3]), np.array([0, 1, 0], np.int32)
    strengths = np.array([1.0, 1.0, 5.0], np.float32)
    weights = weigh(starts, markers, strengths, rarity_of(1_000, np.array([900, 3])))
    assert np.allclose([weights[0] ** 2 + weights[1] ** 2, weights[2]], 1.0)
    assert weights[1] > 5 * weights[0]


def test_only_those_asked_for_are_counted_as_carriers(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, SHOWN | LEARNT)
        house.customer(2, SHOWN)
        house.log([interaction(who, 1, "buy", product="soap") for who in (1, 2)])
        house.build()
        genomes, vocabulary = read_genomes(house.store), house.store.vocabulary()
        found = carriers(genomes, genomes.agreed(LEARNT), len(vocabulary))
        assert {vocabulary.name(i): n for i, n in enumerate(found.tolist()) if n} == {
            "brand:acme": 1,
            "claim:organic": 1,
        }
