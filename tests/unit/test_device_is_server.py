"""A device's genome is the server's, to the bit, once the server caught up; before that it is the
row as of a mark and the imprints after that mark, each once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edge_sdk.clock import wall_ms
from edge_sdk.dna.genome import Genome, PendingImprint
from edge_sdk.dna.imprint import GenomeState, encode_row, grow, shrink
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema, KindRule, NamespaceRule
from tests.aggregations import History
from tests.histories import complete_journey, starbucks_rewards
from tests.unit.mirrored import Mirrored, mirrored, soon

PRODUCTS = {
    f"p-{number}": [(f"brand:b{number % 7}", 256), (f"claim:c{number}", 128), ("shelf:all", 77)]
    for number in range(80)
}
PEOPLE = ("ann", "bob", "eve")
HOUR_MS = 3_600_000

costly = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def check(pair: Mirrored, did: dict[str, list[str]]) -> None:
    """What the device reads of everybody is the row of its last sync, and what that lacks."""
    for name, imprinted in did.items():
        wanted = pair.pending(name, imprinted)

        def same(name: str = name, wanted: list[str] = wanted) -> bool:
            row, held = pair.held(name)
            apart = {one for one in held if one}
            # Those that the device has put together have no ids any more; they are as many.
            known = apart == set(wanted) if "" not in held else apart < set(wanted)
            return known and len(held) == len(wanted) and row == pair.rows[pair.subjects[name]]

        soon(same, name)


def caught_up(pair: Mirrored, did: dict[str, list[str]], alone: set[str]) -> None:
    """Everything is reported, applied and sent: nothing is pending, and all are the same bits."""
    pair.report()
    pair.live()
    pair.sync()
    check(pair, did)
    for name, imprinted in did.items():
        row, held = pair.held(name)
        assert held == []
        assert pair.pending(name, imprinted) == []
        hour = wall_ms() // HOUR_MS
        shown, there = pair.edge.genome(name), pair.shown(name, hour)
        if wall_ms() // HOUR_MS == hour:
            assert shown == there
        if name in alone:
            assert row == pair.summed(name), "as this device's raw imprints come to"


def steps(pair: Mirrored, chance: Random, count: int) -> None:
    """Imprints on the device and elsewhere, reports, nights and syncs, in any order."""
    did: dict[str, list[str]] = {name: [] for name in PEOPLE}
    alone = set(PEOPLE)
    for number in range(count):
        # First much of everybody, so that what follows changes a part of a row.
        match "i" if number == 0 else chance.choice("iiiirrllsseb"):
            case "i":
                for _ in range(150 if number == 0 else chance.choice([1, 1, 3, 40])):
                    name = chance.choice(PEOPLE)
                    facts: dict[str, Any] = chance.choice(
                        [{}, {"amount": 12.5}, {"dwell_ms": 90_000}]
                    )
                    product = chance.choice([f"p-{chance.randrange(80)}", None])
                    dna = None if product else {"brand:b1": 0.3}
                    kind = chance.choice(["view", "buy", "dismiss"])
                    said = pair.edge.imprint(name, kind, product=product, dna=dna, **facts)
                    did[name].append(said)
            case "r":
                pair.report(chance.choice([1, 5]))
            case "e":
                name = chance.choice(PEOPLE)
                alone.discard(name)
                pair.elsewhere(name, f"p-{chance.randrange(80)}")
            case "b":
                pair.build()
            case "l":
                pair.live(chance.choice([3, 10_000]))
            case "s":
                pair.sync()
        check(pair, did)
        if number == 0:
            caught_up(pair, did, alone)
    caught_up(pair, did, alone)


def play(seed: int, quantiser: int, count: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        mirrored(Path(folder), PEOPLE, PRODUCTS, quantiser) as pair,
    ):
        steps(pair, Random(seed), count)


@settings(costly, max_examples=3)
@given(seed=st.integers(0, 1 << 32), quantiser=st.sampled_from([1, 2]))
def test_a_device_and_its_server(seed: int, quantiser: int) -> None:
    play(seed, quantiser, 12)


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(costly, max_examples=40)
@given(seed=st.integers(0, 1 << 32), quantiser=st.sampled_from([1, 2]))
def test_a_device_and_its_server_for_longer(seed: int, quantiser: int) -> None:
    play(seed, quantiser, 60)


def real(read: Callable[[], History], people: int, tmp_path: Path) -> None:
    told = read()
    by_person: dict[bytes, list[tuple[str, str, float]]] = {}
    for done in told.done:
        line = (done.kind, str(done.thing), done.amount_micros / 1_000_000)
        by_person.setdefault(done.subject, []).append(line)
    chosen = {subject.hex(): by_person[subject] for subject in sorted(by_person)[:people]}
    things = {thing for lines in chosen.values() for _, thing, _ in lines}
    # A document names a marker once.
    products = {str(t): list(dict(d).items()) for t, d in told.dna.items() if str(t) in things}
    chance = Random(5)
    left = [(name, *line) for name, lines in chosen.items() for line in lines]
    chance.shuffle(left)
    did: dict[str, list[str]] = {name: [] for name in chosen}
    with mirrored(tmp_path, list(chosen), products) as pair:
        while left:
            some = chance.randint(1, len(chosen) * 10)
            for name, kind, product, amount in left[:some]:
                facts: dict[str, Any] = {"amount": amount} if amount > 0 else {}
                did[name].append(pair.edge.imprint(name, kind, product=product, **facts))
            del left[:some]
            pair.report(chance.randint(0, 2))
            pair.live()
            pair.sync()
            check(pair, did)
        caught_up(pair, did, set(did))
        most = max(len(row.indices) for row in pair.rows.values())
        assert most == 64 if read is complete_journey else 10 < most <= 12


@pytest.mark.dataset
@pytest.mark.parametrize("read", [complete_journey, starbucks_rewards], ids=["grocer", "coffee"])
def test_real_customers_of_a_device(read: Callable[[], History], tmp_path: Path) -> None:
    real(read, 15, tmp_path)


@pytest.mark.dataset
@pytest.mark.long
@pytest.mark.parametrize("read", [complete_journey, starbucks_rewards], ids=["grocer", "coffee"])
def test_many_real_customers_of_a_device(read: Callable[[], History], tmp_path: Path) -> None:
    real(read, 300, tmp_path)


# While imprints are pending ---------------------------------------------------------------------

LANDMARK = 490_000
WORDS = Vocabulary(
    bytes(16), [f"{space}:{n}" for space in ("fast", "slow", "still") for n in "abcd"]
)
NAMESPACES = (NamespaceRule("fast", 24), NamespaceRule("slow", 2_000), NamespaceRule("still", 0))

Event = tuple[int, int, int]  # hours since the landmark, marker, weight in 1/4
event = st.tuples(st.integers(0, 500), st.integers(0, len(WORDS) - 1), st.integers(1, 40))


@settings(max_examples=150, deadline=None)
@given(
    before=st.lists(event, max_size=20),
    since=st.lists(event, max_size=8),
    later=st.integers(0, 300),
    quantiser=st.sampled_from([1, 2]),
    most=st.sampled_from([3, 64]),
)
def test_what_is_pending_counts_exactly_and_only_the_row_is_rounded(
    before: list[Event], since: list[Event], later: int, quantiser: int, most: int
) -> None:
    """Beside the integers that the server will have once it has caught up."""
    kinds = (KindRule("buy", ONE_Q24),)
    schema = DnaSchema(1, LANDMARK, NAMESPACES, kinds, 240, max_markers=most, quantiser=quantiser)
    half_lives = [int(hours) for hours in schema.half_lives(WORDS)]
    hour = max([at for at, *_ in (*before, *since)], default=0) + later

    def summed(events: list[Event]) -> GenomeState:
        state = GenomeState()
        for at, marker, weight in events:
            vote = weight * ONE_Q24 // 4
            state.add(marker, grow(vote, at, half_lives[marker]), LANDMARK + at)
        return state

    def strength(state: GenomeState, marker: int, at: int) -> float:
        return shrink(state.values.get(marker, 0), at, half_lives[marker]) / ONE_Q24

    row = encode_row(summed(before), {}, schema, WORDS)
    pending = [
        PendingImprint(LANDMARK + at, ((marker, weight * ONE_Q24 // 4),))
        for at, marker, weight in since
    ]
    held = dict(Genome(row, schema, WORDS, pending).strengths(LANDMARK + hour))
    newest = max([at for at, *_ in before], default=0)
    kept = set(row.indices.tolist())
    weakest = min([strength(summed(before), marker, newest) for marker in kept], default=0.0)
    for marker, name in enumerate(WORDS):
        old = strength(summed(before), marker, hour)
        new = strength(summed(since), marker, hour)
        # A weight is log2(1 + strength) in 32 bits.
        float32 = 1e-5 * (1 + old + new)
        here = held.get(name, 0.0) - new
        if marker not in kept:
            assert abs(here) <= float32, "what the row left out is not known"
            # Nothing stronger was left out, nor anything that its code could say.
            then = strength(summed(before), marker, newest)
            assert then < 2**-10 or (len(kept) == most and then <= weakest)
        elif quantiser == 2:
            assert old * 2**-0.25 - float32 <= here <= old * 2**0.25 + float32
        else:
            least = old * 7 / 8 - 2**-10 - float32
            assert least <= here <= old + float32


def test_a_strangers_genome_is_not_rounded_at_all() -> None:
    schema = DnaSchema(1, LANDMARK, NAMESPACES, (KindRule("buy", ONE_Q24),), 240)
    votes = ((0, 12_345_678), (5, 3))
    genome = Genome(None, schema, WORDS, [PendingImprint(LANDMARK, votes)])
    indices, weights = genome.features(LANDMARK)
    assert indices.tolist() == [0, 5]
    exact = np.log2(1.0 + np.array([12_345_678, 3]) / ONE_Q24).astype(np.float32)
    assert np.array_equal(weights, exact)


def test_a_fact_that_is_imprinted_too_counts_twice_until_the_row_comes() -> None:
    """In a row the greater of fact and imprints counts; a device cannot take its row apart."""
    kinds = (KindRule("buy", ONE_Q24),)
    schema = DnaSchema(1, LANDMARK, NAMESPACES, kinds, 240, quantiser=1)
    still = WORDS.index("still:a")
    assert still is not None
    profile, half = {still: ONE_Q24}, ONE_Q24 // 2
    row = encode_row(GenomeState(), profile, schema, WORDS)
    pending = [PendingImprint(LANDMARK, ((still, half),))]
    held = dict(Genome(row, schema, WORDS, pending).strengths(LANDMARK))
    assert held == pytest.approx({"still:a": 1.5})
    state = GenomeState({still: half}, LANDMARK)
    later = Genome(encode_row(state, profile, schema, WORDS), schema, WORDS)
    assert dict(later.strengths(LANDMARK)) == pytest.approx({"still:a": 1.0})
