"""`genomes regions` and `genomes stock`, from imported files with a planted truth to the map."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pytest

from tests.unit.ingesting import write
from tests.unit.regions_town import cells_around
from tests.unit.server_shell import Shell

CELLS = cells_around(3, 5)
CUSTOMERS = (60, 40, 30)
# Of each region: how often lavender, mint, cedar is bought; all want each brand alike.
TASTES = ((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.3, 0.3, 0.4))
SCENTS = ("lavender", "mint", "cedar")
BRANDS = ("acme", "mill")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Three regions that want different scents; and one soap that nobody has bought yet."""
    made = Shell(tmp_path_factory.mktemp("town"))
    rng = np.random.default_rng(7)
    products = [
        {"id": f"{scent}-{brand}", "brand": brand, "attributes": {"scent": scent}}
        for scent in SCENTS
        for brand in BRANDS
    ]
    products.append({"id": "new", "title": "New", "brand": "late", "attributes": {"scent": "mint"}})
    products.append({"id": "unheard", "attributes": {"scent": "tar"}})
    consent = ["learning", "location"]
    customers: list[dict[str, Any]] = []
    bought = []
    for region, (cell, count, taste) in enumerate(zip(CELLS, CUSTOMERS, TASTES, strict=True)):
        fine = sorted(h3.cell_to_children(cell, 7))
        for n in range(count):
            name = f"c-{region}-{n}"
            row: dict[str, Any] = {"id": name, "consent": consent}
            if n % 2:  # of half of them it is known where they live
                row["attributes"] = {"home": f"{fine[n % 2]:x}"}
            customers.append(row)
            for day in range(6):
                scent = SCENTS[int(rng.choice(3, p=taste))]
                bought.append(
                    {
                        "customer": name,
                        "kind": "buy",
                        "product": f"{scent}-{BRANDS[int(rng.integers(2))]}",
                        "time": f"2026-03-{day + 1:02}T12:00:00+00:00",
                        "cell": f"{h3.cell_to_center_child(cell, 9):x}",
                    }
                )
    for n in range(20):  # who did not agree wants cedar, a lot
        customers.append({"id": f"x-{n}", "consent": ["learning" if n % 2 else "location"]})
        bought.append({**bought[0], "customer": f"x-{n}", "product": "cedar-acme"})
    for kind, rows in (("products", products), ("customers", customers), ("interactions", bought)):
        made.call("import", kind, write(made.root / f"{kind}.jsonl", rows))
    made.call("build")
    return made


def shares(demand: Any) -> dict[str, float]:
    return {row["cell"]: row["share"] for row in demand["regions"]}


def test_the_planted_tastes_are_found_again(town: Shell) -> None:
    asked = [f"--marker=scent:{scent}" for scent in SCENTS]
    said = town.json("genomes", "regions", "--days", 3650, *asked)
    assert (said["people"], said["located"], said["no_location"]) == (140, 130, 10)
    assert (said["by_home"], said["by_log"], said["no_learning"]) == (65, 65, 10)
    for scent, name in enumerate(SCENTS):
        truth = np.array([n * taste[scent] for n, taste in zip(CUSTOMERS, TASTES, strict=True)])
        found = shares(said["demand"][f"scent:{name}"])
        for cell, share in zip(CELLS, truth / truth.sum(), strict=True):
            assert found[f"{cell:x}"] == pytest.approx(share, abs=0.06)
        assert said["demand"][f"scent:{name}"]["withheld"] == {"share": 0.0, "people": 0}


def test_homes_are_known_more_finely(town: Shell) -> None:
    said = town.json("genomes", "regions", "--days", 3650, "--product", "new", "--resolution", 7)
    assert said["by_finest_resolution"] == {"5": 65, "7": 65}
    (found,) = said["demand"].values()
    levels = {h3.get_resolution(h3.str_to_int(row["cell"])) for row in found["regions"]}
    assert levels == {5, 7}
    assert found["ignored"] == ["brand:late"]
    assert sum(shares(found).values()) + found["withheld"]["share"] == pytest.approx(1.0)
    coarse = town.json("genomes", "regions", "--days", 3650, "--product", "new")
    (whole,) = coarse["demand"].values()
    step = 5 / sum(row["people"] for row in whole["regions"])  # no finer is it told
    for cell, share in shares(whole).items():
        inside = [
            value
            for key, value in shares(found).items()
            if h3.int_to_str(h3.cell_to_parent(h3.str_to_int(key), 5)) == cell
        ]
        assert sum(inside) == pytest.approx(share, abs=step)


def test_few_are_withheld_and_that_is_said(town: Shell) -> None:
    said = town.json("genomes", "regions", "--days", 3650, "--least", 200, "--product", "new")
    (found,) = said["demand"].values()
    assert found["regions"] == []
    assert found["withheld"]["share"] == pytest.approx(1.0)
    text = town.call("genomes", "regions", "--days", 3650, "--least", 200, "--product", "new")
    assert "withheld: 100.0 %, of " in text.stdout
    page = town.root / "none.html"
    refused = town.call(
        "genomes", "regions", "--least", 200, "--product", "new", "--html", page, code=1
    )
    assert "there is no" in refused.stderr
    assert not page.exists()


@pytest.mark.parametrize("command", ["regions", "stock"])
def test_fewer_than_ten_cannot_be_asked_for(town: Shell, command: str) -> None:
    stores, units = stock_files(town)
    more = ("--stores", stores, "--inventory", units) if command == "stock" else ()
    refused = town.call("genomes", command, "--least", 9, *more, code=2)
    assert "'--least': 9 is not in the range x>=10" in refused.stderr
    town.call("genomes", command, "--least", 10, "--days", 3650, *more)


def test_table_csv_and_map(town: Shell) -> None:
    stores = town.file("drawn.csv", f"id,cell\ncentre,{CELLS[0]:x}\n")
    page, table = town.root / "map.html", town.root / "demand.csv"
    text = town.call(
        "genomes", "regions", "--days", 3650, "--html", page, "--csv", table, "--stores", stores
    ).stdout
    assert "130 of about 140 people have a place (65 by their home, 65 by where they " in text
    assert "scent:lavender" in text
    drawn = page.read_text()
    assert "centre</text>" in drawn
    assert "customers, whatever they want" in drawn
    with table.open() as file:
        rows = list(csv.DictReader(file))
    total = sum(float(row["share"]) for row in rows if row["what"] == "scent:mint")
    assert total == pytest.approx(1.0)
    assert {row["cell"] for row in rows if row["what"] == "scent:mint"} == {f"{c:x}" for c in CELLS}


def stock_files(town: Shell) -> tuple[Path, Path]:
    lines = [f"s-{n},{cell:x},{'80' if n == 0 else ''}" for n, cell in enumerate(CELLS)]
    stores = town.file("stores.csv", "id,cell,capacity\n" + "\n".join(lines) + "\n")
    units = "".join(f"{s}-acme,60\n" for s in SCENTS) + "new,40\nunheard,13\n"
    return stores, town.file("units.csv", "product,quantity\n" + units)


def test_the_stock_goes_where_it_is_wanted(town: Shell) -> None:
    stores, units = stock_files(town)
    out = town.root / "plan.csv"
    asked = ("--days", 3650, "--stores", stores, "--inventory", units, "--out", out)
    said = town.json("genomes", "stock", *asked)
    by = {(row["store"], row["product"]): row for row in said["plan"]}
    for product, quantity in (("lavender-acme", 60), ("new", 40), ("unheard", 13)):
        assert sum(by[f"s-{n}", product]["units"] for n in range(3)) == quantity
        assert sum(by[f"s-{n}", product]["plain"] for n in range(3)) == quantity
    for plan in ("units", "plain"):
        assert sum(row[plan] for row in said["plan"] if row["store"] == "s-0") <= 80
    assert by["s-1", "new"]["units"] > by["s-1", "new"]["plain"] + 5  # mint lives there
    assert by["s-0", "new"]["units"] < by["s-0", "new"]["plain"]
    assert by["s-1", "new"]["drawn_by"][0]["marker"] == "scent:mint"
    for row in said["stores"]:
        mine = [one for one in said["plan"] if one["store"] == row["store"]]
        assert row["units"] == sum(one["units"] for one in mine)
        drawn = {one["marker"]: one["units"] for one in row["drawn_by"]}
        for marker, all_of_it in drawn.items():
            parts = [d["units"] for one in mine for d in one["drawn_by"] if d["marker"] == marker]
            assert all_of_it == pytest.approx(sum(parts), abs=0.05)
    drew = {
        row["store"]: max(row["drawn_by"], key=lambda one: one["units"])["marker"]
        for row in said["stores"]
    }
    assert drew == {"s-0": "scent:lavender", "s-1": "scent:mint", "s-2": "scent:cedar"}
    products = {row["product"]: row for row in said["products"]}
    assert products["unheard"]["by_customers"]
    assert sum(p["met"] for p in products.values()) > sum(p["plain_met"] for p in products.values())
    with out.open() as file:
        written = list(csv.DictReader(file))
    assert [int(row["units"]) for row in written] == [row["units"] for row in said["plan"]]
    text = town.call("genomes", "stock", *asked).stdout
    assert "unheard: no genome that may be shown shares a marker with it" in text
    # Under the tastes that were planted, it sells more than the plain plan.
    sold = {"units": 0.0, "plain": 0.0}
    for at, scent in enumerate(SCENTS):
        truth = np.array([n * taste[at] for n, taste in zip(CUSTOMERS, TASTES, strict=True)])
        wanted = 60 * truth / truth.sum()
        for plan in sold:
            there = [by[f"s-{n}", f"{scent}-acme"][plan] for n in range(3)]
            sold[plan] += float(np.minimum(there, wanted).sum())
    assert sold["units"] > sold["plain"] + 10


@pytest.mark.parametrize(
    ("stores", "units", "says"),
    [
        ("id\na\n", "product,quantity\nnew,1\n", "give it or 'place', one of the two"),
        ("id,cell\na,85283473fffffff\na,85283473fffffff\n", "", "'a' stands twice"),
        ("id,cell\na,8528347300000ff\n", "", "is not an H3 cell"),
        ("id,place\na,mall\n", "", "place"),
        ("id,cell,capacity\na,85283473fffffff,-1\n", "", "0 or more"),
        ("id,cell\na,85283473fffffff\n", "product,quantity\nnow,1\n", "did you mean 'new'"),
        ("id,cell\na,85283473fffffff\n", "product,quantity\nnew,1.5\n", "a whole number"),
        ("id,cell\na,85283473fffffff\n", "product,quantity\nnew,1\nnew,2\n", "'new' stands twice"),
    ],
)
def test_a_file_that_is_wrong_refuses_the_plan(
    town: Shell, stores: str, units: str, says: str
) -> None:
    units = units or "product,quantity\nnew,1\n"
    files = [town.file("bad-stores.csv", stores), town.file("bad-units.csv", units)]
    done = town.call("genomes", "stock", "--stores", files[0], "--inventory", files[1], code=1)
    assert says in done.stderr
    assert "bad-" in done.stderr


def test_what_is_not_known_is_refused_with_the_nearest(town: Shell) -> None:
    assert (
        "did you mean 'new'" in town.call("genomes", "regions", "--product", "nev", code=1).stderr
    )
    refused = town.call("genomes", "regions", "--marker", "scent:mnt", code=1).stderr
    assert "did you mean 'scent:mint'" in refused
    town.call("genomes", "regions", "--stores", "x.csv", code=2)
    long_ago = town.call("genomes", "regions", "--days", 1, "--marker", "scent:mint")
    assert "65 by their home, 0 by where they were seen" in long_ago.stdout


def test_without_genomes_it_says_what_to_do(tmp_path: Path) -> None:
    bare = Shell(tmp_path)
    assert "run: genome-server build" in bare.call("genomes", "regions", code=1).stderr


def test_a_home_that_a_build_derived(tmp_path: Path) -> None:
    """Evenings say where somebody lives, lunches do not."""
    made = Shell(tmp_path)
    dna = made.tenant.dna_path
    dna.write_text(dna.read_text().replace("derive: []", "derive: [home]"))
    consent = ["personalisation", "learning", "location"]
    customers = [{"id": f"c-{n}", "consent": consent} for n in range(12)]
    rows = [
        {
            "customer": f"c-{n}",
            "kind": "buy",
            "dna": ["scent:mint"],
            "time": f"2026-03-{day + 1:02}T{hour}:00:00+00:00",
            "cell": f"{cell:x}",
        }
        for n in range(12)
        for hour, cell, days in ((20, CELLS[0], 6), (12, CELLS[1], 20))
        for day in range(days)
    ]
    for kind, content in (("customers", customers), ("interactions", rows)):
        made.call("import", kind, write(made.root / f"{kind}.jsonl", content))
    made.call("build")
    asked = ("genomes", "regions", "--days", 3650, "--marker", "scent:mint")
    said = made.json(*asked)
    assert (said["by_home"], said["by_log"]) == (10, 0), "twelve, told to the nearest five"
    assert shares(said["demand"]["scent:mint"]) == {f"{CELLS[0]:x}": 1.0}
    seen = made.json(*asked, "--where", "seen")
    assert (seen["by_home"], seen["by_log"]) == (0, 10)
    found = shares(seen["demand"]["scent:mint"])
    assert found[f"{CELLS[1]:x}"] == 20 / 25, "20 of 26, told to the nearest five"
    assert not [name for name in made.json(*asked[:-2])["demand"] if "home" in name]


def test_a_store_at_an_imported_place(town: Shell) -> None:
    place = {"id": "mall", "kind": "mall", "cells": [f"{h3.cell_to_center_child(CELLS[1], 9):x}"]}
    town.call("import", "places", write(town.root / "places.jsonl", [place]))
    units = town.file("one.csv", "product,quantity\nnew,10\n")
    stores = town.file(
        "placed.jsonl",
        '{"id": "a", "place": "mall", "stock": {"new": 3}}\n'
        f'{{"id": "b", "cell": "{CELLS[0]:x}", "sales": 4}}\n',
    )
    asked = ("--days", 3650, "--stores", stores, "--inventory", units, "--reach-km", 1)
    plan = {row["store"]: row for row in town.json("genomes", "stock", *asked)["plan"]}
    assert plan["a"]["stock"] == 3
    assert plan["a"]["units"] + plan["b"]["units"] == 10
    assert plan["a"]["units"] + 3 > plan["b"]["units"]  # mint lives there
    by_sales = town.json("genomes", "stock", *asked, "--by", "sales")["plan"]
    assert {row["store"]: row["plain"] for row in by_sales} == {"a": 0, "b": 10}
    stores = town.file("lost.csv", "id,place\na,mal\n")
    lost = ("--stores", stores, "--inventory", units)
    assert "did you mean 'mall'" in town.call("genomes", "stock", *lost, code=1).stderr


def test_one_customer_more_is_not_seen_in_what_is_told(town: Shell) -> None:
    def counts() -> Any:
        said = town.json("genomes", "regions", "--days", 3650, "--product", "new")
        (found,) = said["demand"].values()
        numbers = [n for n in said.values() if isinstance(n, int)]
        return said, numbers, [row["people"] for row in found["regions"]]

    said, numbers, people = counts()
    new = {"id": "one-more", "consent": ["learning", "location"]}
    bought = {
        "customer": "one-more", "product": f"mint-{BRANDS[0]}", "kind": "buy",
        "cell": f"{h3.cell_to_center_child(CELLS[1], 9):x}",
        "time": "2026-03-01T10:00:00Z",
    }  # fmt: skip
    town.call("import", "customers", write(town.root / "more.jsonl", [new]))
    town.call("import", "interactions", write(town.root / "bought.jsonl", [bought]))
    town.call("build")
    again, *rest = counts()
    assert rest == [numbers, people]
    assert again["by_finest_resolution"] == said["by_finest_resolution"]
    assert people
    assert all(n % 5 == 0 for n in people)
