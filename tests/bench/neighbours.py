"""Neighbours: how many of the ten nearest are found, and how much sooner than by looking at all.

`speedup` is against the sparse matrix of all (float32, int32) times the vector of one, on one
thread like ours, one question at a time and in turns; of each turn the least time of both counts,
because others may be at work on this machine. `speedup_cpu` are the processor's times of all
questions. Beside them: `vs_postings`, the postings of the query's markers added up, which is exact
too and looks at fewer, and `vs_batched`, a hundred questions in one product against ours one by
one.

`synthetic` are made-up customers; `resampled` are as many, drawn from the lines of a real grocer's
households (see `journey`); `real` are the households themselves and the members of a coffee house's
programme, as many as there are: so few that the server would look at all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import scipy.sparse as sp

from examples.datasets import DataSetMissing, find
from genome_server.compare.matrix import carriers_of, pack, rarity_of, weigh
from genome_server.compare.neighbours import Columns, Neighbours
from tests.bench import journey
from tests.bench.figures import Figures

SEED = 11
PEOPLE = 100_000
QUERIES = 400
_BATCH = 100
_TURN = 40
_FOUND = 10

Array = npt.NDArray[Any]
Found = list[Array]


def run(figures: Figures) -> None:
    """Recall and speed on made-up and on real customers."""
    sets: dict[str, Callable[[], tuple[Columns, int]]] = {
        "synthetic": synthetic,
        "resampled": resampled,
        "real": real,
    }
    for name, make in sets.items():
        try:
            columns, size = make()
        except DataSetMissing as missing:
            print(f"  {name} left out: {missing}")
            continue
        measure(figures, f"neighbours.{name}", columns, size)


def measure(figures: Figures, name: str, columns: Columns, size: int) -> None:
    """Compare the index with looking at everybody."""
    started = time.perf_counter()
    neighbours = Neighbours.build(columns, size, least=0)
    figures.add(f"{name}.people", len(columns), "genomes")
    figures.add(f"{name}.build_s", time.perf_counter() - started, "s")
    kept = sum(one.nbytes for one in neighbours.saved().values())
    figures.add(f"{name}.index_mib", kept / 2**20, "MiB")
    rows = sp.csr_array(
        (columns.weights, columns.markers, columns.starts.astype(np.int32)),
        shape=(len(columns), size),
    )
    asked = np.random.default_rng(SEED).choice(len(columns), QUERIES, replace=False)
    queries = [rows[[one]] for one in asked.tolist()]
    taken: list[float] = []
    found: Found = []
    truth: Found = []
    exact, ratios, ours_ns, exact_ns = [], [], 0, 0
    for begin in range(0, QUERIES, _TURN):
        some, ones = queries[begin : begin + _TURN], asked[begin : begin + _TURN]
        worked = time.thread_time_ns()
        for query, one in zip(some, ones.tolist(), strict=True):
            at = time.perf_counter_ns()
            near, _ = neighbours.search(query.indices, query.data, _FOUND + 1)
            taken.append((time.perf_counter_ns() - at) / 1e3)
            found.append(near[near != one][:_FOUND])
        ours_ns += time.thread_time_ns() - worked
        worked = time.thread_time_ns()
        best, took = everybody(by_vector(rows, some), ones)
        exact_ns += time.thread_time_ns() - worked
        truth += best
        exact.append(took)
        ratios.append(took / min(taken[-len(some) :]))
    ours = float(np.median(taken))
    figures.add(f"{name}.recall_at_10", recall(rows, queries, found, truth), "share")
    figures.add(f"{name}.p50_us", ours, "us")
    figures.add(f"{name}.p99_us", float(np.percentile(taken, 99)), "us")
    figures.add(f"{name}.exact_us", float(np.median(exact)), "us")
    figures.add(f"{name}.speedup", float(np.median(ratios)), "x")
    figures.add(f"{name}.speedup_cpu", exact_ns / ours_ns, "x")
    for way, scores in (("postings", by_postings), ("batched", by_batches)):
        figures.add(
            f"{name}.vs_{way}", everybody(scores(rows, queries), asked)[1] / min(taken), "x"
        )


def recall(rows: Any, queries: list[Any], found: Found, truth: Found) -> float:
    """The share of the nearest that was found; whoever is as similar as the tenth is as good."""
    hits = wanted = 0
    for near, best, query in zip(found, truth, queries, strict=True):
        least = float((rows[best[-1:]] @ query.T).toarray()[0, 0])
        similar = (rows[near] @ query.T).toarray()[:, 0]
        hits += min(int((similar >= least - 1e-6).sum()), len(best))
        wanted += len(best)
    return hits / wanted


def everybody(scored: Iterator[Array], asked: Array) -> tuple[Found, float]:
    """The ten nearest of each query by the scores of all, and the least time of one in us."""
    taken: list[float] = []
    found: Found = []
    at = time.perf_counter_ns()
    for scores in scored:
        some = np.atleast_2d(scores)
        for one in some:
            one[asked[len(found)]] = 0.0
            best = np.argpartition(one, -_FOUND)[-_FOUND:]
            found.append(best[np.argsort(-one[best], kind="stable")])
        now = time.perf_counter_ns()
        taken.append((now - at) / 1e3 / len(some))
        at = now
    return found, min(taken)


def by_vector(rows: Any, queries: list[Any]) -> Iterator[Array]:
    """Scores of everybody, query by query."""
    for query in queries:
        wanted = np.zeros(rows.shape[1], np.float32)
        wanted[query.indices] = query.data
        yield rows @ wanted


def by_postings(rows: Any, queries: list[Any]) -> Iterator[Array]:
    """Scores of everybody, from the columns of the query's markers alone."""
    columns = rows.tocsc()
    for query in queries:
        scores = np.zeros(rows.shape[0], np.float32)
        for marker, weight in zip(query.indices.tolist(), query.data.tolist(), strict=True):
            part = slice(columns.indptr[marker], columns.indptr[marker + 1])
            scores[columns.indices[part]] += columns.data[part] * np.float32(weight)
        yield scores


def by_batches(rows: Any, queries: list[Any]) -> Iterator[Array]:
    """Scores of everybody, many queries at once."""
    for begin in range(0, len(queries), _BATCH):
        some = sp.vstack(queries[begin : begin + _BATCH]).toarray()
        yield np.ascontiguousarray((rows @ np.ascontiguousarray(some.T)).T)


def weighed(who: Array, marker: Array, strength: Array, people: int, size: int) -> Columns:
    """Customers in columns, from (customer, marker, strength)."""
    starts, markers, strengths = pack(who, marker, strength, people, 64)
    rarity = rarity_of(people, carriers_of(markers, size))
    return Columns(starts, markers, weigh(starts, markers, strengths, rarity))


def synthetic() -> tuple[Columns, int]:
    """Made up: customers who like some kinds of thing buy products that have a DNA.

    3,000 products of 120 kinds and 600 brands have up to six markers; some products, kinds and
    brands are popular. A customer likes six kinds and three brands and buys 10 to 120 times, mostly
    what they like.
    """
    rng = np.random.default_rng(SEED)
    products, kinds, brands, claims, sizes = 3_000, 120, 600, 400, 300
    kind = rng.choice(kinds, products, p=_popular(rng, kinds))
    brand = rng.choice(brands, products, p=_popular(rng, brands))
    dna = np.stack(
        [
            kind,
            kinds + brand,
            kinds + brands + rng.integers(0, claims, products),
            kinds + brands + rng.integers(0, claims, products),
            kinds + brands + claims + rng.integers(0, sizes, products),
            kinds + brands + claims + sizes + np.arange(products),
        ],
        axis=1,
    )
    size = kinds + brands + claims + sizes + products
    weight = _popular(rng, products)
    likes_kind = np.zeros((PEOPLE, kinds), bool)
    np.put_along_axis(likes_kind, rng.integers(0, kinds, (PEOPLE, 6)), True, axis=1)
    likes_brand = np.zeros((PEOPLE, brands), bool)
    np.put_along_axis(likes_brand, rng.integers(0, brands, (PEOPLE, 3)), True, axis=1)
    who, bought = [], []
    for one in range(PEOPLE):
        odds = weight * (1 + 30 * likes_kind[one, kind] + 60 * likes_brand[one, brand])
        ends = np.cumsum(odds)
        count = int(rng.integers(10, 121))
        bought.append(np.searchsorted(ends, rng.random(count) * ends[-1], side="right"))
        who.append(np.full(count, one))
    of, product = np.concatenate(who), np.concatenate(bought)
    strength = 2.0 * np.exp2(-rng.random(len(of)) * 2)
    key, at = np.unique((np.repeat(of, 6) * size + dna[product].ravel()), return_inverse=True)
    total = np.bincount(at, np.repeat(strength, 6))
    return weighed(*np.divmod(key, size), total, PEOPLE, size), size


def _popular(rng: np.random.Generator, count: int) -> Array:
    odds = rng.permutation(1.0 / (np.arange(count) + 5.0))
    shares: Array = odds / odds.sum()
    return shares


def resampled() -> tuple[Columns, int]:
    """As many customers as wanted at the marker frequencies of a real grocer."""
    lines = journey.read_lines()
    hour = lines.hours.max()
    who, marker, strength, first = [], [], [], 0
    for part in journey.customers(lines, PEOPLE):
        who.append(part.who + first)
        marker.append(part.marker)
        strength.append(part.value * np.exp2(-hour / lines.half_lives[part.marker]))
        first += len(part.newest)
    columns = (np.concatenate(who), np.concatenate(marker), np.concatenate(strength))
    return weighed(*columns, PEOPLE, len(lines.names)), len(lines.names)


def real() -> tuple[Columns, int]:
    """The households of Complete Journey and the customers of Starbucks, each with their own."""
    lines = journey.read_lines()
    hour = lines.hours.max()
    line = np.repeat(np.arange(len(lines.hours)), lines.markers.shape[1])
    marker = lines.markers.ravel()
    line, marker = line[marker >= 0], marker[marker >= 0]
    faded = np.exp2((lines.hours[line] - hour) / lines.half_lives[marker])
    who, strength = lines.household[line], lines.weights[line] * faded
    households = int(who.max()) + 1
    members, names, theirs, strong, _ = starbucks(len(lines.names))
    people = households + int(members.max()) + 1
    key, at = np.unique(
        np.concatenate((who, members + households)) * (len(lines.names) + names)
        + np.concatenate((marker, theirs)),
        return_inverse=True,
    )
    total = np.bincount(at, np.concatenate((strength, strong)))
    who, marker = np.divmod(key, len(lines.names) + names)
    return weighed(who, marker, total, people, len(lines.names) + names), len(lines.names) + names


def starbucks(first: int, until_h: int = 10**9) -> tuple[Array, int, Array, Array, list[str]]:
    """(customer, how many markers there are, marker from `first` on, strength) of each fact.

    And the customers' ids, in order; nothing from hour `until_h` on is read.

    Markers are those of the offers that were viewed or completed, of the profile, and of when and
    for how much was bought.
    """
    folder = find("starbucks_rewards")
    offers = [json.loads(line) for line in (folder / "portfolio.jsonl").read_text().splitlines()]
    of_offer = {
        one["id"]: [
            f"offer:{one['id']}",
            f"type:{one['offer_type']}",
            f"difficulty:{one['difficulty']}",
            f"reward:{one['reward']}",
            *(f"channel:{channel}" for channel in one["channels"]),
        ]
        for one in offers
    }
    facts: list[tuple[str, str, float]] = []
    for one in pq.read_table(folder / "profile.parquet").to_pylist():
        joined = str(one["became_member_on"])
        facts.append((one["id"], f"member-since:{joined[:4]}", 1.0))
        if one["gender"] is not None:
            facts.append((one["id"], f"gender:{one['gender']}", 1.0))
            facts.append((one["id"], f"age:{one['age'] // 10}0", 1.0))
            facts.append((one["id"], f"income:{one['income'] // 10_000:.0f}0000", 1.0))
    for one in pq.read_table(folder / "transcript.parquet").to_pylist():
        if one["time"] >= until_h:
            continue
        day = one["time"] // 24
        if one["event"] == "transaction":
            facts.append((one["person"], f"weekday:{day % 7}", 2.0))
            facts.append((one["person"], f"paid:{int(np.log2(1 + one['amount']))}", 2.0))
        elif one["event"] != "offer received":
            weight = 2.0 if one["event"] == "offer completed" else 0.25
            facts.extend((one["person"], marker, weight) for marker in of_offer[one["offer_id"]])
    people = {name: i for i, name in enumerate(dict.fromkeys(who for who, _, _ in facts))}
    names = {name: i for i, name in enumerate(dict.fromkeys(marker for _, marker, _ in facts))}
    return (
        np.array([people[who] for who, _, _ in facts]),
        len(names),
        np.array([first + names[marker] for _, marker, _ in facts]),
        np.array([strength for _, _, strength in facts]),
        list(people),
    )
