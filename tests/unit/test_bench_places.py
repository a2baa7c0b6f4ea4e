"""What the benches of places and routines count is what they say they count."""

from __future__ import annotations

from pathlib import Path

import h3.api.basic_int as h3
import numpy as np
import pytest

from edge_sdk.engine.cells import parent
from edge_sdk.engine.habits import When
from edge_sdk.engine.routines import Everybody, Routine
from examples.adapters.places_nyc import Venue
from tests.bench import places, routine
from tests.bench.figures import Figures

HERE = (40.7566, -73.9738)
CELL = h3.latlng_to_cell(*HERE, 11)
HOTEL = Venue("h", "Hotel", 9, 3, *HERE)


def checkins(*seen: tuple[str | None, int]) -> places.Checkins:
    kinds = np.array([kind for kind, _ in seen], object)
    return places.Checkins(None, kinds, np.array([cell for _, cell in seen], np.uint64))


@pytest.mark.parametrize(("resolution", "ring", "cells"), [(11, 0, 1), (10, 1, 7), (9, 2, 19)])
def test_a_layer_of_rings(resolution: int, ring: int, cells: int) -> None:
    layer = places.layer_cells([HOTEL], "hotel", places.Shape(resolution, ring))
    assert {res: len(there) for res, there in layer.items()} == {resolution: cells}
    assert places.inside(np.array([CELL], np.uint64), layer).all()
    assert places.layer_cells([HOTEL], "bar", places.Shape(resolution, ring)) == {}


def test_inside_is_what_h3_says() -> None:
    layer = places.layer_cells([HOTEL], "hotel", places.Shape(9, 1))
    near = list(h3.grid_disk(CELL, 40))
    found = places.inside(np.array(near, np.uint64), layer).tolist()
    assert found == [h3.cell_to_parent(cell, 9) in layer[9] for cell in near]
    assert 0 < sum(found) < len(found)


def test_precision_and_recall() -> None:
    layer = places.layer_cells([HOTEL], "hotel", places.Shape(11, 0))
    far = h3.latlng_to_cell(40.60, -73.80, 11)
    later = checkins(("hotel", CELL), ("bar", CELL), (None, CELL), ("hotel", far), ("bar", far))
    score = places.judged(later, "hotel", layer)
    assert score.precision == pytest.approx(1 / 3)
    assert score.recall == 1 / 2
    assert score.f1 == pytest.approx(0.4)
    assert str(score) == "0.33/0.50"
    assert places.judged(later, "gym", layer).f1 == 0.0


def test_the_best_shape_is_the_one_with_the_best_f1() -> None:
    tried = {
        places.Shape(11, 0): places.Score(0.9, 0.1),
        places.Shape(10, 0): places.Score(0.5, 0.5),
        places.Shape(radius_m=50): places.Score(0.1, 0.9),
    }
    assert str(places.best_of(tried)) == "r10 k0"


def test_a_declared_place_wins() -> None:
    layers = {
        kind: places.layer_cells([HOTEL], "hotel", places.Shape(11, 0)) for kind in ("bar", "hotel")
    }
    later = checkins(("bar", CELL), ("gym", CELL), (None, CELL))
    assert places.declared_wins(later, places.place_table(layers)) == 1.0


def life(days: int) -> list[routine.Seen]:
    found = []
    for day in range(days):
        for hour, category in ((8, "Office"), (12, "Deli"), (22, "Home (private)")):
            when = When(20_000 + day + hour / 24, day % 7 + 1, hour)
            cell = h3.latlng_to_cell(40.7 + hour / 100, -74.0, 11)
            found.append(routine.Seen(1, category, cell, when, day >= days * 4 // 5))
    return found


def test_a_strict_life_is_foreseen_and_its_home_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.figures.RESULTS", tmp_path / "build" / "results.jsonl")
    figures = Figures()
    routine.next_ones(life(30), figures)
    routine.home_and_work(life(30), figures)
    taken = {name: value for name, (value, _) in figures.taken.items()}
    assert taken["routine.category.ours"] == taken["routine.cell.ours"] == 1.0
    assert taken["routine.category.user"] < 0.5
    assert taken["routine.home.precision"] == taken["routine.home.recall"] == 1.0


def test_who_knows_nothing_foresees_nothing() -> None:
    plain = routine.Baselines()
    (first, *_) = life(1)
    plain.ask(first, "Office")
    assert dict(plain.right) == {"popularity": 0, "user": 0, "markov": 0}
    plain.learn(first, "Office")
    plain.ask(first, "Office")
    assert plain.right["user"] == plain.right["popularity"] == 1
    asked = Routine().likely_kinds(first.when, Everybody())
    assert asked == []
    assert parent(first.cell, 7)
