"""What an id did counts for a use only where that id agreed to it: one rule, for rows of devices,
what is shown and compared, spending and regions, whatever is linked and in whatever order."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.imprint import GenomeState
from genome_server.compare.reading import read_genomes
from genome_server.compare.spending import read_worth
from genome_server.foresee.job import Foreseer
from genome_server.genomes import build as build_module
from genome_server.genomes.build import settle_schema
from genome_server.genomes.consents import counting
from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import LOG_KEY, SubjectState, needed_schema, set_built_schema
from genome_server.log import LogReader
from genome_server.regions.gather import gather
from genome_server.store.rows import (
    CONSENT_LEARNING,
    CONSENT_LOCATION,
    CONSENT_PERSONALISATION,
    CustomerRow,
)
from tests.unit._genomes import (
    DNA_YAML,
    NOW_MS,
    Happened,
    House,
    consent,
    fresh,
    interaction,
    link,
    subject,
)
from tests.unit.ingesting import new_tenant, run, write

SHOWN, LEARNT, LOCATED = CONSENT_PERSONALISATION, CONSENT_LEARNING, CONSENT_LOCATION
ALL = SHOWN | LEARNT | LOCATED
PEOPLE = (1, 2, 3, 4)
HOME = "851e15b7fffffff"
ELSEWHERE = "852a100bfffffff"
DERIVING = f"{DNA_YAML}derive: [home, rhythm]\n".replace(
    "  age:", "  insight: {profile: 1.0}\n  home: {profile: 1.0}\n  age:"
)


def bought(who: int, hours: int, product: str = "soap", region: str = HOME) -> Happened:
    return interaction(
        who, hours, "buy", product=product, region=region, amount_micros=5_000_000,
        context_markers=["daypart:evening"], interaction_id=f"{who}-{hours}-{product}",
    )  # fmt: skip


def catch_up(house: House) -> None:
    consumer = LiveConsumer(house.tenant, now_ms=lambda: NOW_MS)
    while consumer.catch_up(5):
        pass
    consumer.close()


class Read(NamedTuple):
    """What everybody who reads makes of a tenant, by name."""

    rows: dict[bytes, tuple[int, int, dict[str, int]]]
    shown: dict[bytes, dict[str, float]]
    learnt: dict[bytes, dict[str, float]]
    spent: dict[bytes, tuple[float, str]]
    places: list[tuple[int, int]]
    strengths: list[int]


def read(house: House) -> Read:
    store, vocabulary = house.store, house.store.vocabulary()
    genomes = read_genomes(store, hour=NOW_MS // 3_600_000)
    named: list[dict[bytes, dict[str, float]]] = [{}, {}]
    spent: dict[bytes, tuple[float, str]] = {}
    with LogReader(house.tenant.log_path) as log:
        worth = read_worth(store, log, needed_schema(store), genomes, basis="spend")
        crowd, _ = gather(store, log, now_ms=NOW_MS, days=3_000)
    for found, purpose in zip(named, (SHOWN, LEARNT), strict=True):
        for row in genomes.agreed(purpose).tolist():
            markers, strengths = genomes.row(row)
            names = (vocabulary.name(marker) for marker in markers.tolist())
            found[bytes(genomes.subjects[row])] = dict(zip(names, strengths.tolist(), strict=True))
            if purpose == LEARNT:
                money = float(np.nan_to_num(worth.worth[row], nan=-1.0))
                spent[bytes(genomes.subjects[row])] = (money, worth.regions[row])
    return Read(
        {one: row for one, row in house.rows().items() if row[0] & SHOWN},
        named[0],
        named[1],
        spent,
        list(zip(crowd.where.person.tolist(), crowd.where.cell.tolist(), strict=True)),
        [crowd.total(name) for name in sorted(vocabulary.markers)],
    )


# -- the rule

A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))


def customer(who: bytes, consents: int, *, silent: bool = False) -> CustomerRow:
    return CustomerRow(who, consents=consents, silent=silent)


@pytest.mark.parametrize(
    ("known", "asker", "wanted"),
    [
        ([customer(A, SHOWN), customer(B, SHOWN)], None, [A, B, C]),
        ([customer(A, SHOWN), customer(B, LEARNT)], None, [A]),
        ([customer(A, SHOWN), customer(B, 0)], None, [A]),
        ([customer(A, SHOWN), customer(B, 0, silent=True)], None, [A, B, C]),
        ([customer(A, SHOWN)], None, [A, B, C]),
        ([customer(A, 0), customer(B, 0, silent=True)], None, []),
        ([customer(A, 0, silent=True)], None, []),
        ([customer(A, 0), customer(B, SHOWN)], A, [A, B, C]),
        ([customer(A, 0), customer(B, 0)], A, [A]),
        ([], C, [A, B, C]),
    ],
)
def test_whose_doings_count(
    known: list[CustomerRow], asker: bytes | None, wanted: list[bytes]
) -> None:
    states = {one: SubjectState() for one in (A, B, C)}
    assert counting(states, {row.subject: row for row in known}, SHOWN, asker=asker) == wanted


def test_who_said_no_on_a_device_was_not_silent() -> None:
    states = {A: SubjectState(), B: SubjectState(GenomeState(), {1: (5, True)})}
    known = {A: customer(A, SHOWN), B: customer(B, 0, silent=True)}
    assert counting(states, known, SHOWN) == [A]


# -- out of a tenant


def test_a_linked_id_that_refused_feeds_nobody(tmp_path: Path) -> None:
    own = [bought(1, 24 * day) for day in range(5)]
    theirs = [bought(2, 24 * day + 3, "bread", ELSEWHERE) for day in range(8)]
    secret = interaction(2, 5, "view", dna=[{"marker": "claim:secret", "salience_q8": 256}])
    with fresh(tmp_path / "a") as alone, fresh(tmp_path / "b") as house:
        for one in (alone, house):
            one.write_dna(DERIVING)
            one.customer(1, ALL, age="30")
            one.customer(2, 0, age="80")
        alone.log(own)
        house.log([*own, *theirs, secret, link(1, 150, 2)])
        for one in (alone, house):
            one.build()
        assert read(house)[:-1] == read(alone)[:-1]
        assert "claim:secret" not in house.rows()[subject(1)][2]
        house.log([consent(2, 160, 1, True), consent(2, 160, 2, True)])
        catch_up(house)
        with_theirs = read(house)
        assert "claim:secret" in with_theirs.rows[subject(1)][2]
        assert with_theirs.spent[subject(1)][0] == 5 * (len(own) + len(theirs))
        assert with_theirs.spent[subject(1)][1] == HOME, "where the second was, nobody may know"
        house.log([consent(2, 170, 1, False), consent(2, 170, 2, False)])
        catch_up(house)
        assert read(house)[:-1] == read(alone)[:-1]
        house.log([consent(2, 180, 1, True), consent(2, 180, 2, True)])
        catch_up(house)
        assert read(house) == with_theirs


@pytest.mark.parametrize("follow", [catch_up, House.build])
def test_a_consent_of_one_id_changes_the_rows_of_the_others_and_back(
    tmp_path: Path, follow: object
) -> None:
    assert callable(follow)
    with fresh(tmp_path) as house:
        house.customer(1, ALL)
        house.customer(2, ALL)
        house.log([bought(1, 1), bought(2, 2, "bread"), link(1, 3, 2)])
        house.build()
        both = read(house)
        assert "brand:mill" in both.rows[subject(1)][2]
        house.log([consent(2, hours, 1, False) for hours in (5,)])
        follow(house)
        less = read(house)
        assert "brand:mill" not in less.rows[subject(1)][2]
        assert "brand:mill" not in less.shown[subject(1)]
        assert less.learnt == both.learnt, "of learning nothing was said"
        house.log([consent(2, 6, 1, True)])
        follow(house)
        assert read(house) == both


def test_a_stranger_joins_whom_they_identify_as_until_one_of_the_ids_refuses(
    tmp_path: Path,
) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, ALL)
        house.log([bought(9, 1, "bread"), bought(1, 2), link(1, 3, 9)])
        house.build()
        found = read(house)
        assert {"brand:mill", "brand:acme"} <= found.rows[subject(1)][2].keys()
        assert found.learnt[subject(1)].keys() >= {"brand:mill", "brand:acme"}
        assert found.spent == {subject(1): (10.0, HOME)}
        house.log([consent(9, 4, 1, False)])
        catch_up(house)
        refused = read(house)
        assert "brand:mill" not in refused.rows[subject(1)][2]
        assert "brand:mill" not in refused.learnt[subject(1)], "who spoke is no stranger"


def test_a_no_that_changes_no_bit_is_remembered(tmp_path: Path) -> None:
    """An import without consents says nothing; a device that says no does."""
    with fresh(tmp_path) as house:
        house.customer(1, ALL)
        house.store.put_customers([CustomerRow(subject(2))])
        house.log([bought(1, 1), bought(2, 2, "bread"), link(1, 3, 2)])
        house.build()
        (known,) = house.store.customers([subject(2)])
        assert known.silent
        assert "brand:mill" in house.rows()[subject(1)][2]
        house.log([consent(2, 5, 3, False)])
        catch_up(house)
        (known,) = house.store.customers([subject(2)])
        assert not known.silent
        assert "brand:mill" not in house.rows()[subject(1)][2]


def test_an_import_during_a_build_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, ALL)
        house.customer(2, ALL)
        house.log([bought(1, 1), bought(2, 2, "bread"), link(1, 3, 2)])
        real = build_module._differing

        def meanwhile(*args: object) -> Iterator[object]:
            yield from real(*args)  # type: ignore[arg-type]
            house.store.put_customers([CustomerRow(subject(2), consents=0)])

        monkeypatch.setattr(build_module, "_differing", meanwhile)
        house.build()
        assert "brand:mill" not in house.rows()[subject(1)][2]


def test_an_import_that_takes_a_consent_back_reaches_the_rows_of_linked_ids(
    tmp_path: Path,
) -> None:
    with new_tenant(tmp_path / "home") as (tenant, store):
        house = House(tenant.dir)
        house.log([bought(1, 1), bought(2, 2, "bread"), link(1, 3, 2)])
        for name, who in (("anna", 1), ("card", 2)):
            with store.transaction():
                store.run(  # type: ignore[attr-defined]
                    "INSERT INTO subjects (source, external_id, subject) VALUES ('app', ?, ?)",
                    [name, subject(who)],
                )
        file = write(tmp_path / "customers.jsonl", [
            {"id": "anna", "consent": ["personalisation"]},
            {"id": "card", "consent": ["personalisation"]},
        ])  # fmt: skip
        run(tenant, store, "customers", file)
        house.build()
        both = house.rows()
        assert "brand:mill" in both[subject(1)][2]
        for consents, row in (["none"], False), (["personalisation"], True):
            file = write(tmp_path / "again.jsonl", [{"id": "card", "consent": consents}])
            run(tenant, store, "customers", file)
            assert ("brand:mill" in house.rows()[subject(1)][2]) == row
        assert house.rows() == both
        house.close()


def test_a_first_word_that_refuses_reaches_the_rows_of_linked_ids(tmp_path: Path) -> None:
    with new_tenant(tmp_path / "home") as (tenant, store):
        house = House(tenant.dir)
        house.customer(1, ALL)
        house.log([bought(1, 1), bought(2, 2, "bread"), link(1, 3, 2)])
        with store.transaction():
            store.run(  # type: ignore[attr-defined]
                "INSERT INTO subjects (source, external_id, subject) VALUES ('app', 'card', ?)",
                [subject(2)],
            )
        house.build()
        assert "brand:mill" in house.rows()[subject(1)][2], "who said nothing follows"
        file = write(tmp_path / "customers.jsonl", [{"id": "card", "consent": ["none"]}])
        run(tenant, store, "customers", file)
        assert "brand:mill" not in house.rows()[subject(1)][2]
        house.close()


def test_what_is_foretold_of_somebody_is_not_from_an_id_that_refused(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, ALL)
        house.customer(2, LEARNT)
        crowd = range(10, 32)
        for who in crowd:
            house.customer(who, LEARNT)
        house.log([bought(who, hours) for who in crowd for hours in (1, 25, 49)])
        house.log([bought(1, 5), link(1, 6, 2)])
        house.log([bought(2, hours, "bread") for hours in range(7, 30)])
        house.build()
        with LogReader(house.tenant.log_path) as log:
            frames = [frame for batch in log.batches() for frame in batch.frames()]
        ahead = Foreseer(house.store, subject(1), NOW_MS).ahead(iter(frames), len(frames))
        assert ahead.own_events == 1


# -- under anything

EVENTS = st.lists(
    st.one_of(
        st.builds(
            bought, st.sampled_from(PEOPLE), st.integers(0, 190),
            st.sampled_from(["soap", "bread"]), st.sampled_from([HOME, ELSEWHERE]),
        ),
        st.builds(
            lambda pair, hours, linked: link(pair[0], hours, pair[1], linked),
            st.sampled_from([(1, 2), (2, 3), (3, 4), (1, 4)]), st.integers(0, 190),
            st.sampled_from([True, True, False]),
        ),
        st.builds(
            consent, st.sampled_from(PEOPLE), st.integers(0, 190), st.integers(1, 3), st.booleans()
        ),
    ),
    min_size=4, max_size=25,
    unique_by=lambda one: (one.payload.interaction.interaction_id or (one.who, one.hours, one.kind))
)  # fmt: skip
CONSENTS = st.tuples(*[st.one_of(st.none(), st.integers(0, 7).map(lambda b: b << 1))] * 4)


def ready(house: House, consents: tuple[int | None, ...], events: list[Happened]) -> House:
    """Customers, a log, and a schema as a first build leaves it; None: a stranger to everybody."""
    for who, bits in zip(PEOPLE, consents, strict=True):
        if bits is not None:
            house.customer(who, bits, age=str(20 + who))
    house.log(events)
    schema, _ = settle_schema(house.store, house.tenant.dna_path, NOW_MS)
    set_built_schema(house.store, schema)
    with LogReader(house.tenant.log_path) as log:
        house.store.set_meta(LOG_KEY, log.incarnation.hex())
    return house


@settings(max_examples=10, deadline=None)
@given(events=EVENTS, consents=CONSENTS, seed=st.integers(0, 2**32))
def test_a_refusing_ids_doings_change_nothing_for_anybody(
    events: list[Happened], consents: tuple[int | None, ...], seed: int
) -> None:
    """Take out all that the refusing one did: nothing that others read changes by a bit."""
    chance = random.Random(seed)
    refusing = chance.choice(PEOPLE)
    bits = tuple(0 if who == refusing else one for who, one in zip(PEOPLE, consents, strict=True))
    others = [
        one for one in events
        if one.who != refusing or not one.payload.HasField("consent")
    ] + [bought(one, 191 + one) for one in PEOPLE if one != refusing]  # fmt: skip
    did = [one for one in others if one.who == refusing and one.payload.HasField("interaction")]
    did.append(bought(refusing, 193, "bread", ELSEWHERE))
    said = [one for one in others if one not in did]
    chance.shuffle(everything := [*said, *did])
    with (
        tempfile.TemporaryDirectory() as name,
        fresh(Path(name) / "without") as without,
        fresh(Path(name) / "with") as house,
    ):
        for one, happened in ((without, said), (house, everything)):
            # Indices are given in order of appearance, which may decide between equal strengths.
            one.store.extend_vocabulary(
                ["brand:acme", "brand:mill", "category:food", "claim:organic"]
            )
            catch_up(ready(one, bits, happened))
        assert read(house) == read(without)


@settings(max_examples=8, deadline=None)
@given(events=EVENTS, consents=CONSENTS, seed=st.integers(0, 2**32))
def test_increments_are_a_build_and_links_leave_no_trace(
    events: list[Happened], consents: tuple[int | None, ...], seed: int
) -> None:
    chance = random.Random(seed)
    events = [*(bought(who, 198, "soap") for who in PEOPLE), *events]
    with (
        tempfile.TemporaryDirectory() as name,
        fresh(Path(name) / "whole") as whole,
        fresh(Path(name) / "parts") as parts,
        fresh(Path(name) / "apart") as apart,
    ):
        ready(whole, consents, events).build()
        cuts = sorted(chance.choices(range(len(PEOPLE), len(events) + 1), k=2))
        ready(parts, consents, events[: cuts[0]])
        catch_up(parts)
        for low, high in pairwise([*cuts, len(events)]):
            parts.log(events[low:high])
            catch_up(parts)
        assert parts.rows() == whole.rows()
        apart_again = [
            link(one, 199, other, linked=False)
            for one in PEOPLE for other in PEOPLE if one < other
        ]  # fmt: skip
        parts.log(apart_again)
        catch_up(parts)
        unlinked = [one for one in events if not one.payload.HasField("link")]
        catch_up(ready(apart, consents, unlinked))
        assert parts.rows() == apart.rows()
