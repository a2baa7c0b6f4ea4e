"""The DNA of things: what is declared and what texts say, weighed, and where it is from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genome_server.ingest.dna import product_dna
from genome_server.things.dna import Things
from genome_server.things.rarity import Counts, Rarity, brands_of, learn
from genome_server.things.settings import RaritySettings, Settings
from genome_server.things.text import TextSettings

ICE = {
    "id": "ice",
    "title": "ICE - CRUSHED/CUBED, 22 LB",
    "brand": "Acme",
    "category": "frozen",
    "attributes": {"pack": "22 LB", "colour": ["clear", "white"]},
    "dna": [{"marker": "season:summer", "salience": 0.5}],
}
DECLARED = {
    "brand:acme": 256,
    "category:frozen": 256,
    "pack:22-lb": 256,
    "colour:clear": 256,
    "colour:white": 256,
    "season:summer": 128,
}


def rarity(products: int, markers: dict[str, int], **settings: Any) -> Rarity:
    return Rarity(Counts(products, markers), RaritySettings(**settings))


def test_unless_asked_a_product_is_what_it_declares() -> None:
    things = Things()
    assert dict(things.product(ICE)) == DECLARED
    assert things.product(ICE) == product_dna(ICE)
    assert things.plain
    assert things.digest() == ""


def test_texts_are_read_where_asked_and_an_attribute_gives_way() -> None:
    fields = {"title": 256, "attributes.pack": 256}
    things = Things(Settings(products=fields))
    found = dict(things.product(ICE))
    assert "pack:22-lb" not in found
    assert found == {
        **{name: q8 for name, q8 in DECLARED.items() if name != "pack:22-lb"},
        "form:crushed": 128,
        "form:cubed": 128,
        "size:10kg": 128,
        "word:ice": 64,
    }
    # An attribute that says nothing as a text stays what it is.
    assert "pack:large" in dict(things.product({"attributes": {"pack": "large"}}))


def test_declared_dna_wins_and_the_greater_salience_otherwise() -> None:
    things = Things(Settings(products={"title": 256, "description": 64}))
    document = {
        "title": "organic crushed ice",
        "description": "crushed, vegan",
        "attributes": {"form": "crushed"},
        "dna": {"claim:organic": 0.25},
    }
    found = {part.marker: part for part in things.explain("product", document)}
    assert found["claim:organic"][1:5] == (64, 64, "dna", "declared")
    assert found["form:crushed"][1:5] == (256, 256, "attributes.form", "declared")
    assert found["claim:vegan"][1:6] == (64, 64, "description", "claim", "vegan")
    assert found["word:ice"][1:6] == (64, 64, "title", "words", "ice")


def test_what_smells_is_known_from_any_field() -> None:
    things = Things(Settings(products={"title": 256, "category": 256}))
    found = dict(things.product({"title": "Lemon fresh", "category": "soap"}))
    assert "scent:lemon" in found
    assert "flavour:lemon" not in found


def test_rarity_weighs_and_leaves_out() -> None:
    counted = {"brand:acme": 1, "category:frozen": 1024, "colour:clear": 128, "season:summer": 1024}
    things = Things(rarity=rarity(1024, counted, floor_q8=32, full_at=64))
    parts = {part.marker: part for part in things.explain("product", ICE)}
    weighed = {name: part.salience_q8 for name, part in parts.items()}
    # On everything: the floor. One in eight is half of the way to one in 64. Once: left out.
    # Not counted: it came later, and counts fully. Declared as DNA: as it is.
    assert weighed == {
        "brand:acme": 0,
        "category:frozen": 32,
        "pack:22-lb": 256,
        "colour:clear": 144,
        "colour:white": 256,
        "season:summer": 128,
    }
    assert parts["colour:clear"].products == 128
    assert parts["colour:clear"].before_q8 == 256
    assert "brand:acme" not in dict(things.product(ICE))
    assert [part.marker for part in things.explain("product", ICE)][-1] == "brand:acme"


def test_a_product_is_never_left_without_dna() -> None:
    things = Things(rarity=rarity(100, {"brand:a": 1, "category:b": 2}, min_products=5))
    assert dict(things.product({"brand": "a", "category": "b"})) == {"category:b": 256}
    # What is declared is enough.
    assert dict(things.product({"brand": "a", "dna": ["x:y"]})) == {"x:y": 256}


@given(st.integers(1, 10**6), st.data())
def test_rarer_never_counts_less(products: int, data: st.DataObject) -> None:
    few = data.draw(st.integers(1, products))
    many = data.draw(st.integers(few, products))
    floor = data.draw(st.integers(1, 256))
    found = rarity(products, {"a:few": few, "a:many": many}, floor_q8=floor, full_at=64)
    assert floor <= found.factor_q8("a:many") <= found.factor_q8("a:few") <= 256
    if many == products:
        assert found.factor_q8("a:many") == floor
    if few * 128 <= products:
        assert found.factor_q8("a:few") == 256


def test_learning_counts_each_product_once() -> None:
    counts = learn([["a:x", "a:x", "b:y"], ["a:x"], []], ["acme"])
    assert (counts.products, counts.markers) == (3, {"a:x": 2, "b:y": 1})
    again = Counts.from_json(counts.to_json())
    assert (again, again.digest) == (counts, counts.digest)
    assert counts.digest != learn([["a:x"], ["a:x"], ["b:y"]]).digest
    with pytest.raises(ValueError, match="format 9"):
        Counts.from_json('{"format": 9}')


def test_brands_are_names_that_enough_products_have() -> None:
    dna = [["brand:old-mill", "brand:x1"], ["brand:old-mill"], ["brand:5072"], ["brand:5072"]]
    assert brands_of(dna, 2) == ["old mill"]
    assert brands_of(dna, 1) == ["old mill"]
    found = Things(
        Settings(products={"title": 256}), Rarity(Counts(9, {}, ("old mill",)), RaritySettings())
    )
    assert "brand:old-mill" in dict(found.product({"title": "Bread by Old Mill"}))


SOAP: dict[str, Any] = {"brand": "acme", "attributes": {"claim": "organic"}}
TEA: dict[str, Any] = {"brand": "acme", "category": "tea"}
PRODUCTS = {"soap": SOAP, "tea": TEA}


def product(name: str) -> dict[str, Any] | None:
    return PRODUCTS.get(name)


def test_content_has_its_texts_and_the_mean_of_its_products() -> None:
    things = Things(product=product)
    mail = {
        "subject": "Vegan week",
        "body": "Organic and vegan, 20% off",
        "products": ["soap", "tea", "tea", "gone"],
        "attributes": {"occasion": "spring"},
        "dna": {"category:tea": 2},
    }
    found = dict(things.content(mail))
    assert found == {
        "category:tea": 512,  # declared: it wins
        "occasion:spring": 256,
        "claim:vegan": 256,  # of the subject, which weighs more
        "claim:organic": 128,  # of the body, a half; of one of two products, a quarter
        "word:week": 64,
        "brand:acme": 128,  # of both products, a half
    }
    parts = {part.marker: part for part in things.explain("content", mail)}
    assert (parts["brand:acme"].field, parts["brand:acme"].rule) == ("products", "mean")


def test_the_weights_of_content_are_settings() -> None:
    things = Things(Settings(contents={}, products_q8=256), product=product)
    assert dict(things.content({"subject": "vegan", "products": ["tea"]})) == {
        "brand:acme": 256,
        "category:tea": 256,
    }
    none = Things(Settings(contents={}, products_q8=0), product=product)
    assert none.content({"subject": "vegan", "products": ["tea"]}) == []
    assert none.digest() != ""


def test_offers_and_places_are_read_where_asked() -> None:
    offer = {"dna": ["ride:taxi"], "content": {"title": "Organic tea", "image": "x.png"}}
    place = {"kind": "place:hotel", "name": "Grand Spa Hotel, vegan kitchen"}
    assert Things().offer(offer) == [("ride:taxi", 256)]
    assert Things().place(place) == [("place:hotel", 256)]
    text = TextSettings(off=frozenset({"words"}))
    things = Things(Settings(offers={"title": 256}, places={"name": 256}, text=text))
    assert dict(things.offer(offer)) == {"ride:taxi": 256, "claim:organic": 256}
    assert dict(things.place(place)) == {"place:hotel": 256, "claim:vegan": 256}
    # Of a place, only kinds of place are at its cells.
    assert things.place_kinds(place) == [("place:hotel", 256)]


def test_digests_tell_settings_and_counts_apart() -> None:
    made = [
        Things(Settings(products={"title": 256})),
        Things(Settings(products={"title": 128})),
        Things(rarity=rarity(9, {"a:x": 1})),
        Things(rarity=rarity(9, {"a:x": 2})),
        Things(Settings(rarity=RaritySettings(floor_q8=1)), rarity(9, {"a:x": 2})),
    ]
    assert len({things.digest() for things in made}) == len(made)
    assert Things(Settings(said=True)).digest() == ""
