"""`genome-server dna`, and content from the import to a genome, as a person goes about it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from genome_server.genomes.dna import StoreDna, known_thing
from genome_server.genomes.rows import row_of
from tests.unit.server_shell import Shell

WHEN = "2026-03-01T18:05:00+01:00"
RULES = """
text:
  products: [title, size]
rarity: {full_at: 2}
"""
ROWS: dict[str, list[dict[str, Any]]] = {
    "products": [
        {"id": "ice", "title": "ICE - CRUSHED/CUBED", "size": "22 LB", "category": "ice"},
        {"id": "p:1", "title": "Crushed nuts, gluten free", "category": "nuts"},
        {"id": "soap", "title": "Vegan lemon soap", "category": "soap", "brand": "acme"},
    ],
    "contents": [
        {"id": "mail", "subject": "Vegan week", "body": "20% off", "products": ["soap", "ice"]},
    ],
    "places": [{"id": "h", "kind": "hotel", "cells": ["8a2a100d2d57fff"], "name": "Grand"}],
    "offers": [{"id": "taxi", "dna": {"service:taxi": 0.5}}],
    "customers": [{"id": "anna", "consent": ["personalisation"]}],
    "interactions": [
        {
            "customer": "anna",
            "kind": "open",
            "content": "mail",
            "time": WHEN,
        }
    ],
}


@pytest.fixture
def person(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    with made.tenant.dna_path.open("a") as file:
        file.write(RULES)
    for kind, rows in ROWS.items():
        path = made.file(f"{kind}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        made.call("import", kind, path)
    return made


def weighed(shown: dict[str, Any]) -> dict[str, float]:
    return {one["marker"]: one["weighed"] for one in shown["dna"]}


def test_show_explains_every_marker(person: Shell) -> None:
    shown = person.json("dna", "show", "ice")
    assert (shown["kind"], shown["id"], shown["built"]) == ("product", "ice", True)
    found = {one["marker"]: one for one in shown["dna"]}
    assert found["size:10kg"] == {
        "marker": "size:10kg",
        "salience": 0.5,
        "weighed": 0.5,
        "kept": True,
        "field": "size",
        "rule": "size",
        "said": "22 lb",
        "products": None,
    }
    assert found["category:ice"]["rule"] == "declared"
    text = person.call("dna", "show", "ice").stdout
    assert "form:crushed" in text
    assert "size '22 lb'" in text


def test_show_knows_every_kind_of_thing(person: Shell) -> None:
    assert weighed(person.json("dna", "show", "p:1"))["claim:gluten-free"] == 1.0
    assert weighed(person.json("dna", "show", "product:soap"))["scent:lemon"] == 0.75
    assert weighed(person.json("dna", "show", "offer:taxi")) == {"service:taxi": 0.5}
    assert weighed(person.json("dna", "show", "place:h")) == {"place:hotel": 1.0}
    mail = weighed(person.json("dna", "show", "content:mail"))
    assert mail["claim:vegan"] == 1.0
    assert mail["brand:acme"] == 0.25
    text = weighed(person.json("dna", "show", "--text", "ICE - CRUSHED/CUBED, 22 LB"))
    assert text == {"form:crushed": 0.5, "form:cubed": 0.5, "size:10kg": 0.5, "word:ice": 0.25}
    assert "it has no DNA" in person.call("dna", "show", "--text", "-").stdout


def test_show_refuses_what_is_not_there(person: Shell) -> None:
    assert "did you mean 'soap'" in person.call("dna", "show", "soup", code=1).output
    assert "no offer 'nope'" in person.call("dna", "show", "offer:nope", code=1).output
    person.call("dna", "show", code=2)
    person.call("dna", "show", "ice", "--text", "x", code=2)


def test_learn_keeps_counts_and_show_says_what_they_do(person: Shell) -> None:
    dry = person.json("dna", "learn", "--dry-run")
    assert (dry["products"], dry["changed"], dry["kept"]) == (3, True, False)
    assert weighed(person.json("dna", "show", "ice"))["size:10kg"] == 0.5
    learnt = person.json("dna", "learn")
    assert learnt["kept"]
    assert learnt["namespaces"]["form"] == {"products": 2, "markers": 2, "left_out": 1}
    assert learnt["left_out"] == learnt["markers"] - 1
    shown = {one["marker"]: one for one in person.json("dna", "show", "ice")["dna"]}
    # Only `crushed` is on two products; everything else is on one, and left out.
    assert [name for name, one in shown.items() if one["kept"]] == ["form:crushed"]
    assert shown["form:crushed"]["products"] == 2
    assert shown["form:crushed"]["weighed"] < shown["form:crushed"]["salience"]
    text = person.call("dna", "show", "ice").stdout
    assert "left out" in text
    again = person.call("dna", "learn").stdout
    assert "3 products have" in again
    assert "nothing has changed" in again
    assert person.json("dna", "learn", "--forget") == {"forgotten": True}
    assert person.json("dna", "learn", "--forget") == {"forgotten": False}
    assert weighed(person.json("dna", "show", "ice"))["size:10kg"] == 0.5
    person.call("dna", "learn", "--forget", "--dry-run", code=2)


def test_learn_needs_products(tmp_path: Path) -> None:
    bare = Shell(tmp_path)
    assert "there are no products" in bare.call("dna", "learn", code=1).output


def test_a_wrong_rule_is_named_by_file_and_field(person: Shell) -> None:
    with person.tenant.dna_path.open("a") as file:
        file.write("content: {product: 1}\n")
    told = person.call("dna", "show", "ice", code=1).output
    assert "dna.yaml: content.product: unknown field; did you mean content.products?" in told


def test_who_opens_a_mail_is_imprinted_with_it(person: Shell) -> None:
    person.call("build")
    with closing(person.tenant.open_store()) as store:
        (record,) = store.genomes()
        names = {store.vocabulary().name(i) for i in row_of(record).indices.tolist()}
    assert {"claim:vegan", "brand:acme", "form:crushed", "size:10kg", "word:week"} <= names
    assert person.json("dna", "show", "ice")["built"]
    person.call("dna", "learn")
    note = person.call("dna", "show", "ice")
    assert "run: genome-server build" in note.stderr
    assert not person.json("dna", "show", "ice")["built"]


def test_who_looks_at_a_page_is_imprinted_with_it(person: Shell) -> None:
    row = {"customer": "anna", "session": "v", "step": 1, "content": "mail", "time": WHEN}
    path = person.file("browsing.jsonl", json.dumps(row) + "\n")
    assert person.json("import", "browsing", path)["files"][0]["new"] == 1
    assert person.json("build")["imprints"] == 2
    assert person.json("status")["counts"]["contents"] == 1


def test_content_and_who_opens_it_must_be_known(person: Shell) -> None:
    path = person.file("c.jsonl", '{"id": "m", "products": ["soap", "soup"]}\n')
    told = person.json("import", "contents", path, code=1)
    assert "products[1]" in json.dumps(told)
    row = {**ROWS["interactions"][0], "content": "male"}
    path = person.file("i.jsonl", json.dumps(row) + "\n")
    told = person.json("import", "interactions", path, code=1)
    assert "'mail'" in json.dumps(told)
    row = {**ROWS["interactions"][0], "product": "soap"}
    path = person.file("i.jsonl", json.dumps(row) + "\n")
    assert "exclude each other" in json.dumps(person.json("import", "interactions", path, code=1))


def test_products_that_are_read_wait_for_their_indices(person: Shell) -> None:
    with closing(person.tenant.open_store()) as store:
        assert store.vocabulary().index("category:ice") is None
        assert store.vocabulary().index("service:taxi") is not None


def test_content_stands_where_a_product_does(person: Shell) -> None:
    with closing(person.tenant.open_store()) as store:
        known = [
            name
            for name in ("ice", "content:mail", "content:ice", "mail")
            if known_thing(store, name)
        ]
        assert known == ["ice", "content:mail"]
        store.put_documents("product", [("content:mail", {"brand": "sly"})])
        assert StoreDna(store).product("content:mail") == [("brand:sly", 256)]
        assert [name for name, _ in StoreDna(store).products()].count("content:mail") == 1


def test_count_says_what_gives_way_and_the_next_build_goes_by_it(tmp_path: Path) -> None:
    made = Shell(tmp_path)
    assert "too little to count" in made.call("dna", "count", code=1).output
    rows = [
        {"customer": f"c{n % 25}", "kind": "buy", "product": "ice" if n % 40 else "soap",
         "time": WHEN, "interaction_id": f"i{n}"}
        for n in range(1_100)
    ]  # fmt: skip
    people = [{"id": f"c{n}", "consent": ["personalisation", "learning"]} for n in range(25)]
    things = [{"id": "ice", "category": "ice"}, {"id": "soap", "category": "soap"}]

    def take(kind: str, some: list[dict[str, Any]]) -> None:
        path = made.file(f"{kind}.jsonl", "".join(json.dumps(row) + "\n" for row in some))
        made.call("import", kind, path)

    take("products", things)
    take("customers", people)
    take("interactions", rows[:900])
    assert "at least 1,000 interactions of 20 customers" in made.call("dna", "count", code=1).output
    take("interactions", rows[900:])
    before = made.json("build")["epoch"]
    tried = made.json("dna", "count", "--dry-run")
    assert (tried["interactions"], tried["changed"], tried["kept"]) == (1_100, True, False)
    assert made.json("build")["epoch"] == before
    told = made.call("dna", "count").output
    assert "category:ice" in told
    assert "97.5%" in told
    assert "next: genome-server build" in told
    assert made.json("build")["epoch"] == before + 1
    assert not made.json("dna", "count")["changed"]
    assert made.json("dna", "count", "--forget") == {"forgotten": True}
    assert made.json("build")["epoch"] == before + 2
    assert made.json("dna", "count", "--forget") == {"forgotten": False}
    made.call("dna", "count", "--forget", "--dry-run", code=2)


def test_what_a_few_customers_do_is_no_statistic(tmp_path: Path) -> None:
    made = Shell(tmp_path)
    some: dict[str, list[dict[str, Any]]] = {
        "products": [{"id": "ice", "category": "ice"}],
        "customers": [{"id": f"c{n}", "consent": ["learning"]} for n in range(19)],
        "interactions": [
            {"customer": f"c{n % 19}", "kind": "buy", "product": "ice", "time": WHEN,
             "interaction_id": f"i{n}"}
            for n in range(1_200)
        ],
    }  # fmt: skip
    for kind, rows in some.items():
        path = made.file(f"{kind}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        made.call("import", kind, path)
    assert "of 20 customers" in made.call("dna", "count", code=1).output
    made.tenant.log_path.unlink()
    assert "nothing happened yet" in made.call("dna", "count", code=1).output
