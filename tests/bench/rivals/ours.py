"""Our side: an open client on a store, its towers trained on the market's examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_sdk import Context, EdgeClient
from edge_sdk.dna.genome import Row, block_from_rows, quantise
from edge_sdk.dna.schema import ONE_Q24, default_schema
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.learning.examples import Examples, ExamplesBuilder, OfferTable
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.towers import Towers
from genome_server.learning.train import Settings, predict, train
from tests.bench.rivals.taste import ACTIVITIES, Example, Floats, Market, asks_of, vocabulary
from tests.bench.stage import PERSONALISATION, PLACEMENT, sign, subject

WORDS = vocabulary()


def _document(number: int, dna: Sequence[int]) -> dict[str, object]:
    asks = asks_of(number)
    return {
        "id": f"offer-{number}",
        "dna": [f"m:{marker}" for marker in dna],
        "channels": asks.channels,
        "any_of": [f"activity:{name}" for name in asks.activities],
        "none_of": [f"flag:{asks.refused}"],
    }


class Ours:
    """The towers, and a client that decides by them."""

    def __init__(self, market: Market, moment: Sequence[str]) -> None:
        self._market, self._moment = market, moment
        first = WORDS.index("m:0")
        assert first is not None
        self._first = first
        self.offers = OfferTable.build(
            {f"offer-{n}": [(first + m, 1.0) for m in dna] for n, dna in enumerate(market.offers)}
        )
        learning = [one for one in market.examples if not market.is_test(one)]
        self.towers: Towers = train(self._examples(learning), settings=Settings(epochs=60))

    def auc_scores(self, examples: Sequence[Example]) -> Floats:
        """How likely it says that each is taken."""
        return predict(
            self.towers, self._examples(examples), np.arange(len(examples)), history=True
        )

    def open(self, folder: Path, customers: int) -> EdgeClient:
        """A client with the offers, the model and the genomes of the first customers."""
        schema = default_schema(0)
        lineage = dna_pb2.Lineage(
            vocabulary_lineage=WORDS.lineage,
            vocabulary_size=len(WORDS),
            schema_epoch=schema.epoch,
            landmark_hour=schema.landmark_hour,
            quantiser=schema.quantiser,
        )
        offers = [
            offer_from_document(_document(number, dna))
            for number, dna in enumerate(self._market.offers)
        ]
        placed = placement_from_document({"id": PLACEMENT, "slots": 1, "explorer": "squarecb"})
        facts = ModelFacts(vocabulary_lineage=WORDS.lineage, vocabulary_size=len(WORDS))
        parts = {
            "schema": schema.to_proto().SerializeToString(),
            "vocabulary": WORDS.to_proto().SerializeToString(),
            "offers": release_pb2.OfferCatalogue(offers=offers).SerializeToString(),
            "placements": release_pb2.PlacementList(placements=[placed]).SerializeToString(),
            "products": b"",
            "places": b"",
            "model": tower_model(self.towers, facts),
        }
        bundle = sign(parts, lineage)
        rows = [self._row(number) for number in range(customers)]
        bundle.genomes.append(block_from_rows(lineage, rows))
        path = folder / "market.bundle"
        path.write_bytes(bundle.SerializeToString())
        edge = EdgeClient(folder / "store", bundle=path)
        if not edge.wait_ready(120):
            raise RuntimeError(f"not ready: {edge.status}")
        return edge

    def prepared(self, edge: EdgeClient, number: int, activity: str) -> tuple[Context, str]:
        """What an app has at hand: a context and a customer."""
        context = Context(activity=activity, channel=PLACEMENT)
        assert edge.decide(context, PLACEMENT, customer=subject(number).hex()).genome_used
        return context, subject(number).hex()

    def _row(self, number: int) -> Row:
        genome = self._market.genomes[number]
        codes = [quantise(int(ONE_Q24 * (2.0**weight - 1))) for weight in genome.values()]
        indices = [self._first + marker for marker in genome]
        return Row(
            subject(number), PERSONALISATION, 1, np.array(indices, np.uint32),
            np.array(codes, np.uint8),
        )  # fmt: skip

    def _examples(self, some: Sequence[Example]) -> Examples:
        made = ExamplesBuilder()
        said = [WORDS.index(name) for name in (f"channel:{PLACEMENT}", *self._moment)]
        for at, one in enumerate(some):
            activity = WORDS.index(f"activity:{ACTIVITIES[one.activity]}")
            query = [(index, 1.0, 1.0) for index in (activity, *said) if index is not None]
            genome = self._market.genomes[one.customer]
            query += [(self._first + marker, weight, 0.0) for marker, weight in genome.items()]
            made.add(
                query, offer=one.offer, label=one.taken, propensity=1.0, person=one.customer,
                time_ms=at,
            )  # fmt: skip
        return made.build(self.offers, np.zeros(len(WORDS), np.int32))
