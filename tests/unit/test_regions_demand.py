"""Demand by region against its definition, and against a truth that was planted."""

from __future__ import annotations

import math
from fractions import Fraction

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genome_server.regions.crowd import LOUDEST, UNIT, WHOLE, Crowd
from genome_server.regions.demand import DOUBT, Demand, Dna, Survey
from tests.unit.regions_town import NEW_YORK, cells_around, crowd_of

CHILDREN = sorted(h3.cell_to_children(NEW_YORK, 6))
NAMES = ["a:1", "a:2", "b:1", "b:2"]

PEOPLE = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(NAMES), st.integers(1, 5000), max_size=4),
        st.dictionaries(st.sampled_from(CHILDREN), st.integers(1, 9), max_size=3),
    ),
    min_size=1,
    max_size=40,
)
DNA = st.dictionaries(st.sampled_from([*NAMES, "z:9"]), st.integers(1, 4096), min_size=1)


def demand(crowd: Crowd, dna: Dna, resolution: int, least: int = 10) -> Demand:
    return Survey(crowd, resolution, least).demand(dna)


def crowd_from(people: list[tuple[dict[str, int], dict[int, int]]]) -> Crowd:
    genomes = [{n: s / UNIT for n, s in genome.items()} for genome, _ in people]
    return crowd_of(genomes, [place for _, place in people])


@given(PEOPLE, DNA)
def test_by_its_definition(
    people: list[tuple[dict[str, int], dict[int, int]]], dna: dict[str, int]
) -> None:
    crowd = crowd_from(people)
    found = demand(crowd, list(dna.items()), 6, least=1)
    shares = {
        (person, cell): Fraction(share, WHOLE)
        for person, cell, share in zip(
            crowd.where.person.tolist(),
            crowd.where.cell.tolist(),
            crowd.where.share.tolist(),
            strict=True,
        )
    }
    located = {person for person, _ in shares}
    counts: dict[int, dict[str, int]] = {p: {} for p in located}  # what of a genome counts
    for m in dna:
        held = sorted(people[p][0][m] for p in located if m in people[p][0])
        for p in located:
            if m in people[p][0]:
                counts[p][m] = min(people[p][0][m], LOUDEST * held[len(held) // 2])
    strength = {m: sum(mine.get(m, 0) for mine in counts.values()) for m in dna}
    raw = {m: q8 for m, q8 in dna.items() if strength[m]}
    assert found.weights == pytest.approx({m: w / sum(raw.values()) for m, w in raw.items()})
    assert set(found.ignored) == dna.keys() - raw.keys()
    for row, cell in enumerate(found.cell.tolist()):
        expected = sum(
            w / sum(raw.values()) * float(counts[p].get(m, 0) * share / strength[m])
            for m, w in raw.items()
            for (p, where), share in shares.items()
            if where == cell
        )
        assert found.share[row] == pytest.approx(expected)
        assert found.parts[row].sum() == pytest.approx(expected)
        holding = {p for p, where in shares if where == cell and raw.keys() & people[p][0].keys()}
        assert found.people[row] == len(holding)


@given(PEOPLE, DNA, st.integers(1, 12), st.integers(3, 6))
def test_everything_adds_up(
    people: list[tuple[dict[str, int], dict[int, int]]],
    dna: dict[str, int],
    least: int,
    resolution: int,
) -> None:
    found = demand(crowd_from(people), list(dna.items()), resolution, least)
    assert math.fsum([*found.share.tolist(), found.withheld]) == pytest.approx(
        1.0 if found.weights else 0.0
    )
    assert np.all(found.people >= least)
    if len(found.cell):
        assert found.withheld_people == 0 or found.withheld_people >= least
        assert 0 < found.crowd.sum() <= 1 + 1e-12


@settings(max_examples=50)
@given(PEOPLE, DNA, st.integers(2, 12))
def test_a_part_that_is_hidden_tells_of_no_few(
    people: list[tuple[dict[str, int], dict[int, int]]], dna: dict[str, int], least: int
) -> None:
    crowd = crowd_from(people)
    found = demand(crowd, list(dna.items()), 5, least)
    names = list(found.weights)
    for row, cell in enumerate(found.cell.tolist()):
        inside = {
            person
            for person, where in zip(
                crowd.where.person.tolist(), crowd.where.cell.tolist(), strict=True
            )
            if h3.cell_to_parent(where, h3.get_resolution(cell)) == cell
        }
        hidden = [
            n for n, part in zip(names, found.parts[row].tolist(), strict=True) if part != part
        ]
        for name in set(names) - set(hidden):
            held = sum(name in people[person][0] for person in inside)
            assert held == 0 or held >= least
        assert (
            len(hidden) != 1
            or len(names) == 1
            or all(
                name in hidden or not any(name in people[p][0] for p in inside) for name in names
            )
        )


def test_order_of_people_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    people = [
        (
            {n: int(rng.integers(1, 10**9)) for n in NAMES if rng.random() < 0.7},
            {int(c): int(rng.integers(1, 5)) for c in rng.choice(CHILDREN, 2)},
        )
        for _ in range(300)
    ]
    one = demand(crowd_from(people), [("a:1", 256), ("b:2", 77)], 6)
    other = demand(crowd_from(people[::-1]), [("a:1", 256), ("b:2", 77)], 6)
    assert one.share.tolist() == other.share.tolist()  # to the bit: what is added up is whole
    assert one.withheld == other.withheld


def test_what_few_have_is_believed_little() -> None:
    genomes = [{"a:1": 1.0, "b:1": 1.0}] * 20 + [{"a:1": 1.0}] * 60
    found = demand(crowd_of(genomes, [{CHILDREN[0]: 1}] * 80), [("a:1", 256), ("b:1", 768)], 6)
    assert DOUBT == 20
    assert found.heard.tolist() == [0.8, 0.5]
    assert found.share.tolist() == [1.0]
    assert found.felt.tolist() == [0.25 * 0.8 + 0.75 * 0.5]


def test_nobody_orders_for_a_town() -> None:
    genomes = [{"a:1": 1.0}] * 29 + [{"a:1": 1e6}]
    found = demand(
        crowd_of(genomes, [{CHILDREN[n // 15]: 1} for n in range(30)]), [("a:1", 256)], 6
    )
    assert found.share.tolist() == [15 / 39, 24 / 39]


def test_nothing_shared_is_nothing_shown() -> None:
    found = demand(crowd_from([({"a:1": 9}, {CHILDREN[0]: 1})]), [("z:9", 256)], 6)
    assert (len(found.cell), found.withheld, dict(found.weights)) == (0, 0.0, {})
    assert found.ignored == ("z:9",)


def test_the_crowd_as_if_all_wanted_the_same() -> None:
    people = [({"a:1": 9 * n + 1}, {CHILDREN[n % 2]: 1}) for n in range(40)] + [({}, {})]
    found = Survey(crowd_from(people), 6).everybody()
    assert found.share.tolist() == found.crowd.tolist() == [0.5, 0.5]


def test_a_planted_taste_is_found_again() -> None:
    """Regions with known tastes: what is bought is drawn from them, and makes the genomes."""
    rng = np.random.default_rng(11)
    cells = cells_around(8, 5)
    tastes = rng.dirichlet([1.0] * 6, len(cells))  # of each region, over six scents
    sizes = rng.integers(150, 500, len(cells))
    genomes, places = [], []
    for cell, taste, size in zip(cells, tastes, sizes, strict=True):
        for _ in range(size):
            bought = rng.multinomial(rng.poisson(12), taste)
            genomes.append({f"scent:{s}": 2.0 * n for s, n in enumerate(bought) if n})
            places.append({cell: 1.0})
    crowd = crowd_of(genomes, places)
    for scent in range(6):
        found = demand(crowd, [(f"scent:{scent}", 256)], 5)
        truth = sizes * tastes[:, scent] / (sizes @ tastes[:, scent])
        by_cell = dict(zip(found.cell.tolist(), found.share.tolist(), strict=True))
        # What too few people want is shown with its neighbours: that counts as one region.
        apart = [(by_cell[c], t) for c, t in zip(cells, truth, strict=True) if c in by_cell]
        together = [(1.0 - sum(d for d, _ in apart), 1.0 - sum(t for _, t in apart))]
        missed = sum(abs(d - t) for d, t in apart + together) / 2
        plain = sum(abs(sizes / sizes.sum() - truth)) / 2
        assert len(apart) >= 5
        assert missed < 0.04
        assert plain > 0.15  # what is wanted is not where most people are
