"""The sections of dna.yaml on the DNA of things: read, told where they are wrong, kept whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from genome_server.dna_words import default_text
from genome_server.things.fields import FieldError
from genome_server.things.settings import Settings, read_settings
from genome_server.things.text import Rule

FULL = """
text:
  products: {title: 1, description: 0.5, attributes.size: 1}
  offers: [title, body]
  places: [name]
  contents: [subject]
  without: [words]
  salience: {size: 1}
  brands: [Acme, "Old  Mill"]
  rules:
    - {namespace: ply, pattern: "{number} ply"}
    - {namespace: grade, words: {top: [Grade A, premium], low: second}, salience: 0.5}
    - {namespace: fizzy, pattern: "semi? sparkling", value: "yes"}
    - {namespace: material, words: [cotton, stainless steel]}
rarity: {floor: 0.25, full_at: 16, min_products: 3, prune: {size: 5}}
content: {products: 0.25}
"""


def test_everything_that_can_be_said() -> None:
    found = read_settings(yaml.safe_load(FULL))
    assert found.products == {"title": 256, "description": 128, "attributes.size": 256}
    assert (found.offers, found.places) == ({"title": 256, "body": 256}, {"name": 256})
    assert found.contents == {"subject": 256}
    assert found.text.off == frozenset({"words"})
    assert found.text.salience_q8 == {"size": 256}
    assert found.text.brands == ("acme", "old mill")
    assert found.text.rules == (
        Rule("rules[0]", "ply", 256, (), ("{number}", "ply")),
        Rule("rules[1]", "grade", 128, (("top", ("grade a", "premium")), ("low", ("second",)))),
        Rule("rules[2]", "fizzy", 256, (), ("semi?", "sparkling"), "yes"),
        Rule(
            "rules[3]",
            "material",
            256,
            (("cotton", ("cotton",)), ("stainless steel", ("stainless steel",))),
        ),
    )
    rarity = found.rarity
    assert (rarity.floor_q8, rarity.full_at, rarity.min_products) == (64, 16, 3)
    assert (rarity.least("size"), rarity.least("brand")) == (5, 3)
    assert (found.products_q8, found.said) == (64, True)


def test_kept_and_read_again_they_are_the_same() -> None:
    found = read_settings(yaml.safe_load(FULL))
    again = Settings.from_json(found.to_json())
    assert again.to_json() == found.to_json()
    assert again.text == found.text
    assert again.rarity == found.rarity


def test_without_the_sections_only_content_is_read() -> None:
    found = read_settings({"kinds": {}})
    assert found == Settings()
    assert not found.said
    assert not {**found.products, **found.offers, **found.places}
    assert found.contents == {"subject": 256, "body": 128}


def test_what_init_writes_reads_titles_and_proposes_rarity() -> None:
    lines = default_text(datetime(2026, 6, 30, tzinfo=UTC)).splitlines()
    found = read_settings(yaml.safe_load("\n".join(lines)))
    assert found == Settings(products={"title": 256}, said=True)
    begin = lines.index("# rarity:")
    proposed = [line.removeprefix("# ") for line in lines[begin : begin + 2]]
    assert read_settings(yaml.safe_load("\n".join(proposed))) == Settings(said=True)


@pytest.mark.parametrize(
    ("section", "value", "cause"),
    [
        ("text", {"product": []}, "text.product: unknown field; did you mean text.products?"),
        ("text", {"products": ["titel"]}, "text.products.titel: is no field with text; did you"),
        ("text", {"products": "title"}, "text.products: must be a list of fields"),
        ("text", {"products": {"title": 0}}, "text.products.title: 0 is no number from 1/256"),
        ("text", {"without": ["sizes"]}, "text.without: 'sizes' is no built-in rule; did you mean"),
        ("text", {"salience": {"size": 17}}, "text.salience.size: 17 is no number"),
        ("text", {"brands": ["-"]}, "text.brands: '-' is no word"),
        ("text", {"rules": {}}, "text.rules: must be a list"),
        ("text", {"rules": [{"words": ["a"]}]}, "text.rules[0].namespace: is missing"),
        ("text", {"rules": [{"namespace": "A b", "words": ["a"]}]}, "text.rules[0].namespace: "),
        ("text", {"rules": [{"namespace": "a"}]}, "text.rules[0]: a rule has either words or"),
        (
            "text",
            {"rules": [{"namespace": "a", "words": ["b"], "pattern": "c"}]},
            "text.rules[0]: a rule has either words or",
        ),
        ("text", {"rules": [{"namespace": "a", "words": [True]}]}, "text.rules[0].words: True is"),
        ("text", {"rules": [{"namespace": "a", "words": []}]}, "text.rules[0].words: is empty"),
        (
            "text",
            {"rules": [{"namespace": "a", "pattern": "(a+)+ b", "value": "x"}]},
            "text.rules[0].pattern: '(a+)+' is no word",
        ),
        (
            "text",
            {"rules": [{"namespace": "a", "pattern": "a b"}]},
            "text.rules[0].value: is missing",
        ),
        (
            "text",
            {"rules": [{"namespace": "a", "pattern": "a? b?", "value": "x"}]},
            "text.rules[0].pattern: at least one word must be there",
        ),
        (
            "text",
            {"rules": [{"namespace": "a", "pattern": "a " * 9, "value": "x"}]},
            "is no pattern of 1 to 8 words",
        ),
        ("text", {"rules": [{"namespace": "a", "words": ["b"], "salience": "x"}]}, "salience: 'x'"),
        ("text", {"rules": [{"namespace": "a", "words": ["b"]}] * 101}, "101 rules; at most 100"),
        ("rarity", {"floor": 2}, "rarity.floor: 2 is no number"),
        ("rarity", {"full_at": 1}, "rarity.full_at: 1 is no whole number of at least 2"),
        ("rarity", {"prune": {"size": "x"}}, "rarity.prune.size: 'x' is no whole number"),
        ("rarity", [], "rarity: must be a mapping"),
        ("content", {"product": 1}, "content.product: unknown field; did you mean content.prod"),
    ],
)
def test_what_is_wrong_is_named(section: str, value: Any, cause: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_settings({section: value})
    assert cause in str(caught.value)
