"""Gradient boosted trees of LightGBM as a model for devices.

python -m examples.models.lightgbm_trees FOLDER OUT.onnx

FOLDER is what `genome-server models examples FOLDER` wrote. The trees become one node
`TreeEnsembleRegressor` over the query's columns beside the offer's. Columns are copied and never
computed, so that a threshold parts them alike on every processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from examples.models.contract import (
    Floats,
    Graph,
    Handout,
    Indices,
    columns,
    frequent,
    probes,
    start,
    write,
)

QUERY_COLUMNS = 64
OFFER_COLUMNS = 32


def fit(handout: Handout, trees: int = 60) -> tuple[Any, Indices, Indices]:
    """The fitted booster, and the markers that have columns: of queries, and of offers."""
    import lightgbm

    asked = frequent(handout.queries, handout.size, QUERY_COLUMNS)
    offered = frequent(handout.offers, handout.size, OFFER_COLUMNS)
    settings = {
        "objective": "binary", "num_leaves": 15, "learning_rate": 0.08, "min_data_in_leaf": 10,
        "use_missing": False, "verbosity": -1, "seed": 1, "deterministic": True, "num_threads": 1,
    }  # fmt: skip
    data = lightgbm.Dataset(features(handout, asked, offered), handout.success.astype(float))
    return lightgbm.train(settings, data, trees), asked, offered


def features(handout: Handout, asked: Indices, offered: Indices) -> Floats:
    """Columns of the query, then of the offer."""
    query = columns(handout.queries, asked, handout.size)
    return np.concatenate([query, columns(handout.offers, offered, handout.size)], axis=1)


def export(booster: Any, handout: Handout, asked: Indices, offered: Indices) -> bytes:
    """The fitted booster as a file."""
    c, d = len(asked), len(offered)
    graph = Graph(handout)
    graph.query_columns(asked)
    graph.offer_columns(offered)
    # One row more than there are offers: the node takes no empty input.
    graph.number("spare", np.zeros((1, d)))
    graph.number("query_wide", [c], np.int64)
    graph.number("from", [0], np.int64)
    graph.number("to", [-1], np.int64)
    graph.number("axis_1", [1], np.int64)
    graph.node("Concat", "offer_vector spare", "offers", axis=0)
    graph.node("Shape", "offers", "number", start=0, end=1)
    graph.node("Concat", "number query_wide", "rows_shape", axis=0)
    graph.node("Expand", "query_columns rows_shape", "queries")
    graph.node("Concat", "queries offers", "rows", axis=1)
    trees = booster.dump_model()["tree_info"]
    graph.node("TreeEnsembleRegressor", "rows", "sums", domain="ai.onnx.ml", **_trees(trees))
    graph.node("Slice", "sums from to", "logit")
    graph.node("Sigmoid", "logit", "chance")
    graph.node("Squeeze", "chance axis_1", "value")
    return graph.file(dimension=d, examples=len(handout.success))


def _trees(trees: Any) -> dict[str, Any]:
    """The attributes of a `TreeEnsembleRegressor` that adds up the trees' leaves."""
    nodes: dict[str, list[Any]] = {
        name: []
        for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids",
                     "falsenodeids")
    }  # fmt: skip
    leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "weights")}

    def add(tree: int, node: Mapping[str, Any], taken: list[int]) -> int:
        number = taken[0]
        taken[0] += 1
        at = len(nodes["nodeids"])
        leaf = "split_feature" not in node
        row = (tree, number, 0, "LEAF", 0.0, 0, 0)
        if not leaf:
            if node["decision_type"] != "<=":
                raise ValueError("only numbers can be split; give no categorical columns")
            threshold = _below(node["threshold"])
            row = (tree, number, node["split_feature"], "BRANCH_LEQ", threshold, 0, 0)
        for column, value in zip(nodes.values(), row, strict=True):
            column.append(value)
        if leaf:
            for column, value in zip(
                leaves.values(), (tree, number, node["leaf_value"]), strict=True
            ):
                column.append(value)
        else:
            nodes["truenodeids"][at] = add(tree, node["left_child"], taken)
            nodes["falsenodeids"][at] = add(tree, node["right_child"], taken)
        return number

    for number, tree in enumerate(trees):
        add(number, tree["tree_structure"], [0])
    return {
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "base_values": [0.0],
        **{f"nodes_{name}": column for name, column in nodes.items()},
        **{f"target_{name}": column for name, column in leaves.items()},
        "target_ids": [0] * len(leaves["nodeids"]),
    }


def _below(threshold: float) -> float:
    """The largest float32 that is not above: LightGBM splits by float64, and the file by float32.

    Columns are float32, so that they fall on the same side of either.
    """
    near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))


def main(folder: str, out: str) -> None:
    """Fit and write."""
    handout = Handout.read(Path(folder))
    booster, asked, offered = fit(handout)
    content = export(booster, handout, asked, offered)
    questions = probes(handout)
    write(out, content, questions, booster.predict(features(questions, asked, offered)))


if __name__ == "__main__":
    start(main, "lightgbm", "Run: make setup")
