"""A model from outside: taken in, published, deciding on a device, and rolled back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from edge_sdk import Context, EdgeClient
from examples.models import lightgbm_trees
from examples.models.contract import Handout, frequent
from genome_server.cli import cli
from tests.e2e.house import House, until

AT_THE_HOTEL = Context(place="hotel", activity="flight-search")


def contrary(handout: Handout) -> bytes:
    """A model that likes an offer the less, the more markers it has: one tree for each marker, so
    that the device needs the operators of `ai.onnx.ml`."""
    offered = frequent(handout.offers, handout.size, 64)
    asked = frequent(handout.queries, handout.size, 8)
    trees = [
        {
            "tree_structure": {
                "split_feature": len(asked) + column,
                "threshold": 0.25,
                "decision_type": "<=",
                "left_child": {"leaf_value": 0.0},
                "right_child": {"leaf_value": -0.1 - column / 100},
            }
        }
        for column in range(len(offered))
    ]

    class Booster:
        def dump_model(self) -> dict[str, Any]:
            return {"tree_info": trees}

    return lightgbm_trees.export(Booster(), handout, asked, offered)


def test_a_model_from_outside_decides_and_is_rolled_back(house: House, handout: Path) -> None:
    house.start()
    store = house.enrol("lobby")
    file = house.root / "ours.onnx"
    with EdgeClient(store, house.address) as edge:
        assert edge.wait_ready(20)
        first = shown(edge)
        assert first[0] == "taxi-to-airport"
        before = said_by(house, "models", "list")["current"]

        file.write_bytes(contrary(Handout.read(handout)))
        ours = said_by(house, "models", "import", file)["model"]
        assert said_by(house, "models", "promote", ours)["was"] == before
        # Nobody has decided often enough for the gate to tell whether it is any good.
        assert "does not pass the gate" in refused(house, "publish")
        said = said_by(house, "publish", "--despite-gate", "to see whether it gets there")
        assert (said["version"], said["model"]) == (2, ours)
        until(lambda: edge.status.release == 2, what="our own model is there")
        assert edge.status.cause is None
        other = shown(edge)
        # Every marker takes 0.1 and more from the logit, so that no offer is above one half.
        assert 0 < other[1] < 0.5
        assert abs(other[1] - first[1]) > 1e-3
        listed = {one["id"]: one["releases"] for one in said_by(house, "models", "list")["models"]}
        assert listed == {before: [1], ours: [2]}

        said_by(house, "models", "rollback", "--reason", "its figures fell")
        said = said_by(house, "publish")
        assert (said["version"], said["model"]) == (3, before)
        until(lambda: edge.status.release == 3, what="the former model is back")
        assert shown(edge) == first


def said_by(house: House, *command: object) -> Any:
    """What a command says; in this process, so that it starts at once."""
    done = CliRunner().invoke(cli, ["--home", str(house.home), "--json", *map(str, command)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(house: House, *command: object) -> str:
    """What a command says that refuses."""
    done = CliRunner().invoke(cli, ["--home", str(house.home), *map(str, command)])
    assert done.exit_code == 1, done.output
    return done.output


def shown(edge: EdgeClient) -> tuple[str, float]:
    """What the lobby shows to nobody in particular, and its score."""
    slot = edge.decide(AT_THE_HOTEL, "lobby-screen").slots[0]
    assert slot.offer is not None
    assert slot.score is not None
    return slot.offer.id, slot.score
