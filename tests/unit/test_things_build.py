"""DNA from texts and rarity in genomes: a build, increments, learning and a release agree on it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.products import ProductLookup
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.dna_file import load_schema, read_things
from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import built_schema
from genome_server.learning.job import sources_of
from genome_server.log import LogReader
from genome_server.regions.files import read_inventory
from genome_server.releases.assemble import assemble
from genome_server.things import kept
from genome_server.things.catalogue import learn_catalogue
from genome_server.things.kept import keep_learnt
from tests.unit import _genomes
from tests.unit._genomes import NOW_MS, Happened, House, interaction, outcome
from tests.unit.test_live import check_split

RULES = """
text:
  products: {title: 1, size: 0.5}
  offers: [title]
  rules:
    - {namespace: ply, pattern: "{number} ply"}
rarity: {floor: 0.125, full_at: 2, min_products: 2}
"""
PRODUCTS = {
    "ice": {"title": "ICE - CRUSHED/CUBED", "size": "22 LB", "brand": "acme", "category": "x"},
    "peas": {"title": "Organic peas, crushed", "size": "22 lb", "brand": "acme", "category": "x"},
    "rolls": {"title": "Acme rolls 3 ply", "brand": "mill", "category": "x"},
    "bare": {"brand": "once"},
}
OFFERS = {"mint": {"id": "mint", "content": {"title": "Peppermint tea"}, "dna": ["ride:taxi"]}}
CONTENT = {"mail": {"subject": "Vegan week", "products": ["ice", "peas"]}}

# Worked out by hand from the rules above. Four products; `full_at` 2: what half of them have or
# fewer counts fully, what three have ((log2 4 - log2 3) = 128/256 of a halving) at 32 + 224/2.
DNA = {
    # word:ice, form:cubed (one product) and the size at half weight; brand:acme is on three.
    "ice": {"brand:acme": 144, "category:x": 144, "form:crushed": 128, "size:10kg": 64},
    "peas": {"brand:acme": 144, "category:x": 144, "form:crushed": 128, "size:10kg": 64},
    # ply, word:roll and brand:mill are on this one only; acme is found in its title.
    "rolls": {"brand:acme": 144, "category:x": 144},
    # Left without any, it keeps the one that it has.
    "bare": {"brand:once": 256},
    "mint": {"ride:taxi": 256, "flavour:mint": 192, "word:tea": 64},
    "content:mail": {
        "claim:vegan": 256,
        "word:week": 64,
        "brand:acme": 72,
        "category:x": 72,
        "form:crushed": 64,
        "size:10kg": 32,
    },
}


def learn(house: House) -> None:
    settings = read_things(house.tenant.dna_path)
    keep_learnt(house.store, learn_catalogue(house.store, settings).counts)


@contextmanager
def town() -> Iterator[None]:
    """Houses have these things and rules, and have learnt."""
    begin = House.__post_init__

    def furnished(house: House) -> None:
        begin(house)
        house.store.put_documents("content", CONTENT.items())
        learn(house)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_genomes, "PRODUCTS", PRODUCTS)
        patch.setattr(_genomes, "OFFERS", OFFERS)
        patch.setattr(_genomes, "DNA", {name: list(dna.items()) for name, dna in DNA.items()})
        patch.setattr(_genomes, "DNA_YAML", _genomes.DNA_YAML + RULES)
        patch.setattr(House, "__post_init__", furnished)
        yield


happened = st.one_of(
    st.builds(
        lambda who, hours, kind, product: interaction(who, hours, kind, product=product),
        st.integers(1, 3),
        st.integers(-400, 199),
        st.sampled_from(["view", "buy", "dismiss"]),
        st.sampled_from([*PRODUCTS, "content:mail", "content:nope"]),
    ),
    st.builds(
        lambda who, hours, kind: outcome(who, hours, kind, "mint"),
        st.integers(1, 3),
        st.integers(-400, 199),
        st.sampled_from(["view", "dismiss"]),
    ),
)


@given(
    events=st.lists(happened, min_size=1, max_size=15),
    prefix=st.integers(0, 15),
    cut=st.integers(1, 7),
    steps=st.integers(1, 9),
)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_builds_and_increments_agree_with_the_reference(
    events: list[Happened], prefix: int, cut: int, steps: int
) -> None:
    with town():
        check_split(events, prefix, cut, steps)


def test_build_learning_and_release_have_one_dna(tmp_path: Path) -> None:
    with town(), _genomes.fresh(tmp_path) as house:
        house.log([interaction(1, 5, "buy", product="ice")])
        house.build()
        schema = built_schema(house.store)
        assert schema is not None
        with LogReader(house.tenant.log_path) as log:
            sources = sources_of(house.store, log)
        for name, dna in DNA.items():
            if name != "mint":
                assert dict(sources.product_dna(name) or ()) == dna
        assert dict(sources.offers["mint"]) == DNA["mint"]
        parts = assemble(house.store, schema, b"model")
        words = Vocabulary.from_proto(dna_pb2.Vocabulary.FromString(parts["vocabulary"]))
        table = release_pb2.ProductTable.FromString(parts["products"])
        lookup = ProductLookup.from_proto(table)
        for name, dna in DNA.items():
            if name != "mint":
                found = lookup.dna(name)
                assert found is not None
                assert {words.name(index): q8 for index, q8 in found} == dna
        (offer,) = release_pb2.OfferCatalogue.FromString(parts["offers"]).offers
        assert {one.marker: one.salience_q8 for one in offer.dna} == DNA["mint"]
        stock = tmp_path / "stock.csv"
        stock.write_text("product,quantity\nice,3\nrolls,1\n")
        assert {i.product: dict(i.dna) for i in read_inventory(stock, house.store)} == {
            "ice": DNA["ice"],
            "rolls": DNA["rolls"],
        }
        # What is left out of all DNA takes no place in the vocabulary that devices get.
        assert "word:ice" not in words.markers
        assert "brand:mill" not in words.markers
        assert "brand:once" in words.markers


def test_other_rules_begin_an_epoch_and_take_effect_with_the_build(tmp_path: Path) -> None:
    with town(), _genomes.fresh(tmp_path) as house:
        house.log([interaction(1, 5, "view", product="ice")])
        first = house.build().epoch
        assert "size:10kg" in markers(house)
        house.write_dna(_genomes.DNA_YAML.replace("size: 0.5", "category: 0.5"))
        # Increments go on by what the genomes were built under, and so does a release.
        house.log([interaction(2, 6, "view", product="ice")])
        live(house)
        assert house.rows()[_genomes.subject(2)][2] == house.rows()[_genomes.subject(1)][2]
        assert load_schema(house.tenant.dna_path, house.store).epoch == first + 1
        schema = built_schema(house.store)
        assert schema is not None
        words = assemble(house.store, schema, b"model", dry_run=True)["vocabulary"]
        assert b"size:10kg" in words
        assert house.build().epoch == first + 1
        assert "size:10kg" not in markers(house)
        assert house.build().epoch == first + 1


def test_what_is_learnt_begins_an_epoch_and_what_is_forgotten_too(tmp_path: Path) -> None:
    with town(), _genomes.fresh(tmp_path) as house:
        house.log([interaction(1, 5, "view", product="ice")])
        first = house.build().epoch
        learn(house)
        assert house.build().epoch == first
        keep_learnt(house.store, None)
        assert house.build().epoch == first + 1
        assert {"word:ice", "form:cubed"} <= markers(house).keys()


def test_counts_stay_as_long_as_genomes_go_by_them(tmp_path: Path) -> None:
    with town(), _genomes.fresh(tmp_path) as house:
        house.log([interaction(1, 5, "view", product="ice")])
        house.build()
        kept_now = []
        for number in range(3):
            house.store.put_documents("product", [(f"new-{number}", {"brand": "acme"})])
            learn(house)
            kept_now.append(kept_counts(house))
        # Those of the genomes, and the newest.
        assert kept_now == [2, 2, 2]
        live(house)
        house.build()
        keep_learnt(house.store, None)
        assert kept_counts(house) == 1
        house.build()
        keep_learnt(house.store, None)
        assert kept_counts(house) == 0


def kept_counts(house: House) -> int:
    """How many catalogues' counts take room in the store."""
    digests = json.loads(house.store.meta("things_counts") or "[]")
    assert all(house.store.meta(f"things_counts:{one}") for one in digests)
    return len(digests)


def test_an_earlier_version_of_the_rules_is_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with town(), _genomes.fresh(tmp_path) as house:
        house.log([interaction(1, 5, "view", product="ice")])
        first = house.build().epoch
        monkeypatch.setattr(kept, "VERSION", 2)
        monkeypatch.setattr("genome_server.things.dna.VERSION", 2)
        house.log([interaction(2, 5, "view", product="ice")])
        live(house)
        schema = built_schema(house.store)
        assert schema is not None
        assert schema.epoch == first + 1
        assert house.rows().keys() == {_genomes.subject(1), _genomes.subject(2)}


def test_a_home_without_the_sections_stays_in_its_epoch(tmp_path: Path) -> None:
    with _genomes.fresh(tmp_path) as house:
        house.log([interaction(1, 5, "view", product="soap")])
        assert house.build().epoch == 1
        digest = house.store.meta("schema_digest")
        assert digest is not None
        assert len(digest) == 64  # as versions before had it: what they built is still good
        schema = load_schema(house.tenant.dna_path, house.store)
        assert dataclasses.replace(schema, epoch=1) == built_schema(house.store)


def live(house: House) -> None:
    consumer = LiveConsumer(house.tenant, now_ms=lambda: NOW_MS)
    while consumer.catch_up():
        pass
    consumer.close()


def markers(house: House) -> dict[str, int]:
    return house.rows()[_genomes.subject(1)][2]
