"""Neighbours: exact where few, nearly all found where many, and made anew when genomes change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genome_server.compare import neighbours_file
from genome_server.compare.matrix import matrix_of, pack, rarity_of, weigh
from genome_server.compare.neighbours import AXES, Columns, Neighbours, Rows, Weights, axes_of
from genome_server.compare.neighbours_file import FILE, open_index, open_rarity
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_PERSONALISATION
from tests.unit._genomes import NOW_MS, fresh, interaction, link, subject

SIZE, PEOPLE = 900, 3_000
BOTH = CONSENT_PERSONALISATION | CONSENT_LEARNING


def customers(seed: int = 3) -> Columns:
    """Customers who like some of forty kinds of thing; a few have no marker at all."""
    rng = np.random.default_rng(seed)
    likes = rng.integers(0, 40, (PEOPLE, 3))
    counts = rng.integers(0, 40, PEOPLE)
    who = np.repeat(np.arange(PEOPLE), counts)
    kind = likes[who, rng.integers(0, 3, len(who))]
    marker = (kind * 20 + rng.integers(0, 20, len(who))) % SIZE
    starts, markers, strengths = pack(who, marker, rng.lognormal(0, 1, len(who)), PEOPLE, 64)
    carried = np.bincount(markers, minlength=SIZE)
    return Columns(starts, markers, weigh(starts, markers, strengths, rarity_of(PEOPLE, carried)))


@pytest.fixture(scope="module")
def indexed() -> Neighbours:
    return Neighbours.build(customers(), SIZE, least=0)


def brute(columns: Columns, row: int, count: int) -> list[tuple[int, float]]:
    """Row by row, as the definition says."""
    own = dict(
        zip(
            columns.markers[columns.starts[row] : columns.starts[row + 1]].tolist(),
            columns.weights[columns.starts[row] : columns.starts[row + 1]].tolist(),
            strict=True,
        )
    )
    scores = []
    for other in range(len(columns)):
        part = slice(columns.starts[other], columns.starts[other + 1])
        pairs = zip(columns.markers[part].tolist(), columns.weights[part].tolist(), strict=True)
        scores.append((sum(own.get(m, 0.0) * w for m, w in pairs), other))
    best = sorted(scores, key=lambda pair: (-pair[0], pair[1]))[:count]
    return [(other, score) for score, other in best if score > 0]


def asked(columns: Columns, row: int) -> tuple[Rows, Weights]:
    part = slice(columns.starts[row], columns.starts[row + 1])
    return columns.markers[part], columns.weights[part]


def test_among_few_it_is_exact() -> None:
    columns = customers()
    neighbours = Neighbours.build(columns, SIZE)
    assert not any(len(one) for one in neighbours.saved().values())
    for row in (0, 17, 1234):
        rows, similarities = neighbours.search(*asked(columns, row), 12)
        wanted = brute(columns, row, 12)
        assert np.allclose(similarities, [score for _, score in wanted], atol=1e-5)
        # Who is as near as the last may stand for it.
        surely = {other for other, score in wanted if score > wanted[-1][1] + 1e-5}
        assert surely <= set(rows.tolist())
        assert len(surely) > 5, "else nothing is compared"


def test_among_many_nearly_all_are_found_and_what_is_said_is_exact(indexed: Neighbours) -> None:
    columns = customers()
    loaded = Neighbours.load(columns, SIZE, indexed.saved())
    rows = matrix_of(columns.starts, columns.markers, columns.weights, SIZE)
    full = np.flatnonzero(np.diff(columns.starts) > 2)[:200]
    hits = 0
    for row in full.tolist():
        found, similarities = indexed.search(*asked(columns, row), 10)
        exact = (rows @ rows[[row]].T).toarray()[:, 0]
        assert np.allclose(similarities, np.minimum(exact[found], 1.0), atol=1e-5)
        assert (np.diff(similarities) <= 0).all()
        hits += int((similarities >= np.sort(exact)[-10] - 1e-6).sum())
        again, _ = loaded.search(*asked(columns, row), 10)
        assert np.array_equal(again, found)
    assert hits >= 0.95 * 10 * len(full)


def test_the_same_genomes_make_the_same_index(indexed: Neighbours) -> None:
    again = Neighbours.build(customers(), SIZE, least=0).saved()
    for name, array in indexed.saved().items():
        assert np.array_equal(array, again[name]), name


def test_axes_keep_what_is_similar() -> None:
    columns = customers()
    rows = matrix_of(columns.starts, columns.markers, columns.weights, SIZE)
    places = rows @ axes_of(rows)
    assert places.shape == (PEOPLE, AXES)
    some = np.flatnonzero(np.diff(columns.starts) > 2)[:300]
    off = places[some] @ places[some].T - (rows[some] @ rows[some].T).toarray()
    assert np.abs(off).mean() < 0.03
    assert np.abs(off.mean()) < 0.005, "what is rough is so to both sides"


def test_who_has_less_than_is_looked_under_is_found(indexed: Neighbours) -> None:
    columns = customers()
    two = int(np.flatnonzero(np.diff(columns.starts) == 2)[0])
    rows, similarities = indexed.search(*asked(columns, two), 5)
    assert two in rows[similarities > 0.9999]
    nothing = np.empty(0, np.int32), np.empty(0, np.float32)
    assert not len(indexed.search(*nothing, 5)[0])


def test_more_are_wanted_than_the_usual_candidates(indexed: Neighbours) -> None:
    columns = customers()
    rows = matrix_of(columns.starts, columns.markers, columns.weights, SIZE)
    full = np.flatnonzero(np.diff(columns.starts) > 10)[:50]
    hits = 0
    for row in full.tolist():
        found, similarities = indexed.search(*asked(columns, row), 100)
        assert len(set(found.tolist())) == len(found), "nobody is told of twice"
        exact = (rows @ rows[[row]].T).toarray()[:, 0]
        hits += int((similarities >= np.sort(exact)[-100] - 1e-6).sum())
    assert hits >= 0.95 * 100 * len(full)


def test_among_nobody_nobody_and_who_is_alone_finds_but_themselves() -> None:
    nobody = Columns(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    markers, weights = np.array([3, 5], np.int32), np.array([0.6, 0.8], np.float32)
    assert not len(Neighbours.build(nobody, 9).search(markers, weights, 10)[0])
    alone = Neighbours.build(Columns(np.array([0, 2]), markers, weights), 9)
    rows, similarities = alone.search(markers, weights, 10)
    assert (rows.tolist(), similarities.tolist()) == ([0], [pytest.approx(1.0)])


def test_the_file_is_made_anew_when_genomes_changed_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = neighbours_file._make

    def counted(*given: Any) -> Any:
        made.append(1)
        return real(*given)

    monkeypatch.setattr(neighbours_file, "_make", counted)
    with fresh(tmp_path) as house:
        for who in range(1, 6):
            house.customer(who, BOTH if who < 5 else CONSENT_LEARNING)
        house.log([interaction(w, w, "buy", product=("soap", "bread")[w % 2]) for w in range(1, 6)])
        house.build()
        index = open_index(house.tenant, house.store)
        assert (len(index), len(made)) == (4, 1), "who agreed to learning alone is in no index"
        row = index.row_of(subject(1))
        assert row is not None
        (other, similarity), *_ = index.similar(row, 3)
        assert index.subject(other) == subject(3)
        assert similarity > 0.999
        assert index.row_of(subject(5)) is None
        known = open_rarity(house.tenant, house.store)
        vocabulary = house.store.vocabulary()
        carried = dict(zip(vocabulary, known.counts(len(vocabulary)).tolist(), strict=True))
        assert (known.people, carried["brand:acme"], carried["brand:mill"]) == (5, 2, 3)
        open_index(house.tenant, house.store)
        assert len(made) == 1
        house.log([link(1, 40, 2)])
        house.build()
        linked = open_index(house.tenant, house.store)
        assert (len(linked), len(made)) == (3, 2)
        assert linked.row_of(subject(2)) == linked.row_of(subject(1))
        house.store.set_consents(subject(3), 0)
        assert not (tmp_path / FILE).exists(), "it holds the genome of one who took a consent back"
        assert open_index(house.tenant, house.store).row_of(subject(3)) is None
        (tmp_path / FILE).write_bytes(b"PK\x03\x04 damaged")
        assert len(open_index(house.tenant, house.store)) == 2
        assert len(made) == 4
        assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_who_withdraws_is_in_no_count_that_is_shown_afterwards(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        for who in (1, 2, 3):
            house.customer(who, CONSENT_LEARNING)
        house.log([interaction(w, w, "buy", product="soap") for w in (1, 2, 3)])
        house.build()
        assert open_rarity(house.tenant, house.store).people == 3
        house.store.hear_consents(subject(1), {1: (NOW_MS, True)})
        assert (tmp_path / FILE).exists(), "a consent that is given takes nobody out"
        house.store.hear_consents(subject(2), {2: (NOW_MS, False)})
        assert open_rarity(house.tenant, house.store).people == 2
