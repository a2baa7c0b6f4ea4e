"""Links that were undone leave no trace in genomes, whatever the order and however they came in;
and what is derived stays as the last build had it."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genome_server.compare.reading import read_genomes
from genome_server.derived.renew import insights_of
from genome_server.genomes import build as build_module
from genome_server.genomes.live import LiveConsumer
from tests.unit._genomes import DNA_YAML, NOW_MS, Happened, House, consent, fresh, interaction, link
from tests.unit.ingesting import write
from tests.unit.server_shell import Shell

DERIVING = DNA_YAML.replace("buy: {weight: 2,", "buy: {weight: 2, beside: [tender, channel],")
AGREED = 1 << 1 | 1 << 3
PEOPLE = (1, 2, 3, 4)
CONTEXT = ["daypart:evening", "weekend:yes", "channel:app"]


@dataclass(frozen=True)
class Undone:
    """A link of two people that is undone later, in either direction."""

    one: int
    other: int
    since: int
    until: int
    turned: bool

    def events(self) -> list[Happened]:
        back = (self.other, self.one) if self.turned else (self.one, self.other)
        return [
            link(self.one, self.since, self.other),
            link(back[0], self.until, back[1], linked=False),
        ]


BOUGHT = st.builds(
    lambda who, hours, product, tender, n: interaction(
        who, hours, "buy", product=product, tender=tender, context_markers=CONTEXT,
        amount_micros=2_000_000, region="852a100ffffffff", interaction_id=f"i{n}",
    ),
    st.sampled_from(PEOPLE), st.integers(-100, 150), st.sampled_from(["soap", "bread"]),
    st.sampled_from(["card", "coupon", ""]), st.integers(0, 10**6),
)  # fmt: skip
LINKS = st.builds(
    lambda pair, since, lasted, turned: Undone(pair[0], pair[1], since, since + lasted, turned),
    st.sampled_from([(1, 2), (2, 3), (3, 4), (1, 4)]), st.integers(0, 50), st.integers(1, 50),
    st.booleans(),
)  # fmt: skip


def catch_up(house: House) -> None:
    consumer = LiveConsumer(house.tenant, now_ms=lambda: NOW_MS)
    while consumer.catch_up(7):
        pass
    consumer.close()


def people_of(house: House, derive: str) -> House:
    house.write_dna(f"{DERIVING}derive: {derive}\n")
    for who in PEOPLE:
        house.customer(who, consents=AGREED, age=str(20 + who))
    return house


def purchases(least: int) -> st.SearchStrategy[list[Happened]]:
    return st.lists(
        BOUGHT,
        min_size=least,
        max_size=25,
        unique_by=lambda one: one.payload.interaction.interaction_id,
    )


@settings(max_examples=8, deadline=None)
@given(
    bought=purchases(1),
    undone=st.lists(LINKS, min_size=1, max_size=5),
    derive=st.sampled_from(["all", "[]"]),
    seed=st.integers(0, 2**32),
)
def test_linked_and_unlinked_is_never_linked(
    bought: list[Happened], undone: list[Undone], derive: str, seed: int
) -> None:
    chance = random.Random(seed)
    events = [*bought, *(event for one in undone for event in one.events())]
    chance.shuffle(events)
    with (
        tempfile.TemporaryDirectory() as name,
        fresh(Path(name) / "never") as plain,
        fresh(Path(name) / "was") as house,
    ):
        people_of(plain, derive).log(bought)
        plain.build()
        people_of(house, derive)
        cuts = sorted(chance.choices(range(len(events) + 1), k=2))
        for low, high in pairwise([0, *cuts, len(events)]):
            house.log(events[low:high], cut=chance.randint(1, 9))
            if chance.random() < 0.5:
                house.build()
            else:
                catch_up(house)
        if derive == "all":
            house.build()  # what is derived is as of the last build
        assert house.rows() == plain.rows()


@settings(max_examples=8, deadline=None)
@given(bought=purchases(2), links=st.lists(LINKS, max_size=5), seed=st.integers(0, 2**32))
def test_increments_are_a_rebuild_with_what_was_derived(
    bought: list[Happened], links: list[Undone], seed: int
) -> None:
    chance = random.Random(seed)
    half = len(bought) // 2
    later = [*bought[half:], *(e for one in links for e in one.events()[: chance.randint(1, 2)])]
    later.append(consent(chance.choice(PEOPLE), 160, 3, False))
    chance.shuffle(later)
    with tempfile.TemporaryDirectory() as name, fresh(Path(name)) as house:
        people_of(house, "all").log(bought[:half])
        house.build()
        house.log(later, cut=chance.randint(1, 9))
        catch_up(house)
        rows = house.rows()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build_module, "renew", lambda store, *_: insights_of(store))
            house.build()
        assert house.rows() == rows


def test_what_is_derived_is_in_the_row_and_goes_again(tmp_path: Path) -> None:
    def derived(house: House, who: int) -> set[str]:
        names = house.rows()[bytes([who]) * 16][2]
        return {name for name in names if name.startswith("insight:")}

    often = [
        interaction(1, 24 * day, "buy", product="soap", tender="Coupon", context_markers=CONTEXT,
                    region="852a100ffffffff", interaction_id=f"{day}-{again}")
        for day in range(6) for again in "aab"
    ]  # fmt: skip
    with fresh(tmp_path) as house:
        house.write_dna(f"{DERIVING}derive: all\n")
        house.customer(1, consents=AGREED, age="30")
        house.customer(2, consents=1 << 2, age="30")
        house.log(often)
        house.build()
        everything = {
            "insight:life-stage-adult", "insight:rhythm-daily", "insight:tender-coupon",
            "insight:channel-app", "insight:routine-weekend-evening",
        }  # fmt: skip
        assert derived(house, 1) == everything, "the home is on no device"
        assert derived(house, 2) == set(), "who did not agree"
        home = house.store.vocabulary().index("insight:home-852a100ffffffff")
        assert home in read_genomes(house.store).markers
        house.log([consent(1, 160, 3, False)])
        catch_up(house)
        assert derived(house, 1) == everything
        assert home not in read_genomes(house.store).markers, "at once"
        house.write_dna(f"{DERIVING}derive: [rhythm]\n")
        house.build()
        assert derived(house, 1) == {"insight:rhythm-daily"}
        house.write_dna(DERIVING)
        house.build()
        assert derived(house, 1) == set()


AT = "2026-03-0{}T10:00:00Z"


def call(home: Path, *arguments: object) -> Any:
    return Shell(home.parent, made=False).json(*arguments)


def shop(home: Path, links: list[dict[str, Any]]) -> dict[str, Any]:
    """A shop and its club, with the words on who is whom; the genomes of both ids."""
    call(home, "init")
    files = home.parent
    rows: dict[str, list[dict[str, Any]]] = {
        "products": [{"id": "tea", "brand": "acme"}, {"id": "soap", "brand": "mill"}],
        "customers": [{"id": "anna", "attributes": {"age": 30}, "consent": ["personalisation"]}],
        "loyalty": [{"customer": "77", "source": "club", "tier": "gold", "at": AT.format(1)}],
        "interactions": [
            {"customer": "anna", "kind": "buy", "product": "tea", "time": AT.format(1)},
            {"customer": "77", "source": "club", "kind": "buy", "product": "soap", "amount": 7,
             "tender": "coupon", "time": AT.format(2)},
        ],
    }  # fmt: skip
    for kind, content in rows.items():
        call(home, "import", kind, write(files / f"{kind}.jsonl", content))
    found: dict[str, Any] = {}
    for number, said in enumerate([None, *links]):
        if said is not None:
            call(home, "import", "links", write(files / "links.jsonl", [said]))
        call(home, "build")
        found[str(number)] = [
            call(home, "customers", "show", "anna")["genome"],
            call(home, "customers", "show", "77", "--source", "club")["genome"],
        ]
    return found


def test_from_files_to_genomes(tmp_path: Path) -> None:
    key = {"key": "a@example.org", "key_kind": "email"}
    said: list[dict[str, Any]] = [
        {"customer": "anna", **key, "at": AT.format(3)},
        {"customer": "77", "source": "club", **key, "at": AT.format(4)},
        {"customer": "77", "source": "club", **key, "at": AT.format(5), "linked": False},
    ]
    found = shop(tmp_path / "home", said)
    anna, club = found["0"]
    assert set(anna) == {"age:30", "brand:acme"}
    assert set(club) == {"tier:gold", "brand:mill", "tender:coupon"}
    assert found["1"] == found["0"], "one alone shares nothing"
    assert found["2"][0] == found["2"][1]
    assert set(found["2"][0]) == set(anna) | set(club)
    assert found["3"] == found["0"], "the genomes that there would have been"


def test_what_is_derived_is_shown_as_such(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shop(home, [])
    dna = home / "tenants" / "default" / "dna.yaml"
    dna.write_text(dna.read_text().replace("derive: []", "derive: [life-stage]"))
    call(home, "build")
    done = Shell(home.parent, made=False).call("genomes", "show", "anna")
    heading, fact = done.output.split("insight", 1)[1].splitlines()[:2]
    assert heading == "  (derived by the last build)"
    assert fact.endswith("life-stage-adult")
