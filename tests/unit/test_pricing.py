"""What an offer's price, margin and discount come to, on the server and on devices."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.engine.documents import InvalidDocument
from genome_edge.v1 import release_pb2
from genome_server.documents import offer_spec
from genome_server.genomes.build import build
from genome_server.home import Home
from genome_server.releases.publish import publish
from genome_server.value.pricing import (
    STEPS,
    depth_markers,
    ladders,
    losses,
    odd_ladders,
    with_depth,
    worth_of,
)
from tests.serving import make_home
from tests.unit.releasing import contents
from tests.unit.server_shell import Shell

LATTE = {"id": "latte-20", "price": 5.0, "margin": 0.6, "discount": 0.2, "ladder": "latte"}


def test_a_discount_comes_off_the_margin() -> None:
    spec = offer_spec(LATTE)
    assert (spec.value_micros, spec.cost_micros) == (3_000_000, 1_000_000)
    assert worth_of(LATTE) == pytest.approx(2.0)
    assert spec.exclusivity_group == "ladder:latte"
    # What is said of value and cost wins, and adds to it.
    said = offer_spec({**LATTE, "value": 4, "cost": 0.25, "exclusivity_group": "drinks"})
    assert (said.value_micros, said.cost_micros) == (4_000_000, 1_250_000)
    assert said.exclusivity_group == "drinks"
    assert offer_spec({"id": "plain"}) == offer_spec({"id": "plain", "price": 5.0})


@given(st.floats(0, 10_000), st.floats(0, 1), st.floats(0, 1), st.none() | st.floats(0, 100))
def test_devices_are_told_what_the_server_reckons(
    price: float, margin: float, discount: float, cost: float | None
) -> None:
    document: dict[str, Any] = {"id": "a", "price": price, "margin": margin, "discount": discount}
    if cost is not None:
        document["cost"] = cost
    spec = offer_spec(document)
    told = (spec.value_micros - spec.cost_micros) / 1e6
    assert told == pytest.approx(price * (margin - discount) - (cost or 0.0), abs=3e-6)
    assert told == pytest.approx(worth_of(document), abs=1e-9)
    assert bool(list(losses(document))) == (discount > 0 and worth_of(document) < 0)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"margin": 0.5}, "price"),
        ({"ladder": "latte"}, "discount"),
        ({"price": 1, "margin": 1.5}, "margin"),
        ({"discount": 20}, "discount"),
        ({"price": -1}, "price"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(document: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidDocument) as error:
        offer_spec({"id": "a", **document})
    assert error.value.field == field


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_deeper_has_all_that_the_shallower_has(one: float, other: float) -> None:
    shallow, deep = (depth_markers(depth) for depth in sorted((one, other)))
    assert deep[: len(shallow)] == shallow
    assert len(deep) == sum(step <= round(max(one, other) * 100, 6) for step in STEPS)


def test_depth_is_dna_and_what_is_said_of_it_stays() -> None:
    assert depth_markers(0.2) == [f"discount-at-least:{step}" for step in (5, 10, 15, 20)]
    assert depth_markers(0.3)[-1] == "discount-at-least:30"  # whatever 0.3 is in binary
    said = [{"marker": "discount-at-least:10", "salience": 0.5}, "brand:acme"]
    found = with_depth({"id": "a", "discount": 0.1, "dna": said})["dna"]
    assert found == [*said, {"marker": "discount-at-least:5", "salience": 1.0}]
    assert with_depth({"id": "a", "dna": said}) == {"id": "a", "dna": said}
    mapping = with_depth({"id": "a", "discount": 0.05, "dna": {"brand:acme": 1.0}})["dna"]
    assert mapping == {"discount-at-least:5": 1.0, "brand:acme": 1.0}


def test_ladders_are_told_and_what_is_odd_about_them() -> None:
    documents = [
        (name, {**LATTE, "id": name, "discount": depth, "ladder": ladder})
        for name, depth, ladder in (
            ("c", 0.3, "latte"), ("a", 0.1, "latte"), ("b", 0.12, "latte"), ("d", 0.1, "tea"),
        )
    ]  # fmt: skip
    found = ladders([*documents, ("e", {"id": "e"})])
    assert [rung.offer for rung in found["latte"]] == ["a", "b", "c"]
    assert [rung.worth for rung in found["latte"]] == pytest.approx([2.5, 2.4, 1.5])
    first, second = odd_ladders(documents)
    assert first.startswith("ladder 'latte': 'a' and 'b' have the same depth to a model")
    assert second == "ladder 'tea' has one rung: there is nothing to choose from"


def test_from_a_file_to_what_devices_have(tmp_path: Path) -> None:
    shell = Shell(tmp_path, made=False)
    tenant = make_home(tmp_path / "home").tenant()
    rows = "".join(
        f"latte-{depth},latte,5,0.6,{depth / 100},service:latte\n" for depth in (10, 20, 70)
    )
    file = shell.file("latte.csv", f"id,ladder,price,margin,discount,dna\n{rows}")
    checked = shell.json("offers", "check", file)
    why = "70% are taken off where 60% remain: each success loses 0.50"
    assert [(one["line"], one["column"], one["cause"]) for one in checked["notes"]] == [
        (4, "discount", why)
    ]
    said = shell.json("import", "offers", file)
    assert said["notes"] == [f"offer 'latte-70': discount: {why}"]
    assert shell.json("offers", "show", "latte-20")["worth"] == pytest.approx(2.0)
    assert "# a success is worth 2," in shell.call("offers", "show", "latte-20").output
    with closing(tenant.open_store()) as store:
        build(store, None, tenant.dna_path)
    done = publish(tenant, untrained=True)
    parts = contents(Home(tmp_path / "home").tenant(), done.manifest)
    catalogue = release_pb2.OfferCatalogue.FromString(parts["offers"])
    latte = {one.id: one for one in catalogue.offers}["latte-20"]
    assert (latte.value_micros, latte.cost_micros) == (3_000_000, 1_000_000)
    assert [one.marker for one in latte.dna] == ["service:latte", *depth_markers(0.2)]
    bad = shell.file("bad.csv", "id,margin\nx,0.5\n")
    assert shell.call("import", "offers", bad, code=1)
