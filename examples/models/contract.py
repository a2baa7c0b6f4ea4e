"""What every example of a model needs: the tenant's examples, and the file's frame.

The trick: `vector` is worked out once for each offer, when a release is loaded, and may hold
anything of its markers; `value` gets it back beside the query's markers. A model of dense columns
gets the offer's columns as its vector, and builds the query's from `query_index` and `query_weight`
inside the graph: chosen markers have a column, all others fall into one that is cut off.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Bags = Sequence[tuple[Indices, Floats]]
"""Markers and their weights, one pair of arrays for each row."""


@dataclass(frozen=True)
class Handout:
    """What `genome-server models examples FOLDER` writes: queries, offers and labels of n rows."""

    lineage: str
    size: int
    newest_ms: int
    queries: Bags
    offers: Bags
    success: npt.NDArray[np.bool_]
    person: npt.NDArray[np.int64]

    @classmethod
    def read(cls, folder: Path) -> Handout:
        """Read the three files."""
        vocabulary = json.loads((folder / "vocabulary.json").read_text("utf-8"))
        offers = pq.read_table(folder / "offers.parquet").to_pydict()
        made_of = {
            name: (np.array(markers, np.int64), np.array(weights, np.float32))
            for name, markers, weights in zip(*offers.values(), strict=True)
        }
        rows = pq.read_table(folder / "examples.parquet").to_pydict()
        return cls(
            lineage=vocabulary["lineage"],
            size=len(vocabulary["markers"]),
            newest_ms=vocabulary["newest_ms"],
            queries=[
                (np.array(markers, np.int64), np.array(weights, np.float32))
                for markers, weights in zip(rows["markers"], rows["weights"], strict=True)
            ],
            offers=[made_of[name] for name in rows["offer"]],
            success=np.array(rows["success"], np.bool_),
            person=np.array(rows["person"], np.int64),
        )


def probes(handout: Handout, number: int = 24) -> Handout:
    """Questions to write down with their answers: random markers about real offers.

    No real query is among them, because what is written beside a file goes wherever the file goes.
    """
    rng = np.random.default_rng(0)
    queries = []
    for row in range(number):
        markers = rng.choice(handout.size, min(row, handout.size), replace=False)
        queries.append((markers.astype(np.int64), rng.exponential(1, len(markers)).astype("f")))
    offers = [handout.offers[row] for row in rng.integers(0, len(handout.offers), number)]
    nobody = np.zeros(number, np.int64)
    return replace(
        handout, queries=queries, offers=offers, success=nobody.astype(bool), person=nobody
    )


def write(out: str, content: bytes, asked: Handout, values: npt.ArrayLike) -> None:
    """Write the file, and beside it golden vectors: what the library says to each of `asked`.

    `genome-server models check` and `import` hold the file to them.
    """
    Path(out).write_bytes(content)
    vectors = [
        {"query": _bag(query), "offers": [_bag(offer)], "values": [float(value)]}
        for query, offer, value in zip(
            asked.queries, asked.offers, np.asarray(values, np.float64), strict=True
        )
    ]
    Path(f"{out}.golden.json").write_text(json.dumps({"vectors": vectors}), "utf-8")
    print(f"{len(content):,} bytes in {out}; next: genome-server models import {out}")


def _bag(bag: tuple[Indices, Floats]) -> dict[str, Any]:
    return {"index": bag[0].tolist(), "weight": bag[1].tolist()}


def start(main: Callable[[str, str], None], library: str, hint: str) -> None:
    """Run `main` with what the command line says. Ends with 2 and a sentence where it does not say
    two things, or where `library` is not installed: `hint` says what to do about that."""
    arguments = sys.argv[1:]
    if len(arguments) != 2:
        problem = f"usage: python -m examples.models.{Path(sys.argv[0]).stem} FOLDER OUT.onnx"
    elif find_spec(library) is None:
        problem = f"{library} is not installed for this Python. {hint}"
    else:
        return main(*arguments)
    print(problem, file=sys.stderr)
    sys.exit(2)


def frequent(bags: Bags, size: int, most: int) -> Indices:
    """The markers that stand in the most rows, up to `most` of them, ascending."""
    count = np.zeros(size, np.int64)
    for markers, weights in bags:
        count[np.unique(markers[weights > 0])] += 1
    chosen = np.argsort(-count, kind="stable")[:most]
    return np.sort(chosen[count[chosen] > 0])


def columns(bags: Bags, chosen: Indices, size: int) -> Floats:
    """The weights of chosen markers as dense columns, float32 (n, len(chosen))."""
    place = places(chosen, size)
    dense = np.zeros((len(bags), len(chosen) + 1), np.float32)
    for row, (markers, weights) in enumerate(bags):
        np.add.at(dense[row], place[markers], weights)
    return dense[:, :-1]


def places(chosen: Indices, size: int) -> Indices:
    """The column of each marker, int64 (size,); the last one is of all that were not chosen."""
    place = np.full(size, len(chosen), np.int64)
    place[chosen] = np.arange(len(chosen))
    return place


class Graph:
    """Nodes and numbers of a file that keeps the contract "genome-edge/offer/1"."""

    def __init__(self, handout: Handout) -> None:
        self._handout = handout
        self._nodes: list[Any] = []
        self._numbers: dict[str, npt.NDArray[Any]] = {}

    def number(self, name: str, array: npt.ArrayLike, kind: type = np.float32) -> str:
        """Put numbers into the file; their name."""
        self._numbers[name] = np.ascontiguousarray(np.asarray(array, kind))
        return name

    def node(self, kind: str, inputs: str, output: str, **attributes: Any) -> str:
        """Add an operation on values by their names; the name of what it gives."""
        domain = attributes.pop("domain", "")
        self._nodes.append(
            helper.make_node(kind, inputs.split(), [output], domain=domain, **attributes)
        )
        return output

    def query_columns(self, chosen: Indices) -> str:
        """Add what makes the query's dense columns, float32 [1, len(chosen)]; their name."""
        self.number("query_place", places(chosen, self._handout.size), np.int64)
        self.number("query_none", np.zeros(len(chosen) + 1))
        self.number("begin", [0], np.int64)
        self.number("query_end", [len(chosen)], np.int64)
        self.number("axis_0", [0], np.int64)
        self.node("Gather", "query_place query_index", "query_at")
        self.node("ScatterElements", "query_none query_at query_weight", "query_all",
                  axis=0, reduction="add")  # fmt: skip
        self.node("Slice", "query_all begin query_end", "query_chosen")
        return self.node("Unsqueeze", "query_chosen axis_0", "query_columns")

    def offer_columns(self, chosen: Indices) -> None:
        """Make `vector` the offers' dense columns, float32 [m, len(chosen)]."""
        self.number("offer_place", places(chosen, self._handout.size), np.int64)
        self.number("offer_wide", [len(chosen) + 1], np.int64)
        self.number("offer_begin", [0], np.int64)
        self.number("offer_end", [len(chosen)], np.int64)
        self.number("offer_axis", [1], np.int64)
        self.node("Shape", "offer_index", "offer_number", start=0, end=1)
        self.node("Concat", "offer_number offer_wide", "offer_shape", axis=0)
        self.node("ConstantOfShape", "offer_shape", "offer_none")
        self.node("Gather", "offer_place offer_index", "offer_at")
        self.node("ScatterElements", "offer_none offer_at offer_weight", "offer_all",
                  axis=1, reduction="add")  # fmt: skip
        self.node("Slice", "offer_all offer_begin offer_end offer_axis", "vector")

    def file(self, dimension: int, examples: int) -> bytes:
        """The file. `dimension` is the number of columns of `vector`, `examples` how many rows the
        model learned from: by that its gaps are trusted, so leave out what was held back."""
        integer, real = TensorProto.INT64, TensorProto.FLOAT
        declared = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "own",
            [
                declared("query_index", integer, ["n"]),
                declared("query_weight", real, ["n"]),
                declared("offer_index", integer, ["m", "w"]),
                declared("offer_weight", real, ["m", "w"]),
                declared("offer_vector", real, ["k", dimension]),
            ],
            [declared("vector", real, ["m", dimension]), declared("value", real, ["k"])],
            [numpy_helper.from_array(array, name) for name, array in self._numbers.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        helper.set_model_props(
            model,
            {
                "contract": "genome-edge/offer/1",
                "vocabulary_lineage": self._handout.lineage,
                "vocabulary_size": str(self._handout.size),
                "dimension": str(dimension),
                "trained_ms": str(self._handout.newest_ms),
                "examples": str(examples),
            },
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())
