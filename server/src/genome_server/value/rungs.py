"""A ladder of a tenant: its rungs, the showings of the log, and what the model makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk.dna.genome import Genome
from edge_sdk.dna.imprint import hour_of
from edge_sdk.dna.markers import split
from edge_sdk.engine.scoring import open_scorer
from genome_server.errors import Refused
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.rows import needed_schema, row_of
from genome_server.ingest.nearest import KnownIds
from genome_server.learning.export import model_facts
from genome_server.models.own_examples import read_examples
from genome_server.models.shelf import Model, current_model
from genome_server.value.ladder import Floats, Ints, Ladder, Showings, enough, told
from genome_server.value.pricing import Rung, ladders

if TYPE_CHECKING:
    from edge_sdk.dna.markers import Vocabulary
    from genome_server.home import Tenant
    from genome_server.learning.examples import Examples, OfferTable
    from genome_server.store.protocol import Store

_STEP = 500


@dataclass(frozen=True)
class Answer:
    """A ladder, the model that was asked (None: none is trained), and how many of the moments are
    not newer than what it says that it learned from (all where it does not say)."""

    ladder: Ladder
    model: str | None
    learned_from: int


def ladder_named(store: Store, name: str) -> list[Rung]:
    """The rungs of a ladder. Raises Refused where there is none of this name."""
    known = ladders(store.documents("offer"))
    if name not in known:
        raise Refused(KnownIds("ladder", known).unknown(name))
    return known[name]


def measure(
    tenant: Tenant,
    store: Store,
    name: str,
    now_ms: int,
    advance: Callable[..., Any],
    by: str | None = None,
) -> Answer:
    """What the log and the model say of a ladder, as of `now_ms` (Unix); `by` a namespace of
    markers, by the strongest that a customer had in the moment.

    Raises Refused where there is no such ladder, nothing has happened, no rung was ever shown, or
    nobody has a marker of the namespace.
    """
    rungs = ladder_named(store, name)
    examples, _ = read_examples(tenant, store, now_ms, advance)
    place = {rung.offer: number for number, rung in enumerate(rungs)}
    of_row = np.array([place.get(offer, -1) for offer in examples.offers.ids], np.int64)
    rows = np.flatnonzero(of_row[examples.offer] >= 0)
    if not len(rows):
        raise Refused(f"no offer of the ladder {name!r} was shown yet, of whom may be learned")
    model = current_model(tenant.models_dir, store)
    chance, learned = None, 0
    if model is not None:
        chance = _believed(model, store.vocabulary(), examples, rows, rungs, advance)
        until = model_facts(model.content).get("trained_ms", "")
        old = examples.time_ms[rows] <= int(until) if until.isdecimal() else rows >= 0
        learned = int(old.sum())
    showings = Showings(
        rung=of_row[examples.offer[rows]],
        success=examples.label[rows].astype(np.float64),
        weight=(examples.stands_for[rows] / examples.propensity[rows]).astype(np.float64),
        person=examples.person[rows].astype(np.int64),
        chance=chance,
    )
    segments = None if by is None else _segments(store.vocabulary(), examples, rows, by)
    found = told(name, rungs, showings, segments)
    return Answer(found, model.id if model else None, learned)


def _segments(
    vocabulary: Vocabulary, examples: Examples, rows: Ints, namespace: str
) -> list[str | None]:
    """The strongest marker of a namespace in each moment."""
    mine = np.array([split(name)[0] == namespace for name in vocabulary], bool)
    found: list[str | None] = []
    for row in rows.tolist():
        here = slice(examples.start[row], examples.start[row + 1])
        index = examples.index[here]
        weight = np.where(mine[index], examples.warm[here], 0.0)
        best = int(weight.argmax()) if len(weight) else 0
        strong = len(weight) and weight[best] > 0
        found.append(vocabulary.name(int(index[best])) if strong else None)
    if not any(found):
        raise Refused(f"nobody who was shown a rung had a marker {namespace}:… then")
    return found


def for_customer(
    tenant: Tenant, store: Store, rungs: list[Rung], subject: bytes, now_ms: int
) -> tuple[list[float], str]:
    """The chance of each rung with a customer in no particular moment, and the rung that is enough.

    Raises Refused where there is no model, or no genome of the schema in force.
    """
    model, record = current_model(tenant.models_dir, store), store.genome(subject)
    schema, vocabulary = needed_schema(store), store.vocabulary()
    if model is None:
        raise Refused("no model is trained yet: genome-server train")
    if record is None or record.epoch != schema.epoch:
        raise Refused("this customer has no genome of the schema in force: genome-server build")
    dna = StoreDna(store, schema)
    made_of = [
        [
            (index, salience_q8 / 256)
            for marker, salience_q8 in dna.offer(rung.offer) or ()
            if (index := vocabulary.index(marker)) is not None
        ]
        for rung in rungs
    ]
    scorer = open_scorer(model.content, vocabulary)
    genome = Genome(row_of(record), schema, vocabulary)
    asked, weight = genome.features(hour_of(now_ms))
    found = scorer.values(asked.astype(np.int64), weight, scorer.vectors(made_of))
    chance = np.asarray(found, np.float64)
    return chance.tolist(), rungs[int(enough(chance[None, :], rungs)[0])].offer


def _believed(
    model: Model,
    vocabulary: Vocabulary,
    examples: Examples,
    rows: Ints,
    rungs: list[Rung],
    advance: Callable[..., Any],
) -> Floats:
    """What the model believes of every rung in each moment, float64[n, rungs]."""
    scorer = open_scorer(model.content, vocabulary)
    vectors = scorer.vectors([_made_of(examples.offers, rung.offer) for rung in rungs])
    found = np.zeros((len(rows), len(rungs)))
    advance(0, total=len(rows))
    for at, row in enumerate(rows.tolist()):
        here = slice(examples.start[row], examples.start[row + 1])
        weight = examples.warm[here]
        asked = examples.index[here][weight > 0].astype(np.int64)
        found[at] = scorer.values(asked, weight[weight > 0], vectors)
        if at % _STEP == _STEP - 1:
            advance(_STEP)
    return found


def _made_of(table: OfferTable, offer: str) -> list[tuple[int, float]]:
    row = table.ids.index(offer)
    pairs = zip(table.index[row].tolist(), table.weight[row].tolist(), strict=True)
    return [(index, weight) for index, weight in pairs if weight]
