"""An offer that was never shown is scored from its DNA: what was liked of others is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import Scorer
from edge_sdk.engine.scoring import open_scorer
from genome_server.genomes.events import Dna
from genome_server.learning.dataset import load_examples
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.survey import Person, survey
from genome_server.learning.towers import Shape
from genome_server.learning.train import Settings, train
from tests.unit._learning import Log, at, who

PERSONS, EACH = 120, 12
NAMES = [f"o{number}" for number in range(10)]
#: Half of the offers are calm, and each is a service of its own; nobody was ever shown "new".
LIKED = ("calm:yes", 256)
DNA: Mapping[str, Dna] = {
    name: [(f"service:{name}", 256), *([LIKED] if number % 2 else [])]
    for number, name in enumerate(NAMES)
}
OWN_ID: Mapping[str, Dna] = {name: [(f"service:{name}", 256)] for name in NAMES}
WORDS = Vocabulary(
    bytes(16), ["age:30", "age:60", "calm:yes", *(f"service:{name}" for name in [*NAMES, "new"])]
)
SMALL = Settings(
    shape=Shape(members=2, width=16, hidden=8, dimension=4), batch=64, learning_rate=5e-3
)


def history() -> Log:
    """Who is 30 takes what is calm, who is 60 the rest; both were shown everything alike."""
    log, rng = Log(), np.random.default_rng(3)
    for person in range(PERSONS):
        subject, young = who(person + 1), person % 2 == 0
        log.persons[subject] = Person([("age:30" if young else "age:60", 256)], True)
        for turn in range(EACH):
            number, offer = person * EACH + turn, int(rng.integers(len(NAMES)))
            log.decided(number, number / 10, NAMES[offer], subject=subject)
            if rng.random() < (0.8 if bool(offer % 2) == young else 0.1):
                log.followed(number, number / 10 + 0.01, "redeem", subject=subject)
    return log


def trained(offers: Mapping[str, Dna]) -> Scorer:
    """What a device scores with after a training on that log, with this DNA of the offers."""
    sources = replace(history().sources(), offers=offers)
    examples, _ = load_examples(sources, survey(sources), WORDS, now_ms=at(10_000))
    assert len(examples) == PERSONS * EACH
    facts = ModelFacts(WORDS.lineage, len(WORDS), examples.newest_ms)
    return open_scorer(tower_model(train(examples, None, SMALL), facts), WORDS)


def value(scorer: Scorer, age: str, *dna: str) -> float:
    """The probability that somebody of that age takes an offer of that DNA."""
    index, made_of = WORDS.index(age), [WORDS.index(name) for name in dna]
    assert index is not None
    vectors = scorer.vectors([[(at, 1.0) for at in made_of if at is not None]])
    query = np.array([index], np.int64), np.array([1.0], np.float32)
    return float(scorer.values(*query, vectors)[0])


def test_a_new_offer_is_liked_by_those_who_like_what_it_is_made_of() -> None:
    scorer = trained(DNA)
    calm, plain = ("service:new", "calm:yes"), ("service:new",)
    assert value(scorer, "age:30", *calm) > value(scorer, "age:30", *plain) + 0.2
    assert value(scorer, "age:30", *calm) > value(scorer, "age:60", *calm) + 0.3
    assert value(scorer, "age:30", *calm) > 0.5


def test_were_an_offer_known_by_its_id_alone_nothing_would_be_known_of_a_new_one() -> None:
    scorer = trained(OWN_ID)
    assert value(scorer, "age:30", "service:o1") > value(scorer, "age:30", "service:o2") + 0.3
    for age in ("age:30", "age:60"):
        known = value(scorer, age, "service:new", "calm:yes")
        assert known == pytest.approx(value(scorer, age, "service:new"), abs=1e-6)
