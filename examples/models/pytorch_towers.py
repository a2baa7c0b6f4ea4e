"""Two towers of PyTorch as a model for devices.

python -m examples.models.pytorch_towers FOLDER OUT.onnx

FOLDER is what `genome-server models examples FOLDER` wrote. Only fitting needs PyTorch: the file is
written from the weights (`state_dict`), by name. The offers' tower is all in `vector`, the query's
in `value`, which ends with one product of a matrix and a vector for all offers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from examples.models.contract import Bags, Graph, Handout, probes, start, write

WIDTH = 32
DIMENSION = 8

State = Mapping[str, npt.NDArray[np.float32]]
"""`query.weight` (V, width), `query_bias` (width,), `mix.weight` (d, width), `mix.bias` (d,),
`offer.weight` (V, d), `offer_bias.weight` (V, 1), `bias` (1,)."""


def fit(handout: Handout, epochs: int = 20, seed: int = 0) -> State:
    """The weights of fitted towers."""
    import torch
    from torch import nn

    torch.manual_seed(seed)

    class Towers(nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.EmbeddingBag(handout.size, WIDTH, mode="sum")
            self.query_bias = nn.Parameter(torch.zeros(WIDTH))
            self.mix = nn.Linear(WIDTH, DIMENSION)
            self.offer = nn.EmbeddingBag(handout.size, DIMENSION, mode="sum")
            self.offer_bias = nn.EmbeddingBag(handout.size, 1, mode="sum")
            self.bias = nn.Parameter(torch.zeros(1))
            for table in (self.query, self.offer, self.offer_bias):
                nn.init.normal_(table.weight, std=0.1)

        def forward(self, queries: Bags, offers: Bags) -> Any:
            query = torch.relu(self.query(**_bags(torch, queries)) + self.query_bias)
            made_of = _bags(torch, offers)
            agreed = (self.mix(query) * self.offer(**made_of)).sum(1)
            return agreed + self.offer_bias(**made_of)[:, 0] + self.bias

    towers = Towers()
    label = torch.tensor(handout.success, dtype=torch.float32)
    steps = torch.optim.AdamW(towers.parameters(), lr=0.01, weight_decay=0.1)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(label)), max(1, len(label) // 256)):
            steps.zero_grad()
            queries = [handout.queries[row] for row in rows]
            logit = towers(queries, [handout.offers[row] for row in rows])
            nn.functional.binary_cross_entropy_with_logits(logit, label[rows]).backward()
            steps.step()
    return {name: tensor.detach().numpy() for name, tensor in towers.state_dict().items()}


def _bags(torch: Any, bags: Bags) -> dict[str, Any]:
    starts = np.cumsum([0, *(len(markers) for markers, _ in bags[:-1])])
    flat = np.concatenate([markers for markers, _ in bags])
    weights = np.concatenate([weights for _, weights in bags])
    return {
        "input": torch.from_numpy(flat),
        "offsets": torch.from_numpy(starts),
        "per_sample_weights": torch.from_numpy(weights),
    }


def predict(state: State, queries: Bags, offers: Bags) -> npt.NDArray[np.float32]:
    """What the towers say, in numpy: to prove the file by, without PyTorch."""
    values = []
    for (asked, heavy), (made_of, salient) in zip(queries, offers, strict=True):
        query = np.maximum(heavy @ state["query.weight"][asked] + state["query_bias"], 0)
        mixed = state["mix.weight"] @ query + state["mix.bias"]
        agreed = mixed @ (salient @ state["offer.weight"][made_of])
        own = salient @ state["offer_bias.weight"][made_of][:, 0]
        values.append(1 / (1 + np.exp(-(agreed + own + state["bias"][0]))))
    return np.array(values, np.float32)


def export(state: State, handout: Handout) -> bytes:
    """The fitted towers as a file."""
    graph = Graph(handout)
    graph.number("query_table", state["query.weight"])
    graph.number("query_bias", state["query_bias"])
    # The offer's own bias is one column more, which the query meets with a 1.
    own = state["offer_bias.weight"]
    graph.number("offer_table", np.concatenate([state["offer.weight"], own], axis=1))
    dimension = state["mix.weight"].shape[0]
    graph.number("mix", np.pad(state["mix.weight"].T, ((0, 0), (0, 1))))
    graph.number("mix_bias", [*state["mix.bias"], 1.0])
    graph.number("bias", state["bias"])
    for axis in range(3):
        graph.number(f"axis_{axis}", [axis], np.int64)
    graph.node("Gather", "query_table query_index", "query_rows")
    graph.node("Unsqueeze", "query_weight axis_0", "query_line")
    graph.node("MatMul", "query_line query_rows", "query_sum")
    graph.node("Add", "query_sum query_bias", "query_moved")
    graph.node("Relu", "query_moved", "query")
    graph.node("MatMul", "query mix", "query_mixed")
    graph.node("Add", "query_mixed mix_bias", "query_tower")
    graph.node("Transpose", "query_tower", "query_column", perm=[1, 0])
    graph.node("MatMul", "offer_vector query_column", "agreed")
    graph.node("Add", "agreed bias", "logit")
    graph.node("Sigmoid", "logit", "chance")
    graph.node("Squeeze", "chance axis_1", "value")
    graph.node("Gather", "offer_table offer_index", "offer_rows")
    graph.node("Unsqueeze", "offer_weight axis_2", "offer_column")
    graph.node("Mul", "offer_rows offer_column", "offer_weighted")
    graph.node("ReduceSum", "offer_weighted axis_1", "vector", keepdims=0)
    return graph.file(dimension=dimension + 1, examples=len(handout.success))


def main(folder: str, out: str) -> None:
    """Fit and write."""
    handout = Handout.read(Path(folder))
    state, questions = fit(handout), probes(handout)
    told = predict(state, questions.queries, questions.offers)
    write(out, export(state, handout), questions, told)


if __name__ == "__main__":
    start(
        main,
        "torch",
        "PyTorch is no dependency of Genome Edge, and only fitting needs it; from the root of the "
        "repository run:\n  .venv/bin/python -m pip install torch",
    )
