from __future__ import annotations

import math
from pathlib import Path

import pytest

from edge_sdk.dna.genome import Genome, dequantise2, quantise2
from edge_sdk.dna.imprint import profile_strengths
from edge_sdk.dna.schema import ONE_Q24
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.events import EventReader, Imprint
from genome_server.genomes.rows import built_schema, row_of
from genome_server.learning.history import History, PastImprint
from genome_server.log import LogReader
from tests.unit._genomes import HOUR, LANDMARK_HOUR, House, fresh, interaction, outcome, subject

EVENTS = [
    interaction(1, 1, "view", product="soap"),
    interaction(1, 30, "buy", product="bread", amount_micros=12_000_000),
    outcome(1, 55, "dismiss", "taxi"),
    interaction(1, 90, "buy", product="soap"),
]


def history_of(house: House) -> History:
    schema = built_schema(house.store)
    assert schema is not None
    vocabulary = house.store.vocabulary()
    dna = StoreDna(house.store)
    reader = EventReader(schema, dna.product, dna.offer)
    with LogReader(house.tenant.log_path) as log:
        effects = [(frame, reader.read(frame)) for frame in log.frames()]
    customer = house.store.customer(subject(1))
    assert customer is not None
    return History(
        profile_strengths(schema, vocabulary, customer.markers),
        [
            PastImprint(frame.time_ms, effect.hour, effect.votes)
            for frame, effect in effects
            if isinstance(effect, Imprint)
        ],
        schema,
        vocabulary,
    )


@pytest.mark.parametrize("known", range(len(EVENTS) + 1))
def test_a_moment_sees_what_a_device_would_have_seen(tmp_path: Path, known: int) -> None:
    """The genome of any moment is the one that a build of the log so far gives, faded as there."""
    moments = [2, 31, 56, 91, 200]
    hours = moments[known - 1] if known else 0
    with fresh(tmp_path / "so-far") as house, fresh(tmp_path / "whole") as whole:
        house.customer(1, age="30")
        whole.customer(1, age="30")
        house.log(EVENTS[:known])
        whole.log(EVENTS)
        whole.build()
        house.store.extend_vocabulary(whole.store.vocabulary())
        house.build()
        record = house.store.genome(subject(1))
        schema = built_schema(house.store)
        assert record is not None
        assert schema is not None
        vocabulary = house.store.vocabulary()
        now_hour = LANDMARK_HOUR + hours
        device = Genome(row_of(record), schema, vocabulary)
        indices, weights = device.features(now_hour)
        expected = {vocabulary.name(i): w for i, w in zip(indices, weights, strict=True)}
        moment_ms = now_hour * HOUR
        found = history_of(whole).features(moment_ms, before_ms=moment_ms)
        words = whole.store.vocabulary()
        assert {words.name(i): warm for i, warm, _ in found if warm} == pytest.approx(
            {name: float(weight) for name, weight in expected.items()}
        )
        assert {words.name(i): cold for i, _, cold in found if cold} == {
            "age:30": pytest.approx(math.log2(1 + dequantise2(quantise2(ONE_Q24))))
        }
