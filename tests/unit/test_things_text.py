"""Rules over text: sizes, claims and the rest are found; no text and no rule makes them slow."""

from __future__ import annotations

import hashlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.markers import split
from genome_server.things import words
from genome_server.things.text import MAX_MARKERS, VERSION, Rule, TextRules, TextSettings

RULES = TextRules(TextSettings(), ("acme", "old mill"))


def said(text: str, rules: TextRules = RULES) -> set[str]:
    return {found.marker for found in rules.read(text)}


@pytest.mark.parametrize(
    ("text", "markers"),
    [
        (
            "ICE - CRUSHED/CUBED, 22 LB",
            {"word:ice", "form:crushed", "form:cubed", "size:10kg"},
        ),
        ("1 LB", {"size:450g"}),
        ("16 oz", {"size:450g"}),
        ("454g", {"size:450g"}),
        ("12 OZ", {"size:340g"}),
        ("12 FL OZ", {"size:350ml"}),
        ("11.5 fl. oz.", {"size:340ml"}),
        ("1/2 GAL", {"size:1.9l"}),
        ("½ gal", {"size:1.9l"}),
        ("8 1/4 OZ", {"size:230g"}),
        ("2 LB 3 OZ", {"size:990g"}),
        ("1,5 l", {"size:1.5l"}),
        ("1,000 ml", {"size:1l"}),
        ("AB    8 OZ", {"size:230g"}),
        ("750ML", {"size:750ml"}),
        ("500 mg", {"size:500mg"}),
        ("66 FT", {"size:20m"}),
        ("100 sq ft", {"size:9.3m2"}),
        ("6/12 OZ", {"pack:6", "size:340g"}),
        ("12/.5 L", {"pack:12", "size:500ml"}),
        ("6 x 330 ml", {"pack:6", "size:330ml"}),
        ("24 PK 12 OZ", {"pack:24", "size:340g"}),
        ("12 OZ/6 CT", {"pack:6", "size:340g"}),
        ("6-pack", {"pack:6"}),
        ("pack of 6", {"pack:6"}),
        ("1 DZ", {"pack:12"}),
        ("64 LOADS", {"loads:64"}),
        # An article number before its unit, one of a thing, a range, and no unit at all.
        ("13943622 CT", set()),
        ("1 CT", set()),
        ("51129513 OZ", set()),
        ("3 in 1", set()),
        ("22", set()),
        # Claims: spelled as people do, and not where they are denied.
        ("GLUTEN-FREE", {"claim:gluten-free"}),
        ("no sugar added", {"claim:no-added-sugar"}),
        ("sugar free", {"claim:sugar-free"}),
        ("Milk, 0% fat", {"claim:fat-free", "word:milk"}),
        ("non-organic", set()),
        ("not vegan", set()),
        ("NON-GMO", {"claim:non-gmo"}),
        ("decaf", {"claim:caffeine-free"}),
        # A sentence's end parts phrases.
        ("sugar. free", {"word:sugar", "word:free"}),
        # The same word is a flavour, or a scent where something smells.
        ("lemon cookies", {"flavour:lemon", "word:cookie"}),
        ("lemon candles", {"scent:lemon", "word:candle"}),
        ("Lavender soap", {"scent:lavender", "word:soap"}),
        ("PEANUT BUTTER", {"flavour:peanut-butter"}),
        # Brands that the catalogue knows.
        ("Old Mill bread", {"brand:old-mill", "word:bread"}),
        ("<p class='x'>Acme</p>", {"brand:acme"}),
        ("", set()),
        ("- / % 🦊 的", set()),
    ],
)
def test_what_a_text_says(text: str, markers: set[str]) -> None:
    assert said(text) == markers


def test_a_finding_says_rule_words_and_salience() -> None:
    (found,) = RULES.read("Net weight: 22 LBS", smells=False)[:1]
    assert found == ("size:10kg", 128, "size", "22 lbs")


def test_built_ins_are_turned_off_and_weighed() -> None:
    rules = TextRules(
        TextSettings(off=frozenset({"words", "form"}), salience_q8={"size": 256, "claim": 64})
    )
    found = {one.marker: one.salience_q8 for one in rules.read("Organic ice, crushed, 22 LB")}
    assert found == {"size:10kg": 256, "claim:organic": 64}


def test_own_rules() -> None:
    rules = TextRules(
        TextSettings(
            off=frozenset({"words"}),
            rules=(
                Rule("r0", "ply", 256, pattern=("{number}", "ply|lagig")),
                Rule("r1", "grade", 128, phrases=(("top", ("grade a", "premium")),)),
                Rule("r2", "roast", 256, pattern=("{word}", "roast*")),
                Rule("r3", "fizzy", 256, pattern=("semi?", "sparkling"), value="yes"),
            ),
        )
    )
    assert said("3 ply, 2-lagig", rules) == {"ply:3", "ply:2"}
    assert said("GRADE A eggs", rules) == {"grade:top"}
    assert said("dark roasted coffee", rules) == {"roast:dark", "form:roasted", "flavour:coffee"}
    assert said("sparkling or semi sparkling", rules) == {"fizzy:yes"}
    assert rules.read("premium")[0] == ("grade:top", 128, "r1", "premium")


def test_of_many_markers_the_most_salient_are_kept() -> None:
    text = " ".join(f"word{chr(97 + n)}{chr(97 + m)}" for n in range(9) for m in range(9))
    found = RULES.read(f"{text} organic 22 lb")
    assert len(found) == MAX_MARKERS
    assert {"claim:organic", "size:10kg"} <= {one.marker for one in found}


@given(st.text(max_size=300))
@settings(max_examples=60, deadline=None)
def test_every_text_gives_markers_and_the_same_again(text: str) -> None:
    found = TextRules(TextSettings()).read(text)
    assert found == TextRules(TextSettings()).read(text)
    for one in found:
        split(one.marker)
        assert 1 <= one.salience_q8 <= 4096


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "1," * 100_000,
        "1/" * 100_000,
        "<" * 100_000,
        "no sugar " * 30_000,
        "aaaa " * 40_000 + "b",
        "9" * 100_000 + " oz",
    ],
)
def test_no_text_hangs(text: str) -> None:
    hard = TextSettings(
        rules=tuple(Rule(f"r{n}", "x", 256, pattern=("{word}?",) * 7 + ("b",)) for n in range(5))
    )
    started = time.process_time()
    TextRules(hard).read(text)
    # Linear, it takes some tens of milliseconds; a pattern that goes back over what it has
    # tried takes longer than anybody waits.
    assert time.process_time() - started < 5


def test_other_words_need_another_version() -> None:
    """Genomes are built anew where the rules' words change: the version has to say so."""
    lists = [words.CLAIMS, words.FORMS, words.AROMAS, words.SCENTS]
    sets = [words.SMELLING, words.NEGATIONS, words.STOP]
    text = json.dumps([*lists, *map(sorted, sets)], sort_keys=True)
    assert (VERSION, hashlib.sha256(text.encode()).hexdigest()[:16]) == (1, "750824489bdc4c3d")
