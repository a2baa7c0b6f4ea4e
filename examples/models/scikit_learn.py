"""A logistic regression of scikit-learn as a model for devices.

python -m examples.models.scikit_learn FOLDER OUT.onnx

FOLDER is what `genome-server models examples FOLDER` wrote. Columns are the query's markers, the
offer's, and their products, so that what is liked depends on who asks. With W for the weights of
the products, the file computes sigmoid(a + query · u + (query · W + v) · offer): one product of a
matrix and a vector for all offers.
"""

from __future__ import annotations

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

QUERY_COLUMNS = 48
OFFER_COLUMNS = 24


def fit(handout: Handout) -> tuple[Any, Indices, Indices]:
    """The fitted model, and the markers that have columns: of queries, and of offers."""
    from sklearn.linear_model import LogisticRegression

    asked = frequent(handout.queries, handout.size, QUERY_COLUMNS)
    offered = frequent(handout.offers, handout.size, OFFER_COLUMNS)
    model = LogisticRegression(C=0.1, max_iter=500)
    model.fit(features(handout, asked, offered), handout.success)
    return model, asked, offered


def features(handout: Handout, asked: Indices, offered: Indices) -> Floats:
    """Columns of the query, of the offer, and each of the one times each of the other."""
    query = columns(handout.queries, asked, handout.size)
    offer = columns(handout.offers, offered, handout.size)
    both = (query[:, :, None] * offer[:, None, :]).reshape(len(query), -1)
    return np.concatenate([query, offer, both], axis=1)


def export(model: Any, handout: Handout, asked: Indices, offered: Indices) -> bytes:
    """The fitted model as a file."""
    c, d = len(asked), len(offered)
    weights = model.coef_[0]
    graph = Graph(handout)
    graph.query_columns(asked)
    graph.offer_columns(offered)
    graph.number("u", weights[:c, None])
    graph.number("v", weights[None, c : c + d])
    graph.number("W", weights[c + d :].reshape(c, d))
    graph.number("a", model.intercept_)
    graph.number("axis_1", [1], np.int64)
    graph.node("MatMul", "query_columns W", "wanted")
    graph.node("Add", "wanted v", "liked")
    graph.node("Transpose", "liked", "likes", perm=[1, 0])
    graph.node("MatMul", "offer_vector likes", "offers")
    graph.node("MatMul", "query_columns u", "mood")
    graph.node("Add", "mood a", "start")
    graph.node("Add", "offers start", "logit")
    graph.node("Sigmoid", "logit", "chance")
    graph.node("Squeeze", "chance axis_1", "value")
    return graph.file(dimension=d, examples=len(handout.success))


def main(folder: str, out: str) -> None:
    """Fit and write."""
    handout = Handout.read(Path(folder))
    model, asked, offered = fit(handout)
    content = export(model, handout, asked, offered)
    questions = probes(handout)
    told = model.predict_proba(features(questions, asked, offered))[:, 1]
    write(out, content, questions, told)


if __name__ == "__main__":
    start(main, "sklearn", "Run: make setup")
