"""`genomes show|compare|similar|segments|best`, from imported files to what is printed."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from genome_server.cli.genomes_best import _roughly
from genome_server.compare.segments_kept import Segment, Segments
from genome_server.compare.telling import roughly
from tests.unit.ingesting import write
from tests.unit.server_shell import Shell

HERE = "851e15b7fffffff"
TEA, CHEESE = 60, 40
# What happened does so in 2026.
DAYS = ("--days", 36_000)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Sixty buy tea, which leaves much; forty buy cheese, which costs much and leaves little."""
    made = Shell(tmp_path_factory.mktemp("shop"))
    products = [
        {"id": "tea", "category": "tea", "brand": "<Acme>", "margin": 0.8},
        {"id": "cheese", "category": "cheese", "brand": "mill", "cost": 28.0},
        {"id": "salt", "category": "salt", "cost": 0.9},
    ]
    customers, bought = [], []
    for n in range(TEA + CHEESE):
        consent = ["personalisation", "learning", "location"]
        customers.append({"id": f"c-{n}", "consent": consent})
        product, amount = ("tea", 10.0) if n < TEA else ("cheese", 30.0)
        for one, paid in ((product, amount), ("salt", 1.0)):
            bought.append(
                {
                    "customer": f"c-{n}",
                    "kind": "buy",
                    "product": one,
                    "time": f"2026-03-{n % 28 + 1:02}T12:00:00+00:00",
                    "amount": paid,
                    "currency": "EUR",
                    "cell": HERE,
                }
            )
    customers += [{"id": "shy", "consent": ["learning"]}, {"id": "new"}]
    bought.append({**bought[0], "customer": "shy"})
    for kind, rows in (("products", products), ("customers", customers), ("interactions", bought)):
        made.call("import", kind, write(made.root / f"{kind}.jsonl", rows))
    made.call("build")
    return made


def test_show_tells_markers_by_namespace(shop: Shell) -> None:
    told = shop.json("genomes", "show", "c-0")
    assert told["as_of"] == "2026-03-01T12:00+00:00"
    assert set(told["markers"]) == {"brand", "category"}
    assert list(told["markers"]["category"]) == ["tea", "salt"], "the strongest first"
    text = shop.call("genomes", "show", "c-0").stdout
    assert "category" in text
    assert "  tea" in text
    assert f"as of {told['as_of']}, all 3 markers" in text
    assert told["of"] == 3


class Page(HTMLParser):
    """What a page asks the network for, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "img", "iframe"}
        self.links += [str(v) for k, v in attrs if k in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_a_page_needs_nothing_else_and_says_how_many_have_what(shop: Shell) -> None:
    page = shop.root / "c-0.html"
    assert shop.json("genomes", "show", "c-0", "--html", page)["page"] == str(page)
    text = page.read_text(encoding="utf-8")
    assert "url(" not in text
    assert page.stat().st_mode & 0o077 == 0
    read = Page(text)
    assert read.links == []
    said = " ".join(read.said)
    assert "Genome of c-0" in said
    assert "<acme>" in said, "what is in markers is text"
    assert "60% of customers" in said
    assert "99% of customers" not in said, "one alone lacks it"
    assert "100% of customers" in said


def test_compare_explains_itself(shop: Shell) -> None:
    told = shop.json("genomes", "compare", "c-1", "c-70")
    assert [one["marker"] for one in told["shared"]] == ["category:salt"]
    assert told["shared"][0]["contribution"] == pytest.approx(told["similarity"], abs=1e-5)
    assert {one["marker"] for one in told["only_first"]} == {"category:tea", "brand:<acme>"}
    assert {one["marker"] for one in told["only_second"]} == {"category:cheese", "brand:mill"}
    assert shop.json("genomes", "compare", "c-70", "c-1")["similarity"] == told["similarity"]
    assert "only c-70, 2 markers" in shop.call("genomes", "compare", "c-1", "c-70").stdout


def test_similar_finds_those_who_buy_the_same(shop: Shell) -> None:
    told = shop.json("genomes", "similar", "c-70", "-k", "5")
    assert told["of"] == TEA + CHEESE, "only who agreed to personalisation"
    assert len(told["similar"]) == 5
    for one in told["similar"]:
        (name,) = one["customer"]
        assert TEA <= int(name.removeprefix("c-")) != 70
        assert one["similarity"] > 0.95
        assert "category:cheese" in one["shared"]


def test_segments_have_names_and_stay(shop: Shell) -> None:
    told = shop.json("genomes", "segments", "--count", "2")
    assert [one["people"] for one in told["segments"]] == [roughly(TEA + 1), roughly(CHEESE)]
    assert "tea" in told["segments"][0]["name"]
    again = shop.json("genomes", "segments", "--count", "2")
    assert again["stayed"] == 1.0
    assert [(one["id"], one["name"]) for one in again["segments"]] == [
        (one["id"], one["name"]) for one in told["segments"]
    ]
    assert again["gone"] == []
    assert "tea" in shop.call("genomes", "segments", "--count", "2").stdout
    other = told["segments"][1]["name"]
    dropped = shop.call("genomes", "segments", "--count", "1").stderr
    assert f"no longer kept, since nothing here goes on from them: “{other}”" in dropped
    assert len(shop.json("genomes", "segments", "--count", "2", "--anew")["segments"]) == 2
    said = shop.call("genomes", "segments", "--least", "200", code=1)
    assert "fewer than 200" in said.stderr


def test_segments_are_told_by_one_rule(shop: Shell) -> None:
    """In text as in JSON."""
    made = [Segment(1, "tea", 28, [], True), Segment(2, "cheese", 13, [], True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "genome_server.compare.segments_kept.make_segments",
            lambda *_, **__: Segments(made, np.zeros(0, np.int64), None, 0, ()),
        )
        text = shop.call("genomes", "segments").stdout
        shares = [one["share"] for one in shop.json("genomes", "segments")["segments"]]
    assert shares == pytest.approx([0.75, 0.375])
    assert "75%" in text
    assert "68%" not in text, "28 of 41"
    assert "38%" in text
    assert "32%" not in text, "13 of 41"


def test_best_says_where_the_top_are_more_than_was_asked_for(shop: Shell) -> None:
    asked = ("genomes", "best", "--top", "0.02", "--by-region", *DAYS)
    told = shop.json(*asked)
    assert (told["top"], told["more_than_asked"]) == (20, True)
    assert told["regions"][HERE]["more_than_asked"]
    text = shop.call(*asked).stdout
    assert text.count("the top 20 (the fewest there can be, more than --top asks for) of") == 2
    plain = ("genomes", "best", "--top", "0.3", *DAYS)
    assert not shop.json(*plain)["more_than_asked"]
    assert "--top asks" not in shop.call(*plain).stdout
    assert "never fewer than 20" in " ".join(shop.call("genomes", "best", "--help").output.split())


def test_best_is_by_profit_and_says_what_would_bring_closer(shop: Shell) -> None:
    told = shop.json("genomes", "best", "--top", "0.3", "--of", "c-70", "--by-region", *DAYS)
    assert (told["basis"], told["cost_known"], told["currency"]) == ("profit", 1.0, "EUR")
    assert {one["marker"] for one in told["markers"]} == {"category:tea", "brand:<acme>"}
    assert {one["marker"] for one in told["regions"][HERE]["markers"]} == {
        "category:tea",
        "brand:<acme>",
    }
    assert told["customer"]["closeness"] == 0.0
    assert {one["marker"] for one in told["customer"]["closer"]} == {"category:tea", "brand:<acme>"}
    by_spend = shop.json(
        "genomes", "best", "--top", "0.3", "--by", "spend", "--region", HERE, *DAYS
    )
    assert {one["marker"] for one in by_spend["markers"]} == {"category:cheese", "brand:mill"}
    coarse = shop.json("genomes", "best", "--top", "0.3", "--region", "841e15bffffffff", *DAYS)
    assert coarse["markers"] == told["regions"][HERE]["markers"]
    assert (
        "closer would bring" in shop.call("genomes", "best", "--top", "0.3", "--of", "c-70").stdout
    )
    assert shop.call("genomes", "best", "--region", "841fb47ffffffff", code=1)
    assert shop.call("genomes", "best", "--region", "vienna", code=2)


@pytest.mark.parametrize(
    ("worth", "said"),
    [(1234.5, 1200.0), (999.9, 990.0), (0.0149, 0.01), (12.0, 12.0), (0.0, 0.0), (-3.0, 0.0)],
)
def test_nobodys_worth_is_told_to_the_cent(worth: float, said: float) -> None:
    assert _roughly(worth) == said


def test_best_writes_everybody_the_closest_first(shop: Shell) -> None:
    out = shop.root / "close.csv"
    assert shop.json("genomes", "best", "--top", "0.3", "--out", out)["written"] == TEA + CHEESE
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == TEA + CHEESE
    assert "shy" not in {row["customer"] for row in rows}
    near = [float(row["closeness"]) for row in rows]
    assert near == sorted(near, reverse=True)
    assert int(rows[0]["customer"].removeprefix("c-")) < TEA
    assert rows[-1]["closer"].split("|")[0] in {"category:tea", "brand:<acme>"}
    assert "there already" in shop.call("genomes", "best", "--out", out, code=1).stderr


@pytest.mark.parametrize(
    "arguments",
    [("show", "shy"), ("compare", "c-1", "shy"), ("similar", "shy"), ("best", "--of", "shy")],
)
def test_nobody_is_shown_who_did_not_agree(shop: Shell, arguments: tuple[str, ...]) -> None:
    said = shop.call("genomes", *arguments, code=1)
    assert "has not agreed to personalisation" in said.stderr
    assert "shy" not in said.stderr


def test_a_stranger_is_not_named_and_an_unknown_command_is(shop: Shell) -> None:
    said = shop.call("genomes", "compare", "c-1", "nobody", code=1).stderr
    assert "the second customer is not known: source 'app' has no customer of this id" in said
    assert "nobody" not in said
    assert "Did you mean 'similar'" in shop.call("genomes", "similr", code=2).output


def test_before_the_first_build_it_says_what_to_do(tmp_path: Path) -> None:
    fresh = Shell(tmp_path)
    rows = [{"id": "c-0", "consent": ["personalisation"]}]
    fresh.call("import", "customers", write(tmp_path / "customers.jsonl", rows))
    for command in (("show", "c-0"), ("segments",), ("best",)):
        assert "genome-server build" in fresh.call("genomes", *command, code=1).stderr


def test_a_segment_of_few_cannot_be_asked_for(shop: Shell) -> None:
    assert "--least" in shop.call("genomes", "segments", "--least", "2", code=2).output
