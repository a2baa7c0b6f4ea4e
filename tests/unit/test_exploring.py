"""How much a placement explores that does not say so, and what its mode comes to."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.context import Context
from edge_sdk.dna.schema import default_schema
from edge_sdk.engine.documents import InvalidDocument
from edge_sdk.engine.policy import SquareCB
from edge_sdk.testing import FakeEdge
from genome_edge.v1 import release_pb2
from genome_server.documents import offer_spec, placement_spec
from genome_server.learning.export import ModelFacts, examples_of, tower_model, untrained_model
from genome_server.learning.towers import Shape, random_towers
from genome_server.releases.assemble import assemble
from genome_server.releases.exploring import default_gamma, explored, typical_worth
from genome_server.store.sqlite import SqliteStore

WORTH_ONE = [offer_spec({"id": name}) for name in "ab"]


def offers(*worth: tuple[float, float]) -> list[release_pb2.OfferSpec]:
    return [
        offer_spec({"id": f"o{number}", "value": value, "cost": cost})
        for number, (value, cost) in enumerate(worth)
    ]


def one(document: dict[str, Any], examples: int = 400) -> release_pb2.PlacementSpec:
    (spec,) = explored([{"id": "p", "explorer": "squarecb", **document}], WORTH_ONE, examples)
    return spec


def test_gamma_grows_with_the_root_of_the_examples() -> None:
    assert [default_gamma(n, 1.0) for n in (0, 1, 100, 10_000)] == [100, 100, 1000, 10_000]
    assert default_gamma(10**12, 1.0) == 1e6  # the most that a placement takes
    assert default_gamma(100, 0.001) == 1e6
    SquareCB(default_gamma(10**12, 1e-6), 0.01)


def test_what_a_success_is_worth_changes_nothing_in_what_is_drawn() -> None:
    assert default_gamma(10_000, 20.0) * 20 == default_gamma(10_000, 1.0)
    assert typical_worth(offers((1, 0), (10, 4), (100, 0))) == 6
    assert typical_worth(offers((5, 5), (7, 0), (2, 9))) == 7  # worth nothing says nothing
    assert typical_worth([]) == typical_worth(offers((3, 3))) == 1


def test_what_a_placement_says_counts() -> None:
    assert (one({}).gamma, one({}).floor) == (2000, 0.01)
    assert (one({"gamma": 7}).gamma, one({"gamma": 7}).floor) == (7, 0.01)
    assert (one({"floor": 0}).gamma, one({"floor": 0}).floor) == (2000, 0)
    assert one({"gamma": 0}).gamma == 0
    assert one({"explorer": "greedy"}).floor == 0


def test_a_model_says_how_many_examples_it_saw() -> None:
    lineage = bytes(16)
    towers = random_towers(0, 4, Shape(1, 4, 2, 2))
    assert examples_of(tower_model(towers, ModelFacts(lineage, 4, examples=2500))) == 2500
    assert examples_of(tower_model(towers, ModelFacts(lineage, 4))) == 0
    assert examples_of(untrained_model(ModelFacts(lineage, 0))) == examples_of(b"no model") == 0


def test_a_release_carries_the_number(tmp_path: Path) -> None:
    with closing(SqliteStore.open(tmp_path / "store.sqlite")) as store:
        store.put_documents("offer", [("a", {"id": "a", "value": 4.0})])
        screen = {"id": "p", "explorer": "squarecb", "mode": "log-only"}
        store.put_documents("placement", [("p", screen)])
        lineage = store.vocabulary().lineage
        model = tower_model(
            random_towers(0, 0, Shape(1, 4, 2, 2)), ModelFacts(lineage, 0, 1, None, 64)
        )
        parts = assemble(store, default_schema(490_000), model)
    (found,) = release_pb2.PlacementList.FromString(parts["placements"]).placements
    assert (found.gamma, found.floor, found.holdout_ppm) == (200, 0.01, 1_000_000)


@pytest.mark.parametrize("mode", ["log-only", "apprentice"])
def test_a_silent_placement_shows_nothing_to_anybody(mode: str) -> None:
    spec = placement_spec({"id": "screen", "mode": mode})
    assert spec.holdout_ppm == 1_000_000
    assert placement_spec({"id": "screen", "mode": "online", "holdout": 0.1}).holdout_ppm == 100_000
    assert placement_spec({"id": "screen"}).holdout_ppm == 0
    with FakeEdge([{"id": "a"}], placements=[{"id": "screen", "holdout": 1.0}]) as edge:
        for customer in (None, *(f"c{number}" for number in range(50))):
            decision = edge.decide(Context(), "screen", customer=customer)
            assert (decision.offer, decision.reason.name) == (None, "HELD_OUT")


def test_a_mode_is_one_of_three_and_holds_out_by_itself() -> None:
    with pytest.raises(InvalidDocument, match="mode"):
        placement_spec({"id": "screen", "mode": "offline"})
    with pytest.raises(InvalidDocument) as refused:
        placement_spec({"id": "screen", "mode": "log-only", "holdout": 0.1})
    assert str(refused.value) == (
        "holdout: 0.1 is not allowed; expected none: in mode log-only everybody is held out"
    )
